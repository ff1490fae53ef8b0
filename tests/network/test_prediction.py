import numpy as np
import pytest
import torch

from liverseg.core.data.case import TrainingCase
from liverseg.core.volumes.tiling import Tile, plan_tiles
from liverseg.network.aunet import AUNet
from liverseg.network.prediction import Predictor, cut
from liverseg.settings import NetworkSettings, Settings

CPU = torch.device("cpu")


def lively(network: AUNet, seed: int = 0) -> AUNet:
    """Give a fresh network batch-norm statistics that make probabilities span a wide range."""
    torch.manual_seed(seed)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            module.running_mean = torch.randn(module.num_features) * 0.1
            module.running_var = torch.rand(module.num_features) * 0.2 + 0.05
    return network.eval()


@pytest.fixture
def network(tiny: Settings) -> AUNet:
    torch.manual_seed(1)
    return lively(AUNet(tiny.network))


def plain(network: AUNet, image: np.ndarray, tile: Tile) -> np.ndarray:
    patch = torch.from_numpy(cut(image, tile, network))[None, None]
    with torch.inference_mode():
        probabilities: np.ndarray = torch.softmax(network(patch), dim=1)[0, 1].numpy()
    return probabilities


def one_big_pass(network: AUNet, image: np.ndarray) -> np.ndarray:
    tile = Tile((0, 0, 0), network.grid.next_output(image.shape))
    whole = Predictor.build(network, CPU).tile(image, tile)
    np.testing.assert_allclose(whole, plain(network, image, tile), atol=1e-4, rtol=0)
    return whole[tuple(slice(s) for s in image.shape)]


@pytest.mark.slow
@pytest.mark.parametrize("memory_mb", [0, 1, 2, 1000])
def test_any_tiling_equals_one_big_pass(
    network: AUNet, cases: dict[str, TrainingCase], memory_mb: int
) -> None:
    case = cases["one"]
    probabilities = Predictor.build(network, CPU, memory_mb).probabilities(case.image, case.liver)
    expected = np.where(case.liver, one_big_pass(network, case.image), 0)
    assert expected.max() - expected[case.liver].min() > 0.2
    np.testing.assert_allclose(probabilities, expected, atol=1e-5, rtol=0)


def test_a_smaller_budget_means_more_tiles(network: AUNet, cases: dict[str, TrainingCase]) -> None:
    counts = [
        len(plan_tiles(cases["one"].liver, network.grid, Predictor.build(network, CPU, mb).fits))
        for mb in (0, 1, 1000)
    ]
    assert counts[0] > counts[1] > counts[2] == 1


@pytest.mark.slow
def test_an_offset_off_the_alignment_grid_would_change_the_result(
    network: AUNet, cases: dict[str, TrainingCase]
) -> None:
    image = cases["one"].image
    whole = one_big_pass(network, image)
    moved = plain(network, image, Tile((0, 1, 0), network.grid.smallest_output))
    assert not np.allclose(moved, whole[:2, 1:5, :4][: moved.shape[0]], atol=1e-4)


def test_probabilities_are_zero_outside_the_liver(
    network: AUNet, cases: dict[str, TrainingCase]
) -> None:
    case = cases["one"]
    probabilities = Predictor.build(network, CPU).probabilities(case.image, case.liver)
    assert not probabilities[~case.liver].any()
    assert probabilities[case.liver].min() > 0


def test_building_a_predictor_leaves_a_network_in_training_as_it_is(network: AUNet) -> None:
    network.train()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    Predictor.build(network, CPU)
    assert network.training
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())


@pytest.mark.slow
def test_folding_the_paper_s_network_changes_no_probability_by_1e_4() -> None:
    torch.manual_seed(0)
    network = lively(AUNet(NetworkSettings()))
    image = np.random.default_rng(0).random((8, 40, 40), dtype=np.float32)
    tile = Tile((0, 0, 0), network.grid.smallest_output)
    probabilities = Predictor.build(network, CPU).tile(image, tile)
    np.testing.assert_allclose(probabilities, plain(network, image, tile), atol=1e-4, rtol=0)
