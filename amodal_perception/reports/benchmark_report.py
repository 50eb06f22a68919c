"""The benchmark's report: a page of plots."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from pathlib import Path

from amodal_perception.drawing.svg_charts import Axes, Series, plot, stage_bars
from amodal_perception.reports.page import write_page
from amodal_perception.storage.amodal_coco import Json

SCALING_AXES: dict[str, tuple[Callable[[Json], float], str]] = {
    "image size": (lambda model: model["input_hw"][0] * model["input_hw"][1] / 1e6, "megapixels"),
    "instances": (lambda model: model["instances"], "instances"),
    "classes": (lambda model: model["classes"], "classes"),
}
"""What latency can scale with: how much of it a model has, and the unit."""


def write_benchmark_page(path: Path, figures: Json) -> None:
    """Write the stages of every model, and how latency scales with what models differ in."""
    machine, models = figures["machine"], figures["models"]
    sections = [
        "<header><h1>Benchmark</h1>"
        f"<p>{escape(machine['cpu'])}, {machine['threads']} of {machine['cpus']} CPUs, "
        f"{figures['frames']} frames, sgemm {figures['sgemm_gflops']['p50']:.0f} GFLOP/s</p>"
        "</header>"
    ]
    for model in models:
        total = model["total_ms"]
        sections.append(
            f"<section><h2>{escape(model['model_id'])}</h2>"
            f"<p>{model['objects']} objects; p50 {total['p50']:.1f}, p95 {total['p95']:.1f}, "
            f"p99 {total['p99']:.1f} ms in all; {model['frames_per_second']:.1f} frames/s</p>"
            f"{stage_bars(model['stages_ms'])}</section>"
        )
    sections += [scaling_section(models, name) for name in SCALING_AXES if _differ(models, name)]
    write_page(path, "Amodal perception benchmark", sections)


def scaling_section(models: list[Json], name: str) -> str:
    """Plot the latency of models against one of `SCALING_AXES`."""
    amount_of, unit = SCALING_AXES[name]
    ordered = sorted(models, key=amount_of)
    xs = [amount_of(model) for model in ordered]
    series = [
        Series("engine, p50", xs, [model["stages_ms"]["engine"]["p50"] for model in ordered]),
        Series("all, p50", xs, [model["total_ms"]["p50"] for model in ordered]),
        Series("all, p95", xs, [model["total_ms"]["p95"] for model in ordered]),
    ]
    chart = plot(series, Axes(unit, "milliseconds"))
    return f"<section><h2>Latency and {name}</h2>{chart}</section>"


def _differ(models: list[Json], name: str) -> bool:
    amount_of, _ = SCALING_AXES[name]
    return len({amount_of(model) for model in models}) > 1
