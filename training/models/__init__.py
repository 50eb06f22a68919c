"""Networks: the settings of each, by the name that a training configuration gives it.

Settings are a frozen dataclass with a default for every field; ``build(num_classes)`` makes the
network. A network has ``losses(batch, generator)``, the weighted terms of its loss, and
``forward(images)``, which returns `training.structures.Detections`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from training.models.asn import Asn, AsnLightSettings, AsnSettings
from training.models.bcnet.bcnet import Bcnet, BcnetLightSettings, BcnetSettings
from training.models.blade.blade import (
    Blade,
    BladeLightSettings,
    BladeSettings,
    BoxInstLightSettings,
    BoxInstSettings,
)
from training.models.mask_rcnn import (
    AmodalMaskRcnnLightSettings,
    AmodalMaskRcnnSettings,
    MaskRcnn,
    MaskRcnnLightSettings,
    MaskRcnnSettings,
)
from training.models.orcnn import Orcnn, OrcnnLightSettings, OrcnnSettings
from training.models.pgexp.pgexp import Pgexp, PgexpLightSettings, PgexpSettings

Network = Asn | Bcnet | Blade | MaskRcnn | Orcnn | Pgexp


class ModelSettings(Protocol):
    """Settings of a network: its modules and the weights of its loss."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def instances(self) -> int:
        """Number of detections that are returned, N of the contract."""

    @property
    def one_mask(self) -> bool:
        """Whether the network has one mask, which it returns as amodal and as visible."""

    def build(self, num_classes: int) -> Network:
        """Build the network with random weights."""

    def prepare(self, data: Path, run: Path, seed: int, device: torch.device) -> dict[str, Tensor]:
        """Compute buffers of the network from the training data, before training."""


MODELS: dict[str, type[ModelSettings]] = {
    "mask_rcnn": MaskRcnnSettings,
    "mask_rcnn_light": MaskRcnnLightSettings,
    "amodal_mask_rcnn": AmodalMaskRcnnSettings,
    "amodal_mask_rcnn_light": AmodalMaskRcnnLightSettings,
    "orcnn": OrcnnSettings,
    "orcnn_light": OrcnnLightSettings,
    "asn": AsnSettings,
    "asn_light": AsnLightSettings,
    "bcnet": BcnetSettings,
    "bcnet_light": BcnetLightSettings,
    "pgexp": PgexpSettings,
    "pgexp_light": PgexpLightSettings,
    "blade": BladeSettings,
    "blade_light": BladeLightSettings,
    "boxinst": BoxInstSettings,
    "boxinst_light": BoxInstLightSettings,
}
