import pytest
import torch
from torch import nn

from liverseg.network.aunet import AUNet
from liverseg.settings import NetworkSettings, Settings


def test_the_paper_s_network_has_4982290_parameters() -> None:
    network = AUNet(NetworkSettings())
    assert sum(p.numel() for p in network.parameters() if p.requires_grad) == 4_982_290


@pytest.mark.slow
def test_the_paper_s_network_turns_236x236x72_into_52x52x32() -> None:
    network = AUNet(NetworkSettings()).eval()
    with torch.inference_mode():
        assert network(torch.zeros(1, 1, 72, 236, 236)).shape == (1, 2, 32, 52, 52)


def test_weights_start_glorot_uniform_with_zero_bias(tiny: Settings) -> None:
    torch.manual_seed(0)
    network = AUNet(tiny.network)
    for module in network.modules():
        if isinstance(module, nn.Conv3d):
            fan_in, fan_out = nn.init._calculate_fan_in_and_fan_out(module.weight)
            limit = (6 / (fan_in + fan_out)) ** 0.5
            assert 0.5 * limit < float(module.weight.detach().abs().max()) <= limit
            assert module.bias is not None
            assert not module.bias.any()


def test_batch_norm_is_keras_one_and_follows_every_convolution_but_the_last() -> None:
    network = AUNet(NetworkSettings())
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm3d)]
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv3d)]
    assert {(m.eps, m.momentum) for m in norms} == {(1e-3, 0.01)}
    assert len(norms) == len(convolutions) - 1


def test_every_face_of_the_input_reaches_the_smallest_output(tiny: Settings) -> None:
    torch.manual_seed(0)
    network = AUNet(tiny.network).eval()
    size = network.grid.input_size(network.grid.smallest_output)
    patch = torch.randn(1, 1, *size, requires_grad=True)
    network(patch).sum().backward()
    assert patch.grad is not None
    touched = patch.grad[0, 0] != 0
    for axis in range(3):
        assert touched.select(axis, 0).any()
        assert touched.select(axis, size[axis] - 1).any()
