"""BCNet's mask head, two layers: occluder over occludee (Ke et al., CVPR 2021, figure 4).

    RoI features X --> branch 1 --> F_occ --> occluder: mask, contour
         |                           |
         +------------ + <-----------+  (guidance)
                       |
                       +--> branch 2 --> F_tgt --> occludee: mask, contour

A branch is convolutions around a graph convolution. Layers follow the released code unless a
setting says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from training.models.bcnet.gcn import GraphConvolution
from training.models.roi.mask_heads import initialise

ORDERS = ("released", "published")


@dataclass(frozen=True)
class BilayerSettings:
    """Settings of the bilayer head and its loss: the released layers, the published weights.

    The paper's ablations: table 1 sets the weights of the occluder's terms to 0 or not, table 2
    `guidance` and `occludee_contour_weight`, table 3 `bilayer` and `gcn`. A term of weight 0
    has no layers either. The released head (6,296,580 parameters at 256 channels) is the default.

    Attributes:
        bilayer: with the occluder's layer; without, its weights, `guidance` and what depends on
            the occluder mean nothing. A single layer without `gcn` and contour is Mask R-CNN's
            head.
        gcn: with graph convolutions (GCN of table 3) or convolutions alone (FCN).
        guidance: add the occluder's features to the second branch's input.
        order: of a branch: ``released``: two convolutions, graph, two convolutions;
            ``published``: one, graph, two (section 3.2).
        gcn_norm: ``batch`` (released) or ``layer`` with a ReLU (published).
        gcn_scaled: scale the similarity (released) or not (published).
        shared_upsampling: one deconvolution a branch (published: its tables' parameters fit that
            better) instead of one a tail (released).
        occluder_contour_weight: lambda 2, as published. The released code adds two cross-entropies
            before halving, which is 1.0; likewise for the occludee.
        occluder_mask_weight: lambda 3.
        occludee_contour_weight: lambda 4, as published.
        occludee_mask_weight: lambda 5.
    """

    bilayer: bool = True
    gcn: bool = True
    guidance: bool = True
    order: str = "released"
    gcn_norm: str = "batch"
    gcn_scaled: bool = True
    shared_upsampling: bool = False
    occluder_contour_weight: float = 0.5
    occluder_mask_weight: float = 0.25
    occludee_contour_weight: float = 0.5
    occludee_mask_weight: float = 1.0


class BilayerLogits(NamedTuple):
    """Logits of R RoIs, each [R, 28, 28]; None where the head has no such tail."""

    occluder_mask: Tensor | None
    occluder_contour: Tensor | None
    occludee_mask: Tensor
    occludee_contour: Tensor | None
    visible: Tensor | None


class Branch(nn.Module):
    """Branch of one layer: convolutions around a graph convolution, C channels in and out."""

    def __init__(self, channels: int, width: int, settings: BilayerSettings) -> None:
        super().__init__()
        before = 1 if settings.order == "published" else 2
        wide = [channels, *[width] * (before + 1), channels]
        convs = [nn.Conv2d(i, o, 3, padding=1) for i, o in pairwise(wide)]
        initialise([*convs])
        self.before = nn.ModuleList(convs[:before])
        self.graph: nn.Module = nn.Identity()
        if settings.gcn:
            self.graph = GraphConvolution(
                width, norm=settings.gcn_norm, scaled=settings.gcn_scaled
            )
        self.after = nn.ModuleList(convs[before:])

    def forward(self, x: Tensor) -> Tensor:
        """Map [R, C, 14, 14] to the same shape."""
        for conv in self.before:
            x = F.relu(conv(x))
        x = self.graph(x)
        for conv in self.after:
            x = F.relu(conv(x))
        return x


class Tails(nn.Module):
    """Prediction layers of a branch: for each output a deconvolution and a 1x1 convolution.

    Args:
        channels: of the features.
        width: of the deconvolutions.
        names: of the predictions.
        shared: one deconvolution for all.
    """

    def __init__(self, channels: int, width: int, names: list[str], *, shared: bool) -> None:
        super().__init__()
        self.shared = shared
        ups = ["shared"] if shared and names else names
        self.upsample = nn.ModuleDict(
            {name: nn.ConvTranspose2d(channels, width, 2, stride=2) for name in ups}
        )
        self.logits = nn.ModuleDict({name: nn.Conv2d(width, 1, 1) for name in names})
        initialise([*self.upsample.values()])
        for layer in self.logits.values():
            assert isinstance(layer, nn.Conv2d)
            # Not Detectron's std of 0.001: where few cells are positive, as the occluder's are,
            # AdamW's first steps turn weights so small all negative. After a ReLU they can then
            # say nothing but "no": no logit gets above the bias.
            nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        """Map [R, C, 14, 14] to logits [R, 28, 28] by name."""
        fine = {name: F.relu(up(features)) for name, up in self.upsample.items()}
        return {
            name: layer(fine["shared" if self.shared else name])[:, 0].float()
            for name, layer in self.logits.items()
        }


class BilayerHead(nn.Module):
    """Bilayer mask head: RoI features [R, C, 14, 14] to the logits of both layers [R, 28, 28].

    Args:
        channels: of the RoI features.
        width: of the layers in between; the paper's is `channels`.
        settings: the switches.
        visible_tail: a third tail of the occludee for its visible mask; BCNet has none.
    """

    def __init__(
        self, channels: int, width: int, settings: BilayerSettings, *, visible_tail: bool = False
    ) -> None:
        super().__init__()
        self.guidance = settings.guidance
        shared = settings.shared_upsampling
        self.occluder: Branch | None = None
        if settings.bilayer:
            names = _present(
                mask=settings.occluder_mask_weight, contour=settings.occluder_contour_weight
            )
            self.occluder = Branch(channels, width, settings)
            self.occluder_tails = Tails(channels, width, names, shared=shared)
        names = _present(
            mask=settings.occludee_mask_weight,
            contour=settings.occludee_contour_weight,
            visible=visible_tail,
        )
        self.occludee = Branch(channels, width, settings)
        self.occludee_tails = Tails(channels, width, names, shared=shared)

    def forward(self, roi_features: Tensor) -> BilayerLogits:
        """Predict occluder and occludee from RoI features [R, C, 14, 14]."""
        above: dict[str, Tensor] = {}
        fused = roi_features
        if self.occluder is not None:
            features = self.occluder(roi_features)
            above = self.occluder_tails(features)
            if self.guidance:
                fused = roi_features + features
        below = self.occludee_tails(self.occludee(fused))
        return BilayerLogits(
            occluder_mask=above.get("mask"),
            occluder_contour=above.get("contour"),
            occludee_mask=below["mask"],
            occludee_contour=below.get("contour"),
            visible=below.get("visible"),
        )


def _present(**wanted: float) -> list[str]:
    return [name for name, weight in wanted.items() if weight]
