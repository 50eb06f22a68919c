"""Export a run to ONNX: ``python -m training.export RUN --out MODEL.onnx``, see `onnx_export`."""

from __future__ import annotations

import sys

from training.export.onnx_export import main

if __name__ == "__main__":
    sys.exit(main())
