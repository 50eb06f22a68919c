"""COCO's instances (Lin et al. 2014): modal masks. No amodal truth is made up.

The masks become both ``segmentation`` and ``visible_segmentation``; there is no occlusion rate
and no occlusion, and ``info.amodal_truth`` is false. Crowds stay crowds.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

from training.convert.annotation_row import AnnotationRow
from training.convert.coco_tables import read_tables, source_of_tables
from training.convert.repair_log import RepairLog
from training.convert.source import Source, SourceObject

REMARK = "visible masks only: nothing is known of what is hidden (info.amodal_truth)"


def read(arguments: argparse.Namespace, log: RepairLog) -> Source:
    """Read one file.

    Raises:
        DatasetError: not of this format, or an annotation that cannot be understood.
    """
    source = source_of_tables(read_tables(arguments.source, log), log, _read_object)
    return replace(source, amodal=False, remarks=[REMARK])


def _read_object(row: AnnotationRow) -> SourceObject:
    recorded = row.recorded(area="area", bbox="bbox")
    return row.to_object(row.mask("segmentation"), None, recorded=recorded)
