"""JSON from outside, and the numbers and text in it: what is no such thing is told apart here."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from amodal_perception.errors import DatasetError

MAX_IMAGE_PX = 100_000_000
"""Height times width above which an image is taken for a mistake."""
MAX_SIDE_PX = 65_535
"""JPEG's largest height and width."""
LARGEST = 1e15
"""Above it, a number measures nothing in an image."""
SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def read_json(path: Path) -> Any:
    """Read a JSON file; a byte order mark (BOM) before it does no harm.

    Raises:
        DatasetError: not readable, or not JSON.
    """
    try:
        content = path.read_bytes()
        # Strictly: json.loads itself lets halves of characters pass.
        text = content.decode(json.detect_encoding(content))
        value = json.loads(text)
        if SURROGATE.search(text):  # seldom: characters above 16 bits, or half of one
            json.dumps(value, ensure_ascii=False).encode()
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeEncodeError:
        raise DatasetError(f"{path}: holds half of a character (a lone surrogate)") from None
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{path}: is not JSON ({error})") from None
    return value


def whole_number(value: Any, *, text: bool = False) -> int | None:
    """Return a whole number of 64 bits, whether it is stored as 3 or 3.0; None for all else.

    Args:
        value: of a JSON file; true and false are no numbers.
        text: take digits in a string, too.
    """
    if text and isinstance(value, str):
        try:
            value = int(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    if not -(2**63) <= value < 2**63 or value != int(value):
        return None
    return int(value)


def is_number(value: Any) -> bool:
    """Tell whether a value is a finite number of a size that can be meant."""
    return (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and -LARGEST <= value <= LARGEST
    )


def image_size_hw(height: Any, width: Any) -> tuple[int, int]:
    """Return an image's height and width as whole numbers.

    Raises:
        ValueError: they are none, or not those of an image.
    """
    rows, columns = (whole_number(value, text=True) or 0 for value in (height, width))
    if rows < 1 or columns < 1:
        raise ValueError(f"'height' and 'width' are {height!r:.40} and {width!r:.40}")
    if max(rows, columns) > MAX_SIDE_PX:
        raise ValueError(f"{rows} x {columns} (height x width): a side is above {MAX_SIDE_PX}")
    if rows * columns > MAX_IMAGE_PX:
        raise ValueError(
            f"{rows} x {columns} (height x width) is more than {MAX_IMAGE_PX:,} pixels"
        )
    return rows, columns
