"""Replay of bags through the pipeline, in parallel, and the runs' files."""
