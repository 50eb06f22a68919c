"""One small scene in the layouts of the data sets that researchers have.

The files of those data sets cannot be had here, so these follow their documentation: key by key,
with the same forms of polygons, run lengths, boxes and order.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from amodal_perception.storage.coco_rle import encode_mask
from helpers.scenes import stacked

SIZE_HW = (40, 60)
BOXES = ((10, 5, 30, 35), (20, 10, 45, 30), (40, 20, 55, 38), (2, 30, 8, 36))
"""Rectangles x0, y0, x1, y1 in pixels, front to back; the second lies under the first, the third
under the second, and the fourth touches nothing."""
EDGES = [(0, 1), (1, 2)]
NAME = "000001.jpg"


def amodal():
    """Return the complete masks: [4, H, W] bool."""
    masks = np.zeros((len(BOXES), *SIZE_HW), bool)
    for mask, (x0, y0, x1, y1) in zip(masks, BOXES):
        mask[y0:y1, x0:x1] = True
    return masks


def visible():
    """Return what is seen of each: [4, H, W] bool."""
    return stacked(*amodal()).visible


def rle(mask, **extra):
    """Encode as files have it: text, not bytes."""
    return {**encode_mask(mask), **extra}


def polygon(i):
    """Return the flat polygon of object i, as floats."""
    x0, y0, x1, y1 = BOXES[i]
    return [float(v) for v in (x0, y0, x1, y0, x1, y1, x0, y1)]


def xywh(mask):
    """Return the tight box of a mask."""
    ys, xs = np.nonzero(mask)
    x, y = int(xs.min()), int(ys.min())
    return [x, y, int(xs.max()) - x + 1, int(ys.max()) - y + 1]


def rate(i):
    """Return the hidden share of object i."""
    return 1 - visible()[i].sum() / amodal()[i].sum()


def image_row(**extra):
    """Describe the scene's image."""
    return {"id": 7, "file_name": NAME, "height": SIZE_HW[0], "width": SIZE_HW[1], **extra}


def cocoa(*, stuff=()):
    """COCOA as released; the objects listed in `stuff` are background."""
    regions = []
    for i in range(4):
        region = {
            "segmentation": polygon(i),
            "name": f"thing {i} ",
            "area": int(amodal()[i].sum()),
            "isStuff": int(i in stuff),
            "occlude_rate": float(rate(i)) if rate(i) else 0,
            "order": i + 1,
        }
        if rate(i):
            region["visible_mask"] = rle(visible()[i])
            region["invisible_mask"] = rle(amodal()[i] & ~visible()[i])
        regions.append(region)
    record = {
        "id": 1,
        "image_id": 7,
        "author": "somebody",
        "url": f"https://example.org/{NAME}",
        "size": 4,
        "depth_constraint": "1-2,2-3",
        "regions": regions,
    }
    return {"images": [image_row()], "annotations": [record]}


def cocoa_flat():
    """COCOA-cls's flat file: flat and nested polygons, or run lengths; COCO's class numbers."""
    annotations = []
    for i in range(4):
        row = {
            "id": 100 + i,
            "image_id": 7,
            "category_id": (1, 3, 3, 90)[i],
            "iscrowd": 0,
            "segmentation": (polygon(i), [polygon(i)], rle(amodal()[i]), [polygon(i)])[i],
            "bbox": xywh(amodal()[i]),
            "area": float(amodal()[i].sum()),
            "occlude_rate": float(rate(i)),
            "isStuff": 0,
        }
        if rate(i):
            row["visible_mask"] = rle(visible()[i])
        annotations.append(row)
    categories = [
        {"id": n, "name": name} for n, name in ((1, "person"), (3, "car"), (90, "brush"))
    ]
    return {"images": [image_row()], "annotations": annotations, "categories": categories}


def d2sa():
    """D2S amodal: run lengths, and the record of COCOA's tool on every annotation."""
    base = {
        "url": NAME,
        "image_id": 7,
        "size": 4,
        "author": "somebody",
        "depth_constraint": "1-2,2-3",
    }
    annotations = []
    for i in range(4):
        annotations.append(
            {
                "id": 200 + i,
                "image_id": 7,
                "category_id": 1 + i % 2,
                "iscrowd": 0,
                "segmentation": rle(amodal()[i]),
                "visible_mask": rle(visible()[i]),
                "bbox": xywh(amodal()[i]),
                "area": int(amodal()[i].sum()),
                "occlude_rate": float(rate(i)),
                "occl_depth": int(rate(i) > 0),
                "amodal_region": {"name": "product", "isStuff": 0, "order": i + 1},
                "amodal_base": base,
            }
        )
    categories = [{"id": 1, "name": "water"}, {"id": 2, "name": "apple"}]
    return {"images": [image_row()], "annotations": annotations, "categories": categories}


KINS_CLASSES = {
    1: "cyclist",
    2: "pedestrian",
    4: "car",
    5: "tram",
    6: "truck",
    7: "van",
    8: "misc",
}


def kins_2019():
    """KINS as first released."""
    annotations = [
        {
            "id": 300 + i,
            "image_id": 7,
            "category_id": (4, 4, 2, 8)[i],
            "iscrowd": 0,
            "segmentation": [polygon(i)],
            "area": float(amodal()[i].sum()),
            "bbox": xywh(amodal()[i]),
            "inmodal_seg": rle(visible()[i]),
            "inmodal_bbox": xywh(visible()[i]),
        }
        for i in range(4)
    ]
    categories = [{"id": n, "name": name} for n, name in KINS_CLASSES.items()]
    return {"images": [image_row()], "annotations": annotations, "categories": categories}


def kins_2020():
    """KINS's release of 2020: other keys, clusters, and a class that no object has."""
    content = kins_2019()
    for i, row in enumerate(content["annotations"]):
        row["a_segm"] = row.pop("segmentation")
        row["i_segm"] = row.pop("inmodal_seg")
        row["a_bbox"] = row.pop("bbox")
        row["i_bbox"] = row.pop("inmodal_bbox")
        row["a_area"] = row.pop("area")
        row["oco_id"] = (1, 1, 1, 0)[i]
        row["ico_id"] = (1, 2, 3, 0)[i]
    content["categories"].insert(2, {"id": 3, "name": "rider"})
    return content


def coco():
    """COCO's instances: the visible masks, and one crowd as plain counts."""
    annotations = [
        {
            "id": 400 + i,
            "image_id": 7,
            "category_id": 1 + i % 2,
            "iscrowd": 0,
            "segmentation": rle(visible()[i]),
            "area": float(visible()[i].sum()),
            "bbox": xywh(visible()[i]),
        }
        for i in range(4)
    ]
    total = SIZE_HW[0] * SIZE_HW[1]
    crowd = {"size": list(SIZE_HW), "counts": [total - 400, 400]}
    annotations.append(annotations[0] | {"id": 500, "iscrowd": 1, "segmentation": crowd})
    for key in ("area", "bbox"):
        annotations[-1].pop(key)
    categories = [{"id": 1, "name": "person"}, {"id": 2, "name": "bicycle"}]
    return {"images": [image_row()], "annotations": annotations, "categories": categories}


def write_uoais_sim(root: Path, *, name="annotations/coco_anns_uoais_sim_train.json"):
    """UOAIS-Sim as found in the wild: image rows twice, area 0, the visible box as the box."""
    annotations = [
        {
            "id": 600 + i,
            "image_id": 7,
            "category_id": 1,
            "iscrowd": 0,
            "object_name": f"mesh_{i}",
            "segmentation": rle(amodal()[i], area=0),
            "visible_mask": rle(visible()[i], area=0),
            "occluded_mask": rle(amodal()[i] & ~visible()[i], area=0),
            "bbox": xywh(visible()[i]),
            "visible_bbox": xywh(visible()[i]),
            "area": 0,
            "occluded_rate": float(rate(i)),
        }
        for i in range(4)
    ]
    row = image_row(
        depth_file_name="train/bin/depth/0.png",
        occlusion_order_file_name="train/bin/occlusion_order/0.npy",
    )
    matrix = np.zeros((4, 4), np.int64)
    for front, behind in EDGES:
        matrix[front, behind] = 1
    (root / "train/bin/occlusion_order").mkdir(parents=True)
    np.save(root / row["occlusion_order_file_name"], matrix)
    content = {
        "images": [row, dict(row)],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "object"}],
    }
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def write_occluded_vehicles(root: Path):
    """OccludedVehicles: a car under two pasted objects, and a bus under none (level 0)."""
    y0, x0, y1, x1 = 10, 20, 30, 45
    box = np.array([y0, x0, y1, x1, *SIZE_HW])
    folder = root / "testing" / "annotations" / "carFGL1_BGL2"
    folder.mkdir(parents=True)
    # Polygons of different lengths: NumPy can store them only as objects.
    occluders = np.empty(2, object)
    occluders[:] = [polygon(0), [40.0, 20.0, 55.0, 20.0, 55.0, 38.0]]
    np.savez(
        folder / "n1_1.npz",
        category="car",
        box=box,
        mask=np.array([polygon(1)]),
        occluder_mask=occluders,
    )
    np.savez(
        folder / "n1_2.npz",
        category="car",
        box=box,
        mask=np.array([polygon(1)]),
        occluder_mask=np.array([polygon(0)]),
    )
    lists = root / "testing" / "lists"
    lists.mkdir()
    (lists / "carFGL1_BGL2.txt").write_text("n1_1.JPEG\nn1_2.JPEG\nn1_3.JPEG\n")
    raw = root / "testing" / "annotations" / "busFGL0_BGL0"
    raw.mkdir()
    np.savez(raw / "n2.npz", category="bus", box=box, mask=np.array([polygon(1)]))
    (root / "testing" / "annotations" / "bus_raw_mod").mkdir()
    return root / "testing"
