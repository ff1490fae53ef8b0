"""Commands on models and segmentations."""
