"""Evaluation metrics of predictions against truth."""

from amodal_perception.missing_packages import explain_missing_packages

explain_missing_packages()  # `id_switches` is a command that imports NumPy at its top
