"""Engines that ONNX Runtime's TensorRT provider builds, kept in the user's cache.

ONNX Runtime reads whatever engine of the right name lies there. So each model has a folder of its
own, for its user only, with a list of what belongs there: for which model, libraries and GPU, and
every file's SHA-256. What does not fit is removed before ONNX Runtime looks, and built anew.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping

from amodal_perception import files
from amodal_perception.runtime.tensorrt.private_files import cache_folder, check_private

logger = logging.getLogger(__name__)
LIST_NAME = "belongs_here.json"


class OnnxEngineCache:
    """The folder of one model's engines and timings."""

    def __init__(self, model_sha256: str, identity: Mapping[str, str]) -> None:
        """Make the folder, and empty it if it is another's or was changed.

        Args:
            model_sha256: of the ``.onnx`` file, hexadecimal.
            identity: versions of libraries and the GPU, by name: engines hold for these alone.

        Raises:
            ModelFileError: the cache is not the user's alone.
        """
        self.folder = cache_folder() / f"onnxruntime-{model_sha256[:16]}"
        self._identity = {"model_sha256": model_sha256, **identity}
        if self.folder.is_symlink() or (self.folder.exists() and not self._is_intact()):
            logger.info("%s: for another machine, or changed; made anew", self.folder)
            self.folder.unlink() if self.folder.is_symlink() else shutil.rmtree(self.folder)
        self.folder.mkdir(mode=0o700, exist_ok=True)

    def note_files(self) -> None:
        """List what is in the folder now; call it when ONNX Runtime has built its engines."""
        content = {"identity": self._identity, "sha256": self._digests()}
        try:
            files.write_json(self.folder / LIST_NAME, content, indent=1)
        except OSError as error:
            logger.info("%s: %s; made anew next time", self.folder, error.strerror)

    def _is_intact(self) -> bool:
        try:
            noted = json.loads((self.folder / LIST_NAME).read_text())
            for path in self.folder.iterdir():
                check_private(path)
            return bool(noted == {"identity": self._identity, "sha256": self._digests()})
        except Exception as error:  # whatever is wrong with it, it is not used
            logger.debug("%s: %s", self.folder, error)
            return False

    def _digests(self) -> dict[str, str]:
        return {
            path.name: files.sha256_of(path)
            for path in sorted(self.folder.iterdir())
            if path.name != LIST_NAME and not path.name.startswith(".")
        }
