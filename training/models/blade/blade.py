"""BLADE (Liu et al., AAAI 2024): amodal masks learnt from boxes alone.

    image -> backbone -> feature pyramid -> detector -> visible boxes, each from a point
                              |                |
                              |           controller -> weights of three dynamic heads
                         mask branch ------------------------+
                                                             |
           visible head -> m_v --+-> amodal head -> m_a      region head -> m_r
                                 |                    |            |
                                 +--------------------+-> m = m_a m_r + m_v (1 - m_r)

The truth is a visible box, an amodal box and a class for each object. m_v learns from the visible
box as BoxInst learns (`boxinst_losses`); m_a from the amodal box likewise, and it is drawn beyond
m_v where other objects overlap (`overlap_regions`). BoxInst itself, BLADE's baseline, is the
visible head alone. There is no public code of BLADE; where the paper is silent, settings say what
is taken.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from amodal_perception.errors import ConfigError
from training.models.blade.blade_losses import (
    BladeLossSettings,
    BladeMaskLogits,
    BoxTargets,
    box_targets,
    mask_losses,
)
from training.models.blade.boxinst_losses import similar_colours
from training.models.blade.condinst import (
    COORDINATES,
    MASK_STRIDE,
    Controller,
    MaskBranch,
    dynamic_head,
    head_parameters,
    relative_coordinates,
    upsample,
)
from training.models.blade.image_masks_to_crops import boxes_of_image_masks, crop_image_masks
from training.models.blade.overlap_regions import fuse
from training.models.detector_protocol import image_size_hw, with_masks
from training.models.detectors.box_geometry import boxes_of_masks
from training.models.detectors.instance_points import PointDetector, Points, sample_points
from training.models.shared_modules import LightSharedSettings, SharedModules, SharedSettings
from training.structures import Batch, Detections

BOX_TARGETS = ("visible", "amodal")


class BladeMasks(NamedTuple):
    """Mask probabilities over the whole image at stride 4, each [B, N, H / 4, W / 4].

    Attributes:
        visible: m_v.
        amodal: the result m; m_v of a network without an amodal head.
    """

    visible: Tensor
    amodal: Tensor


class Blade(nn.Module):
    """BLADE: one-stage detector, mask branch, dynamic visible, amodal and region heads."""

    num_batches_tracked: Tensor

    def __init__(self, shared: SharedModules, settings: BladeSettings) -> None:
        super().__init__()
        assert isinstance(shared.detector, PointDetector)  # the settings refuse another
        self.settings = settings
        self.normalize = shared.normalize()
        self.backbone, self.fpn, self.detector = shared.backbone, shared.fpn, shared.detector
        self.mask_branch = MaskBranch(
            shared.channels,
            width=settings.branch_width,
            out_channels=settings.mask_channels,
            first=shared.pool.first,
        )
        self.controller = Controller(shared.channels, sum(settings.head_sizes()))
        # How far the pairwise loss has warmed up; the name is that of all counters of batches.
        self.register_buffer("num_batches_tracked", torch.tensor(0))

    def forward(self, images: Tensor) -> Detections:
        """Detect and segment objects in [B, H, W, 3] uint8 RGB images."""
        levels = self.levels(images)
        proposals, points = self.detector.detect_points(levels, image_size_hw(images))
        maps = self.segment(levels, points, proposals.index)
        boxes, cells = proposals.boxes_xyxy, self.settings.mask_cells
        if self.settings.expansion and self.settings.box_target == "visible":
            # The contract's boxes are amodal, the detector's are not.
            boxes = boxes_of_image_masks(maps.amodal, boxes, stride=MASK_STRIDE)
        amodal, visible = (
            crop_image_masks(maps_of, boxes, stride=MASK_STRIDE, cells=cells)
            for maps_of in (maps.amodal, maps.visible)
        )
        return with_masks(proposals._replace(boxes_xyxy=boxes), amodal=amodal, visible=visible)

    def levels(self, images: Tensor) -> list[Tensor]:
        """Return the feature pyramid of [B, H, W, 3] uint8 RGB images."""
        return self.fpn(self.backbone(self.normalize(images)))

    def segment(self, levels: list[Tensor], points: Points, index: Tensor) -> BladeMasks:
        """Predict the masks of the instances at points [B, N]: each [B, N, H / 4, W / 4]."""
        z = self.heads(self.mask_branch(levels), points, index)
        visible = z.visible.sigmoid()
        if z.amodal is None:
            return BladeMasks(visible, visible)
        amodal = z.amodal.sigmoid()
        if z.region is None:
            return BladeMasks(visible, amodal)
        region = z.region.sigmoid()
        if self.settings.hard_region:
            region = (region > 0.5).to(region.dtype)
        return BladeMasks(visible, fuse(visible, amodal, region))

    def heads(self, features: Tensor, points: Points, index: Tensor) -> BladeMaskLogits:
        """Apply the dynamic heads of the instances at points [B, N] to features [B, C_m, h, w]."""
        parameters = self.controller(points.features, index).split(self.settings.head_sizes(), -1)
        places = relative_coordinates(points, index, features)
        visible = dynamic_head(parameters[0], features, places)  # [B, N, H / 8, W / 8]
        amodal = region = None
        if self.settings.expansion:
            seen = visible.detach() if self.settings.detach_visible_input else visible
            own = torch.cat([places, seen.sigmoid().flatten(2)[:, :, None]], 2)  # [B, N, 3, h * w]
            amodal = upsample(dynamic_head(parameters[1], features, own), 2)
            if self.settings.fusion:
                region = upsample(dynamic_head(parameters[2], features, places), 2)
        return BladeMaskLogits(upsample(visible, 2), amodal, region)

    def losses(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the named terms of the training loss, weighted; their sum is minimised.

        Of the truth, only boxes and classes are used: of `batch.visible` the tight boxes,
        of `batch.amodal` nothing. (``dataset: amodal_boxes`` has no other masks than boxes.)

        Args:
            batch: images and truth.
            generator: not used: nothing is drawn.
        """
        settings = self.settings
        visible_boxes = boxes_of_masks(batch.visible)
        detected = batch.boxes_xyxy if settings.box_target == "amodal" else visible_boxes
        levels = self.levels(batch.images)
        losses, points, point_targets = self.detector.loss_and_points(
            levels, batch._replace(boxes_xyxy=detected)
        )
        chosen = sample_points(point_targets, count=settings.masks_per_image)
        features = self.mask_branch(levels).float()
        # In 32 bits: places and generated weights need them, and the products are small.
        with torch.autocast(features.device.type, enabled=False):
            wide = points._replace(features=[x.float() for x in points.features])
            maps = self.heads(features, wide, chosen.index)
            z = BladeMaskLogits(
                maps.visible[chosen.valid],
                None if maps.amodal is None else maps.amodal[chosen.valid],
                None if maps.region is None else maps.region[chosen.valid],
            )
            image, slot = torch.nonzero(chosen.valid, as_tuple=True)
            instance = chosen.instance[image, slot]
            first = visible_boxes if settings.expansion else detected
            targets = box_targets(first, batch.boxes_xyxy, batch.valid, _size_hw(z))
            targets = BoxTargets(*(target[image, instance] for target in targets))
            similar = similar_colours(batch.images)
            return {
                **losses,
                **mask_losses(z, targets, similar, image, settings, self._pairwise_rate()),
            }

    def _pairwise_rate(self) -> Tensor:
        """Count a step and return how much the pairwise losses weigh by now, 0 to 1."""
        if self.training:
            self.num_batches_tracked += 1
        return (self.num_batches_tracked / max(1, self.settings.pairwise_warmup)).clamp(max=1)


def _size_hw(logits: BladeMaskLogits) -> tuple[int, int]:
    return int(logits.visible.shape[-2]), int(logits.visible.shape[-1])


@dataclass(frozen=True)
class BladeSettings(BladeLossSettings, SharedSettings):
    """BLADE as published; choices where the paper is silent are marked "Ours".

    The paper's ablation (table 2) is in `uniform_weight` 0, `neighbour_weight` 0, `fusion` false
    and the three weights of equation 8. Settings of RoIs and mask heads mean nothing here.

    Attributes:
        expansion: with amodal and region heads; without, this is BoxInst (BLADE's base), which
            learns the boxes that `box_target` names, and whose mask is returned as both.
        box_target: the boxes that the detector learns. Ours: ``visible``, as those are
            the prompts at test time; the contract's amodal boxes are then those around the masks.
            ``amodal``: those boxes are the contract's.
        fusion: with the region head; without, m_a is the result.
        hard_region: fuse by m_r > 0.5 instead of m_r. Ours: false.
        detach_visible_input: nothing teaches m_v through the amodal head. Ours: false, as the
            paper stresses that all is trained together.
        mask_channels: C_m, of the mask branch: BoxInst's 16, or CondInst's 8.
        branch_width: of the mask branch's layers.
        masks_per_image: instances of an image that the heads are trained on.
        pairwise_warmup: iterations over which the pairwise losses rise from 0 to their weight.
        mask_cells: height and width of the masks that come out.
        score_threshold: of FCOS, compared after multiplying by centre-ness.
    """

    detector: str = "fcos"
    class_agnostic: bool = True
    expansion: bool = True
    box_target: str = "visible"
    fusion: bool = True
    hard_region: bool = False
    detach_visible_input: bool = False
    mask_channels: int = 16
    branch_width: int = 128
    masks_per_image: int = 64
    pairwise_warmup: int = 10000
    mask_cells: int = 56
    score_threshold: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.box_target not in BOX_TARGETS:
            raise ConfigError(
                f"model.box_target must be one of {', '.join(BOX_TARGETS)}, "
                f"but is '{self.box_target}'"
            )
        if self.detector == "faster_rcnn":
            raise ConfigError("model.detector must be fcos or light: the heads start at points")
        for key in ("mask_channels", "branch_width", "masks_per_image", "mask_cells"):
            if getattr(self, key) < 1:
                raise ConfigError(f"model.{key} must be at least 1, but is {getattr(self, key)}")

    def head_sizes(self) -> list[int]:
        """Return the parameters of an instance's heads: visible, and amodal and region if any."""
        inputs = self.mask_channels + COORDINATES
        sizes = [head_parameters(inputs)]
        if self.expansion:
            sizes.append(head_parameters(inputs + 1))
            if self.fusion:
                sizes.append(head_parameters(inputs))
        return sizes

    @property
    def one_mask(self) -> bool:
        """Whether there is no amodal head, so that its one mask is both."""
        return not self.expansion

    def build(self, num_classes: int) -> Blade:
        """Build the network with random weights."""
        fcos = {"score_threshold": self.score_threshold, "threshold_with_centerness": True}
        return Blade(self.build_shared(num_classes, fcos=fcos), self)


@dataclass(frozen=True)
class BladeLightSettings(LightSharedSettings, BladeSettings):
    """BLADE of the default model's size; with the light one-stage detector instead of FCOS."""

    branch_width: int = 64
    masks_per_image: int = 32
    pairwise_warmup: int = 200
    mask_cells: int = 28


@dataclass(frozen=True)
class BoxInstSettings(BladeSettings):
    """BoxInst (Tian et al., CVPR 2021), BLADE's base: one mask, from one box.

    ``box_target: visible`` learns what is seen. ``amodal`` learns amodal masks as BLADE's paper
    has it for its baseline "with known centre" (table 1): prompted with amodal boxes.
    """

    expansion: bool = False


@dataclass(frozen=True)
class BoxInstLightSettings(BladeLightSettings):
    """BoxInst of the default model's size."""

    expansion: bool = False
