"""PGExp: prior-guided expansion."""
