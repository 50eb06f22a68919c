"""Label image: the object at each pixel."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from amodal_perception.structures import BoolArray, Instances


def label_image(instances: Instances, masks: BoolArray) -> NDArray[np.uint16]:
    """Draw masks that do not overlap into one image.

    Args:
        instances: whose masks they are.
        masks: [N, H, W] bool, each inside its instance's window.

    Returns:
        [H, W] uint16, the instance_id (index + 1) that is there, 0 for none.
    """
    labels = np.zeros(instances.size_hw, np.uint16)
    for i in range(len(instances)):
        window = instances.window(i)
        labels[window][masks[i][window]] = i + 1
    return labels
