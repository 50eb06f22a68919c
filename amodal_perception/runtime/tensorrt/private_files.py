"""File permissions: an engine is a program, so nobody else may have written it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from amodal_perception.errors import ModelFileError

CACHE_FOLDER = "amodal_perception/engines"


def check_private(path: Path) -> None:
    """Check that only the user, or the administrator, can have written a file.

    A symbolic link is followed, and what it leads to is judged.

    Raises:
        ModelFileError: the file or its folder belongs to, or is writable by, somebody else.
    """
    real = path.resolve()
    for item in (real, real.parent):
        status = item.stat()
        if status.st_uid not in (os.getuid(), 0):
            raise ModelFileError(
                f"{path}: not loaded, because {item} belongs to user {status.st_uid}; "
                "build the engine yourself with amodal build-engine"
            )
        # In a sticky folder, as /tmp is one, others cannot replace files that are not theirs.
        is_sticky_folder = stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX
        if status.st_mode & stat.S_IWOTH and not is_sticky_folder:
            raise ModelFileError(
                f"{path}: not loaded, because anybody can write to {item}; "
                f"chmod o-w '{item}', and build the engine anew if you cannot vouch for it"
            )


def cache_folder() -> Path:
    """Return the folder of built engines, below the user's cache home; make it, for the user only.

    Raises:
        ModelFileError: it is a link, belongs to somebody else, or others can write to it.
    """
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = home / CACHE_FOLDER
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    for item in (folder, folder.parent):
        status = item.lstat()
        if stat.S_ISLNK(status.st_mode):
            raise ModelFileError(f"{item}: is a link, where engines want a folder; remove it")
        if status.st_uid != os.getuid():
            raise ModelFileError(f"{item}: belongs to user {status.st_uid}; remove it")
        if status.st_mode & (stat.S_IWOTH | stat.S_IWGRP):
            raise ModelFileError(
                f"{item}: others can write to it, so its engines cannot be trusted; remove it"
            )
    if stat.S_IMODE(folder.stat().st_mode) != 0o700:
        folder.chmod(0o700)
    return folder
