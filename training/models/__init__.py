"""Networks, by the name a training configuration gives them."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from training.models.orcnn import orcnn_light

MODELS: dict[str, Callable[[], nn.Module]] = {"orcnn_light": orcnn_light}
