"""PGExp's prior: the memory bank, from crops to slots."""
