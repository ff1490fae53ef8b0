"""Files and grids: the only importer of SimpleITK.

Volumes come in and go out as values; no store, no network and no command line in here.
"""
