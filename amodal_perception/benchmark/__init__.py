"""Latency and throughput, measured."""
