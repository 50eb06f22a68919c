"""Where the checkout, the package's own files, and real data beside the checkout are."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ASSETS = ROOT / "amodal_perception" / "assets"
SAMPLE_BAG = ASSETS / "sample_bag"
SHARED_DATA = ROOT.parent / "shared" / "data"
