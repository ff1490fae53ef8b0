"""KFP components, one a file: a body is one import and one call into liverseg.steps.tasks.

They run as they are on a cluster, in CI and on a laptop (kfp.local, without a container).
"""

# The image that `base_image` names; a later release builds it.
IMAGE = "liverseg:0.1.0"
