"""The Dice loss, computed only inside the dilated liver.

Source: paper, Methods; docs/method.md section 6.
"""

import torch
from torch import Tensor


def masked_dice_loss(logits: Tensor, lesion: Tensor, mask: Tensor, smoothing: float) -> Tensor:
    """Return 1 - (2 sum(m p g) + s) / (sum(m p) + sum(m g) + s) over the whole batch.

    Args:
        logits: (batch, 2, z, y, x), channel 1 is lesion.
        lesion: (batch, z, y, x) reference g, 0 or 1.
        mask: (batch, z, y, x) dilated liver m, 0 or 1.
        smoothing: s.
    """
    # Softmax over two channels is the logistic function of their difference.
    probability = torch.sigmoid(logits[:, 1].float() - logits[:, 0].float()) * mask
    reference = lesion.float() * mask
    overlap = (probability * reference).sum()
    return 1 - (2 * overlap + smoothing) / (probability.sum() + reference.sum() + smoothing)
