"""Benchmark of latency and throughput."""
