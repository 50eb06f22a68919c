"""Networks: the settings of each, by the name that a training configuration gives it.

Settings are a frozen dataclass with a default for every field; ``build(num_classes)`` makes the
network. A network has ``losses(batch, generator)``, the weighted terms of its loss, and
``forward(images)``, which returns `training.batch.Detections`.
"""

from __future__ import annotations

from typing import Any, ClassVar, Protocol

from torch import nn

from training.models.orcnn import OrcnnLightSettings


class ModelSettings(Protocol):
    """What decides how a network is built and what it minimises."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def build(self, num_classes: int) -> nn.Module:
        """Build the network with random weights."""


MODELS: dict[str, type[ModelSettings]] = {"orcnn_light": OrcnnLightSettings}
