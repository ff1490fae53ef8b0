"""Voxel arrays: geometry, preparation, tiling, postprocessing."""
