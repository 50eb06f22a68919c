"""Regions of interest (RoI): RoIAlign and mask heads."""
