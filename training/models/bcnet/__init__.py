"""BCNet: bilayer mask head of occluder and occludee."""
