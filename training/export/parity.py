"""Parity of engines: ``python -m training.export.parity REFERENCE CANDIDATE... --data DIR``.

Each is a run folder (PyTorch), an ``.onnx`` file (ONNX Runtime) or an ``.engine`` (TensorRT, where
its GPU is). Compared are the predicted scenes: boxes, scores, masks and occlusion edges, on the
images of an amodal COCO folder; with ``--ap``, the loss of average precision, too. The exit code
is 1 if a candidate is farther from the reference than its precision allows.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from tqdm import tqdm

from amodal_perception import files
from amodal_perception.command_line import run_main
from amodal_perception.errors import ConfigError, ModelFileError
from amodal_perception.pipeline import Pipeline, PipelineConfig
from amodal_perception.postprocess import PostprocessConfig
from amodal_perception.runtime import Runtime
from amodal_perception.storage import amodal_coco
from amodal_perception.storage.image_files import read_image
from amodal_perception.structures import BoolArray, FloatArray, Frame, Scene, UInt8Array
from training.evaluate import load, measure, predict

SCORE_THRESHOLD = 0.5
MATCHED_IOU = 0.5
AP = "coco.amodal_mask.AP"


@dataclass(frozen=True)
class Tolerances:
    """Largest differences from the reference that a candidate may have.

    Attributes:
        lost: share of instances, of either, that the other lacks.
        box_px: mean difference of the boxes' corners, camera pixels.
        score: mean difference of the scores.
        mask_iou: lowest mean IoU of the amodal masks, and of the visible ones.
        graph: lowest F1 of the occlusion edges, 0..1.
        ap: loss of average precision, 0..1.
        margin: instances with scores so near the threshold may be lost.
    """

    lost: float
    box_px: float
    score: float
    mask_iou: float
    graph: float
    ap: float
    margin: float


TOLERANCES = {
    "fp32": Tolerances(0.0, 0.02, 1e-4, 0.999, 0.995, 0.0005, 0.002),
    "fp16": Tolerances(0.005, 0.05, 0.002, 0.995, 0.98, 0.001, 0.01),
    "int8": Tolerances(0.02, 1.5, 0.025, 0.93, 0.9, 0.005, 0.05),
}
"""By the precision that a model file says it has."""


@dataclass(frozen=True)
class ParityResult:
    """How a candidate differs from the reference; see `Tolerances`.

    Attributes:
        instances: of the reference.
        edges: of the reference's graphs, between instances that both have.
        lost: share of instances, of either, that the other lacks.
        box_px: mean absolute difference of the corners of boxes both have, camera pixels.
        score: mean absolute difference of their scores.
        amodal_iou: mean IoU of their amodal masks.
        visible_iou: mean IoU of their visible masks.
        graph: 2 * edges that both have / (edges of one + edges of the other); 1: none differs.
        ap: average precision of the candidate's amodal masks; None: not measured.
        ap_loss: the reference's minus it; None: not measured.
    """

    instances: int
    edges: int
    lost: float
    box_px: float
    score: float
    amodal_iou: float
    visible_iou: float
    graph: float
    ap: float | None = None
    ap_loss: float | None = None

    def failures(self, tolerances: Tolerances) -> list[str]:
        """Name the tolerances that the candidate exceeds; empty: it passes."""
        checks = [
            ("lost", self.lost, self.lost <= tolerances.lost, tolerances.lost),
            ("box_px", self.box_px, self.box_px <= tolerances.box_px, tolerances.box_px),
            ("score", self.score, self.score <= tolerances.score, tolerances.score),
            (
                "amodal_iou",
                self.amodal_iou,
                self.amodal_iou >= tolerances.mask_iou,
                tolerances.mask_iou,
            ),
            (
                "visible_iou",
                self.visible_iou,
                self.visible_iou >= tolerances.mask_iou,
                tolerances.mask_iou,
            ),
            ("graph", self.graph, self.graph >= tolerances.graph, tolerances.graph),
        ]
        if self.ap_loss is not None:
            checks.append(("ap_loss", self.ap_loss, self.ap_loss <= tolerances.ap, tolerances.ap))
        return [
            f"{name} is {value:.4g} (tolerance {tolerance:g})"
            for name, value, is_good, tolerance in checks
            if not is_good
        ]


@dataclass
class _Sums:
    """Sums of counts and differences over images."""

    instances: int = 0
    common: int = 0
    lost: int = 0
    box_px: float = 0.0
    score: float = 0.0
    amodal_iou: float = 0.0
    visible_iou: float = 0.0
    edges: int = 0
    candidate_edges: int = 0
    common_edges: int = 0


def compare_engines(
    reference: Runtime, candidate: Runtime, images: Iterable[UInt8Array], *, margin: float = 0.0
) -> ParityResult:
    """Compare two engines on images.

    Args:
        reference: the better one.
        candidate: the other.
        images: [H, W, 3] uint8 RGB, any size; not what the network was traced or calibrated on.
        margin: instances whose scores are so near the threshold of 0.5 may be lost.

    Raises:
        ModelFileError: the reference finds nothing in any image, so there is nothing to compare.
    """
    config = PipelineConfig(postprocess=PostprocessConfig(SCORE_THRESHOLD))
    run_reference, run_candidate = Pipeline(reference, config), Pipeline(candidate, config)
    sums = _Sums()
    for image in images:
        _add(sums, run_reference(Frame(image)), run_candidate(Frame(image)), margin)
    if not sums.instances:
        raise ModelFileError(
            f"{reference.metadata.model_id}: finds no object in the images, so nothing can be "
            "compared; give images like those it was trained on"
        )
    common = max(sums.common, 1)
    all_edges = sums.edges + sums.candidate_edges
    return ParityResult(
        instances=sums.instances,
        edges=sums.edges,
        lost=sums.lost / (sums.common + sums.lost),
        box_px=sums.box_px / common,
        score=sums.score / common,
        amodal_iou=sums.amodal_iou / common,
        visible_iou=sums.visible_iou / common,
        graph=2 * sums.common_edges / all_edges if all_edges else 1.0,
    )


def _add(sums: _Sums, a: Scene, b: Scene, margin: float) -> None:
    """Add one image's scenes, of the reference (a) and of the candidate (b)."""
    iou = mask_iou(a.instances.amodal, b.instances.amodal)
    rows, columns = linear_sum_assignment(iou, maximize=True)
    matched = iou[rows, columns] >= MATCHED_IOU
    rows, columns = rows[matched], columns[matched]
    sums.instances += len(a.instances)
    sums.common += len(rows)
    for scene, found in ((a, rows), (b, columns)):
        alone = np.setdiff1d(np.arange(len(scene.instances)), found)
        sums.lost += int((scene.instances.scores[alone] > SCORE_THRESHOLD + margin).sum())
    of_a, of_b = a.instances[rows], b.instances[columns]
    sums.box_px += float(np.abs(of_a.boxes_xyxy - of_b.boxes_xyxy).mean(axis=1).sum())
    sums.score += float(np.abs(of_a.scores - of_b.scores).sum())
    sums.amodal_iou += float(iou[rows, columns].sum())
    sums.visible_iou += float(mask_iou(of_a.visible, of_b.visible).diagonal().sum())
    number_of = dict(zip(columns.tolist(), rows.tolist()))
    shared = set(rows.tolist())
    edges = {(i, j) for i, j in a.graph.edges.tolist() if {i, j} <= shared}
    others = {
        (number_of[i], number_of[j])
        for i, j in b.graph.edges.tolist()
        if i in number_of and j in number_of
    }
    sums.edges += len(edges)
    sums.candidate_edges += len(others)
    sums.common_edges += len(edges & others)


def mask_iou(a: BoolArray, b: BoolArray) -> FloatArray:
    """Return the IoU of every mask of [N, H, W] with every mask of [M, H, W]: [N, M]."""
    pixels = math.prod(a.shape[1:])  # not -1, which zero masks leave open
    flat_a = a.reshape(len(a), pixels).astype(np.float32)
    flat_b = b.reshape(len(b), pixels).astype(np.float32)
    common = flat_a @ flat_b.T
    either = flat_a.sum(axis=1)[:, None] + flat_b.sum(axis=1)[None, :] - common
    return common / np.maximum(either, 1)


def average_precision(runtime: Runtime, data: Path) -> float:
    """Measure the AP of amodal masks, as the network gives them, on an amodal COCO folder.

    Raises:
        AmodalError: the folder or an image is missing or damaged, or has other classes.
    """
    truth = amodal_coco.read(data)
    found = predict(runtime, truth)
    assert found is not None  # one process
    return measure(found, truth, ["coco"])[AP]


def gate(
    reference: Runtime,
    candidate: Runtime,
    data: Path,
    *,
    limit: int = 0,
    reference_ap: float | None = None,
) -> tuple[ParityResult, list[str]]:
    """Compare a candidate on a data set, by the tolerances of its precision.

    Args:
        reference: the better one.
        candidate: the other; its metadata state its precision.
        data: amodal COCO folder.
        limit: most images compared; 0: all. AP is measured on all.
        reference_ap: AP of the reference on the data; None: AP is not compared.

    Returns:
        The figures, and in what it fails; empty: it passes.

    Raises:
        ConfigError: a precision without tolerances.
        AmodalError: the folder or an image is missing or damaged.
    """
    precision = candidate.metadata.precision
    if precision not in TOLERANCES:
        raise ConfigError(
            f"no tolerances for precision {precision!r}; known: {', '.join(TOLERANCES)}"
        )
    tolerances = TOLERANCES[precision]
    parity = compare_engines(
        reference, candidate, images_of(data, limit), margin=tolerances.margin
    )
    if reference_ap is not None:
        ap = average_precision(candidate, data)
        parity = replace(parity, ap=ap, ap_loss=reference_ap - ap)
    return parity, parity.failures(tolerances)


def images_of(data: Path, limit: int = 0) -> Iterable[UInt8Array]:
    """Read the images of an amodal COCO folder, the first `limit` by their ids; 0: all."""
    truth = amodal_coco.read(data)
    names = [truth.images[image_id]["file_name"] for image_id in sorted(truth.images)]
    for name in tqdm(names[: limit or None], "comparing", unit="image", delay=2, leave=False):
        yield read_image(truth.path.parent / name)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m training.export.parity", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("reference", type=Path, help="run folder, .onnx or .engine")
    parser.add_argument("candidates", type=Path, nargs="+", help="more of them")
    parser.add_argument("--data", type=Path, required=True, help="amodal COCO folder")
    parser.add_argument("--limit", type=int, default=0, help="most images compared (0: all)")
    parser.add_argument("--ap", action="store_true", help="compare average precision, too")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads (0: all cores)")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args(arguments)
    return run_main("training.export.parity", lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    device = torch.device("cpu")
    reference = load(options.reference, device, options.threads)
    ap = average_precision(reference, options.data) if options.ap else None
    results = {}
    for path in options.candidates:
        candidate = load(path, device, options.threads)
        parity, failures = gate(
            reference, candidate, options.data, limit=options.limit, reference_ap=ap
        )
        results[str(path)] = {**asdict(parity), "failures": failures}
        print(f"{path} ({candidate.metadata.precision}): {describe(parity)}")
        print(f"  {'FAILS: ' + '; '.join(failures) if failures else 'passes'}")
    if options.json:
        files.write_json(options.json, results, indent=1)
    return 1 if any(result["failures"] for result in results.values()) else 0
    return 0


def describe(parity: ParityResult) -> str:
    """Format the figures as one line."""
    values = {item.name: getattr(parity, item.name) for item in fields(parity)}
    return ", ".join(f"{name} {value:.4g}" for name, value in values.items() if value is not None)


if __name__ == "__main__":
    sys.exit(main())
