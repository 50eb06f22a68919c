"""How the node's process ends, for who starts it again."""

FAILED = 1
"""An engine that fails or hangs, or ROS: a fresh process may work."""

PERMANENT = 78
"""A wrong parameter, a model that cannot be used, a missing package: it must be mended first.

EX_CONFIG of sysexits.h. Nothing is gained by starting the node again.
"""
