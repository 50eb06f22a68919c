from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from amodal_perception.storage import coco_rle
from amodal_perception.storage.decode_strip import decode_strip


@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(0, 3))
def test_every_region_is_what_pycocotools_decodes(seed, count, margin):
    rng = np.random.default_rng(seed)
    height, width = rng.integers(1, 12, 2)
    rles, windows = [], []
    for _ in range(count):
        # Full columns make runs that go on at the top of the next one.
        full = np.zeros((height, width), np.bool_)
        full[:, rng.integers(0, width) :] = rng.random() < 0.5
        mask = full ^ (rng.random((height, width)) < rng.random())
        rles.append(coco_rle.encode_mask(mask))
        x, y, w, h = coco_mask.toBbox(rles[-1]).astype(int)
        windows.append([x - margin, y - margin, x + w + margin, y + h + margin])
    strip, first = decode_strip(rles, np.array(windows))
    for rle, (x0, y0, x1, y1), left, right in zip(rles, windows, first[:-1], first[1:]):
        whole = np.pad(coco_mask.decode(rle), margin)
        expected = whole[y0 + margin : y1 + margin, x0 + margin : x1 + margin]
        assert (strip[: y1 - y0, left:right] == expected).all()
        assert not strip[y1 - y0 :, left:right].any()
        assert right - left == x1 - x0
