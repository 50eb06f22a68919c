"""Tell what a file of ours holds."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from amodal_perception import amodal_coco
from amodal_perception.errors import AmodalError
from amodal_perception.runtime import load_runtime


def describe(path: Path) -> dict[str, object]:
    """List what a model, bag or dataset holds, as values by name.

    Raises:
        AmodalError: missing, damaged, or of no kind known here.
    """
    if not path.exists():
        raise AmodalError(f"{path}: no such file")
    if path.suffix == ".onnx":
        return _describe_model(path)
    if path.suffix == ".json":
        return _describe_dataset(path)
    if path.is_dir() or path.suffix in (".mcap", ".db3"):
        return _describe_bag(path)
    raise AmodalError(f"{path}: neither a model (.onnx), a bag, nor an amodal COCO file (.json)")


def _describe_model(path: Path) -> dict[str, object]:
    metadata = load_runtime(path).metadata
    return {
        "model": metadata.model_id,
        "size": f"{path.stat().st_size / 1e6:.1f} MB",
        "input": "{} x {} pixels (height x width), uint8 RGB".format(*metadata.input_hw),
        "instances": f"at most {metadata.max_instances}",
        "mask grid": f"{metadata.mask_size} x {metadata.mask_size}",
        "classes": ", ".join(metadata.class_names),
        "trained on": metadata.training_data or "not stated",
        "code": metadata.git_commit or "not stated",
        **dict(metadata.metrics or {}),
    }


def _describe_dataset(path: Path) -> dict[str, object]:
    data = amodal_coco.read(path)
    rates = np.array([row.get("occlusion_rate", 0.0) for row in data.annotations.values()])
    occluded = rates[rates > 0]
    counts = [len(data.annotations_of(image_id)) for image_id in data.images]
    return {
        "images": len(data.images),
        "annotations": f"{len(rates)} ({np.mean(counts) if counts else 0:.1f} an image)",
        "kind": "predictions"
        if any("score" in row for row in data.annotations.values())
        else "truth",
        "categories": ", ".join(data.class_names),
        "occluded": f"{len(occluded)}, on average {occluded.mean() if len(occluded) else 0:.0%}",
        "occlusions": f"{len(data.occlusions)} edges",
        **{f"info.{key}": value for key, value in data.info.items()},
    }


def _describe_bag(path: Path) -> dict[str, object]:
    from amodal_perception.bags import image_topics

    return {
        topic.name: f"{topic.message_count} x {topic.msgtype} ({topic.encoding})"
        for topic in image_topics(path)
    } or {"images": "none"}
