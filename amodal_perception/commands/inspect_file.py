"""``amodal inspect``: what a model, an engine, a bag, a data set, photographs or a bank hold."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from amodal_perception.errors import AmodalError
from amodal_perception.reports.dataset_page import write_dataset_page
from amodal_perception.reports.dataset_statistics import RATE_BINS, summarise
from amodal_perception.reports.memory_bank_page import describe_bank, write_bank_page
from amodal_perception.reports.photograph_statistics import describe_photographs
from amodal_perception.runtime import ModelMetadata, load_runtime
from amodal_perception.runtime.tensorrt.cache import check_engine
from amodal_perception.runtime.tensorrt.manifest import read_trusted
from amodal_perception.storage import amodal_coco
from amodal_perception.storage.bag_files import PART_SUFFIXES, ROS1_SUFFIX, image_topics
from amodal_perception.storage.image_listing import IMAGE_ENDINGS
from amodal_perception.storage.memory_bank import TABLE

BAR_WIDTH = 40


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the options of ``amodal inspect``."""
    parser.add_argument(
        "file",
        type=Path,
        help="model, engine, bag, memory bank, amodal COCO .json, or a folder of a data set or of "
        "photographs",
    )
    parser.add_argument("--out", type=Path, help="folder for a page of a data set's images")
    parser.add_argument(
        "--limit", type=int, default=500, help="most images on the page (default %(default)s)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Run the command; return its exit code."""
    if arguments.limit < 1:
        raise AmodalError(f"--limit {arguments.limit}: the page needs at least one image")
    description = describe(arguments.file)
    width = max(16, *map(len, description))
    for key, value in description.items():
        print(f"{key:{width}} {value}")
    if arguments.out:
        page = browse(arguments.file, arguments.out, limit=arguments.limit)
        print(f"page: {page}")
    return 0


def describe(path: Path) -> dict[str, object]:
    """List what a model, bag, data set, memory bank or folder of photographs holds, by name.

    Raises:
        AmodalError: missing, damaged, or of no kind known here.
    """
    if not path.exists():
        raise AmodalError(f"{path}: no such file")
    if path.suffix == ".onnx":
        return _describe_model(path)
    if path.suffix == ".engine":
        return _describe_engine(path)
    if (path / TABLE).is_file():
        return describe_bank(path)
    if _is_dataset(path):
        return _describe_dataset(path)
    if path.is_dir():
        names = [inside.name for inside in path.iterdir()]
        if _is_photographs(names):
            return describe_photographs(path)
        _check_is_bag(path, names)
    if path.is_dir() or path.name.endswith((*PART_SUFFIXES, ROS1_SUFFIX)):
        return _describe_bag(path)
    raise AmodalError(f"{path}: neither a model (.onnx), a bag, nor an amodal COCO file (.json)")


def _is_dataset(path: Path) -> bool:
    return path.suffix == ".json" or (path / amodal_coco.ANNOTATIONS).is_file()


def _is_photographs(names: Sequence[str]) -> bool:
    has_images = any(name.lower().endswith(IMAGE_ENDINGS) for name in names)
    return has_images and not _is_bag(names) and not _is_run(names)


def _is_bag(names: Sequence[str]) -> bool:
    parts = (*PART_SUFFIXES, ROS1_SUFFIX)
    return any(name == "metadata.yaml" or name.endswith(parts) for name in names)


def _is_run(names: Sequence[str]) -> bool:
    return "config.json" in names and "checkpoints" in names


def _check_is_bag(folder: Path, names: Sequence[str]) -> None:
    """Raise AmodalError, with what a folder seems to be, unless it may be a bag."""
    if _is_bag(names):
        return
    what = "holds no bag (metadata.yaml, *.mcap, *.db3) and no data set (annotations.json)"
    if _is_run(names):
        what = "is a training run; export it (python -m training.export), and inspect the file"
    elif "predictions.json" in names:
        what = "is a folder of results; inspect the predictions.json in it"
    raise AmodalError(f"{folder}: {what}")


def _describe_model(path: Path) -> dict[str, object]:
    metadata = load_runtime(path).metadata
    return _model_rows(path, metadata)


def _describe_engine(path: Path) -> dict[str, object]:
    """List what the manifest says; the engine itself is not executed."""
    manifest, metadata, _ = read_trusted(path)
    types = ", ".join(f"{n} {dtype}" for dtype, n in sorted(manifest.precision.items()))
    return {
        **_model_rows(path, metadata),
        "built with": f"{manifest.backend} {manifest.backend_version}, {manifest.built_at}",
        "built for": f"compute capability {manifest.compute_capability}",
        "built from": manifest.onnx_file,
        "arithmetic": f"layers: {types}",
        "can be used": check_engine(path).problem or "yes, on such a GPU",
    }


FIGURES_OF = {"predictions": "figures of"}


def _model_rows(path: Path, metadata: ModelMetadata) -> dict[str, object]:
    return {
        "model": metadata.model_id,
        "precision": metadata.precision,
        "size": f"{path.stat().st_size / 1e6:.1f} MB",
        "input": "{} x {} pixels (height x width), uint8 RGB".format(*metadata.input_hw),
        "instances": f"at most {metadata.max_instances}",
        "mask grid": f"{metadata.mask_size} x {metadata.mask_size}",
        "masks": "one, as amodal and as visible mask"
        if metadata.one_mask
        else ", ".join(("amodal", "visible", *metadata.optional_masks)),
        "classes": ", ".join(metadata.class_names),
        "trained on": metadata.training_data or "not stated",
        "code": metadata.git_commit or "not stated",
        **{FIGURES_OF.get(name, name): value for name, value in (metadata.metrics or {}).items()},
    }


def browse(path: Path, out_dir: Path, *, limit: int) -> Path:
    """Write a page and return it: a data set's images with masks and edges, or a bank's slots.

    Raises:
        AmodalError: neither, or damaged.
    """
    if (path / TABLE).is_file():
        return write_bank_page(path, out_dir, limit=limit)
    if not _is_dataset(path):
        raise AmodalError(f"{path}: is no data set (an amodal COCO .json, or a folder with one)")
    data = amodal_coco.read(path)
    return write_dataset_page(data, summarise(data), out_dir, limit=limit)


def _describe_dataset(path: Path) -> dict[str, object]:
    """List what Table 5 of Follmann et al. (WACV 2019) has of a data set, then more."""
    data = amodal_coco.read(path)
    s = summarise(data)
    order = s.order
    text: dict[str, object] = {
        "kind": "predictions" if _has_scores(data) else "truth",
        "images": s.images,
        "objects": f"{s.objects} ({s.objects / max(s.images, 1):.1f} an image)",
    }
    text |= {
        name: count
        for name, count in (
            ("nothing visible", s.unseen_objects),
            ("crowds", s.crowds),
            ("stuff", s.stuff),
        )
        if count
    }
    if s.amodal:
        text |= {
            "images w/ occl": f"{s.occluded_images} ({s.occluded_image_share:.0%})",
            "objects occl": f"{s.occluded_objects} ({s.occluded_object_share:.0%})",
            "avg OR (all)": f"{s.mean_rate:.1%} hidden of an object",
            "avg OR (occl)": f"{s.mean_rate_occluded:.1%} hidden of an occluded object",
            **_bars(RATE_BINS, s.histogram),
            "occlusions": f"{order.edges} edges in {order.images} images",
            "hide each other": f"{order.mutual} pairs; no order fits {order.cyclic_images} images",
            "longest chain": f"{order.longest_chain} objects, one behind the other",
        }
    else:
        text["amodal truth"] = "none: visible masks only, so nothing counts as occluded"
    if order.sources:
        text["order from"] = ", ".join(f"{k} ({n} images)" for k, n in order.sources.items())
    for c in s.classes:
        text[f"class {c.name}"] = (
            f"{c.objects} objects, {c.occluded} occluded, {c.mean_rate:.1%} hidden"
            if c.objects and s.amodal
            else f"{c.objects} objects"
        )
    return text | {f"info.{key}": _short(value) for key, value in data.info.items()}


def _has_scores(data: amodal_coco.AmodalCoco) -> bool:
    return any("score" in row for row in data.annotations.values())


def _bars(names: Sequence[str], counts: Sequence[int]) -> dict[str, object]:
    most = max(counts, default=0) or 1
    return {
        name: f"{count:8} {'#' * round(BAR_WIDTH * count / most)}"
        for name, count in zip(names, counts)
    }


def _short(value: object) -> object:
    """Put counts into words, and keep long lists from filling the screen."""
    if isinstance(value, dict) and all(isinstance(count, int) for count in value.values()):
        return "; ".join(f"{count} {name}" for name, count in value.items()) or "none"
    if isinstance(value, list) and len(value) > 5:
        return f"{len(value)} entries, the first: {value[0]}"
    return value


def _describe_bag(path: Path) -> dict[str, object]:
    return {
        topic.name: f"{topic.message_count} x {topic.msgtype} ({topic.encoding})"
        for topic in image_topics(path)
    } or {"images": "none"}
