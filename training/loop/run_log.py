"""Log a run: ``log.jsonl``, TensorBoard and a progress bar."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

from amodal_perception import files
from amodal_perception.structures import UInt8Array
from training.structures import Batch


class RunLog:
    """Log losses and figures to a JSON-lines file, to TensorBoard and to the terminal.

    Args:
        run: run folder.
        first: iterations already done; log entries of later ones are dropped.
        total: iterations of the whole run.
        silent: write nothing: another process does.
    """

    def __init__(self, run: Path, *, first: int, total: int, silent: bool) -> None:
        self.silent = silent
        self._bar = tqdm(
            desc=run.name, initial=first, total=total, unit="it", mininterval=2, disable=silent
        )
        if not silent:
            from torch.utils.tensorboard import SummaryWriter  # slow, and for one process only

            cut_log(run, first)
            self._lines = (run / "log.jsonl").open("a")
            self._board = SummaryWriter(str(run / "tensorboard"), purge_step=first + 1)

    def __enter__(self) -> RunLog:
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()
        if not self.silent:
            self._lines.close()
            self._board.close()

    def following(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Yield batches, moving the progress bar after each."""
        for batch in batches:
            yield batch
            self._bar.update()

    def losses(self, iteration: int, terms: dict[str, float]) -> None:
        """Log the loss terms of one step."""
        if self.silent:
            return
        shown = {name: f"{value:.3g}" for name, value in terms.items() if name != "learning_rate"}
        self._bar.set_postfix(shown, refresh=False)
        for name, value in terms.items():
            self._board.add_scalar(f"train/{name}", value, iteration)
        self._write({"iteration": iteration, **terms})

    def evaluation(
        self,
        iteration: int,
        metrics: dict[str, float],
        pictures: dict[str, UInt8Array],
        *,
        best_metric: str,
        kept: bool,
    ) -> None:
        """Log metrics on the validation data, and print the one that chooses the best weights.

        Args:
            iteration: steps done.
            metrics: figures by name.
            pictures: [H, W, 3] uint8 RGB by name.
            best_metric: name of the metric that chooses the best weights.
            kept: these weights are the best so far.
        """
        if self.silent:
            return
        for name, value in metrics.items():
            self._board.add_scalar(f"val/{name}", value, iteration)
        for name, picture in pictures.items():
            self._board.add_image(name, picture, iteration, dataformats="HWC")
        self._write({"iteration": iteration, "metrics": metrics})
        # Not printed directly, which would break the bar.
        self._bar.write(
            f"{iteration}: {best_metric} {metrics.get(best_metric, 0):.4f}{' (best)' * kept}"
        )

    def _write(self, record: dict[str, Any]) -> None:
        self._lines.write(json.dumps({**record, "time_s": round(time.time(), 1)}) + "\n")
        self._lines.flush()


def cut_log(run: Path, iteration: int) -> None:
    """Truncate the log after `iteration`: later steps will be repeated."""
    path = run / "log.jsonl"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    # A killed run may leave its last line unfinished.
    whole = [line for line in lines if line.endswith("\n")]
    kept = [line for line in whole if json.loads(line)["iteration"] <= iteration]
    with files.atomic_write(path) as temporary:
        temporary.write_text("".join(kept))
