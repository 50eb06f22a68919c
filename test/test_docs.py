"""Links, commands, settings, names and paths in README, docs/ and config/train/ exist.

Nothing is imported or run: modules are looked up as files, their names in the syntax tree.
"""

import ast
import re
from functools import cache

import pytest
from helpers.paths import ROOT

from amodal_perception.cli import COMMANDS

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md"))]
CONFIGS = sorted(ROOT.glob("config/train/*.yaml"))
PACKAGES = ("amodal_perception", "training")
FOLDERS = (*PACKAGES, "config", "docs", "examples", "include", "launch", "msg", "scripts", "srv")
OWN = rf"(?:{'|'.join(PACKAGES)})(?:\.\w+)*"
PATH = re.compile(rf"(?<![\w/.~-])(?:{'|'.join((*FOLDERS, 'requirements', 'test'))})/[\w./*-]*")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def source(page):
    """Return a page's text; of a configuration, its comments."""
    text = page.read_text()
    if page.suffix == ".yaml":
        return "\n".join("  " + line.partition("#")[2][1:] for line in text.splitlines())
    return text


def code_of(text):
    """Return what is code in a page: fenced or indented blocks, and words between backticks."""
    fenced = re.findall(r"^```\w*\n(.*?)^```", text, re.M | re.S)
    prose = re.sub(r"^```\w*\n.*?^```", "", text, flags=re.M | re.S)
    indented = re.findall(r"^ {4}.*$", prose, re.M)
    inline = (" ".join(span.split()) for span in re.findall(r"(?<!`)`([^`]+)`(?!`)", prose))
    joined = "\n".join([*fenced, *(line.strip() for line in indented), *inline])
    return re.sub(r"\\\n\s*", " ", joined)


def slug(heading):
    """Return the anchor that a heading gets."""
    words = re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", words).replace(" ", "-")


def broken_links(text, page):
    for target in LINK.findall(re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)):
        if re.match(r"\w+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists():
            yield f"link to {target}"
        elif anchor:
            plain = re.sub(r"^```.*?^```", "", file.read_text(), flags=re.M | re.S)
            if anchor not in map(slug, re.findall(r"^#+ (.*)$", plain, re.M)):
                yield f"anchor of {target}"


def module_file(name):
    """Return the file of a module or package; None if there is none."""
    path = ROOT.joinpath(*name.split("."))
    for file in (path.with_suffix(".py"), path / "__init__.py"):
        if file.exists():
            return file
    return None


@cache
def names_in(file):
    """Return what a module defines or imports at its top level."""
    names = set()
    for node in ast.parse(file.read_text()).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        names |= {target.id for target in targets if isinstance(target, ast.Name)}
        if isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in node.names}
        names |= {node.name} if hasattr(node, "name") else set()
    return names


def exists(dotted):
    """Say whether a dotted name is a module, or something at the top level of one."""
    if module_file(dotted):
        return True
    module, _, name = dotted.rpartition(".")
    if not module:
        return False
    file = module_file(module)
    return name in names_in(file) if file else exists(module) and "." in module


def can_be_run(module):
    package = ROOT.joinpath(*module.split("."))
    if package.is_dir():
        return (package / "__main__.py").exists()
    file = package.with_suffix(".py")
    return file.exists() and 'if __name__ == "__main__"' in file.read_text()


@cache
def python_text(*folders):
    return "\n".join(file.read_text() for name in folders for file in (ROOT / name).rglob("*.py"))


@cache
def settings():
    """Return the names of all annotated fields in training/: the keys of its settings."""
    trees = [ast.parse(file.read_text()) for file in (ROOT / "training").rglob("*.py")]
    return {
        node.target.id
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }


def wrong_names(code):
    for module in re.findall(rf"-m ({OWN})", code):
        if not can_be_run(module):
            yield f"python -m {module}"
    for dotted in re.findall(rf"(?<![\w./~-])({OWN})(?![\w/-])", code):
        if not exists(dotted):
            yield dotted
    for module, listed, single in re.findall(
        rf"from ({OWN}) import (?:\(([^)]*)\)|([\w, ]+))", code
    ):
        for name in re.findall(r"(\w+)(?: as \w+)?", listed or single):
            if name != "as" and not exists(f"{module}.{name}") and len(name) > 1:
                yield f"{module}.{name}"


def wrong_commands(code):
    makefile = (ROOT / "Makefile").read_text()
    targets = re.search(r"^\.PHONY: (.*)$", makefile, re.M)[1].split()
    for target in re.findall(r"(?:^|&& )make ([a-z]+)", code, re.M):
        if target not in targets:
            yield f"make {target}"
    for line in code.splitlines():
        line = re.split(r"\s#\s|\s\|\s", line)[0]
        amodal = re.search(r"(?:^|&& |^\$ |with_ros )amodal ([a-z-]+)", line.strip())
        script = re.search(rf"-m ({OWN})", line)
        if amodal and not script and amodal[1] not in COMMANDS:
            yield f"amodal {amodal[1]}"
        if not (amodal or script) or "ros2 " in line or "--ros-args" in line:
            continue
        text = python_text(*PACKAGES) if script else python_text("amodal_perception")
        called = script or amodal
        for flag in re.findall(r"(?<=\s)--[a-z][\w-]*", line.partition(called[0])[2]):
            if f'"{flag}"' not in text and flag != "--help":
                yield f"{flag} of {called[0].strip()}"
        if script and script[1].startswith("training"):
            for key in re.findall(r"(?<=[\s'])(?:model\.)?(\w+)=", line.partition(script[0])[2]):
                if key not in settings():
                    yield f"setting {key} of {script[1]}"
    for key in re.findall(r"\bmodel\.([a-z]\w*)(?![\w.(])", code):
        if key not in {*settings(), "onnx", "engine"}:
            yield f"model.{key}"


def wrong_paths(text, code):
    for match in dict.fromkeys(PATH.findall(f"{code}\n{text}")):
        path = match.rstrip(".-")
        kind = re.fullmatch(r"amodal_perception/(?:msg/|srv/)?([A-Z]\w+)", path)
        if kind:
            if not any((ROOT / f).exists() for f in (f"msg/{kind[1]}.msg", f"srv/{kind[1]}.srv")):
                yield path
        elif "*" in path:
            if not any(ROOT.glob(path)):
                yield path
        elif not any((ROOT / folder / path).exists() for folder in ("", "include")):
            yield path
    names = {file.name for file in (ROOT / "test").rglob("*.py")}
    tests = set(re.findall(r"def (test_\w+)", python_text("test")))
    for file in re.findall(r"\btest_\w+\.py\b", text):
        if file not in names:
            yield file
    for test, rest in re.findall(r"`(?:[\w/]+\.py::)?(test_\w+)(\.\.\.)?`", text):
        if not any(name == test or (rest and name.startswith(test)) for name in tests):
            yield test + rest


def problems(text, page):
    code = code_of(text)
    return [
        *broken_links(text, page),
        *wrong_names(code),
        *wrong_commands(code),
        *wrong_paths(text, code),
    ]


@pytest.mark.parametrize("page", PAGES + CONFIGS, ids=lambda page: page.name)
def test_what_a_page_names_exists(page):
    assert problems(source(page), page) == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[node](nodes.md)", "link to nodes.md"),
        ("[node](node.md#no-such-part)", "anchor of node.md#no-such-part"),
        ("```bash\npython -m training.trane x\n```", "python -m training.trane"),
        ("    python -m training.loop.config", "python -m training.loop.config"),
        ("`training.loop.config.NoConfig`", "training.loop.config.NoConfig"),
        ("`from amodal_perception import coco`", "amodal_perception.coco"),
        ("```bash\namodal replai bag\n```", "amodal replai"),
        ("```bash\namodal replay bag \\\n    --lives\n```", "--lives of amodal replay"),
        ("```bash\nmake demos\n```", "make demos"),
        ("    python -m training.train c.yaml dat=x", "setting dat of training.train"),
        ("`model.hidden_wait=4`", "model.hidden_wait"),
        ("see `training/loops/config.py`", "training/loops/config.py"),
        ("`amodal_perception/AmodalScenes`", "amodal_perception/AmodalScenes"),
        ("`test_no_such_thing`", "test_no_such_thing"),
        ("test_no_file.py", "test_no_file.py"),
    ],
)
def test_a_wrong_name_is_found(text, problem):
    assert problem in problems(text, ROOT / "docs" / "page.md")
