"""Building PGExp's memory bank: mask crops, encoder, flow network, slots."""
