"""What planners take: removal plans, grasp regions, extents, and inputs of other programs."""
