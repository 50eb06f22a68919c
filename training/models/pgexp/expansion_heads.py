"""Prior-guided heads of PGExp: amodal box, pixel expansion (Chen et al., AAAI 2023, 3.2, 3.3)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.models.pgexp.mask_flow import warp
from training.models.roi.mask_heads import initialise

BOX_CELLS = 4


class AmodalBoxHead(nn.Module):
    """Regress an amodal box from the features of expanded boxes and of the visible box.

    Args:
        channels: of the features, C.
        expanded: how many expanded boxes there are.
        width: of the two hidden fully connected layers (the paper: three layers, no widths).
    """

    def __init__(self, channels: int, expanded: int, width: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(expanded * channels, channels, 1)
        self.merge = nn.Conv2d(2 * channels, channels, 3, padding=1)
        self.fc1 = nn.Linear(channels * BOX_CELLS**2, width)
        self.fc2 = nn.Linear(width, width)
        self.deltas = nn.Linear(width, 4)
        initialise([self.squeeze, self.merge])
        nn.init.normal_(self.deltas.weight, std=0.001)
        nn.init.zeros_(self.deltas.bias)

    def forward(self, expanded: Tensor, visible: Tensor) -> Tensor:
        """Predict box deltas.

        Args:
            expanded: [R, K * C, 4, 4], the nearest slot's first.
            visible: [R, C, 4, 4].

        Returns:
            [R, 4] float32
        """
        squeezed = F.relu(self.squeeze(expanded))  # [R, C, 4, 4]
        x = F.relu(self.merge(torch.cat([squeezed, visible], 1)))
        x = F.relu(self.fc1(x.flatten(1)))
        return self.deltas(F.relu(self.fc2(x))).float()


class PixelExpansion(nn.Module):
    """Warp visible features by K flows (equation 6) and merge them with the features.

    A mask head follows. Initialised to the identity (ours): a mask head that was trained without
    this module can be fine-tuned with it and starts at the same output.

    Args:
        channels: of the features, C.
        priors: number of flows, K.
    """

    def __init__(self, channels: int, priors: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(priors * channels, channels, 1)
        self.merge = nn.Conv2d(2 * channels, channels, 1)
        initialise([self.squeeze])
        nn.init.zeros_(self.merge.weight)
        nn.init.dirac_(self.merge.weight.data[:, channels:])
        nn.init.zeros_(self.merge.bias)  # type: ignore[arg-type]

    def forward(self, features: Tensor, visible: Tensor, flows: Tensor) -> Tensor:
        """Expand the features of R boxes.

        Args:
            features: [R, C, 14, 14], F^e.
            visible: [R, 14, 14] probabilities, M^{v,e}.
            flows: [R, K, 2, 14, 14], T^f.

        Returns:
            [R, C, 14, 14]
        """
        moved = warp(features.float() * visible[:, None], flows)  # [R, C, K, 14, 14]
        squeezed = F.relu(self.squeeze(moved.flatten(1, 2)))
        return self.merge(torch.cat([squeezed, features], 1))
