"""Long runs against the real node over real DDS; `python test/run_gate.py --help`."""
