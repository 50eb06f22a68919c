"""Images, and camera messages of them."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.bag_writing import image_message


@pytest.fixture
def images() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (6, 8, 3), dtype=np.uint8) for _ in range(3)]


@pytest.fixture
def camera(images) -> list:
    return [image_message(image, (10 + i) * 10**9 + 7) for i, image in enumerate(images)]
