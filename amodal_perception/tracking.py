"""Ids that stay with an object while it moves and while it is hidden.

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
CAMERA_PX = 8.0  # who moved this far otherwise than the camera moved by himself
MIN_CAMERA_PAIRS = 3  # fewer objects do not tell the camera's motion from their own
SPEED_GAIN = 0.5  # part of the newest measurement in an object's own velocity
HIDDEN_SHARE = 0.5  # of a place, to be covered for what was there to count as hidden


@dataclass(frozen=True)
class TrackingConfig:
    """How alike two sightings must be, and how long objects are remembered.

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
class _Sighting:
    """How an object looks in one frame.

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
    last: _Sighting
    centre_xy: Vector
    velocity_xy: Vector
    seen_ns: int
    explained_ns: int


class Tracker:
    """Names the objects of one camera; not thread-safe.

    Ids count on for the life of the tracker: what was forgotten once gets a new one.
    """

    def __init__(self, config: TrackingConfig = TrackingConfig(), prefix: str = "") -> None:
        """Remember nothing yet.

        Args:
            config: likeness and patience.
            prefix: begins every id, so that those of several trackers can differ.
        """
        self.config = config
        self._prefix = prefix
        self._tracks: list[_Track] = []
        self._count = 0
        self._stamp_ns = 0
        self._size_hw = (0, 0)

    def reset(self) -> None:
        """Forget all objects; what is seen from now on gets new ids."""
        self._tracks = []

    def update(self, frame: Frame, instances: Instances) -> tuple[str, ...]:
        """Recognise what the next frame shows.

        A stamp that is earlier than the last one, or another image size, starts afresh.

        Args:
            frame: the picture.
            instances: what was seen in it.

        Returns:
            [N] ids, one for each instance, all different.
        """
        now_ns = frame.stamp_ns
        if now_ns < self._stamp_ns or frame.size_hw != self._size_hw:
            self.reset()
        elapsed_s = (now_ns - self._stamp_ns) * 1e-9
        self._stamp_ns, self._size_hw = now_ns, frame.size_hw

        sightings = _look(frame.image, instances)
        guesses = [_expected(track, STILL, elapsed_s) for track in self._tracks]
        camera = _camera_motion(self._tracks, sightings, self._pairs(guesses, sightings))
        tracks = [_expected(track, camera, elapsed_s) for track in self._tracks]
        pairs = self._pairs(tracks, sightings)

        covered = np.zeros(instances.size_hw, np.bool_)
        for i, crop in enumerate(instances.visible_crops):
            covered[instances.window(i)] |= crop
        unseen = [track for i, track in enumerate(tracks) if i not in pairs]
        unseen = [
            replace(track, explained_ns=now_ns) if _is_hidden(track, covered) else track
            for track in unseen
        ]
        seen = [_continued(tracks[i], sightings[j], now_ns) for i, j in pairs.items()]
        number_of = {j: tracks[i].number for i, j in pairs.items()}
        for j in range(len(sightings)):
            if j not in number_of:
                self._count += 1
                number_of[j] = self._count
                seen.append(_begun(self._count, sightings[j], now_ns))
        self._tracks = seen + [track for track in unseen if self._remembers(track)]
        return tuple(f"{self._prefix}{number_of[j]}" for j in range(len(sightings)))

    def _pairs(self, tracks: list[_Track], sightings: list[_Sighting]) -> dict[int, int]:
        """Pair tracks with sightings, by their indices, the likeliest first.

        Greedily: the best assignment as a whole, by the Hungarian method, continued the same
        tracks on the sample bag, and would need SciPy.
        """
        likeness = _likeness(tracks, sightings, self.config)
        pairs: dict[int, int] = {}
        taken: set[int] = set()
        for flat in np.argsort(-likeness, axis=None, kind="stable"):
            i, j = divmod(int(flat), len(sightings))
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


def _look(image: UInt8Array, instances: Instances) -> list[_Sighting]:
    """Describe every instance; those without amodal pixels look like nothing."""
    weights = np.array([[COLOUR_BINS**2, COLOUR_BINS, 1]], np.float32)
    colours = cv2.transform(image // (256 // COLOUR_BINS), weights)  # [H, W] uint8
    sightings = []
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
        sightings.append(
            _Sighting(
                mask=mask,
                centre_xy=middle_xy + (columns.start, rows.start),
                corner_xy=-middle_xy,
                area_px=area_px,
                is_cut=bool(instances.truncated[i]),
                colour=np.sqrt(shares),
            )
        )
    return sightings


def _likeness(
    tracks: list[_Track], sightings: list[_Sighting], config: TrackingConfig
) -> NDArray[np.float64]:
    """Compare every track with every sighting: [T, N], 0..1; 0 where surely too small."""
    if not tracks or not sightings:
        return np.zeros((len(tracks), len(sightings)))
    t_area = np.array([track.last.area_px for track in tracks], np.float64)[:, None]
    s_area = np.array([sighting.area_px for sighting in sightings], np.float64)[None, :]
    away_xy = (
        np.array([track.centre_xy for track in tracks])[:, None]
        - np.array([sighting.centre_xy for sighting in sightings])[None, :]
    )
    reach_px = config.reach * (t_area * s_area) ** 0.25 + PLACE_SLACK_PX
    place = np.exp(-0.5 * (away_xy**2).sum(axis=2) / reach_px**2)
    # The Bhattacharyya coefficient of the two histograms, squared: colour decides more than it
    # would otherwise, since whatever lies on one table is lit alike.
    colour = np.array([t.last.colour for t in tracks]) @ np.array([s.colour for s in sightings]).T
    likeness = place * colour**2
    # No two shapes overlap more than their areas allow.
    bound = likeness * np.minimum(t_area, s_area) / np.maximum(np.maximum(t_area, s_area), 1)
    for i, j in np.ndindex(*likeness.shape):
        if bound[i, j] < config.min_likeness:
            likeness[i, j] = 0
        else:
            likeness[i, j] *= _shape_iou(tracks[i].last, sightings[j])
    return likeness


def _shape_iou(a: _Sighting, b: _Sighting) -> float:
    """Overlap of two masks, their centroids laid on each other: IoU, 0..1."""
    x, y = (int(v) for v in np.rint(a.corner_xy - b.corner_xy))  # a's corner, from that of b
    a_rows, b_rows = _overlap(a.mask.shape[0], y, b.mask.shape[0])
    a_columns, b_columns = _overlap(a.mask.shape[1], x, b.mask.shape[1])
    both = np.count_nonzero(a.mask[a_rows, a_columns] & b.mask[b_rows, b_columns])
    return both / max(a.area_px + b.area_px - both, 1)


def _overlap(length: int, offset: int, limit: int) -> tuple[slice, slice]:
    """Where the stretch ``[offset, offset + length)`` meets ``[0, limit)``, as each counts."""
    start, stop = max(offset, 0), max(min(offset + length, limit), 0)
    stop = max(start, stop)
    return slice(start - offset, stop - offset), slice(start, stop)


def _camera_motion(
    tracks: list[_Track], sightings: list[_Sighting], pairs: dict[int, int]
) -> Similarity:
    """Find what most of the pairs did together; nothing, where they did nothing together."""
    whole = [
        (i, j) for i, j in pairs.items() if not (tracks[i].last.is_cut or sightings[j].is_cut)
    ]
    if len(whole) < MIN_CAMERA_PAIRS:
        return STILL
    before = np.array([tracks[i].centre_xy for i, _ in whole])
    after = np.array([sightings[j].centre_xy for _, j in whole])
    found, _ = cv2.estimateAffinePartial2D(before, after, ransacReprojThreshold=CAMERA_PX)
    if found is None:
        return STILL
    motion = found.astype(np.float64)
    missed_px = np.linalg.norm(_move(motion, before) - after, axis=1)
    zoom = np.hypot(motion[0, 0], motion[1, 0])
    is_common = (missed_px < CAMERA_PX).mean() >= 0.5 and 0.8 < zoom < 1.25
    return motion if is_common else STILL


def _expected(track: _Track, camera: Similarity, elapsed_s: float) -> _Track:
    """Move a track to where it should be: with the camera, and by itself."""
    centre_xy = _move(camera, track.centre_xy) + track.velocity_xy * elapsed_s
    return replace(track, centre_xy=centre_xy)


def _move(motion: Similarity, points_xy: Vector) -> Vector:
    return points_xy @ motion[:, :2].T + motion[:, 2]


def _is_hidden(track: _Track, covered: BoolArray) -> bool:
    """Whether what is seen in the track's place leaves too little of it bare to be seen."""
    x, y = (int(v) for v in np.rint(track.centre_xy + track.last.corner_xy))
    mask = track.last.mask
    mask_rows, rows = _overlap(mask.shape[0], y, covered.shape[0])
    mask_columns, columns = _overlap(mask.shape[1], x, covered.shape[1])
    bare_px = np.count_nonzero(mask[mask_rows, mask_columns] & ~covered[rows, columns])
    return bare_px <= (1 - HIDDEN_SHARE) * track.last.area_px


def _begun(number: int, sighting: _Sighting, now_ns: int) -> _Track:
    return _Track(number, sighting, sighting.centre_xy, np.zeros(2), now_ns, now_ns)


def _continued(track: _Track, sighting: _Sighting, now_ns: int) -> _Track:
    unseen_s = (now_ns - track.seen_ns) * 1e-9
    velocity_xy = track.velocity_xy
    if unseen_s > 0 and not (sighting.is_cut or track.last.is_cut):
        # The place was expected with the old velocity, so what it misses by is the change.
        change_xy = (sighting.centre_xy - track.centre_xy) / unseen_s
        velocity_xy = velocity_xy + SPEED_GAIN * change_xy
    return _Track(track.number, sighting, sighting.centre_xy, velocity_xy, now_ns, now_ns)
