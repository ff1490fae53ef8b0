"""Checkpoints as files of bytes: safetensors and JSON, never pickle.

They hold network, optimiser, every random generator and the sampler's position, so that a
training that was stopped and resumed is bit-identical to an undisturbed one on the CPU.
"""

import json
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from liverseg.errors import IntegrityError
from liverseg.network.aunet import AUNet
from liverseg.network.training import Best, Training
from liverseg.settings import NetworkSettings

STATE, BEST, POSITION = "state.safetensors", "best.safetensors", "state.json"


def encode(training: Training) -> dict[str, bytes]:
    """Return the files of a checkpoint; `best.safetensors` is what a study delivers."""
    position = {
        "iteration": training.iteration,
        "loss_sum": training.pace.loss_sum,
        "loss_iterations": training.pace.iterations,
        "last_jaccard": training.last_jaccard,
        "best_iteration": training.best.iteration,
        "best_jaccard": training.best.jaccard,
        "best_cases": training.best.cases,
    }
    return {
        STATE: save(_state(training)),
        BEST: save(training.best.weights),
        POSITION: json.dumps(position, sort_keys=True, indent=1).encode(),
    }


def restore(training: Training, files: Mapping[str, bytes]) -> None:
    """Bring a fresh training of the same settings and seed to the state in `files`."""
    state, position = load(files[STATE]), json.loads(files[POSITION])
    training.network.load_state_dict(_below(state, "network."))
    parameters = list(training.network.parameters())
    moments: dict[int, dict[str, Tensor]] = {}
    for name, value in _below(state, "optimiser.").items():
        index, field = name.split(".")
        moments.setdefault(int(index), {})[field] = _laid_out(value, parameters[int(index)])
    groups = training.optimiser.state_dict()["param_groups"]
    training.optimiser.load_state_dict({"state": moments, "param_groups": groups})
    torch.set_rng_state(state["random.cpu"])
    if training.device.type == "cuda" and "random.cuda" in state:
        torch.cuda.set_rng_state(state["random.cuda"], training.device)
    training.iteration = position["iteration"]
    training.pace.loss_sum = position["loss_sum"]
    training.pace.iterations = position["loss_iterations"]
    training.last_jaccard = position["last_jaccard"]
    training.best = Best(
        position["best_iteration"],
        position["best_jaccard"],
        position["best_cases"],
        load(files[BEST]),
    )


def weights_sha256(files: Mapping[str, bytes]) -> str:
    """Return the SHA-256 (hex) of the best weights."""
    return sha256(files[BEST]).hexdigest()


def load_network(settings: NetworkSettings, weights: bytes) -> AUNet:
    """Return the network with the given weights, in evaluation mode.

    Raises IntegrityError where these are not the weights of such a network.
    """
    network = AUNet(settings)
    try:
        network.load_state_dict(load(weights))
    except (RuntimeError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise IntegrityError(f"the weights do not fit the network's settings: {reason}") from error
    return network.eval()


def _state(training: Training) -> dict[str, Tensor]:
    state = {f"network.{k}": v for k, v in training.network.state_dict().items()}
    adam: dict[int, dict[str, Any]] = training.optimiser.state_dict()["state"]
    for index, fields in adam.items():
        state |= {f"optimiser.{index}.{name}": value for name, value in fields.items()}
    state["random.cpu"] = torch.get_rng_state()
    if training.device.type == "cuda":
        state["random.cuda"] = torch.cuda.get_rng_state(training.device)
    # A channels-last tensor has to be laid out plainly before its bytes are written.
    return {k: v.detach().cpu().contiguous() for k, v in state.items()}


def _laid_out(value: Tensor, like: Tensor) -> Tensor:
    """Return `value` in the memory layout of its parameter.

    In another layout Adam takes another code path, whose last bit differs.
    """
    if value.shape != like.shape:
        return value
    return torch.empty_like(like, device="cpu").detach().copy_(value)


def _below(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
