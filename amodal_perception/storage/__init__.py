"""Files: images, masks, data sets, predictions, bags, memory banks."""
