"""Training: needs torch; imports amodal_perception, never the reverse."""

from amodal_perception.missing_packages import explain_missing_packages

explain_missing_packages()  # the commands below import torch at their top
