"""Multi-model training for liver tumour segmentation in late-phase MRI (Hänsch et al. 2022)."""

__version__ = "0.1.0"
