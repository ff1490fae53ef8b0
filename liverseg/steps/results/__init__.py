"""From the trained models to segmentations, measures and the report."""
