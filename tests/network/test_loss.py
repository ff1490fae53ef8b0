import pytest
import torch

from liverseg.network.loss import masked_dice_loss


def logits(probability: torch.Tensor) -> torch.Tensor:
    return torch.stack([torch.zeros_like(probability), torch.logit(probability)], dim=1)


def test_it_is_the_formula_of_the_method() -> None:
    p = torch.tensor([[[[0.9, 0.2, 0.4]]]])
    g = torch.tensor([[[[1.0, 0.0, 1.0]]]])
    m = torch.tensor([[[[1.0, 1.0, 0.0]]]])
    expected = 1 - (2 * 0.9 + 1e-5) / (1.1 + 1.0 + 1e-5)
    assert float(masked_dice_loss(logits(p), g, m, 1e-5)) == pytest.approx(expected, abs=1e-6)


def test_nothing_outside_the_mask_teaches() -> None:
    z = torch.randn(2, 2, 2, 3, 3, requires_grad=True)
    mask = torch.zeros(2, 2, 3, 3)
    mask[:, 0] = 1
    masked_dice_loss(z, torch.ones(2, 2, 3, 3), mask, 1e-5).backward()
    assert z.grad is not None
    assert z.grad[:, :, 0].abs().min() > 0
    assert z.grad[:, :, 1].abs().max() == 0


def test_sums_run_over_the_whole_batch_not_each_patch() -> None:
    p = torch.tensor([[[[0.8, 0.8]]], [[[0.1, 0.1]]]])
    g = torch.tensor([[[[1.0, 1.0]]], [[[0.0, 0.0]]]])
    expected = 1 - (2 * 1.6) / (1.8 + 2.0)
    loss = masked_dice_loss(logits(p), g, torch.ones_like(g), 0.0)
    assert float(loss) == pytest.approx(expected, abs=1e-6)


def test_nothing_to_find_and_nothing_found_costs_nothing() -> None:
    p = torch.full((1, 1, 1, 2), 1e-12)
    assert (
        float(masked_dice_loss(logits(p), torch.zeros(1, 1, 1, 2), torch.ones(1, 1, 1, 2), 1e-5))
        < 1e-5
    )
