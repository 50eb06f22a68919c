"""How good and how fast: metrics against truth, replay of bags, the report, the benchmark."""
