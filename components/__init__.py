"""KFP components, one per file: a body is one import and one call into liverseg.steps.tasks.

They run as they are on a cluster, in CI and on a laptop (kfp.local, without a container).
"""

from liverseg import __version__

# `liverseg pipeline compile` replaces them by the digests of the images that were built.
CONTROLLER_IMAGE = f"ghcr.io/liverseg/controller:{__version__}"
TRAINER_IMAGE = f"ghcr.io/liverseg/trainer:{__version__}"
