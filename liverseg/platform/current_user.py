"""Who runs this process: the namespace of a pod, or the name of a login."""

import getpass
import os
from pathlib import Path

_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def current_user(namespace_file: Path = _NAMESPACE_FILE) -> str:
    """Return the Kubernetes namespace where this is a pod, else the login name.

    In a Kubeflow profile the namespace stands for a person or a group; all pods run as one user.
    """
    try:
        return namespace_file.read_text(encoding="utf-8").strip()
    except OSError:
        pass
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # a user without a name, as containers have them
        return f"uid {os.getuid()}"
