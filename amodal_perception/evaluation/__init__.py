"""Evaluation metrics of predictions against truth."""
