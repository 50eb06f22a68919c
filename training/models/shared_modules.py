"""Backbone, feature pyramid (FPN), detector and RoIAlign of every system, and their settings.

images -> Normalize -> backbone -> pyramid -> detector -> boxes
                                      |                     |
                                      +---- RoiPooler <-----+
                                                |
                                      heads of the system
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from amodal_perception.errors import ConfigError
from training.models.backbones.fpn import LightPyramid, StandardPyramid
from training.models.backbones.light_backbone import LightBackbone
from training.models.backbones.normalize import Normalize
from training.models.backbones.torchvision_backbones import NORM_EPS, MobileNet, ResNet
from training.models.detector_protocol import Detector
from training.models.detectors.faster_rcnn import FasterRcnn
from training.models.detectors.fcos import Fcos
from training.models.detectors.light_detector import LightDetector
from training.models.roi.mask_heads import LightMaskHead, StandardMaskHead
from training.models.roi.roi_align import RoiPooler

CHOICES = {
    "backbone": ("resnet18", "resnet50", "resnet101", "mobilenet", "light"),
    "detector": ("faster_rcnn", "fcos", "light"),
    "mask_head": ("standard", "light"),
    "conventions": ("detectron2", "torchvision"),
}


class SharedModules(NamedTuple):
    """The modules that every system shares: all but its own heads.

    Attributes:
        backbone: normalised images [B, 3, H, W] to maps [C2, C3, C4, C5], C_i of stride 2 ** i.
        fpn: those to the maps [B, channels, H_l, W_l] that the detector reads.
        detector: maps to boxes; a module too.
        pool: maps and boxes [B, N, 4] to features of RoIs [B * N, channels, cells, cells].
        channels: of the pyramid's maps, hence of the RoI features.
    """

    backbone: nn.Module
    fpn: nn.Module
    detector: Detector
    pool: RoiPooler
    channels: int

    def normalize(self) -> Normalize:
        """Build the normalisation of images that the backbone's weights expect."""
        return Normalize(rounded=isinstance(self.backbone, LightBackbone))


@dataclass(frozen=True)
class SharedSettings:
    """Settings of the shared modules and mask heads; the defaults are those of the papers.

    Attributes:
        backbone: ``resnet18``, ``resnet50``, ``resnet101``, ``mobilenet`` (V3-Large) or ``light``.
        detector: ``faster_rcnn``, ``fcos`` or ``light``.
        mask_head: ``standard`` (Mask R-CNN's) or ``light``.
        channels: of the pyramid's maps.
        mask_width: of the mask heads' layers.
        mask_convs: 3x3 convolutions of a standard mask head.
        class_agnostic: one mask for all classes instead of one for each.
        frozen_norm: fix the backbone's normalisation, for small batches and pretrained weights;
            without such weights nothing is normalised then.
        frozen_stages: how many of the backbone's stem and four stages do not learn, the stem
            first; for pretrained weights.
        instances: how many objects are returned, N of the contract.
        proposals: boxes that Faster R-CNN's second stage classifies.
        rois_per_image: of these, how many the second stage is trained on.
        class_slots: logits of Faster R-CNN's second stage, where they are more than the classes
            and the background: 91 for torchvision's files of COCO, whose labels leave out 10; 0:
            no more.
        conventions: where Detectron2 and torchvision compute differently, whom to follow.
            ``torchvision``, for detections with its Mask R-CNN's weights that equal its own:
            RoIAlign without the half cell's shift, anchors of P6 spaced by the image's size
            divided by the map's, and no epsilon in frozen normalisation.
    """

    backbone: str = "resnet50"
    detector: str = "faster_rcnn"
    mask_head: str = "standard"
    channels: int = 256
    mask_width: int = 256
    mask_convs: int = 4
    class_agnostic: bool = False
    frozen_norm: bool = False
    frozen_stages: int = 0
    instances: int = 100
    proposals: int = 1000
    rois_per_image: int = 512
    class_slots: int = 0
    conventions: str = "detectron2"

    def __post_init__(self) -> None:
        for key, valid in CHOICES.items():
            if getattr(self, key) not in valid:
                raise ConfigError(
                    f"model.{key} must be one of {', '.join(valid)}, but is '{getattr(self, key)}'"
                )
        for key in ("channels", "mask_width", "instances", "proposals", "rois_per_image"):
            if getattr(self, key) < 1:
                raise ConfigError(f"model.{key} must be at least 1, but is {getattr(self, key)}")

    @property
    def one_mask(self) -> bool:
        """Whether the network has one mask, which it returns as amodal and as visible."""
        return False

    def build_shared(
        self, num_classes: int, *, fcos: Mapping[str, Any] = MappingProxyType({})
    ) -> SharedModules:
        """Build backbone, pyramid, detector and RoIAlign with random weights.

        Args:
            num_classes: of the data.
            fcos: options of `Fcos`, if that is the detector.

        Raises:
            ConfigError: fewer `class_slots` than there are classes.
        """
        if self.class_slots and self.class_slots < num_classes + 1:
            raise ConfigError(
                f"model.class_slots must be 0 or at least {num_classes + 1}, for {num_classes} "
                f"classes and the background, but is {self.class_slots}"
            )
        backbone = self._backbone()
        aligned = self.conventions == "detectron2"
        if self.detector == "light":
            return SharedModules(
                backbone,
                LightPyramid(backbone.channels, self.channels),
                LightDetector(self.channels, num_classes, instances=self.instances),
                # Few boxes at a light model's input would go higher.
                RoiPooler(first=2, count=2, aligned=aligned),
                self.channels,
            )
        if self.detector == "fcos":
            return SharedModules(
                backbone,
                StandardPyramid(backbone.channels, self.channels, extra="convs"),
                Fcos(self.channels, num_classes, instances=self.instances, **fcos),
                RoiPooler(first=3, count=5, aligned=aligned),
                self.channels,
            )
        detector = FasterRcnn(
            self.channels,
            num_classes,
            instances=self.instances,
            proposals=self.proposals,
            rois_per_image=self.rois_per_image,
            class_slots=self.class_slots,
            conventions=self.conventions,
        )
        pyramid = StandardPyramid(backbone.channels, self.channels, extra="pool")
        return SharedModules(backbone, pyramid, detector, detector.pool, self.channels)

    def prepare(self, data: Path, run: Path, seed: int, device: torch.device) -> dict[str, Tensor]:
        """Compute buffers of the network from the training data, before training: none.

        Args:
            data: folder of the training data.
            run: run folder, for what takes long to make.
            seed: of random choices.
            device: to compute on.
        """
        return {}

    def build_mask_head(
        self, num_classes: int, *, convs: int | None = None
    ) -> StandardMaskHead | LightMaskHead:
        """Build a mask head with random weights; `convs` replaces the setting."""
        out_channels = 1 if self.class_agnostic else num_classes
        if self.mask_head == "light":
            return LightMaskHead(
                self.channels, self.mask_width, self.channels, out_channels=out_channels
            )
        return StandardMaskHead(
            self.channels,
            self.mask_width,
            convs=self.mask_convs if convs is None else convs,
            out_channels=out_channels,
        )

    def _backbone(self) -> LightBackbone | ResNet | MobileNet:
        if self.backbone == "light":
            return LightBackbone(stem_width=24, widths=(32, 80, 160, 224), depths=(1, 2, 2, 2))
        norm, stages = self.frozen_norm, self.frozen_stages
        if self.backbone == "mobilenet":
            return MobileNet(frozen_norm=norm, frozen_stages=stages)
        depth = int(self.backbone.removeprefix("resnet"))
        is_torchvisions = norm and self.conventions == "torchvision"
        eps = 0.0 if is_torchvisions else NORM_EPS
        return ResNet(depth, frozen_norm=norm, frozen_stages=stages, eps=eps)


@dataclass(frozen=True)
class LightSharedSettings(SharedSettings):
    """The default model's size: under 5 GFLOP at 288 x 384, 3.2 million parameters."""

    backbone: str = "light"
    detector: str = "light"
    mask_head: str = "light"
    channels: int = 64
    mask_width: int = 40
    class_agnostic: bool = True
    instances: int = 32
