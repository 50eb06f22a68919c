"""Training: needs torch; imports amodal_perception, never the reverse."""
