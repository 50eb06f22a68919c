"""BCNet: occluder and occludee as two layers."""
