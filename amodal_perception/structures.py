"""Frames, instances, occlusion graphs, scenes: frozen dataclasses of NumPy arrays.

Conventions, everywhere in this package:

- images are RGB, uint8, ``[H, W, 3]``;
- boxes are ``xyxy``, float32, in pixels, with the top-left corner of the image at (0, 0) and the
  centre of its first pixel at (0.5, 0.5);
- masks are bool, ``[H, W]`` at camera resolution; what lies outside the image is not represented;
- *visible* pixels are measured, *hidden* pixels (amodal and not visible) are guessed;
- stamps are integer nanoseconds; sizes are ``(height, width)``;
- instances are referred to by their index in ``Instances``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int32]
UInt8Array = NDArray[np.uint8]


def _expect(name: str, array: NDArray, shape: tuple[int | None, ...], dtype: type) -> None:
    """Raise ValueError unless `array` has `shape` (None matches any length) and `dtype`."""
    fits = array.ndim == len(shape) and all(
        want is None or want == got for want, got in zip(shape, array.shape)
    )
    if not fits or array.dtype != dtype:
        want = "[" + ", ".join("*" if n is None else str(n) for n in shape) + "]"
        raise ValueError(
            f"{name} must be {want} {np.dtype(dtype).name}, "
            f"but is {list(array.shape)} {array.dtype.name}"
        )


@dataclass(frozen=True, eq=False)
class Frame:
    """One camera image and where it came from.

    Attributes:
        image: [H, W, 3] uint8 RGB; may be read-only (a view of a message's bytes).
        stamp_ns: time of exposure, nanoseconds.
        frame_id: name of the camera's optical frame (REP 103).
    """

    image: UInt8Array
    stamp_ns: int = 0
    frame_id: str = ""

    def __post_init__(self) -> None:
        _expect("image", self.image, (None, None, 3), np.uint8)
        if 0 in self.image.shape:
            raise ValueError(f"image is empty: {list(self.image.shape)}")

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width, pixels."""
        return self.image.shape[0], self.image.shape[1]


@dataclass(frozen=True)
class LetterboxTransform:
    """The letterbox transform from camera pixels to network input: scaled, then offset.

    A camera point (x, y) is at ``(x * scale_xy[0] + offset_xy[0], ...)`` in the input.
    """

    camera_hw: tuple[int, int]
    input_hw: tuple[int, int]
    scale_xy: tuple[float, float]
    offset_xy: tuple[float, float]

    def boxes_to_input(self, boxes_xyxy: FloatArray) -> FloatArray:
        """Map [N, 4] boxes from camera pixels to network-input pixels."""
        scale = np.array(self.scale_xy * 2, np.float32)
        offset = np.array(self.offset_xy * 2, np.float32)
        return boxes_xyxy * scale + offset

    def boxes_to_camera(self, boxes_xyxy: FloatArray) -> FloatArray:
        """Map [N, 4] boxes from network-input pixels to camera pixels (not clipped)."""
        scale = np.array(self.scale_xy * 2, np.float32)
        offset = np.array(self.offset_xy * 2, np.float32)
        return (boxes_xyxy - offset) / scale


@dataclass(frozen=True, eq=False)
class Instances:
    """The objects of one image, best score first.

    Masks are kept inside windows, because whole images of them are what costs time; the
    properties `amodal`, `visible` and `occluder` make whole ones when they are asked for.

    Attributes:
        boxes_xyxy: [N, 4] float32, amodal boxes, camera pixels, clipped to the image.
        scores: [N] float32 in [0, 1], descending.
        labels: [N] int32, index into the model's class names.
        size_hw: height and width of the image, pixels.
        windows_xyxy: [N, 4] int32, integer crop boxes ``[x0, x1) x [y0, y1)`` inside the image,
            pixels; no amodal pixel lies outside its window.
        amodal_crops: N arrays [h, w] bool, what of the complete object lies in the image, inside
            the window.
        visible_crops: the same of the visible part of the object, a subset of `amodal_crops`.
        occluder_crops: the same of what hides the object, where the system predicts it (BCNet),
            else None.
    """

    boxes_xyxy: FloatArray
    scores: FloatArray
    labels: IntArray
    size_hw: tuple[int, int]
    windows_xyxy: IntArray
    amodal_crops: tuple[BoolArray, ...]
    visible_crops: tuple[BoolArray, ...]
    occluder_crops: tuple[BoolArray, ...] | None = None

    def __post_init__(self) -> None:
        n = len(self.scores)
        _expect("scores", self.scores, (None,), np.float32)
        _expect("boxes_xyxy", self.boxes_xyxy, (n, 4), np.float32)
        _expect("labels", self.labels, (n,), np.int32)
        _expect("windows_xyxy", self.windows_xyxy, (n, 4), np.int32)
        shapes = [(y1 - y0, x1 - x0) for x0, y0, x1, y1 in self.windows_xyxy.tolist()]
        for name in ("amodal_crops", "visible_crops", "occluder_crops"):
            crops = getattr(self, name)
            if crops is None:
                continue
            if [crop.shape for crop in crops] != shapes:
                raise ValueError(
                    f"{name} have the shapes {[crop.shape for crop in crops]}, "
                    f"but the windows {shapes}"
                )
            if any(crop.dtype != np.bool_ for crop in crops):
                raise ValueError(f"{name} must be bool")

    @classmethod
    def from_masks(
        cls,
        *,
        boxes_xyxy: FloatArray,
        scores: FloatArray,
        labels: IntArray,
        amodal: BoolArray,
        visible: BoolArray,
        windows_xyxy: IntArray,
    ) -> Instances:
        """Make instances of whole masks, [N, H, W] bool each."""
        _expect("amodal", amodal, (len(scores), None, None), np.bool_)
        _expect("visible", visible, amodal.shape, np.bool_)
        _expect("windows_xyxy", windows_xyxy, (len(scores), 4), np.int32)
        return cls(
            boxes_xyxy=boxes_xyxy,
            scores=scores,
            labels=labels,
            size_hw=(amodal.shape[1], amodal.shape[2]),
            windows_xyxy=windows_xyxy,
            amodal_crops=_cut(amodal, windows_xyxy),
            visible_crops=_cut(visible, windows_xyxy),
        )

    @classmethod
    def empty(cls, size_hw: tuple[int, int]) -> Instances:
        """No instances in an image of this size: a normal result."""
        return cls(
            boxes_xyxy=np.zeros((0, 4), np.float32),
            scores=np.zeros(0, np.float32),
            labels=np.zeros(0, np.int32),
            size_hw=size_hw,
            windows_xyxy=np.zeros((0, 4), np.int32),
            amodal_crops=(),
            visible_crops=(),
        )

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, rows: NDArray[np.integer] | BoolArray) -> Instances:
        """Pick instances by an array of indices or a [N] bool mask."""
        picked = np.arange(len(self))[rows].tolist()
        occluder = self.occluder_crops
        return Instances(
            boxes_xyxy=self.boxes_xyxy[rows],
            scores=self.scores[rows],
            labels=self.labels[rows],
            size_hw=self.size_hw,
            windows_xyxy=self.windows_xyxy[rows],
            amodal_crops=tuple(self.amodal_crops[i] for i in picked),
            visible_crops=tuple(self.visible_crops[i] for i in picked),
            occluder_crops=None if occluder is None else tuple(occluder[i] for i in picked),
        )

    def window(self, index: int) -> tuple[slice, slice]:
        """Rows and columns that hold all amodal pixels of one instance."""
        x0, y0, x1, y1 = self.windows_xyxy[index].tolist()
        return slice(y0, y1), slice(x0, x1)

    @cached_property
    def hidden_crops(self) -> tuple[BoolArray, ...]:
        """N arrays [h, w] bool: amodal and not visible, inside the windows."""
        return tuple(a > v for a, v in zip(self.amodal_crops, self.visible_crops))

    @cached_property
    def amodal(self) -> BoolArray:
        """[N, H, W] bool, the complete objects as far as they lie in the image."""
        return self._whole(self.amodal_crops)

    @cached_property
    def visible(self) -> BoolArray:
        """[N, H, W] bool, a subset of `amodal`."""
        return self._whole(self.visible_crops)

    @cached_property
    def occluder(self) -> BoolArray | None:
        """[N, H, W] bool, predicted occluders of the objects, or None."""
        return None if self.occluder_crops is None else self._whole(self.occluder_crops)

    @cached_property
    def amodal_area_px(self) -> IntArray:
        """[N] int32, pixels of each amodal mask."""
        return np.array([np.count_nonzero(crop) for crop in self.amodal_crops], np.int32)

    @cached_property
    def visible_area_px(self) -> IntArray:
        """[N] int32, pixels of each visible mask."""
        return np.array([np.count_nonzero(crop) for crop in self.visible_crops], np.int32)

    @cached_property
    def occlusion_rate(self) -> FloatArray:
        """[N] float32 in [0, 1]: hidden part of the amodal mask; 0 for an empty mask."""
        area = np.maximum(self.amodal_area_px, 1)
        rate = (self.amodal_area_px - self.visible_area_px) / area
        return rate.astype(np.float32)

    @cached_property
    def truncated(self) -> BoolArray:
        """[N] bool: the amodal mask touches the image border, so its true extent is unknown."""
        height, width = self.size_hw
        touches = np.zeros(len(self), np.bool_)
        for i, (x0, y0, x1, y1) in enumerate(self.windows_xyxy.tolist()):
            crop = self.amodal_crops[i]
            touches[i] = (
                (y0 == 0 and crop[:1].any())
                or (y1 == height and crop[-1:].any())
                or (x0 == 0 and crop[:, :1].any())
                or (x1 == width and crop[:, -1:].any())
            )
        return touches

    def _whole(self, crops: tuple[BoolArray, ...]) -> BoolArray:
        masks = np.zeros((len(self), *self.size_hw), np.bool_)
        for i, crop in enumerate(crops):
            masks[i][self.window(i)] = crop
        return masks


def _cut(masks: BoolArray, windows_xyxy: IntArray) -> tuple[BoolArray, ...]:
    windows = enumerate(windows_xyxy.tolist())
    # Copied: a view would keep all masks of the frame.
    return tuple(masks[i, y0:y1, x0:x1].copy() for i, (x0, y0, x1, y1) in windows)


@dataclass(frozen=True, eq=False)
class OcclusionGraph:
    """The occlusion graph (who hides whom) and the removal order.

    An edge exists only where visible pixels of the occluder lie inside the hidden part of the
    occludee. Occlusion is seen from the camera: it is not physical support.

    Attributes:
        edges: [E, 2] int32, instance indices (occluder, occludee), no duplicates.
        confidence: [E] float32 in [0, 1], belief that the occluder is in front.
        overlap_px: [E] int32, occluder-visible pixels inside the occludee's hidden part.
        hidden_fraction: [E] float32, overlap_px over the occludee's amodal area.
        removal_order: [N] int32, every instance once, front first, cycle members adjacent.
        cycles: groups of instances that hide each other; empty when the graph is acyclic.
    """

    edges: IntArray
    confidence: FloatArray
    overlap_px: IntArray
    hidden_fraction: FloatArray
    removal_order: IntArray
    cycles: tuple[tuple[int, ...], ...] = ()

    def __post_init__(self) -> None:
        n = len(self.confidence)
        _expect("edges", self.edges, (n, 2), np.int32)
        _expect("confidence", self.confidence, (n,), np.float32)
        _expect("overlap_px", self.overlap_px, (n,), np.int32)
        _expect("hidden_fraction", self.hidden_fraction, (n,), np.float32)
        _expect("removal_order", self.removal_order, (None,), np.int32)

    @property
    def acyclic(self) -> bool:
        """Whether the removal order contradicts no edge."""
        return not self.cycles


@dataclass(frozen=True, eq=False)
class Scene:
    """The result for one frame: its instances and their occlusion graph.

    Attributes:
        stamp_ns: the source image's stamp, nanoseconds.
        frame_id: the source image's frame.
        instances: the objects; hidden pixels are guesses.
        graph: the occlusion order over `instances`.
        model_id: ``name@sha256[:12]`` of the model that made it, or ``truth``.
        class_names: names that `instances.labels` index.
        stages_ms: wall time of each stage that made the scene, milliseconds.
        track_ids: names that stay with the objects over time, one per instance, "" where there is
            none; empty when nothing is tracked.
    """

    stamp_ns: int
    frame_id: str
    instances: Instances
    graph: OcclusionGraph
    model_id: str
    class_names: tuple[str, ...]
    stages_ms: dict[str, float] = field(default_factory=dict)
    track_ids: tuple[str, ...] = ()

    def track_id(self, index: int) -> str:
        """Name of one instance over time, "" where there is none."""
        return self.track_ids[index] if self.track_ids else ""
