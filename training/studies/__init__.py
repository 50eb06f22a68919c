"""Measurements made once, to answer a question about models."""
