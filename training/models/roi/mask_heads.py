"""Mask heads: RoI features, 14 x 14, to the mask logits of the RoI's class, 28 x 28.

A head has weights for every class, or for all classes alike; only the wanted mask is computed.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.distributed import all_reduce_mean
from training.models.backbones.conv_norm import conv_norm

ROI_CELLS = 14
MASK_CELLS = 28


class StandardMaskHead(nn.Module):
    """Mask head of Mask R-CNN (He et al., ICCV 2017): convolutions, a deconvolution, logits.

    Args:
        in_channels: of the RoI features.
        width: of all layers.
        convs: number of 3x3 convolutions (Mask R-CNN 4, its deeper variant 8).
        out_channels: number of classes that have masks of their own, or 1.
    """

    def __init__(self, in_channels: int, width: int, *, convs: int, out_channels: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv2d(in_channels if i == 0 else width, width, 3, padding=1) for i in range(convs)
        )
        self.upsample = nn.ConvTranspose2d(width if convs else in_channels, width, 2, stride=2)
        self.logits = nn.Conv2d(width, out_channels, 1)
        initialise([*self.convs, self.upsample])
        nn.init.normal_(self.logits.weight, std=0.001)
        nn.init.zeros_(self.logits.bias)  # type: ignore[arg-type]

    def forward(self, roi_features: Tensor, labels: Tensor) -> Tensor:
        """Map [R, C, 14, 14] and the RoIs' classes [R] to logits [R, 28, 28]."""
        x = roi_features
        for conv in self.convs:
            x = F.relu(conv(x))
        return upsampled_logits(x, self.upsample, self.logits, labels).float()


class LightMaskHead(nn.Module):
    """Light mask head: context from 7 x 7 cells, a deconvolution to 28 x 28, logits.

    At a small width a stack of convolutions sees too little of the RoI at once to tell the object
    from what covers it, so two of the convolutions work on half the resolution, where they see
    nearly all of the RoI for a quarter of the cost. Batch normalisation is added, because the
    light models start from scratch.
    """

    def __init__(
        self, in_channels: int, width: int, context_width: int, *, out_channels: int
    ) -> None:
        super().__init__()
        self.fine = conv_norm(in_channels, width)
        self.context = nn.Sequential(
            nn.AvgPool2d(2),
            conv_norm(width, context_width),
            nn.ReLU(inplace=True),
            conv_norm(context_width, context_width),
            nn.ReLU(inplace=True),
            conv_norm(context_width, width, size=1),
        )
        self.merge = conv_norm(width, width)
        self.upsample = nn.ConvTranspose2d(width, width, 2, stride=2)
        self.logits = nn.Conv2d(width, out_channels, 1)
        initialise([self.upsample])
        nn.init.normal_(self.logits.weight, std=0.001)
        nn.init.zeros_(self.logits.bias)  # type: ignore[arg-type]

    def forward(self, roi_features: Tensor, labels: Tensor) -> Tensor:
        """Map [R, C, 14, 14] and the RoIs' classes [R] to logits [R, 28, 28]."""
        fine = F.relu(self.fine(roi_features))
        context = F.interpolate(self.context(fine), scale_factor=2.0, mode="nearest")
        merged = F.relu(self.merge(F.relu(fine + context)))
        return upsampled_logits(merged, self.upsample, self.logits, labels).float()


def upsampled_logits(
    x: Tensor, upsample: nn.ConvTranspose2d, logits: nn.Conv2d, labels: Tensor
) -> Tensor:
    """Fused deconvolution (2x2, stride 2) and 1x1 logits, for the class of each RoI alone.

    Each of the four pixels that come from a cell is a 1x1 convolution of it, and what follows
    works on each pixel alone. So everything is computed at the resolution of the cells, the four
    pixels as channels, and moved to its place in the end, when it is small.

    Args:
        x: [R, C, m, m].
        upsample: from C to W channels.
        logits: 1x1, from W to K channels.
        labels: [R] int64, the class of each RoI; of no interest if K is 1.

    Returns:
        [R, 2m, 2m]
    """
    assert upsample.bias is not None
    assert logits.bias is not None
    C, W, K = upsample.in_channels, upsample.out_channels, logits.out_channels
    R, m = int(x.shape[0]), int(x.shape[2])
    weight = upsample.weight.permute(2, 3, 1, 0).reshape(4 * W, C, 1, 1)
    pixels = F.relu(F.conv2d(x, weight, torch.cat([upsample.bias] * 4)))  # [R, 4 * W, m, m]
    if K > 1:
        of_label = logits.weight.view(-1, W).index_select(0, labels).view(R, 1, 1, W)
        z = of_label @ pixels.reshape(R, 4, W, m * m)
        z = z + logits.bias.index_select(0, labels).view(R, 1, 1, 1)
    else:
        same = torch.eye(4, device=x.device).view(4, 4, 1)
        weight = (same * logits.weight.view(1, 1, W)).reshape(4, 4 * W, 1, 1)
        z = F.conv2d(pixels, weight, torch.cat([logits.bias] * 4))
    return z.reshape(R, 2, 2, m, m).permute(0, 3, 1, 4, 2).reshape(R, 2 * m, 2 * m)


def initialise(layers: list[nn.Module]) -> None:
    """Kaiming initialisation of convolutions (He et al., ICCV 2015), as in Detectron's heads."""
    for layer in layers:
        assert isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d))
        nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(layer.bias)  # type: ignore[arg-type]


def mask_loss(logits: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mask loss: mean binary cross-entropy over the cells of all RoIs, 0 without RoIs.

    Args:
        logits: [R, m, m].
        target: [R, m, m], 0 or 1.
        weight: [R, m, m] of the cells; None: 1.
    """
    count = all_reduce_mean(logits.new_tensor(float(target.numel()))).clamp(min=1.0)
    total = F.binary_cross_entropy_with_logits(logits, target, weight, reduction="sum")
    return total / count
