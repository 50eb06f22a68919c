"""Bags through the pipeline, many at a time, and what comes of them."""
