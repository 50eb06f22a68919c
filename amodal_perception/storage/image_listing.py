"""Which image files a user means with files and folders, and what they are called in results."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from amodal_perception.errors import ImageError

logger = logging.getLogger(__name__)

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
KINDS_NOT_READ = (".heic", ".heif", ".avif", ".gif", ".dng", ".cr2", ".cr3", ".nef", ".arw")
SHOWN = 5


@dataclass(frozen=True)
class ListedImage:
    """An image file.

    Attributes:
        path: where it lies.
        name: with the folders, below the deepest one that holds all that was given, that tell it
            from images of the same name: ``0001.png``, or ``cam1/0001.png`` beside ``cam2``.
    """

    path: Path
    name: str


def list_images(inputs: Sequence[Path]) -> list[ListedImage]:
    """Replace every folder among the inputs by the images in it, sorted by name; each image once.

    Sub-folders are not searched, as they often hold depth maps and masks; a warning names them.

    Raises:
        ImageError: a folder cannot be read, or there is no image at all.
    """
    paths: list[Path] = []
    searched = {_absolute(path) for path in inputs}
    for path in inputs:
        if not path.is_dir():
            paths.append(path)
            continue
        try:
            inside = sorted(path.iterdir())
        except OSError as error:
            raise ImageError(f"{path}: cannot be read ({error.strerror or error})") from None
        folders = [p for p in inside if p.is_dir()]
        paths += [p for p in inside if p not in folders and p.suffix.lower() in IMAGE_ENDINGS]
        _warn_of_kinds_not_read(path, inside)
        skipped = [p.name for p in folders if _absolute(p) not in searched and _has_images(p)]
        if skipped:
            logger.warning(
                "%s: images in its sub-folders are not looked for (%s); give these folders, too",
                path,
                first_of(skipped),
            )
    if not paths:
        raise ImageError(
            f"{', '.join(map(str, inputs))}: no images here ({', '.join(IMAGE_ENDINGS)})"
        )
    base = os.path.commonpath([p if p.is_dir() else p.parent for p in map(_absolute, inputs)])
    listed = {path: Path(os.path.relpath(_absolute(path), base)).as_posix() for path in paths}
    by_name = {name: ListedImage(path, name) for path, name in reversed(listed.items())}
    return list(reversed(by_name.values()))


def _warn_of_kinds_not_read(folder: Path, inside: Sequence[Path]) -> None:
    endings = [p.suffix.lower() for p in inside if p.suffix.lower() in KINDS_NOT_READ]
    if endings:
        logger.warning(
            "%s: %d pictures of kinds that are not read (%s) are left out; convert them to JPEG "
            "or PNG",
            folder,
            len(endings),
            ", ".join(sorted(set(endings))),
        )


def first_of(names: Sequence[object]) -> str:
    """Name the first few of a list."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(map(str, names[:SHOWN])) + more


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))  # links stay: they are what the user calls it


def _has_images(folder: Path) -> bool:
    try:
        return any(p.suffix.lower() in IMAGE_ENDINGS for p in folder.iterdir())
    except OSError:
        return False
