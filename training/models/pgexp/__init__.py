"""PGExp: amodal boxes and masks by prior-guided expansion."""
