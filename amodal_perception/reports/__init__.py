"""HTML pages of runs, evaluations, benchmarks and data sets."""
