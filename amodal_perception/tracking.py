"""Multi-object tracking by amodal masks: ids that stay while an object moves or is hidden.

Each new frame, every remembered object is moved to where it should be now and compared with what
is seen there by place, complete shape and colour; the likeliest pairs continue, one to one. Two
things let so simple a scheme hold in clutter:

- objects are compared by their *amodal* masks, which change little when something moves in front;
- what the objects did together since the last frame is taken for the camera's motion, and carries
  those along that are out of sight.

An object that is not seen is *hidden* (something else is seen in its place, or the place is
outside the image) or *missing* (its place is in plain view). What is hidden is remembered for
long, what is missing is soon forgotten.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from amodal_perception.structures import BoolArray, Frame, Instances, UInt8Array

Vector = NDArray[np.float64]
Similarity = NDArray[np.float64]  # [2, 3]: rotation and scale, then shift; pixels

STILL: Similarity = np.eye(2, 3)
COLOUR_BINS = 4  # per channel
PLACE_SLACK_PX = 4.0  # no place is known better than this
CAMERA_PX = 8.0  # farther from the camera's motion, an object moved by itself
MIN_CAMERA_PAIRS = 3  # with fewer, the camera's motion cannot be separated from theirs
SPEED_GAIN = 0.5  # part of the newest measurement in an object's own velocity
HIDDEN_SHARE = 0.5  # of a place, to be covered for what was there to count as hidden


@dataclass(frozen=True)
class TrackingConfig:
    """Thresholds of association, and how long unmatched tracks are kept.

    Attributes:
        min_likeness: smallest product of the likenesses of place, shape and colour, each 0..1.
        reach: how far off its expected place an object may be: the standard deviation of a
            Gaussian, as a part of the square root of its area.
        forget_missing_s: an object that is absent from its place in plain view is forgotten
            after so many seconds.
        forget_hidden_s: the same where its place is covered or outside the image.
    """

    min_likeness: float = 0.2
    reach: float = 0.4
    forget_missing_s: float = 1.0
    forget_hidden_s: float = 10.0


@dataclass(frozen=True, eq=False)
class _Detection:
    """An object in one frame: its mask, place and colour histogram.

    Attributes:
        mask: [h, w] bool, the amodal mask inside its window.
        centre_xy: centroid of the mask, pixels.
        corner_xy: top-left corner of the window as seen from the centroid, pixels.
        area_px: set pixels of the mask.
        is_cut: whether the image's border cuts it, so that its centroid moves as it comes or goes.
        colour: [COLOUR_BINS ** 3] square roots of the visible pixels' shares of each colour.
    """

    mask: BoolArray
    centre_xy: Vector
    corner_xy: Vector
    area_px: int
    is_cut: bool
    colour: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class _Track:
    """A remembered object.

    Attributes:
        number: never given twice.
        last: how it looked when it was last seen.
        centre_xy: where its centroid should be in the newest frame, pixels.
        velocity_xy: its own motion, besides the camera's, pixels per second.
        seen_ns: stamp of the frame in which it was last seen.
        explained_ns: stamp of the frame in which it was last seen or hidden.
    """

    number: int
    last: _Detection
    centre_xy: Vector
    velocity_xy: Vector
    seen_ns: int
    explained_ns: int


class Tracker:
    """Tracks the objects of one camera; not thread-safe.

    Ids count on for the life of the tracker: what was forgotten once gets a new one.
    """

    def __init__(self, config: TrackingConfig = TrackingConfig(), prefix: str = "") -> None:
        """Start without tracks.

        Args:
            config: thresholds.
            prefix: begins every id, so that those of several trackers can differ.
        """
        self.config = config
        self._prefix = prefix
        self._tracks: list[_Track] = []
        self._count = 0
        self._stamp_ns = 0
        self._size_hw = (0, 0)

    def reset(self) -> None:
        """Drop all tracks; every object gets a new id from now on."""
        self._tracks = []

    def update(self, frame: Frame, instances: Instances) -> tuple[str, ...]:
        """Associate the next frame's instances with tracks.

        A stamp that is earlier than the last one, or another image size, starts afresh.

        Args:
            frame: the picture.
            instances: of the picture.

        Returns:
            [N] ids, one for each instance, all different.
        """
        now_ns = frame.stamp_ns
        if now_ns < self._stamp_ns or frame.size_hw != self._size_hw:
            self.reset()
        elapsed_s = (now_ns - self._stamp_ns) * 1e-9
        self._stamp_ns, self._size_hw = now_ns, frame.size_hw

        detections = _describe(frame.image, instances)
        guesses = [_predicted(track, STILL, elapsed_s) for track in self._tracks]
        camera = _camera_motion(self._tracks, detections, self._pairs(guesses, detections))
        tracks = [_predicted(track, camera, elapsed_s) for track in self._tracks]
        pairs = self._pairs(tracks, detections)

        covered = np.zeros(instances.size_hw, np.bool_)
        for i, crop in enumerate(instances.visible_crops):
            covered[instances.window(i)] |= crop
        unseen = [track for i, track in enumerate(tracks) if i not in pairs]
        unseen = [
            replace(track, explained_ns=now_ns) if _is_hidden(track, covered) else track
            for track in unseen
        ]
        seen = [_updated_track(tracks[i], detections[j], now_ns) for i, j in pairs.items()]
        number_of = {j: tracks[i].number for i, j in pairs.items()}
        for j in range(len(detections)):
            if j not in number_of:
                self._count += 1
                number_of[j] = self._count
                seen.append(_new_track(self._count, detections[j], now_ns))
        self._tracks = seen + [track for track in unseen if self._remembers(track)]
        return tuple(f"{self._prefix}{number_of[j]}" for j in range(len(detections)))

    def _pairs(self, tracks: list[_Track], detections: list[_Detection]) -> dict[int, int]:
        """Associate tracks with detections, by their indices, greedily: the likeliest first.

        Greedily: the best assignment as a whole, by the Hungarian method, continued the same
        tracks on the sample bag, and would need SciPy.
        """
        likeness = _likeness(tracks, detections, self.config)
        pairs: dict[int, int] = {}
        taken: set[int] = set()
        for flat in np.argsort(-likeness, axis=None, kind="stable"):
            i, j = divmod(int(flat), len(detections))
            if likeness[i, j] < self.config.min_likeness:
                break
            if i not in pairs and j not in taken:
                pairs[i] = j
                taken.add(j)
        return pairs

    def _remembers(self, track: _Track) -> bool:
        missing_s = (self._stamp_ns - track.explained_ns) * 1e-9
        unseen_s = (self._stamp_ns - track.seen_ns) * 1e-9
        return (
            missing_s <= self.config.forget_missing_s and unseen_s <= self.config.forget_hidden_s
        )


def _describe(image: UInt8Array, instances: Instances) -> list[_Detection]:
    """Describe every instance by its mask, place and colour histogram."""
    weights = np.array([[COLOUR_BINS**2, COLOUR_BINS, 1]], np.float32)
    colours = cv2.transform(image // (256 // COLOUR_BINS), weights)  # [H, W] uint8
    detections = []
    for i in range(len(instances)):
        rows, columns = instances.window(i)
        mask = instances.amodal_crops[i]
        area_px = int(instances.amodal_area_px[i])
        across, down = mask.sum(axis=0), mask.sum(axis=1)
        middle_xy = np.array(
            [across @ np.arange(len(across)) + 0.5, down @ np.arange(len(down)) + 0.5]
        ) / max(area_px, 1)
        seen = colours[rows, columns][instances.visible_crops[i]]
        shares = np.bincount(seen, minlength=COLOUR_BINS**3) / max(len(seen), 1)
        detections.append(
            _Detection(
                mask=mask,
                centre_xy=middle_xy + (columns.start, rows.start),
                corner_xy=-middle_xy,
                area_px=area_px,
                is_cut=bool(instances.truncated[i]),
                colour=np.sqrt(shares),
            )
        )
    return detections


def _likeness(
    tracks: list[_Track], detections: list[_Detection], config: TrackingConfig
) -> NDArray[np.float64]:
    """Compare every track with every detection: [T, N], 0..1; 0 where surely too small."""
    if not tracks or not detections:
        return np.zeros((len(tracks), len(detections)))
    t_area = np.array([track.last.area_px for track in tracks], np.float64)[:, None]
    s_area = np.array([detection.area_px for detection in detections], np.float64)[None, :]
    away_xy = (
        np.array([track.centre_xy for track in tracks])[:, None]
        - np.array([detection.centre_xy for detection in detections])[None, :]
    )
    reach_px = config.reach * (t_area * s_area) ** 0.25 + PLACE_SLACK_PX
    place = np.exp(-0.5 * (away_xy**2).sum(axis=2) / reach_px**2)
    # The Bhattacharyya coefficient of the two histograms, squared: colour decides more than it
    # would otherwise, since whatever lies on one table is lit alike.
    colour = np.array([t.last.colour for t in tracks]) @ np.array([s.colour for s in detections]).T
    likeness = place * colour**2
    # No two shapes overlap more than their areas allow.
    bound = likeness * np.minimum(t_area, s_area) / np.maximum(np.maximum(t_area, s_area), 1)
    for i, j in np.ndindex(*likeness.shape):
        if bound[i, j] < config.min_likeness:
            likeness[i, j] = 0
        else:
            likeness[i, j] *= _shape_iou(tracks[i].last, detections[j])
    return likeness


def _shape_iou(a: _Detection, b: _Detection) -> float:
    """Overlap of two masks, their centroids laid on each other: IoU, 0..1."""
    x, y = (int(v) for v in np.rint(a.corner_xy - b.corner_xy))  # a's corner, from that of b
    a_rows, b_rows = _overlap(a.mask.shape[0], y, b.mask.shape[0])
    a_columns, b_columns = _overlap(a.mask.shape[1], x, b.mask.shape[1])
    both = np.count_nonzero(a.mask[a_rows, a_columns] & b.mask[b_rows, b_columns])
    return both / max(a.area_px + b.area_px - both, 1)


def _overlap(length: int, offset: int, limit: int) -> tuple[slice, slice]:
    """Intersect ``[offset, offset + length)`` with ``[0, limit)``: slices of both."""
    start, stop = max(offset, 0), max(min(offset + length, limit), 0)
    stop = max(start, stop)
    return slice(start - offset, stop - offset), slice(start, stop)


def _camera_motion(
    tracks: list[_Track], detections: list[_Detection], pairs: dict[int, int]
) -> Similarity:
    """Estimate the camera's motion from what most pairs did together; none where they did not."""
    whole = [
        (i, j) for i, j in pairs.items() if not (tracks[i].last.is_cut or detections[j].is_cut)
    ]
    if len(whole) < MIN_CAMERA_PAIRS:
        return STILL
    before = np.array([tracks[i].centre_xy for i, _ in whole])
    after = np.array([detections[j].centre_xy for _, j in whole])
    found, _ = cv2.estimateAffinePartial2D(before, after, ransacReprojThreshold=CAMERA_PX)
    if found is None:
        return STILL
    motion = found.astype(np.float64)
    missed_px = np.linalg.norm(_move(motion, before) - after, axis=1)
    zoom = np.hypot(motion[0, 0], motion[1, 0])
    is_common = (missed_px < CAMERA_PX).mean() >= 0.5 and 0.8 < zoom < 1.25
    return motion if is_common else STILL


def _predicted(track: _Track, camera: Similarity, elapsed_s: float) -> _Track:
    """Predict a track's place: moved with the camera, and by its own velocity."""
    centre_xy = _move(camera, track.centre_xy) + track.velocity_xy * elapsed_s
    return replace(track, centre_xy=centre_xy)


def _move(motion: Similarity, points_xy: Vector) -> Vector:
    return points_xy @ motion[:, :2].T + motion[:, 2]


def _is_hidden(track: _Track, covered: BoolArray) -> bool:
    """Whether other objects, or the image's border, cover the track's place."""
    x, y = (int(v) for v in np.rint(track.centre_xy + track.last.corner_xy))
    mask = track.last.mask
    mask_rows, rows = _overlap(mask.shape[0], y, covered.shape[0])
    mask_columns, columns = _overlap(mask.shape[1], x, covered.shape[1])
    bare_px = np.count_nonzero(mask[mask_rows, mask_columns] & ~covered[rows, columns])
    return bare_px <= (1 - HIDDEN_SHARE) * track.last.area_px


def _new_track(number: int, detection: _Detection, now_ns: int) -> _Track:
    return _Track(number, detection, detection.centre_xy, np.zeros(2), now_ns, now_ns)


def _updated_track(track: _Track, detection: _Detection, now_ns: int) -> _Track:
    unseen_s = (now_ns - track.seen_ns) * 1e-9
    velocity_xy = track.velocity_xy
    if unseen_s > 0 and not (detection.is_cut or track.last.is_cut):
        # The place was expected with the old velocity, so what it misses by is the change.
        change_xy = (detection.centre_xy - track.centre_xy) / unseen_s
        velocity_xy = velocity_xy + SPEED_GAIN * change_xy
    return _Track(track.number, detection, detection.centre_xy, velocity_xy, now_ns, now_ns)
