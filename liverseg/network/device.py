"""Which device the network runs on."""

import torch


def best_device() -> torch.device:
    """Return the GPU where there is one, else the CPU.

    On a GPU deterministic algorithms are asked for where they exist; bit-identity is promised on
    the CPU only (science.md section 5).
    """
    if not torch.cuda.is_available():
        return torch.device("cpu")
    torch.use_deterministic_algorithms(True, warn_only=True)
    return torch.device("cuda")
