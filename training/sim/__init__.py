"""Simulated cluttered scenes with exact amodal truth, rendered by MuJoCo.

`python -m training.sim --help` writes a data set; `trajectory` films one scene; `bag` writes the
sample bag.
"""
