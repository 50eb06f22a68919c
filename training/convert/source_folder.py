"""A folder as the source: which annotation file in it is meant, and where its photographs lie."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath

from amodal_perception.errors import DatasetError
from amodal_perception.storage.image_listing import first_of

MAX_DEPTH = 2
"""How far below the given folder is searched: ``training/image_2`` is two folders down."""


def annotation_file(path: Path, patterns: Sequence[str]) -> Path:
    """Return the file that is meant: `path` itself, or the one in the folder that fits.

    Where no name fits, a JSON file that is alone in the folder, or in its ``annotations``, is
    meant.

    Args:
        path: a file, or a folder.
        patterns: the format's usual file names, such as ``instances_*.json``.

    Raises:
        DatasetError: no file fits, or several do.
    """
    if not path.is_dir():
        return path
    folders = _folders(path)
    found = sorted({f for folder in folders for p in patterns for f in folder.glob(p)})
    if not found:
        inside = [path, path / "annotations"]
        found = sorted(file for folder in inside for file in folder.glob("*.json"))
    if len(found) == 1:
        return found[0]
    if found:
        names = first_of([file.relative_to(path).as_posix() for file in found])
        raise DatasetError(f"{path}: {len(found)} files may be meant ({names}); give one of them")
    raise DatasetError(
        f"{path}: holds no {' or '.join(patterns)}, there or {MAX_DEPTH} folders down, and no "
        "other JSON file; give the file itself"
    )


def photographs_folder(folder: Path, file_name: str) -> Path | None:
    """Find the folder, `folder` or below it, that image names start from; None: not there.

    Args:
        folder: what was given as the source.
        file_name: of an image, as the annotation file has it.

    Raises:
        DatasetError: several folders have a photograph of this name.
    """
    folders = _folders(folder)
    name = PurePosixPath(file_name.replace("\\", "/"))
    for candidate in (name, PurePosixPath(name.name)):
        found = [one for one in folders if (one / candidate).is_file()]
        if len(found) > 1:
            names = first_of([one.relative_to(folder).as_posix() for one in found])
            raise DatasetError(
                f"{folder}: {file_name} is in {len(found)} folders ({names}); tell with --images "
                "which holds the photographs"
            )
        if found:
            return found[0]
    return None


def _folders(folder: Path) -> list[Path]:
    """List a folder and those below it, each once; what may not be read below it is passed over.

    Raises:
        DatasetError: the folder itself cannot be read.
    """
    try:
        level = _subfolders(folder)
    except OSError as error:
        raise DatasetError(f"{folder}: cannot be read ({error.strerror or error})") from None
    found = {folder.resolve(): folder}
    for _ in range(MAX_DEPTH):
        new = [one for one in level if found.setdefault(one.resolve(), one) is one]
        level = []
        for one in new:
            with suppress(OSError):
                level += _subfolders(one)
    return list(found.values())


def _subfolders(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:  # knows the kind of most without asking for each
        return sorted(Path(entry.path) for entry in entries if _is_folder(entry))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False
