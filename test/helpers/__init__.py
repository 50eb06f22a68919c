"""What tests share: scenes, data sets, bags, models and nodes in the small."""
