"""Ablation tables: what does each part of a paper's system contribute, at the light models' size?

    python -m training.studies.ablation data=DIR val=DIR

Trains the rows of ORCNN's Table 6 (and the baselines), or with ``--table`` those of BCNet's tables
(``bcnet``), PGExp's Table 1 and Figure 4 (``pgexp``) or BLADE's tables (``blade``), one after the
other, from the same seed and for the same budget, evaluates each, and prints the table, which also
goes to ``OUT/table.md``.
The same command resumes an interrupted study. Words ``key=value`` are settings over
``config/train/orcnn_light.yaml`` for all rows.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from amodal_perception import files
from amodal_perception.command_line import run_main
from amodal_perception.errors import ConfigError
from amodal_perception.evaluation.evaluate import QUICK
from amodal_perception.storage import amodal_coco
from training import distributed, evaluate
from training.loop import checkpoints
from training.loop.config import load
from training.models.blade.blade import Blade
from training.studies import box_prompts, oracle_boxes
from training.train import train

RECIPE = Path(__file__).parents[2] / "config/train/orcnn_light.yaml"
ROWS = {
    "mask_rcnn": ["model={name: mask_rcnn_light}"],
    "amodal_mask_rcnn": ["model={name: amodal_mask_rcnn_light}"],
    "orcnn_without_L_IV": ["model={name: orcnn_light, occluded_weight: 0}"],
    "orcnn_without_L_V": ["model={name: orcnn_light, visible_weight: 0}"],
    "orcnn_independent": ["model={name: orcnn_light, independent: true}"],
    "orcnn_class_specific": ["model={name: orcnn_light, class_agnostic: false}"],
    "orcnn": ["model={name: orcnn_light}"],
    "asn": ["model={name: asn_light}"],
}
"""Light systems have one mask for all classes; where the data has one class, the class-specific
row is the same network as `orcnn`."""
BCNET = "model={name: bcnet_light}"
BASELINE = "model={name: amodal_mask_rcnn_light}"
NO_CONTOUR = "model.occludee_contour_weight=0"
FASTER = ["model.detector=faster_rcnn", "model.proposals=200", "model.rois_per_image=64"]
BCNET_ROWS = {
    "bcnet": [BCNET],
    "1_no_occluder": [
        *(BCNET, NO_CONTOUR),
        *("model.occluder_contour_weight=0", "model.occluder_mask_weight=0"),
    ],
    "1_occluder_mask": [BCNET, NO_CONTOUR, "model.occluder_contour_weight=0"],
    "1_occluder_contour": [BCNET, NO_CONTOUR, "model.occluder_mask_weight=0"],
    "1_2_occluder_both": [BCNET, NO_CONTOUR],
    "2_no_guidance": [BCNET, NO_CONTOUR, "model.guidance=false"],
    "3_single_FCN": [BCNET, NO_CONTOUR, "model.bilayer=false", "model.gcn=false"],
    "3_single_GCN": [BCNET, NO_CONTOUR, "model.bilayer=false"],
    "3_bilayer_FCN": [BCNET, "model.gcn=false"],
    "4_FCOS_baseline": [BASELINE, "model.detector=fcos"],
    "4_FCOS_bcnet": [BCNET, "model.detector=fcos"],
    "4_Faster_R-CNN_baseline": [BASELINE, *FASTER],
    "4_Faster_R-CNN_bcnet": [BCNET, *FASTER],
    "visible_tail": [BCNET, "model.visible_mask=tail"],
    "order_aware": [BCNET, "model.order_aware=true"],
    "amodal_neighbours": [BCNET, "model.neighbour_masks=amodal"],
}
"""The number is that of the paper's table; `bcnet` ends tables 1 to 3. The last three are ours:
another visible mask, and other occluders."""
PGEXP = "model={name: pgexp_light}"
PGEXP_ROWS = {
    "orcnn": ROWS["orcnn"],
    "1_none_plain": [PGEXP, "model.box_expansion=none", "model.mask_expansion=plain"],
    "2_plain_plain": [PGEXP, "model.box_expansion=plain", "model.mask_expansion=plain"],
    "3_prior_plain": [PGEXP, "model.mask_expansion=plain"],
    "4_none_prior": [PGEXP, "model.box_expansion=none"],
    "5_plain_prior": [PGEXP, "model.box_expansion=plain"],
    "6_prior_prior": [PGEXP],
    **{f"priors_{k}": [PGEXP, f"model.priors={k}"] for k in (1, 2, 4, 16)},
    **{f"slots_{n}": [PGEXP, f"model.slots={n}"] for n in (100, 500, 2000)},
    "reference_visible": [PGEXP, "model.box_reference=visible"],
    "reference_prior": [PGEXP, "model.box_reference=prior"],
}
"""Table 1 by its numbers, as box and mask head; Figure 4, whose defaults (8 priors, 1,000 slots)
are row 6; and what the box head refines, which the paper does not say."""
BLADE = ["model={name: blade_light}", "dataset=amodal_boxes"]
BOXINST = ["model={name: boxinst_light}", "dataset=amodal_boxes"]
NO_FUSION, NO_UNIFORM = "model.fusion=false", "model.uniform_weight=0"
NO_NEIGHBOUR = "model.neighbour_weight=0"
BLADE_ROWS = {
    "orcnn": ROWS["orcnn"],
    "boxinst": BOXINST,
    "boxinst_known_centre": [*BOXINST, "model.box_target=amodal"],
    "blade": BLADE,
    "2_no_uniform": [*BLADE, NO_UNIFORM],
    "3_no_neighbour": [*BLADE, NO_NEIGHBOUR],
    "4_neither": [*BLADE, NO_UNIFORM, NO_NEIGHBOUR],
    "5_no_fusion": [*BLADE, NO_FUSION],
    "6_no_fusion_no_uniform": [*BLADE, NO_FUSION, NO_UNIFORM],
    "7_no_fusion_no_neighbour": [*BLADE, NO_FUSION, NO_NEIGHBOUR],
    "8_no_fusion_neither": [*BLADE, NO_FUSION, NO_UNIFORM, NO_NEIGHBOUR],
    "a_weights_1_1_1": [*BLADE, "model.projection_weight=1"],
    "c_weights_1_2_1": [*BLADE, "model.projection_weight=1", "model.pairwise_weight=2"],
    "d_weights_1_1_2": [*BLADE, "model.projection_weight=1", "model.connectivity_weight=2"],
    "detector_on_amodal_boxes": [*BLADE, "model.box_target=amodal"],
    **{f"K_{k}": [*BLADE, f"model.uniform_weight={k}"] for k in (3, 10)},
    **{f"t_{t}": [*BLADE, f"model.visible_threshold={t}"] for t in (0.3, 0.7)},
    "region_weight_10": [*BLADE, "model.region_weight=10"],
    "uniform_teaches_visible": [*BLADE, "model.detach_visible_in_losses=false"],
    "input_detached": [*BLADE, "model.detach_visible_input=true"],
    "hard_region": [*BLADE, "model.hard_region=true"],
    "mask_channels_8": [*BLADE, "model.mask_channels=8"],
}
"""The first three are table 1's comparisons, `orcnn` learning from masks; a number or letter is
that of table 2, `blade` being its rows 1 and b; the rest is what the paper leaves open."""
TABLES = {"orcnn": ROWS, "bcnet": BCNET_ROWS, "pgexp": PGEXP_ROWS, "blade": BLADE_ROWS}
ALL_ROWS = {name: row for rows in TABLES.values() for name, row in rows.items()}
BY_CENTRE = "oracle_boxes.bayesian_amodal.kins_levels_known_center"
ORACLE_COLUMNS = {
    "oracle boxes AP_A": "oracle_boxes.coco.amodal_mask.AP",
    **{f"FG-{i}": f"{BY_CENTRE}.amodal_mask_mIoU_FG{i}" for i in range(4)},
    "visible": f"{BY_CENTRE}.visible_mask_mIoU_mean",
    "hidden": "oracle_boxes.matched.hidden_mask.mean_IoU",
    "order F1": "oracle_boxes.order.end_to_end.F1",
}
"""With oracle boxes: AP of amodal masks; mean IoU of amodal masks by KINS's
levels of occlusion, of visible masks, of hidden parts; and the order that comes of the masks."""
COLUMNS = {
    "AP_AV": "orcnn.all.AP_AV",
    "AP_A": "orcnn.all.AP_A",
    "AP_V": "orcnn.all.AP_V",
    "AP50_A": "coco.amodal_mask.AP50",
    "occluded AP_AV": "orcnn.occluded.AP_AV",
    "occluded AP_A": "orcnn.occluded.AP_A",
    "occluded AP_V": "orcnn.occluded.AP_V",
    "AP_IV50": "orcnn.occluded.AP_IV50",
    "detected order F1": "order.end_to_end.F1",
    **ORACLE_COLUMNS,
}
PGEXP_COLUMNS = {
    "mask AP": "coco.amodal_mask.AP",
    "mask AP-occ": "vrsp.amodal_mask.AP_occ85",
    "mask AP-occ strict": "strict.amodal_mask.AP_occ85",
    "box AP": "coco.amodal_box.AP",
    "box AP-occ": "vrsp.amodal_box.AP_occ85",
    "box AP-occ strict": "strict.amodal_box.AP_occ85",
    "visible AP": "coco.visible_mask.AP",
    "AP_IV50": "orcnn.occluded.AP_IV50",
    "detected order F1": "order.end_to_end.F1",
    **ORACLE_COLUMNS,
}
LEVELS = "kins_levels.amodal_mask_mIoU"
BLADE_COLUMNS = {
    **{f"FG-{i}": f"blade.{LEVELS}_FG{i}" for i in range(4)},
    "mean": f"blade.{LEVELS}_mean",
    **{f"prompted FG-{i}": f"box_prompt.blade.{LEVELS}_FG{i}" for i in range(4)},
    "prompted mean": f"box_prompt.blade.{LEVELS}_mean",
    "known centre mean": f"{BY_CENTRE}.amodal_mask_mIoU_mean",
    "visible mean": "blade.kins_levels.visible_mask_mIoU_mean",
    "mask AP": "coco.amodal_mask.AP",
    "mask AP50": "coco.amodal_mask.AP50",
}
"""Mean IoU by KINS's levels of occlusion: of the detection that fits the visible box best; of the
mask for that box as a prompt (B_test; BLADE and BoxInst only), or for the amodal box."""
COLUMNS_OF_TABLE = {
    "orcnn": COLUMNS,
    "bcnet": COLUMNS,
    "pgexp": PGEXP_COLUMNS,
    "blade": BLADE_COLUMNS,
}
PROTOCOLS = (*QUICK, "orcnn", "vrsp", "strict", "blade")


def run_row(name: str, out: Path, words: Sequence[str]) -> dict[str, float]:
    """Train and evaluate one row, unless that is done; return its figures.

    Args:
        name: of a table.
        out: folder of all rows.
        words: ``key=value`` settings over the recipe.

    Raises:
        AmodalError: settings or data of no use.
    """
    run = out / name
    row = ALL_ROWS[name]
    if PGEXP in row:
        words = [f"model.prior={out / 'prior'}", *words]  # one for all rows
    config = load(RECIPE, [*row, *words, f"out={run}", "processes=1"])
    if not config.data or not config.val:
        raise ConfigError("data= and val= are needed: folders of training and validation data")
    newest = checkpoints.newest(run)
    if newest is None or int(newest.name) < config.iterations:
        train(config)
    path = run / "metrics.json"
    if not path.exists():
        truth = amodal_coco.read(Path(config.val))
        with distributed.process_group(config.device) as device:
            runtime = evaluate.load(run, device, config.threads)
            found = evaluate.predict(runtime, truth)
        assert found is not None
        figures = evaluate.measure(found, truth, PROTOCOLS)
        assert isinstance(runtime, evaluate.TorchRuntime)
        for title, measured in _figures_with_true_boxes(runtime, truth).items():
            figures |= {f"{title}.{key}": value for key, value in measured.items()}
        files.write_json(path, figures, indent=2)
    return json.loads(path.read_text())


def _figures_with_true_boxes(
    runtime: evaluate.TorchRuntime, truth: amodal_coco.AmodalCoco
) -> dict[str, dict[str, float]]:
    if not isinstance(runtime.model, Blade):
        return {"oracle_boxes": oracle_boxes.figures(runtime, truth)}
    return {
        title: box_prompts.figures(truth, box_prompts.predict_prompted(runtime, truth, box=box))
        for title, box in (("box_prompt", "visible"), ("oracle_boxes", "amodal"))
    }


def table(rows: dict[str, dict[str, float]], columns: dict[str, str]) -> str:
    """Write figures as a Markdown table, in per cent; ``-`` where there is none.

    Args:
        rows: figures by the name of the row.
        columns: names of figures by the title of the column.
    """
    lines = ["| system | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, figures in rows.items():
        cells = [
            f"{100 * figures[key]:.1f}" if figures.get(key) is not None else "-"
            for key in columns.values()
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m training.studies.ablation", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("--out", type=Path, default=Path("runs/ablation"), help="folder")
    parser.add_argument("--table", choices=list(TABLES), default="orcnn", help="(orcnn)")
    parser.add_argument(
        "--rows", nargs="+", choices=ALL_ROWS, metavar="ROW", help="instead of a table"
    )
    parser.add_argument("words", nargs="*", metavar="key=value", help="settings of every row")
    options = parser.parse_intermixed_args(arguments)
    return run_main("training.studies.ablation", lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    rows: dict[str, dict[str, float]] = {}
    columns = COLUMNS_OF_TABLE[options.table]
    for name in options.rows or TABLES[options.table]:
        rows[name] = run_row(name, options.out, options.words)
        options.out.mkdir(parents=True, exist_ok=True)
        with files.atomic_write(options.out / "table.md") as temporary:
            temporary.write_text(table(rows, columns))
    print(table(rows, columns), end="")


if __name__ == "__main__":
    sys.exit(main())
