"""Graph convolution (GCN, non-local) over the cells of a RoI: BCNet, equations 1 to 3.

Ke et al., CVPR 2021. Every cell is a node; an edge is as strong as two nodes are alike (the
non-local operator, Wang et al., CVPR 2018). So the parts of an object that another cuts in two
exchange information.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NORMS = ("batch", "layer")


class GraphConvolution(nn.Module):
    """Graph convolution: Z = X + sigma(A X W_g), A = softmax_j(theta(x_i) . phi(x_j)).

    W_g is two 1x1 convolutions, `g` before and `out` after A, as in the released code; the paper
    writes one matrix.

    Args:
        channels: K of the paper; nothing is reduced.
        norm: sigma. ``batch``: batch normalisation alone, as released; its statistics are
            those of however many RoIs there are. ``layer``: layer normalisation of every node
            and a ReLU, as published.
        scaled: divide the similarity by the square root of `channels`, as released; the paper
            does not. Without, the softmax is nearly one-hot and can overflow in 16 bits.
    """

    def __init__(self, channels: int, *, norm: str = "batch", scaled: bool = True) -> None:
        super().__init__()
        self.scale = channels**-0.5 if scaled else 1.0
        self.theta = nn.Conv2d(channels, channels, 1, bias=False)
        self.phi = nn.Conv2d(channels, channels, 1, bias=False)
        self.g = nn.Conv2d(channels, channels, 1, bias=False)
        self.out = nn.Conv2d(channels, channels, 1, bias=False)
        for layer in (self.theta, self.phi, self.g, self.out):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        self.norm: nn.Module
        if norm == "batch":
            self.norm = nn.BatchNorm2d(channels, eps=1e-4)
        else:
            self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map [R, C, h, w] to the same shape."""
        query = self.theta(x).flatten(2).transpose(1, 2)  # [R, h * w, C]
        key = self.phi(x).flatten(2)  # [R, C, h * w]
        value = self.g(x).flatten(2).transpose(1, 2)  # [R, h * w, C]
        affinity = torch.matmul(query * self.scale, key).softmax(-1)  # [R, h * w, h * w]
        gathered = torch.matmul(affinity, value).transpose(1, 2)  # [R, C, h * w]
        y = self.out(gathered.unflatten(2, (int(x.shape[2]), int(x.shape[3]))))
        if isinstance(self.norm, nn.LayerNorm):
            return x + F.relu(self.norm(y.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
        return x + self.norm(y)
