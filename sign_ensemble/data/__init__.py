"""Images to arrays: manifest, splits, augmentation, cached features, made negatives, OOD sets."""
