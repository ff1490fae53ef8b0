"""Which device the network runs on."""

import torch

from liverseg.platform.cores import available_cores


def best_device(index: int = 0) -> torch.device:
    """Return a GPU where there is one, else the CPU.

    `index` is the trainer's among those that run in parallel: they are spread over the GPUs.

    On a GPU deterministic algorithms are asked for where they exist; bit-identity is promised on
    the CPU only (docs/method.md section 7).
    """
    if not torch.cuda.is_available():
        return torch.device("cpu")
    torch.use_deterministic_algorithms(True, warn_only=True)
    return torch.device("cuda", index % torch.cuda.device_count())


def device_name(device: torch.device) -> str:
    """Return the device for people, such as "cpu" or "cuda:0 NVIDIA H200"."""
    if device.type != "cuda":
        return device.type
    return f"{device} {torch.cuda.get_device_name(device)}"


def gpu_uuid(device: torch.device) -> str | None:
    """Return the UUID of a GPU, by which its driver knows it; None for the CPU."""
    if device.type != "cuda":
        return None
    return str(torch.cuda.get_device_properties(device).uuid)


def use_available_cores() -> None:
    """Let PyTorch start no more threads than there are cores for them.

    It counts those of the machine, of which a container's quota may be a small part.
    """
    torch.set_num_threads(min(torch.get_num_threads(), available_cores()))
