"""Read the amodal COCO format (see `amodal_perception.storage.amodal_coco`) for training."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from amodal_perception.errors import DatasetError, ImageError
from amodal_perception.preprocess import letterbox
from amodal_perception.storage.amodal_coco import annotations_file
from amodal_perception.storage.coco_rle import decode_masks
from amodal_perception.structures import LetterboxTransform
from training.datasets.cache import SharedCache
from training.datasets.sample import Sample
from training.packed_objects import BORDER_PX, read_objects

CACHE_MB = 2048


class _Packed(NamedTuple):
    """A sample whose masks are bits inside windows: a tenth of its size.

    Attributes:
        image: [H, W, 3] uint8.
        windows: [N, 4] int32, ``[x0, x1) x [y0, y1)``, input pixels.
        labels: [N] int64.
        whole: [N] bool.
        ids: [N] int64.
        bits: uint8, for each object its amodal and then its visible pixels, row by row.
    """

    image: NDArray[np.uint8]
    windows: NDArray[np.int32]
    labels: NDArray[np.int64]
    whole: NDArray[np.bool_]
    ids: NDArray[np.int64]
    bits: NDArray[np.uint8]


class AmodalCocoDataset:
    """A folder with ``annotations.json`` and the images it names.

    Masks stay run-length codes until a sample is asked for. What was read once is kept at the
    network's input size (0.4 MB an image at 288 x 384), as long as there is room: decoding costs
    more than a training step. Crowds are left out: what they hold is not known one by one.
    """

    def __init__(self, data: Path, input_hw: tuple[int, int], cache_mb: int = CACHE_MB) -> None:
        """Read the file, not the images.

        Args:
            data: folder of the data set, or its file.
            input_hw: the network's input, pixels.
            cache_mb: memory for samples, MiB, shared by this process and its workers.

        Raises:
            DatasetError: the file cannot be understood, or holds no images.
        """
        self.input_hw = input_hw
        path = annotations_file(data)
        self.objects = read_objects(path)
        if not len(self):
            raise DatasetError(f"{path}: holds no images")
        self._whole = (self.objects.hidden_px == 0) & self.objects.within(BORDER_PX)
        self.cache = SharedCache(len(self), cache_mb * 2**20)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the categories."""
        return self.objects.class_names

    def __len__(self) -> int:
        return len(self.objects.file_names)

    def __getitem__(self, index: int) -> Sample:
        """Return a sample at the network's input size.

        Raises:
            DatasetError: the image is missing, damaged, or not of the size the file states.
        """
        entry = self.cache.get(index)
        if entry is None:
            packed = self._read(index)
            self.cache.put(index, [np.array([len(packed.labels)]), *packed])
        else:
            packed = self._unpack(entry)
        masks = np.zeros((2, len(packed.labels), *self.input_hw), np.bool_)
        start = 0
        for i, (x0, y0, x1, y1) in enumerate(packed.windows.tolist()):
            shape = (2, y1 - y0, x1 - x0)
            count = 2 * shape[1] * shape[2]
            stop = start + -(-count // 8)
            pixels = np.unpackbits(packed.bits[start:stop], count=count)
            masks[:, i, y0:y1, x0:x1] = pixels.reshape(shape)
            start = stop
        return Sample(packed.image, masks[0], masks[1], packed.labels, packed.whole, packed.ids)

    def _read(self, index: int) -> _Packed:
        objects = self.objects
        try:
            image, transform = letterbox(objects.read_image(index), self.input_hw)
        except ImageError as error:
            raise DatasetError(f"{error}; remove or restore it") from None
        (top, lines), (left, columns) = (_camera_indices(transform, axis) for axis in (0, 1))
        rows = [i for i in objects.of_image(index) if not objects.crowd[i]]
        windows, bits = [], []
        for i in rows:
            x0, x1 = np.searchsorted(columns, objects.box_xyxy[i, ::2])
            y0, y1 = np.searchsorted(lines, objects.box_xyxy[i, 1::2])
            rows_px, columns_px = np.ix_(lines[y0:y1], columns[x0:x1])
            rles = [objects.amodal(i), objects.visible(i)]
            bits.append(np.packbits(decode_masks(rles)[:, rows_px, columns_px]))
            windows.append((left + x0, top + y0, left + x1, top + y1))
        return _Packed(
            image[0],
            np.array(windows, np.int32).reshape(-1, 4),
            objects.label[rows].astype(np.int64),
            self._whole[rows],
            objects.id[rows],
            np.concatenate([np.zeros(0, np.uint8), *bits]),
        )

    def _unpack(self, entry: NDArray[np.uint8]) -> _Packed:
        """Take apart what `__getitem__` has put into the cache: views, nothing is copied."""
        count = int(entry[:8].view(np.int64)[0])
        height, width = self.input_hw
        lengths = (height * width * 3, 16 * count, 8 * count, count, 8 * count)
        image, windows, labels, whole, ids, bits = np.split(entry[8:], np.cumsum(lengths))
        return _Packed(
            image.reshape(height, width, 3),
            windows.view(np.int32).reshape(count, 4),
            labels.view(np.int64),
            whole.view(np.bool_),
            ids.view(np.int64),
            bits,
        )


def _camera_indices(transform: LetterboxTransform, axis: int) -> tuple[int, NDArray[np.int64]]:
    """Return the first input row (axis 0) or column of the picture, and which camera's each shows.

    A pixel shows the camera pixel that its centre falls into.
    """
    first = round(transform.offset_xy[1 - axis])
    camera = transform.camera_hw[axis]
    count = round(camera * transform.scale_xy[1 - axis])
    return first, ((np.arange(count) + 0.5) * (camera / count)).astype(np.int64).clip(
        0, camera - 1
    )
