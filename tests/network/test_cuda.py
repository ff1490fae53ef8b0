"""What a GPU computes, against the CPU: `pytest tests/network --cuda`."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from liverseg.core.data.case import TrainingCase
from liverseg.network import checkpoint
from liverseg.network.aunet import AUNet
from liverseg.network.device import best_device
from liverseg.network.prediction import Predictor
from liverseg.network.training import Training, train
from liverseg.settings import NetworkSettings, Settings

CPU = torch.device("cpu")
Cases = dict[str, TrainingCase]

pytestmark = pytest.mark.cuda


@pytest.fixture
def gpu(pytestconfig: pytest.Config) -> Iterator[torch.device]:
    """The GPU, computing in float32 as the CPU does: without TF32."""
    if not pytestconfig.getoption("--cuda"):
        pytest.skip("--cuda was not given")
    device = best_device()
    if device.type != "cuda":
        pytest.skip("there is no GPU")
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    yield device
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def started(settings: Settings, cases: Cases, device: torch.device) -> Training:
    training = [cases[name] for name in ("one", "none")]
    return Training(settings, 5, training, {"two": cases["two"]}, device)


def without_dropout(settings: Settings) -> Settings:
    """Both devices draw other units to drop."""
    return replace(settings, network=replace(settings.network, dropout=0.0))


def test_training_steps_agree_with_the_cpu_s(
    gpu: torch.device, tiny: Settings, cases: Cases
) -> None:
    settings = without_dropout(tiny)
    losses = []
    for device in (CPU, gpu):
        training = started(settings, cases, device)
        losses.append([training.step(training.sampler.batch(i)) for i in range(8)])
    assert losses[1][0] == pytest.approx(losses[0][0], rel=1e-5)
    # Rounding grows with every step.
    assert losses[1] == pytest.approx(losses[0], rel=1e-2)


def test_a_training_stopped_on_the_gpu_continues_from_its_checkpoint(
    gpu: torch.device, tiny: Settings, cases: Cases
) -> None:
    undisturbed = started(tiny, cases, gpu)
    train(undisturbed, 8, lambda validation: None)
    stopped = started(tiny, cases, gpu)
    train(stopped, 4, lambda validation: None)
    files = checkpoint.encode(stopped)
    torch.manual_seed(999)
    torch.cuda.manual_seed_all(999)
    resumed = started(tiny, cases, gpu)
    checkpoint.restore(resumed, files)
    assert all(p.device.type == "cuda" for p in resumed.network.parameters())
    train(resumed, 8, lambda validation: None)
    # The same dropout is drawn: the weights differ by rounding only.
    for name, value in undisturbed.network.state_dict().items():
        other = resumed.network.state_dict()[name]
        torch.testing.assert_close(other, value, rtol=1e-2, atol=1e-3, msg=name)


def test_a_checkpoint_of_the_gpu_is_read_on_the_cpu(
    gpu: torch.device, tiny: Settings, cases: Cases
) -> None:
    training = started(tiny, cases, gpu)
    train(training, 4, lambda validation: None)
    files = checkpoint.encode(training)
    network = checkpoint.load_network(tiny.network, files[checkpoint.BEST])
    for name, value in network.state_dict().items():
        assert value.device == CPU
        assert torch.equal(value, training.best.weights[name])


@pytest.mark.parametrize("kind", ["tiny", "paper"])
def test_probabilities_agree_with_the_cpu_s(
    gpu: torch.device, tiny: Settings, cases: Cases, kind: str
) -> None:
    torch.manual_seed(0)
    network = AUNet(tiny.network if kind == "tiny" else NetworkSettings()).eval()
    case = cases["one"]
    expected = Predictor.build(network, CPU).probabilities(case.image, case.liver)
    exact = replace(Predictor.build(network, gpu), autocast=False)
    np.testing.assert_allclose(
        exact.probabilities(case.image, case.liver), expected, atol=1e-4, rtol=0
    )


def test_autocast_is_close_to_float32(gpu: torch.device, tiny: Settings, cases: Cases) -> None:
    torch.manual_seed(0)
    network = AUNet(tiny.network).eval()
    case, predictor = cases["one"], Predictor.build(network, gpu)
    assert predictor.autocast
    exact = replace(predictor, autocast=False)
    fast, slow = (p.probabilities(case.image, case.liver) for p in (predictor, exact))
    assert np.abs(fast - slow).max() < 1e-2
    assert not np.array_equal(fast, slow)  # else autocast was not tried at all
