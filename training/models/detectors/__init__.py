"""Object detectors: Faster R-CNN, FCOS and the light one-stage detector."""
