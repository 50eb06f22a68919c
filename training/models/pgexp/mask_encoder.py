"""Mask autoencoder: the shape prior of Xiao et al. (AAAI 2021), whose codes PGExp searches by.

28 x 28 cells -> stride-2 convolutions of 8 channels -> code -> bilinear up-sampling -> 28 x 28.
Two convolutions leave 8 x 7 x 7 = 392 numbers (KINS), three 8 x 4 x 4 = 128 (D2SA, COCOA-cls).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

CONVS_OF_CODE = {392: 2, 128: 3}
"""Number of convolutions, by the length of the code they leave."""
WIDTH = 8


class MaskEncoder(nn.Module):
    """Encoder of masks; nearest neighbours are by Euclidean distance of its codes.

    Args:
        code: length of a code, a key of `CONVS_OF_CODE`.
    """

    def __init__(self, code: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv2d(1 if i == 0 else WIDTH, WIDTH, 3, stride=2, padding=1)
            for i in range(CONVS_OF_CODE[code])
        )

    def forward(self, masks: Tensor) -> Tensor:
        """Encode [R, 28, 28] float masks, 0 or 1, as [R, code]."""
        x = masks[:, None]
        for conv in self.convs:
            x = F.relu(conv(x))
        return x.flatten(1)


class MaskDecoder(nn.Module):
    """Decoder of the mask autoencoder; only needed to train the encoder.

    Args:
        code: length of a code, a key of `CONVS_OF_CODE`.
    """

    def __init__(self, code: int) -> None:
        super().__init__()
        convs = CONVS_OF_CODE[code]
        # Of three convolutions the middle one is not padded: 8 -> 16 -> 14 -> 28 cells.
        self.convs = nn.ModuleList(
            nn.Conv2d(
                WIDTH,
                1 if i == convs - 1 else WIDTH,
                3,
                padding=0 if (convs, i) == (3, 1) else 1,
            )
            for i in range(convs)
        )

    def forward(self, codes: Tensor) -> Tensor:
        """Decode [R, code] to logits [R, 28, 28]."""
        side = {2: 7, 3: 4}[len(self.convs)]
        x = codes.unflatten(1, (WIDTH, side, side))
        for i, conv in enumerate(self.convs):
            x = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
            x = conv(F.relu(x) if i else x)
        return x[:, 0]
