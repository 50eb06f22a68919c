"""Detectors: proposals from images."""
