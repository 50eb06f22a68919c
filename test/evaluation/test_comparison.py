"""Truth and predictions side by side, ready to be measured."""

from __future__ import annotations

import pytest
from helpers.scenes import amodal_file, annotation, mask

from amodal_perception.errors import DatasetError
from amodal_perception.evaluation.comparison import compare_files


def test_truth_without_objects_is_refused():
    crowd = annotation(mask("aa", "aa"), iscrowd=1)
    with pytest.raises(DatasetError, match=r"truth\.json: holds no object"):
        compare_files(amodal_file(crowd), amodal_file(annotation(mask("aa", "aa"), score=0.5)))
