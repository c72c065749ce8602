"""Images in: sources, preprocessing, augmentation, order, batches."""
