"""Flow network S^f: optical flow that warps a visible mask to an amodal one.

A small network in the manner of FlowNet (Dosovitskiy et al., ICCV 2015). The paper (PGExp, section
3.1) gives neither its layers nor its loss; both are ours, see `prior_building.prior_training`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class MaskFlow(nn.Module):
    """Flow between two masks: an encoder down to 4 x 4 cells and a decoder up to 14 x 14.

    Args:
        width: channels at 28 x 28; 2 and 4 times as many below.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.down28 = nn.Conv2d(2, width, 3, padding=1)
        self.down14 = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        self.down7 = nn.Conv2d(2 * width, 4 * width, 3, stride=2, padding=1)
        self.down4 = nn.Conv2d(4 * width, 4 * width, 3, stride=2, padding=1)
        self.up7 = nn.Conv2d(8 * width, 2 * width, 3, padding=1)
        self.up14 = nn.Conv2d(4 * width, 2 * width, 3, padding=1)
        self.flow = nn.Conv2d(2 * width, 2, 3, padding=1)
        nn.init.normal_(self.flow.weight, std=0.001)  # initial flow is about 0
        nn.init.zeros_(self.flow.bias)  # type: ignore[arg-type]

    def forward(self, visible: Tensor, amodal: Tensor) -> Tensor:
        """Predict the flow that warps the visible mask to the amodal one.

        Args:
            visible: [R, 28, 28] float32, 0 or 1.
            amodal: [R, 28, 28] float32, 0 or 1, in the same frame.

        Returns:
            [R, 2, 14, 14] in [-1, 1]: for each cell, where its content comes from, as an offset
            in x and y of which 2 is the frame's whole side (see `warp`).
        """
        fine = F.relu(self.down28(torch.stack([visible, amodal], 1)))  # [R, w, 28, 28]
        half = F.relu(self.down14(fine))  # [R, 2w, 14, 14]
        quarter = F.relu(self.down7(half))  # [R, 4w, 7, 7]
        context = F.interpolate(F.relu(self.down4(quarter)), size=(7, 7), mode="nearest")
        quarter = F.relu(self.up7(torch.cat([quarter, context], 1)))
        quarter = F.interpolate(quarter, size=(14, 14), mode="nearest")
        half = F.relu(self.up14(torch.cat([half, quarter], 1)))
        return torch.tanh(self.flow(half))


def warp(maps: Tensor, flows: Tensor) -> Tensor:
    """Warp maps backward by K flows: out(p) = in(p + flow(p)), bilinear, zero padding.

    Args:
        maps: [R, C, h, w].
        flows: [R, K, 2, h, w], offsets in x and y; 2 is the whole side.

    Returns:
        [R, C, K, h, w]
    """
    K, height, width = int(flows.shape[1]), int(flows.shape[3]), int(flows.shape[4])
    x = _centres(width, flows)
    y = _centres(height, flows)
    here = torch.stack([x.expand(height, width), y[:, None].expand(height, width)], -1)
    # All flows in one sampling grid, stacked along its height: the maps are not copied K times.
    grid = (here + flows.permute(0, 1, 3, 4, 2)).flatten(1, 2)  # [R, K * h, w, 2]
    moved = F.grid_sample(maps, grid, padding_mode="zeros", align_corners=False)
    return moved.unflatten(2, (K, height))


def resample(masks: Tensor, masks_xyxy: Tensor, wanted_xyxy: Tensor, *, cells: int) -> Tensor:
    """Resample mask crops from one box each to another, bilinearly; 0 outside.

    Args:
        masks: [R, m, m].
        masks_xyxy: [R, 4], the boxes they fill.
        wanted_xyxy: [R, 4].
        cells: height and width of the result.

    Returns:
        [R, cells, cells]
    """
    fraction = (_centres(cells, masks) + 1) / 2
    low, high = masks_xyxy.split(2, dim=-1)
    size = (high - low).clamp(min=1e-3)
    wanted_low, wanted_high = wanted_xyxy.split(2, dim=-1)
    at = wanted_low[:, None] + (wanted_high - wanted_low)[:, None] * fraction[:, None]
    at = 2 * (at - low[:, None]) / size[:, None] - 1  # [R, cells, 2]
    R = at.shape[0]
    x = at[:, None, :, 0].expand(R, cells, cells)
    y = at[:, :, None, 1].expand(R, cells, cells)
    return F.grid_sample(
        masks[:, None], torch.stack([x, y], -1), padding_mode="zeros", align_corners=False
    )[:, 0]


def _centres(cells: int, like: Tensor) -> Tensor:
    """Return the centres of the cells of [-1, 1]."""
    return (torch.arange(cells, dtype=like.dtype, device=like.device) + 0.5) * (2 / cells) - 1
