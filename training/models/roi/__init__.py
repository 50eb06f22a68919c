"""Regions of interest: RoIAlign and mask heads."""
