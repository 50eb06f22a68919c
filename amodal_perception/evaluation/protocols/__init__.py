"""Evaluation protocols of the papers: pure functions from a `Comparison` to named figures.

A new protocol is one file here and one line in `PROTOCOLS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from amodal_perception.errors import ConfigError
from amodal_perception.evaluation.comparison import Comparison
from amodal_perception.evaluation.protocols.amodalapi import amodalapi
from amodal_perception.evaluation.protocols.breakdowns import per_class, per_occlusion
from amodal_perception.evaluation.protocols.calibration import calibration
from amodal_perception.evaluation.protocols.coco import coco
from amodal_perception.evaluation.protocols.iou_by_occlusion import bayesian_amodal, blade
from amodal_perception.evaluation.protocols.matched import matched
from amodal_perception.evaluation.protocols.orcnn import orcnn
from amodal_perception.evaluation.protocols.order import instaorder, order, pcnet
from amodal_perception.evaluation.protocols.uoais import uoais
from amodal_perception.evaluation.protocols.visible_rate import strict, vrsp
from amodal_perception.evaluation.weighted_metrics import WeightedMetrics
from amodal_perception.storage.predictions_file import RAW


def _nothing(_: Comparison) -> str:
    return ""


def _visible_truth(comparison: Comparison) -> str:
    if comparison.truth_has_visible:
        return ""
    return f"{comparison.truth_path} has objects without 'visible_segmentation'"


def _both_visible(comparison: Comparison) -> str:
    if comparison.predictions_have_visible:
        return _visible_truth(comparison)
    return f"{comparison.predictions_path} has predictions without 'visible_segmentation'"


def _visible_rate(comparison: Comparison) -> str:
    if comparison.claims_hidden or not comparison.predictions_have_visible:
        return _both_visible(comparison)
    return f"{comparison.predictions_path} is of a network with one mask, so without visible rates"


def _true_order(comparison: Comparison) -> str:
    return "" if comparison.truth_has_order else f"{comparison.truth_path} has no 'occlusions'"


def _true_order_or_depth(comparison: Comparison) -> str:
    return "" if comparison.depth_orders[0] else _true_order(comparison)


@dataclass(frozen=True)
class Protocol:
    """A protocol.

    Attributes:
        metrics: measures.
        files_obstacle: what in the files keeps it from measuring; "": nothing.
        of_scene: it is defined on what the robot is told, not on what the network gives.
    """

    metrics: Callable[[Comparison], WeightedMetrics]
    files_obstacle: Callable[[Comparison], str] = _nothing
    of_scene: bool = False

    def obstacle(self, comparison: Comparison) -> str:
        """Return what keeps the protocol from measuring; "" where nothing does."""
        if self.of_scene and comparison.kind == RAW:
            return (
                "what the robot is told is measured, and these predictions are what the network "
                "gives (raw)"
            )
        return self.files_obstacle(comparison)


PROTOCOLS = {
    "coco": Protocol(coco),
    "orcnn": Protocol(orcnn, _visible_truth),
    "vrsp": Protocol(vrsp, _visible_rate),
    "strict": Protocol(strict, _visible_truth),
    "amodalapi": Protocol(amodalapi, _visible_truth),
    "blade": Protocol(blade, _visible_truth),
    "bayesian_amodal": Protocol(bayesian_amodal, _visible_truth),
    "uoais": Protocol(uoais, of_scene=True),
    "order": Protocol(order, _true_order, of_scene=True),
    "pcnet": Protocol(pcnet, _true_order, of_scene=True),
    "instaorder": Protocol(instaorder, _true_order_or_depth, of_scene=True),
    "calibration": Protocol(calibration),
    "matched": Protocol(matched, of_scene=True),
    "per_class": Protocol(per_class),
    "per_occlusion": Protocol(per_occlusion, _visible_truth),
}


def run_protocols(
    comparison: Comparison, names: Iterable[str] | None = None
) -> tuple[WeightedMetrics, dict[str, str]]:
    """Return the metrics of protocols, to be computed for any weights of images.

    Args:
        comparison: truth and predictions.
        names: of `PROTOCOLS`; None takes all. What the files do not allow is left out.

    Returns:
        Metrics by ``<protocol>.<target>.<metric>``, and why protocols were left out, by name.

    Raises:
        ConfigError: a name that is no protocol.
    """
    check_names(names)
    metrics: WeightedMetrics = {}
    left_out = {}
    for name in PROTOCOLS if names is None else dict.fromkeys(names):
        obstacle = PROTOCOLS[name].obstacle(comparison)
        if obstacle:
            left_out[name] = obstacle
            continue
        of_protocol = PROTOCOLS[name].metrics(comparison)
        metrics |= {f"{name}.{key}": metric for key, metric in of_protocol.items()}
    return metrics, left_out


def check_names(names: Iterable[str] | None) -> None:
    """Raise ConfigError for names that are no protocols."""
    unknown = [name for name in names or () if name not in PROTOCOLS]
    if unknown:
        raise ConfigError(
            f"unknown protocol {', '.join(unknown)}; there are {', '.join(PROTOCOLS)}"
        )
