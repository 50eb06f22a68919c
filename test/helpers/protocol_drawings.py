"""Three objects on 6 x 6 pixels, for answers of the protocols that are worked out on paper."""

from __future__ import annotations

import pytest

from amodal_perception.evaluation.evaluate import evaluate
from helpers.scenes import amodal_file, annotation, mask

# Front hides half of back: the middle columns are front's. Lone is in full view.
FRONT = mask("..aa..", "..aa..", "..aa..", "......", "......", "......")  # 6 px
BACK = mask("..bbbb", "..bbbb", "..bbbb", "......", "......", "......")  # 12 px
BACK_SEEN = BACK & ~FRONT  # 6 px
LONE = mask("......", "......", "......", "......", "cccc..", "cccc..")  # 8 px
# Back is guessed one column too narrow (9 of 12 px, IoU 0.75), its visible part likewise (3 of 6).
NARROW = mask("..bbb.", "..bbb.", "..bbb.", "......", "......", "......")
NARROW_SEEN = NARROW & ~FRONT
GUESSES = (
    annotation(FRONT, score=0.9),
    annotation(NARROW, NARROW_SEEN, score=0.8),
)


def truth(**options):
    rows = (
        annotation(FRONT),
        annotation(BACK, BACK_SEEN),
        annotation(LONE, **options.pop("lone", {})),
    )
    return amodal_file(*rows, occlusions=[(1, 2)], **options)


def predictions(*rows, **options):
    return amodal_file(*rows, name="predictions.json", **options)


def measured(true, predicted, protocol):
    prefix = f"{protocol}."
    return {
        name.removeprefix(prefix): value
        for name, value in evaluate(true, predicted, [protocol]).items()
        if name.startswith(prefix)
    }


def check(figures, **expected):
    """Compare some figures; keyword names have "__" for "."."""
    wanted = {name.replace("__", "."): pytest.approx(v) for name, v in expected.items()}
    found = {name: figures.get(name) for name in wanted}
    assert found == wanted, f"{found} instead of {wanted}"
