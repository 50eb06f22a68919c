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
from training.models.detectors.light_detector import detection_losses
from training.models.detectors.task_aligned_assignment import task_aligned_assignment
from training.models.orcnn import OrcnnLightSettings
from training.structures import Batch


class DetectorLosses(nn.Module):
    """The light model's losses that draw nothing at random, in double precision.

    Each image is normalised by itself: with batch normalisation, statistics would be those of a
    process's own images. In single precision, rounding alone moves some gradients by a few per
    cent.
    """

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.model = OrcnnLightSettings().build(1).double()
        for parent in list(self.model.modules()):
            for name, child in parent.named_children():
                if isinstance(child, nn.BatchNorm2d):
                    setattr(parent, name, nn.GroupNorm(1, child.num_features).double())

    def forward(self, batch: Batch) -> Tensor:
        model = self.model
        levels = model.fpn(model.backbone(model.normalize(batch.images).double()))
        logits, boxes, points = model.detector(levels)
        scores = logits.detach().sigmoid().transpose(1, 2)
        scores = scores.expand(-1, batch.valid.shape[1], -1)  # one class
        targets = task_aligned_assignment(
            scores, boxes.detach(), points, batch.boxes_xyxy, batch.valid
        )
        return sum(detection_losses(logits, boxes, batch, targets))


def gradients(data: Path, images: list[int]) -> dict[str, Tensor]:
    """Return the gradient of the losses on some images, by the name of the parameter."""
    network = DetectorLosses()
    dataset = AmodalCocoDataset(data, (96, 128))
    shared = distributed.wrap_ddp(network)
    shared(collate([dataset[i] for i in images])).backward()
    return {name: p.grad for name, p in network.named_parameters() if p.grad is not None}


def main(data: Path, model: Path, out: Path) -> None:
    with distributed.process_group("cpu") as device:
        found = gradients(data, [[0], [1, 2, 3]][distributed.rank()])
        if distributed.rank() == 0:
            save_file({k: v.contiguous() for k, v in found.items()}, out / "found.safetensors")
        evaluate(model, data, out / "evaluation", device=device, num_threads=1)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
