from pathlib import Path

import pytest
from helpers.scenes import ellipse, write_coco


@pytest.fixture(scope="session")
def single_objects(tmp_path_factory) -> Path:
    """Six pictures with one complete object and a small neighbour far from it."""
    images = []
    for number in range(6):
        big = ellipse((44 + 4 * number, 40 + 2 * number), (18 + number, 22))
        small = ellipse((112, 8), (5, 4))
        images.append([(big, (5, 9)[number % 2], {}), (small, 7, {})])
    return write_coco(tmp_path_factory.mktemp("single"), images)
