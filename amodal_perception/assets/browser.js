"use strict";
// Shows the data set of this page: filters its objects, draws their masks as vectors.
const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const PAGE = 24;
const SVG = "http://www.w3.org/2000/svg";
let found = [];
let shown = 0;

function element(name, attributes, parent, text) {
  const vector = ["svg", "g", "path", "image", "pattern", "rect", "defs", "title"];
  const node = vector.includes(name) ? document.createElementNS(SVG, name)
    : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  if (parent) parent.append(node);
  return node;
}

function rules() {
  const chosen = $("class").value;
  return {
    class: chosen === "" ? null : Number(chosen),
    low: Number($("low").value) / 100,
    high: Number($("high").value) / 100,
    order: $("order").value,
  };
}

function fits(object, rule) {
  return (rule.class === null || object.class === rule.class)
    && object.rate >= rule.low - 1e-6 && object.rate <= rule.high + 1e-6;
}

function mutual(image) {
  const pairs = new Set(image.edges.map(([a, b]) => `${a} ${b}`));
  return image.edges.some(([a, b]) => pairs.has(`${b} ${a}`));
}

function words(object) {
  const parts = [object.name || data.classes[object.class]];
  if (object.crowd) parts.push("(crowd)");
  if (object.score !== null) parts.push(object.score.toFixed(2));
  if (object.rate > 0) parts.push(object.rate < 0.01 ? "<1 %" : `${Math.round(object.rate * 100)} %`);
  return parts.join(" ");
}

function search() {
  const rule = rules();
  const everything = rule.class === null && rule.low <= 0 && rule.high >= 1;
  let objects = 0;
  found = data.images.filter((image) => {
    if (rule.order === "edges" && !image.edges.length) return false;
    if (rule.order === "cycles" && !mutual(image)) return false;
    const count = image.objects.filter((object) => fits(object, rule)).length;
    objects += count;
    return everything || count > 0;
  });
  const most = (image) => Math.max(0, ...image.objects.filter((o) => fits(o, rule)).map((o) => o.rate));
  if ($("sort").value === "rate") found.sort((a, b) => most(b) - most(a));
  if ($("sort").value === "count") found.sort((a, b) => b.objects.length - a.objects.length);
  $("found").textContent = `${found.length} images, ${objects} objects fit. `
    + "Click a picture to enlarge it; point at an object or its name to see it alone.";
  $("cards").replaceChildren();
  shown = 0;
  for (const bar of document.querySelectorAll(".bar")) {
    const name = bar.dataset.class;
    bar.classList.toggle("chosen", name !== undefined && Number(name) === rule.class);
  }
  grow();
}

function grow() {
  const rule = rules();
  for (const image of found.slice(shown, shown + PAGE)) $("cards").append(card(image, rule));
  shown = Math.min(shown + PAGE, found.length);
}

function card(image, rule) {
  const node = element("div", { class: "card" });
  const [width, height] = image.size;
  const svg = element("svg", { viewBox: `0 0 ${width} ${height}` }, node);
  const defs = element("defs", {}, svg);
  if (image.picture) {
    element("image", { href: image.picture, width, height, preserveAspectRatio: "none" }, svg);
  }
  const list = element("ul", {});
  const fitting = (i) => fits(image.objects[i], rule);
  const groups = image.objects.map((object, i) => {
    const stripes = `s${image.id}-${i}`;
    const pattern = element("pattern", { id: stripes, width: 6, height: 6,
      patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" }, defs);
    element("rect", { width: 3, height: 6, fill: object.color }, pattern);
    const group = element("g", { class: "object" }, svg);
    element("title", {}, group, `${object.id}: ${words(object)}`);
    if (object.visible) {
      element("path", { class: "visible", d: object.visible, fill: object.color,
        "fill-rule": "evenodd" }, group);
    }
    if (object.hidden) {
      element("path", { class: "hidden", d: object.hidden, fill: `url(#${stripes})`,
        "fill-rule": "evenodd" }, group);
    }
    if (object.amodal) {
      element("path", { class: "amodal", d: object.amodal, stroke: object.color }, group);
    }
    const chip = element("li", { style: `background:${object.color};color:${object.ink}`,
      title: `annotation ${object.id}` }, list, words(object));
    chip.classList.toggle("other", !fitting(i));
    for (const target of [group, chip]) {
      target.addEventListener("pointerenter", () => show((k) => k === i, i));
      target.addEventListener("pointerleave", () => show(fitting));
    }
    return group;
  });
  const edges = element("g", { class: "edges" }, svg);
  const arrows = image.edges.map(([front, behind]) =>
    arrow(edges, image.objects[front], image.objects[behind]));
  // Dims the objects that are not chosen, and hides arrows that touch no chosen one.
  function show(chosen, pointed) {
    groups.forEach((group, i) => {
      group.classList.toggle("other", !chosen(i));
      group.classList.toggle("pointed", i === pointed);
    });
    image.edges.forEach((ends, k) => arrows[k].classList.toggle("other", !ends.some(chosen)));
  }
  show(fitting);
  const count = image.edges.length;
  element("p", { title: image.file }, node,
    `${image.file.split("/").pop()} · ${image.objects.length} objects`
    + (count ? `, ${count} occlusion${count > 1 ? "s" : ""}` : ""));
  node.append(list);
  svg.addEventListener("click", () => node.classList.toggle("large"));
  return node;
}

// From the object in front to the one it hides.
function arrow(parent, from, to) {
  const group = element("g", {}, parent);
  const [x0, y0] = from.at;
  const [x1, y1] = to.at;
  const length = Math.hypot(x1 - x0, y1 - y0);
  if (length < 4) return group;
  const [ux, uy] = [(x1 - x0) / length, (y1 - y0) / length];
  const size = Math.min(8, length / 2);
  const wing = (side) => `${x1 - size * (ux - side * uy * 0.6)} ${y1 - size * (uy + side * ux * 0.6)}`;
  const path = `M${x0} ${y0}L${x1} ${y1}M${wing(1)}L${x1} ${y1}L${wing(-1)}`;
  element("path", { class: "edge-back", d: path }, group);
  element("path", { class: "edge", d: path }, group);
  return group;
}

data.classes.forEach((name, i) => element("option", { value: i }, $("class"), name));
for (const id of ["class", "low", "high", "order", "sort"]) $(id).addEventListener("change", search);
$("reset").addEventListener("click", () => {
  $("class").value = $("order").value = "";
  $("low").value = 0;
  $("high").value = 100;
  search();
});
for (const bar of document.querySelectorAll(".bar")) {
  bar.addEventListener("click", () => {
    if (bar.dataset.class !== undefined) $("class").value = bar.dataset.class;
    if (bar.dataset.bin !== undefined) {
      const bin = Number(bar.dataset.bin);
      $("low").value = Math.max(bin * 10 - 10, 0) + (bin === 1 ? 0.01 : 0);
      $("high").value = bin * 10;
    }
    search();
  });
}
for (const box of document.querySelectorAll("[data-layer]")) {
  box.addEventListener("change", () =>
    $("cards").classList.toggle(`no-${box.dataset.layer}`, !box.checked));
}
// Links such as index.html#class=car&low=40 open a filtered page.
const wanted = new URLSearchParams(location.hash.slice(1));
for (const id of ["low", "high", "order", "sort"]) if (wanted.has(id)) $(id).value = wanted.get(id);
if (wanted.has("class")) $("class").value = data.classes.indexOf(wanted.get("class"));
new IntersectionObserver((entries) => {
  if (entries.some((entry) => entry.isIntersecting) && shown < found.length) grow();
}, { rootMargin: "600px" }).observe($("more"));
search();
