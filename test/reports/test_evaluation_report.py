"""The page of `amodal evaluate`."""

from __future__ import annotations

import re

import numpy as np
from helpers.scenes import random_files, write_file

from amodal_perception.reports.evaluation_folder import evaluate_files
from amodal_perception.storage.image_files import write_image


def test_page_shows_every_image_and_needs_no_other_file(tmp_path):
    truth, predictions = random_files(np.random.default_rng(3))
    write_image(tmp_path / "1.png", np.full((30, 40, 3), 200, np.uint8))
    evaluate_files(
        write_file(tmp_path / "truth.json", truth),
        write_file(tmp_path / "predictions.json", predictions),
        tmp_path / "out",
        replicates=5,
    )
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("<svg") == 4
    assert page.count("data:image/jpeg") == 8  # truth and predictions of four images
    assert "class 2" in page
    assert not re.search(r'(src|href)="(?!data:)', page)  # needs nothing else
