"""PGExp (Chen et al., AAAI 2023): amodal boxes and masks by prior-guided expansion.

    image -> Mask R-CNN -> class, original amodal box B^o, visible mask M^v
                                        |
      M^v -> memory bank -> regressions T^r -> box head -> expanded amodal box B^a
                                        |
      M^v in B^a -> memory bank -> flows T^f -> mask head -> amodal mask M^a

The memory bank is built from the training data before the network is trained, by
`prior_building`; ``python -m training.prior`` runs that alone. No code of
the authors is known; what the paper leaves open is said where it is decided.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amodal_perception.errors import ConfigError
from training.distributed import all_reduce_mean
from training.models.detector_protocol import Rois, image_size_hw, with_masks
from training.models.detectors.box_coding import decode_boxes, encode_boxes
from training.models.detectors.box_geometry import clip_boxes
from training.models.pgexp.expansion_heads import BOX_CELLS, AmodalBoxHead, PixelExpansion
from training.models.pgexp.mask_encoder import CONVS_OF_CODE
from training.models.pgexp.mask_flow import resample
from training.models.pgexp.prior_lookup import ExpansionPrior
from training.models.roi.mask_heads import MASK_CELLS, ROI_CELLS, mask_loss
from training.models.roi.roi_align import crop_masks
from training.models.shared_modules import LightSharedSettings, SharedModules, SharedSettings
from training.structures import Batch, Detections

BOX_EXPANSIONS = ("prior", "plain", "none")
MASK_EXPANSIONS = ("prior", "plain")
BOX_REFERENCES = ("visible", "original", "prior")
DELTA_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
UNWEIGHTED = (1.0, 1.0, 1.0, 1.0)
TRUE_BOX_SHARE = 0.5

Pool = Callable[[Tensor, int], Tensor]
"""Pools boxes [R, n, 4] to [R * n, C, cells, cells]."""


class Pgexp(nn.Module):
    """PGExp network: Mask R-CNN, then box and mask heads guided by the expansion prior.

    Args:
        shared: backbone, pyramid, detector and RoIAlign.
        heads: the ``visible`` and the ``amodal`` mask head.
        prior: memory bank lookup; None if the settings use none.
        settings: the rest.
    """

    steps: Tensor

    def __init__(
        self,
        shared: SharedModules,
        heads: nn.ModuleDict,
        prior: ExpansionPrior | None,
        settings: PgexpSettings,
    ) -> None:
        super().__init__()
        self.settings = settings
        self.normalize = shared.normalize()
        self.backbone, self.fpn, self.detector = shared.backbone, shared.fpn, shared.detector
        self.pool = shared.pool
        self.mask_heads = heads
        self.prior = prior
        self.box_head = self.expand = None
        if settings.box_expansion != "none":
            expanded = settings.priors if settings.box_expansion == "prior" else 1
            self.box_head = AmodalBoxHead(shared.channels, expanded, settings.box_width)
        if settings.mask_expansion == "prior":
            self.expand = PixelExpansion(shared.channels, settings.priors)
        # Counts training steps, in checkpoints too; see `mixed_steps`.
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self, images: Tensor) -> Detections:
        """Detect and segment objects in [B, H, W, 3] uint8 RGB images."""
        levels = self.fpn(self.backbone(self.normalize(images)))
        proposals = self.detector.detect(levels, image_size_hw(images))
        B, N = int(proposals.scores.shape[0]), int(proposals.scores.shape[1])

        def pool(boxes_xyxy: Tensor, cells: int) -> Tensor:
            return self.pool(levels, boxes_xyxy.reshape(B, -1, 4), cells=cells)

        labels = proposals.labels.flatten()  # [B * N]
        original = proposals.boxes_xyxy.reshape(B * N, 4)  # [B * N, 4], B^o
        features = pool(original[:, None], ROI_CELLS)
        visible = self.mask_heads["visible"](features, labels).sigmoid()
        amodal_box = original
        if self.box_head is not None:
            deltas, reference = self.expand_box(pool, original, visible, labels)
            amodal_box = clip_boxes(
                decode_boxes(deltas, reference, DELTA_WEIGHTS), image_size_hw(images)
            )
            features = pool(amodal_box[:, None], ROI_CELLS)
            visible = resample(visible, original, amodal_box, cells=MASK_CELLS)
        amodal = self.amodal_logits(features, visible, labels).sigmoid()
        proposals = proposals._replace(boxes_xyxy=amodal_box.reshape(B, N, 4))
        return with_masks(proposals, amodal=amodal, visible=visible)

    def losses(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the named terms of the training loss, equation 8; their sum is minimised.

        Args:
            batch: images and truth.
            generator: of random sampling: anchors, proposals, RoIs and `mixed_steps`' true boxes.
        """
        size_hw = image_size_hw(batch.images)
        levels = self.fpn(self.backbone(self.normalize(batch.images)))
        losses, rois = self.detector.loss_and_rois(levels, batch, generator)
        labels = rois.labels(batch)
        own_ids = None if batch.ids is None else batch.ids[rois.image, rois.instance]

        def pool(boxes_xyxy: Tensor, cells: int) -> Tensor:
            n = int(boxes_xyxy.shape[1])
            owners = (values.repeat_interleave(n) for values in (rois.image, rois.instance))
            return self.pool.of_rois(levels, Rois(boxes_xyxy.flatten(0, 1), *owners), cells=cells)

        features = pool(rois.boxes_xyxy[:, None], ROI_CELLS)
        z_V = self.mask_heads["visible"](features, labels)
        losses["visible"] = mask_loss(z_V, crop_masks(batch.visible, rois, cells=MASK_CELLS))

        # Boxes and masks of one head are positions and gates of the next: no gradient from there.
        visible = z_V.detach().sigmoid()
        if self.box_head is not None:
            true_xyxy = batch.boxes_xyxy[rois.image, rois.instance]
            deltas, reference = self.expand_box(pool, rois.boxes_xyxy, visible, labels, own_ids)
            losses["amodal_box"] = self.settings.amodal_box_weight * box_loss(
                deltas, encode_boxes(true_xyxy, reference, DELTA_WEIGHTS)
            )
            expanded = decode_boxes(deltas.detach(), reference, DELTA_WEIGHTS)
            boxes = self._mixed(clip_boxes(expanded, size_hw), true_xyxy, generator)
            visible = resample(visible, rois.boxes_xyxy, boxes, cells=MASK_CELLS)
            features = pool(boxes[:, None], ROI_CELLS)
            rois = rois._replace(boxes_xyxy=boxes)
        z_A = self.amodal_logits(features, visible, labels, own_ids)
        losses["amodal"] = mask_loss(z_A, crop_masks(batch.amodal, rois, cells=MASK_CELLS))
        self.steps += 1
        return losses

    def expand_box(
        self,
        pool: Pool,
        original_xyxy: Tensor,
        visible: Tensor,
        labels: Tensor,
        own_ids: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Expand visible boxes to amodal ones (section 3.2).

        Args:
            pool: features of boxes.
            original_xyxy: [R, 4], B^o.
            visible: [R, 28, 28] probabilities inside B^o.
            labels: [R] int64.
            own_ids: [R] int64, annotations whose slots the lookup skips; None: none.

        Returns:
            Deltas and the boxes they refer to, each [R, 4].
        """
        assert self.box_head is not None
        seen = boxes_of_visible(visible, original_xyxy)  # B^v
        reference = seen if self.settings.box_reference == "visible" else original_xyxy
        # Without the prior, Mask R-CNN's box replaces the expanded ones: the same head otherwise.
        expanded = original_xyxy[:, None]
        if self.settings.box_expansion == "prior":
            expanded = self.prior_boxes(seen, visible, labels, own_ids)
            if self.settings.box_reference == "prior":
                reference = expanded.mean(1)
        n = int(expanded.shape[1])
        features = pool(expanded, BOX_CELLS).unflatten(0, (-1, n)).flatten(1, 2)
        return self.box_head(features, pool(seen[:, None], BOX_CELLS)), reference

    def prior_boxes(
        self, seen_xyxy: Tensor, visible: Tensor, labels: Tensor, own_ids: Tensor | None = None
    ) -> Tensor:
        """Return the prior-expanded boxes B^p of visible boxes [R, 4] (equation 4), [R, K, 4]."""
        assert self.prior is not None
        with _full_precision(visible):
            deltas = self.prior.deltas(visible, labels, own_ids)
        return decode_boxes(deltas, seen_xyxy[:, None], UNWEIGHTED)

    def amodal_logits(
        self, features: Tensor, visible: Tensor, labels: Tensor, own_ids: Tensor | None = None
    ) -> Tensor:
        """Predict amodal masks (section 3.3).

        Args:
            features: [R, C, 14, 14] inside B^a, F^e.
            visible: [R, 28, 28] probabilities inside B^a.
            labels: [R] int64.
            own_ids: [R] int64, annotations whose slots the lookup skips; None: none.

        Returns:
            [R, 28, 28]
        """
        if self.expand is not None:
            assert self.prior is not None
            with _full_precision(visible):
                flows = self.prior.flows(visible, labels, own_ids)
            features = self.expand(features, F.avg_pool2d(visible[:, None], 2)[:, 0], flows)
        return self.mask_heads["amodal"](features, labels)

    def _mixed(self, boxes: Tensor, true_xyxy: Tensor, generator: torch.Generator) -> Tensor:
        """Replace half of the boxes by true ones, during the first `mixed_steps` steps."""
        chance = torch.rand(len(boxes), 1, generator=generator).to(boxes.device)
        true = (chance < TRUE_BOX_SHARE) & (self.steps < self.settings.mixed_steps)
        return torch.where(true, true_xyxy, boxes)


def _full_precision(like: Tensor) -> AbstractContextManager:
    """Compute in 32 bits: distances are differences of large numbers, flows are positions."""
    device = like.device.type
    mixed = torch.is_autocast_enabled(device)  # exporters do not know the context manager
    return torch.autocast(device, enabled=False) if mixed else nullcontext()


def box_loss(deltas: Tensor, wanted: Tensor) -> Tensor:
    """L1 loss of box deltas [R, 4] (equation 5): summed and divided by R; 0 if R is 0."""
    count = all_reduce_mean(deltas.new_tensor(float(len(deltas)))).clamp(min=1.0)
    return (deltas - wanted).abs().sum() / count


def boxes_of_visible(visible: Tensor, boxes_xyxy: Tensor) -> Tensor:
    """Return the tight boxes B^v of visible mask crops, cells above 0.5; static, for export.

    Args:
        visible: [R, m, m] probabilities inside the boxes.
        boxes_xyxy: [R, 4].

    Returns:
        [R, 4]; where no cell is above 0.5, the box itself.
    """
    m = int(visible.shape[1])
    cells = (visible > 0.5).to(torch.float32)
    rank = torch.arange(1, m + 1, dtype=torch.float32, device=visible.device)
    low, high = [], []
    for used in (cells.amax(1), cells.amax(2)):  # columns give x, rows y
        high.append((used * rank).amax(1) / m)
        low.append(1 - (used * rank.flip(0)).amax(1) / m)
    empty = high[0] == 0
    start, size = boxes_xyxy[:, :2], boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]
    found = torch.cat([start + size * torch.stack(ends, 1) for ends in (low, high)], 1)
    return torch.where(empty[:, None], boxes_xyxy, found)


@dataclass(frozen=True)
class PgexpSettings(SharedSettings):
    """PGExp as published; the default where the paper is silent is said with each.

    The paper's Table 1 is `box_expansion` and `mask_expansion`: #1 ``none``, ``plain``; #2
    ``plain``, ``plain``; #3 ``prior``, ``plain``; #4 ``none``, ``prior``; #5 ``plain``, ``prior``;
    #6 ``prior``, ``prior``.

    Attributes:
        box_expansion: of the amodal box: ``prior``; ``plain``, a second box head that sees Mask
            R-CNN's box in place of the expanded ones (the paper does not say what it sees);
            ``none``.
        mask_expansion: of the amodal mask: ``prior`` or ``plain``, a mask head.
        box_reference: what the box head's output is relative to; the paper does not say:
            ``visible``, B^v; ``original``, B^o; ``prior``, the mean of the expanded boxes.
        priors: how many are looked up, K.
        slots: of the bank, for every class, K_s.
        code: length of the mask encoder's code: 392 as for KINS, 128 as for D2SA and COCOA-cls.
        flow_width: of the flow network; the paper says "lightweight" only.
        box_width: of the box head's hidden layers; the paper does not say.
        amodal_box_weight: of L_box^a in the loss; the paper's is 1.
        mixed_steps: during this many first steps half of the amodal masks are learnt inside true
            boxes, as B^a is random at first (ours).
        prior: folder with the bank, the encoder and the flow network, made where it is missing;
            empty for ``prior`` in the run folder. Runs on the same data can share one.
        encoder_iterations: training steps of the encoder.
        flow_iterations: training steps of the flow network.
    """

    box_expansion: str = "prior"
    mask_expansion: str = "prior"
    box_reference: str = "visible"
    priors: int = 8
    slots: int = 1000
    code: int = 392
    flow_width: int = 32
    box_width: int = 1024
    amodal_box_weight: float = 1.0
    mixed_steps: int = 5000
    prior: str = ""
    encoder_iterations: int = 5000
    flow_iterations: int = 20000

    def __post_init__(self) -> None:
        super().__post_init__()
        for key, valid in (
            ("box_expansion", BOX_EXPANSIONS),
            ("mask_expansion", MASK_EXPANSIONS),
            ("box_reference", BOX_REFERENCES),
            ("code", tuple(CONVS_OF_CODE)),
        ):
            if getattr(self, key) not in valid:
                listed = ", ".join(map(str, valid))
                raise ConfigError(
                    f"model.{key} must be one of {listed}, but is '{getattr(self, key)}'"
                )
        if self.box_reference == "prior" and self.box_expansion != "prior":
            raise ConfigError("model.box_reference=prior needs model.box_expansion=prior")
        # One slot more than is looked up, as an object does not find itself.
        if not 1 <= self.priors < self.slots:
            raise ConfigError(
                f"model.priors must be at least 1 and below model.slots {self.slots}, "
                f"but is {self.priors}"
            )

    @property
    def uses_prior(self) -> bool:
        """Whether a head uses the expansion prior."""
        return "prior" in (self.box_expansion, self.mask_expansion)

    def build(self, num_classes: int) -> Pgexp:
        """Build the network with random weights and an empty bank."""
        heads = nn.ModuleDict(
            {name: self.build_mask_head(num_classes) for name in ("visible", "amodal")}
        )
        prior = None
        if self.uses_prior:
            prior = ExpansionPrior(
                num_classes,
                slots=self.slots,
                priors=self.priors,
                code=self.code,
                flow_width=self.flow_width,
            )
        return Pgexp(self.build_shared(num_classes), heads, prior, self)

    def prepare(self, data: Path, run: Path, seed: int, device: torch.device) -> dict[str, Tensor]:
        """Build the memory bank, the encoder and the flow network, or read those in `prior`.

        Raises:
            AmodalError: `prior` is of other data or settings, or damaged.
        """
        if not self.uses_prior:
            return {}
        try:
            from training.models.pgexp.prior_building.prior_stages import PriorConfig, prepare
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"PGExp's bank needs {error.name}; pip install -r requirements/training.txt"
            ) from None

        folder = Path(self.prior) if self.prior else run / "prior"
        config = PriorConfig(
            slots=self.slots,
            code=self.code,
            flow_width=self.flow_width,
            encoder_iterations=self.encoder_iterations,
            flow_iterations=self.flow_iterations,
            seed=seed,
        )
        tensors = prepare(data, folder, config, device)
        return {f"prior.{name}": tensor for name, tensor in tensors.items()}


@dataclass(frozen=True)
class PgexpLightSettings(LightSharedSettings, PgexpSettings):
    """PGExp of the default model's size.

    Its box head refines B^o, which after a short training is nearer to the truth than B^v is.
    """

    box_reference: str = "original"
    flow_width: int = 8
    box_width: int = 256
    mixed_steps: int = 1000
    encoder_iterations: int = 2000
    flow_iterations: int = 4000
