"""Build PGExp's expansion prior from training data: mask crops, encoder, flow network, bank.

``python -m training.prior`` is the command; `PgexpSettings.prepare` does it before training.
The lookup in the result, part of the network, is `training.models.pgexp.prior_lookup`.
"""
