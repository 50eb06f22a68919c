"""Converters of published data sets and of own labels to amodal COCO, by format name."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

from training.convert import (
    coco,
    cocoa,
    cocoa_cls,
    cocoa_flat,
    d2sa,
    kins,
    occluded_vehicles,
    two_boxes,
    two_masks,
    uoais_sim,
)
from training.convert.repair_log import RepairLog
from training.convert.source import Source


@dataclass(frozen=True)
class Format:
    """A data set format that can be converted.

    Attributes:
        help: one line for the list of formats.
        read: makes a `Source` of the command's arguments.
        add_options: adds what only this format needs.
        many: takes several source files (``arguments.sources``), not one (``arguments.source``).
        files: names that its files usually have, by which they are found in a folder; none where
            the format is a folder itself.
    """

    help: str
    read: Callable[[argparse.Namespace, RepairLog], Source]
    add_options: Callable[[argparse.ArgumentParser], None] | None = None
    many: bool = False
    files: tuple[str, ...] = ()


COCOA_FILES = ("COCO_amodal_*2014.json",)
EXPORTS = ("instances_*.json", "result.json", "_annotations.coco.json")
"""Of CVAT, Label Studio and Roboflow."""

FORMATS: dict[str, Format] = {
    "cocoa": Format(
        "COCOA as released, regions by image",
        cocoa.read,
        cocoa.add_options,
        many=True,
        files=COCOA_FILES,
    ),
    "cocoa-flat": Format(
        "COCOA as a flat COCO file (*_detectron_no_stuff.json)",
        cocoa_flat.read,
        files=("COCO_amodal_*_detectron*.json",),
    ),
    "cocoa-cls": Format(
        "COCOA-cls as released (*_with_classes.json)",
        cocoa_flat.read,
        files=("COCO_amodal_*_with_classes.json",),
    ),
    "cocoa-cls-merge": Format(
        "COCOA-cls made from COCOA and COCO 2014",
        cocoa_cls.read,
        cocoa_cls.add_options,
        many=True,
        files=COCOA_FILES,
    ),
    "d2sa": Format("D2S amodal", d2sa.read, files=("D2S_amodal_*.json",)),
    "kins-2019": Format(
        "KINS, first release (instances_*.json)",
        kins.read_2019,
        kins.add_options,
        files=("instances_*.json",),
    ),
    "kins-2020": Format(
        "KINS, release of 2020 (update_*)",
        kins.read_2020,
        kins.add_options,
        files=("update_*.json",),
    ),
    "occluded-vehicles": Format("OccludedVehicles, a split's folder", occluded_vehicles.read),
    "coco": Format(
        "COCO instances: visible masks, no amodal truth", coco.read, files=("instances_*.json",)
    ),
    "uoais-sim": Format(
        "UOAIS-Sim and its like",
        uoais_sim.read,
        uoais_sim.add_options,
        files=("coco_anns_*.json",),
    ),
    "two-masks": Format(
        "your own labels from CVAT or Label Studio: a visible and an amodal mask an object",
        two_masks.read,
        two_masks.add_options,
        files=EXPORTS,
    ),
    "two-boxes": Format(
        "your own boxes: a visible and an amodal box an object, for training BLADE",
        two_boxes.read,
        two_boxes.add_options,
        files=EXPORTS,
    ),
}
