"""Run by torchrun: what two processes do together, for comparison with one."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from training import distributed
from training.datasets.amodal_coco import AmodalCocoDataset
from training.datasets.sample import collate
from training.evaluate import evaluate
from training.models.detectors.light import detection_losses
from training.models.detectors.task_aligned_assignment import assign
from training.models.orcnn import OrcnnLightSettings
from training.structures import Batch


class DetectorLosses(nn.Module):
    """The light model's losses that draw nothing at random, in double precision.

    In single precision, rounding alone moves some gradients by a few per cent: the deepest maps
    are small, and their statistics are of few values.
    """

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.model = OrcnnLightSettings().build(1).double()

    def forward(self, batch: Batch) -> Tensor:
        model = self.model
        levels = model.fpn(model.backbone(model.normalize(batch.images).double()))
        logits, boxes, points = model.detector(levels)
        scores = logits.detach().sigmoid().transpose(1, 2)
        scores = scores.expand(-1, batch.valid.shape[1], -1)  # one class
        targets = assign(scores, boxes.detach(), points, batch.boxes_xyxy, batch.valid)
        return sum(detection_losses(logits, boxes, batch, targets))


def gradients(data: Path, images: list[int]) -> dict[str, Tensor]:
    """Return the gradient of the losses on some images, and the statistics they leave."""
    network = DetectorLosses()
    network.model = distributed.synchronise_batchnorm(network.model, torch.device("cpu"))
    dataset = AmodalCocoDataset(data, (96, 128))
    shared = distributed.share_gradients(network)
    shared(collate([dataset[i] for i in images])).backward()
    found = {f"gradient.{k}": p.grad for k, p in network.named_parameters() if p.grad is not None}
    statistics = network.model.state_dict().items()
    return found | {f"statistics.{k}": v for k, v in statistics if "running" in k}


def main(data: Path, model: Path, out: Path) -> None:
    with distributed.joined("cpu") as device:
        found = gradients(data, [[0], [1, 2, 3]][distributed.rank()])
        if distributed.rank() == 0:
            save_file({k: v.contiguous() for k, v in found.items()}, out / "found.safetensors")
        evaluate(model, data, out / "evaluation", device=device, num_threads=1)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
