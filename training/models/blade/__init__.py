"""BLADE and BoxInst: masks from boxes alone."""
