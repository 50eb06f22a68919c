"""CondInst (Tian et al., ECCV 2020): dynamic mask heads, generated for every instance.

    P3, P4, P5 -> mask branch -> features F at stride 8 --------+
    box tower at the instance's point -> controller -> weights  |
                                               |                v
                       three 1x1 convolutions of 8 channels on (F, where the instance is) -> logits

Weights that the network makes for each instance are applied by batched matrix products: engines
support those better than convolutions whose weights come at run time.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.models.backbones.conv_norm import conv_norm
from training.models.detectors.instance_points import Points, grid_points

FEATURE_STRIDE = 8
MASK_STRIDE = 4
"""Of the logits, which are up-sampled once; all losses are computed there."""
HEAD_CHANNELS = 8
COORDINATES = 2
OBJECT_SIZE_STRIDES = 8.0
"""Unit of relative coordinates: the size of object that a level is for: 64 pixels at
stride 8, and so on."""
BRANCH_CONVS = 4
LAST_LEVEL = 5


def head_parameters(inputs: int) -> int:
    """Count the parameters of a dynamic head: 169 for CondInst's 10 inputs, 233 for BoxInst's 18.

    Args:
        inputs: channels of F, 2 coordinates, and what else the head is given.
    """
    return sum(_sizes(inputs))


def _sizes(inputs: int) -> tuple[int, ...]:
    width = HEAD_CHANNELS
    return (width * inputs, width, width * width, width, width, 1)


class MaskBranch(nn.Module):
    """Mask features from P3, P4 and P5: each refined, up-sampled to P3 and added, then refined.

    Light pyramids begin with P2, which is then refined too, to half its size, and added.

    Args:
        in_channels: of the pyramid's maps.
        width: of the layers in between.
        out_channels: of the result.
        first: number of the pyramid's first map, 2 or 3.
    """

    def __init__(self, in_channels: int, *, width: int, out_channels: int, first: int) -> None:
        super().__init__()
        self.strides = [2**level for level in range(first, LAST_LEVEL + 1)]
        self.refine = nn.ModuleList(
            conv_norm(in_channels, width, stride=max(1, FEATURE_STRIDE // stride))
            for stride in self.strides
        )
        self.tower = nn.ModuleList(conv_norm(width, width) for _ in range(BRANCH_CONVS))
        self.out = nn.Conv2d(width, out_channels, 1)

    def forward(self, levels: list[Tensor]) -> Tensor:
        """Map a pyramid to [B, C_m, H / 8, W / 8]."""
        refined = [
            upsample(F.relu(refine(x)), max(1, stride // FEATURE_STRIDE))
            for refine, x, stride in zip(self.refine, levels, self.strides)
        ]
        x = sum(refined[1:], refined[0])
        for conv in self.tower:
            x = F.relu(conv(x))
        return self.out(x)


def upsample(maps: Tensor, factor: int) -> Tensor:
    """Up-sample [B, C, H, W] bilinearly, half-pixel centres: [B, C, factor * H, factor * W].

    (AdelaiDet's ``aligned_bilinear`` puts them elsewhere: its logits are two pixels off against
    the positions at which its targets are sampled.)
    """
    if factor == 1:
        return maps
    return F.interpolate(maps, scale_factor=float(factor), mode="bilinear", align_corners=False)


class Controller(nn.Module):
    """Controller: a 3x3 convolution at the instances' points predicts their heads' parameters.

    CondInst computes it everywhere, although the parameters of a few points are used.

    Args:
        channels: of the detector's features.
        outputs: parameters of a point.
    """

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, channels, 3, 3))
        self.bias = nn.Parameter(torch.zeros(outputs))
        nn.init.normal_(self.weight, std=0.01)

    def forward(self, maps: list[Tensor], index: Tensor) -> Tensor:
        """Compute the convolution of maps [B, C, H_l, W_l] at points [B, N]: [B, N, outputs]."""
        channels = int(maps[0].shape[1])
        rows = torch.cat([F.pad(x, (1, 1, 1, 1)).flatten(2) for x in maps], 2).transpose(1, 2)
        window = _windows(maps)[index].flatten(1)  # [B, N * 9]
        taps = rows.gather(1, window[..., None].expand(-1, -1, channels))
        taps = taps.unflatten(1, (int(index.shape[1]), 9)).flatten(2)  # [B, N, 9 * C]
        weight = self.weight.permute(2, 3, 1, 0).reshape(9 * channels, -1)
        return torch.matmul(taps.float(), weight) + self.bias


def _windows(maps: list[Tensor]) -> Tensor:
    """Return where the 3 x 3 cells around each point lie among the padded maps' rows, [L, 9]."""
    device, windows, start = maps[0].device, [], 0
    for x in maps:
        height, width = int(x.shape[2]), int(x.shape[3])
        row = torch.arange(height, device=device)[:, None] * (width + 2)
        corner = (start + row + torch.arange(width, device=device)).flatten()
        offset = torch.arange(3, device=device)[:, None] * (width + 2)
        offset = (offset + torch.arange(3, device=device)).flatten()
        windows.append(corner[:, None] + offset)
        start += (height + 2) * (width + 2)
    return torch.cat(windows)


def relative_coordinates(points: Points, index: Tensor, features: Tensor) -> Tensor:
    """Relative coordinates of the cells of F, from each instance's point.

    Args:
        points: of the detector.
        index: [B, N] int64, the instances' points.
        features: [B, C_m, h, w] at stride 8.

    Returns:
        [B, N, 2, h * w] float32: (point - cell) in x and y, over the level's size of objects.
    """
    cells = grid_points(features, FEATURE_STRIDE)
    size = (OBJECT_SIZE_STRIDES * points.stride[index])[..., None, None]
    return ((points.xy[index][:, :, None] - cells) / size).transpose(2, 3)


def dynamic_head(parameters: Tensor, features: Tensor, own: Tensor) -> Tensor:
    """Apply each instance's generated mask head to the mask features F.

    Args:
        parameters: [B, N, head_parameters(C_m + D)]: weights and biases of three layers in turn.
        features: [B, C_m, h, w], shared by an image's instances.
        own: [B, N, D, h * w], what else an instance's head sees.

    Returns:
        Logits [B, N, h, w].
    """
    shared, height, width = (int(n) for n in features.shape[1:])
    N, inputs = int(parameters.shape[1]), shared + int(own.shape[2])
    W1, b1, W2, b2, W3, b3 = parameters.split(_sizes(inputs), -1)
    W1, W2 = W1.unflatten(-1, (HEAD_CHANNELS, inputs)), W2.unflatten(-1, (HEAD_CHANNELS, -1))
    # One product for all instances of an image, as they share F.
    x = torch.matmul(W1[..., :shared].flatten(1, 2), features.flatten(2))
    x = x.unflatten(1, (N, HEAD_CHANNELS)) + torch.matmul(W1[..., shared:], own)
    x = F.relu(x + b1[..., None])
    x = F.relu(torch.matmul(W2, x) + b2[..., None])
    x = torch.matmul(W3[..., None, :], x) + b3[..., None]
    return x.reshape(-1, N, height, width)
