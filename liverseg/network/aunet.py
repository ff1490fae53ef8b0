"""The anisotropic U-Net of figure 1 of the paper, from a config."""

import torch
from torch import Tensor, nn

from liverseg.core.volumes.grid import NetworkGrid
from liverseg.settings import NetworkSettings


class ConvolutionBlock(nn.Sequential):
    """Two times 3x3x1 (and 1x1x3 where the level says so), each with BN and ReLU; valid."""

    def __init__(self, inputs: int, outputs: int, along_z: bool, settings: NetworkSettings) -> None:
        layers: list[nn.Module] = []
        for _ in range(2):
            kernels = [(1, 3, 3), (3, 1, 1)] if along_z else [(1, 3, 3)]
            for kernel in kernels:
                norm = nn.BatchNorm3d(
                    outputs,
                    eps=settings.batch_norm_epsilon,
                    momentum=settings.batch_norm_momentum,
                )
                layers += [nn.Conv3d(inputs, outputs, kernel), norm, nn.ReLU(inplace=True)]
                inputs = outputs
        super().__init__(*layers)


class AUNet(nn.Module):
    """Valid 3-D U-Net: (batch, 1, z, y, x) grey values to (batch, 2, z', y', x') logits.

    Input sizes must be valid sizes of `NetworkGrid`; the output is the input less the halo on
    each side. Channel 1 is lesion. The softmax of figure 1 is left to loss and prediction.
    """

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        self.settings = settings
        self.grid = NetworkGrid(settings)
        features, along_z = settings.features, settings.z_convolutions
        widths = (1, *features)
        self.encoder = nn.ModuleList(
            ConvolutionBlock(widths[level], widths[level + 1], along_z[level], settings)
            for level in range(len(features))
        )
        self.pooling = nn.ModuleList(nn.MaxPool3d(factors) for factors in settings.pooling)
        self.up = nn.ModuleList()
        self.decoder = nn.ModuleList()
        for level, factors in enumerate(settings.pooling):
            deepest = level == len(settings.pooling) - 1
            below = features[level + 1] if deepest else 2 * features[level + 1]
            wide = 2 * features[level]
            # The figure writes 2x2x2; the sizes only fit kernel = stride = the level's pooling.
            self.up.append(nn.ConvTranspose3d(below, wide, factors, stride=factors))
            self.decoder.append(
                ConvolutionBlock(features[level] + wide, wide, along_z[level], settings)
            )
        self.dropout = nn.Dropout3d(settings.dropout)
        self.head = nn.Conv3d(2 * features[0], 2, 1)
        self._initialise()

    def forward(self, patch: Tensor) -> Tensor:
        """Return the logits of a batch of patches."""
        skips: list[Tensor] = []
        for level, block in enumerate(self.encoder):
            patch = block(patch)
            if level < len(self.pooling):
                skips.append(patch)
                patch = self.pooling[level](patch)
        for level in reversed(range(len(self.up))):
            patch = self.up[level](patch)
            patch = torch.cat([crop(skips.pop(), patch), patch], dim=1)
            patch = self.decoder[level](self.dropout(patch))
        logits: Tensor = self.head(patch)
        return logits

    def _initialise(self) -> None:
        """Glorot-uniform weights and zero bias, the Keras defaults that the paper names."""
        for module in self.modules():
            if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
                nn.init.xavier_uniform_(module.weight)
                assert module.bias is not None
                nn.init.zeros_(module.bias)


def crop(skip: Tensor, like: Tensor) -> Tensor:
    """Return the centre of `skip` with the (z, y, x) size of `like`."""
    z, y, x = (
        slice((s - t) // 2, (s - t) // 2 + t)
        for s, t in zip(skip.shape[2:], like.shape[2:], strict=True)
    )
    return skip[:, :, z, y, x]
