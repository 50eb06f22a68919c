import numpy as np
import torch
from pycocotools import mask as coco_mask

from training.models.detector_protocol import Rois
from training.models.pgexp.prior_building.mask_crops import crop_objects
from training.models.roi.roi_align import crop_masks
from training.packed_objects import read_objects


def test_crops_are_those_that_queries_are_trained_on(data):
    objects = read_objects(data / "annotations.json")
    crops = crop_objects(objects)
    seen = objects.area_px > objects.hidden_px
    assert crops.id.tolist() == objects.id[seen].tolist()
    for n, i in enumerate(crops.row[:12]):
        for name in ("amodal", "visible"):
            whole = coco_mask.decode(getattr(objects, name)(int(i)))
            rois = Rois(
                torch.from_numpy(objects.box_xyxy[i])[None], *torch.zeros(2, 1, dtype=torch.int64)
            )
            bitmap = torch.from_numpy(whole)[None, None]
            expected = crop_masks(bitmap, rois, cells=28)
            assert torch.equal(crops[np.array([n])].masks(name), expected)
            y, x = np.nonzero(whole)
            box = [x.min(), y.min(), x.max() + 1, y.max() + 1]
            assert getattr(crops, f"{name}_xyxy")[n].tolist() == box
