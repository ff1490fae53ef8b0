"""Tiled prediction: the lesion probability of every liver voxel, fast and independent of tiling.

Batch normalisation is folded into the convolutions, two logits become one, tensors are
channels-last on the CPU; a test pins that nothing of this changes a probability by over 1e-4.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from liverseg.core.volumes.grid import Size
from liverseg.core.volumes.tiling import Tile, plan_tiles
from liverseg.core.volumes.volume import FloatArray, Mask
from liverseg.network.aunet import AUNet, crop
from liverseg.network.patches import gather, reflected_indices

# Float32 activations, and what oneDNN and cuDNN copy beside them: 1.65 was measured on the paper's
# network (bench/prediction.py prints estimate and peak).
BYTES_PER_VALUE = 4 * 1.75
DEFAULT_MEMORY_MB = 4096
Progress = Callable[[str, int, int], None]


class FoldedAUNet(nn.Module):
    """An AUNet for prediction only: (1, 1, z, y, x) grey values to (z', y', x') probabilities."""

    def __init__(self, network: AUNet) -> None:
        super().__init__()
        self.encoder = nn.ModuleList(_fold(block) for block in network.encoder)
        self.decoder = nn.ModuleList(_fold(block) for block in network.decoder)
        self.pooling, self.up = network.pooling, network.up
        # No new layer: its initialisation would draw from a running training's random generator.
        self.head = deepcopy(network.head)
        self.head.out_channels = 1
        with torch.no_grad():
            weight, bias = network.head.weight, network.head.bias
            assert bias is not None
            # The softmax over two logits is the logistic function of their difference.
            self.head.weight = nn.Parameter(weight[1:] - weight[:1])
            self.head.bias = nn.Parameter(bias[1:] - bias[:1])
        self.eval()

    def forward(self, patch: Tensor) -> Tensor:
        """Return P(lesion) in float32."""
        skips: list[Tensor] = []
        for level, block in enumerate(self.encoder):
            patch = block(patch)
            if level < len(self.pooling):
                skips.append(patch)
                patch = self.pooling[level](patch)
        for level in reversed(range(len(self.up))):
            patch = self.up[level](patch)
            patch = torch.cat([crop(skips.pop(), patch), patch], dim=1)
            patch = self.decoder[level](patch)
        return torch.sigmoid(self.head(patch).float())[0, 0]


def _fold(block: nn.Module) -> nn.Sequential:
    """Return the block with every batch normalisation inside its convolution."""
    layers = list(block.children())
    folded: list[nn.Module] = []
    for convolution, norm in zip(layers[::3], layers[1::3], strict=True):
        assert isinstance(convolution, nn.Conv3d)
        assert isinstance(norm, nn.BatchNorm3d)
        folded += [fuse_conv_bn_eval(convolution.eval(), norm.eval()), nn.ReLU(inplace=True)]
    return nn.Sequential(*folded)


@dataclass(frozen=True)
class Predictor:
    """A folded network on its device, with a memory budget."""

    network: FoldedAUNet
    source: AUNet
    device: torch.device
    memory_mb: int = DEFAULT_MEMORY_MB
    autocast: bool = False

    @classmethod
    def build(
        cls, network: AUNet, device: torch.device, memory_mb: int = DEFAULT_MEMORY_MB
    ) -> "Predictor":
        """Fold a copy of `network`; `network` itself, its mode included, is left as it is.

        Autocast is used on CUDA only, and only after a self-test: one patch against float32.
        """
        # Not a new AUNet: its initialisation would draw from the training's random generator.
        copy = deepcopy(network).to(device).eval()
        folded = FoldedAUNet(copy).to(device)
        folded.to(memory_format=torch.channels_last_3d)
        predictor = cls(folded, copy, device, memory_mb)
        if device.type == "cuda" and predictor._autocast_agrees():
            return cls(folded, copy, device, memory_mb, autocast=True)
        return predictor

    def probabilities(
        self, image: FloatArray, liver: Mask, progress: Progress | None = None
    ) -> FloatArray:
        """Return P(lesion) (z, y, x) in float32, 0 outside the liver.

        Args:
            image: (z, y, x) normalised grey values on the network's grid.
            liver: (z, y, x).
            progress: Called with ("tiles", done, total) after each tile.
        """
        result = np.zeros(image.shape, dtype=np.float32)
        tiles = plan_tiles(liver, self.source.grid, self.fits)
        for number, tile in enumerate(tiles, start=1):
            window = self.tile(image, tile)
            inside = tuple(
                slice(s, min(s + n, size))
                for s, n, size in zip(tile.start, tile.size, image.shape, strict=True)
            )
            z, y, x = (s.stop - s.start for s in inside)
            # Tiles may overlap: both hold the same value, so the later one may win.
            result[inside] = window[:z, :y, :x]
            if progress is not None:
                progress("tiles", number, len(tiles))
        result[~liver] = 0
        return result

    def tile(self, image: FloatArray, tile: Tile) -> FloatArray:
        """Return the probabilities of one output window, which may reach beyond the volume."""
        patch = torch.from_numpy(cut(image, tile, self.source))[None, None].to(self.device)
        # Inference, not training: no graph, and cuDNN or oneDNN choose the fastest kernel.
        with torch.inference_mode(), self._precision():
            window: FloatArray = self.network(patch).cpu().numpy()
        return window

    def fits(self, output: Size) -> bool:
        """Tell whether a tile of this output size stays within the memory budget."""
        return self.estimated_mb(output) <= self.memory_mb

    def estimated_mb(self, output: Size) -> float:
        """Return the estimated peak of one tile in MB (2^20 bytes)."""
        values = self.source.grid.peak_values(self.source.grid.input_size(output))
        return values * BYTES_PER_VALUE / 2**20

    def _precision(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=torch.float16, enabled=self.autocast)

    def _autocast_agrees(self) -> bool:
        """Compare a random patch in float16 with float32: all finite, and within 0.01."""
        size = self.source.grid.input_size(self.source.grid.smallest_output)
        generator = torch.Generator().manual_seed(0)
        patch = torch.rand(1, 1, *size, generator=generator).to(self.device)
        with torch.inference_mode():
            exact = self.network(patch)
            with torch.autocast(self.device.type, dtype=torch.float16):
                fast = self.network(patch)
        return bool(torch.isfinite(fast).all()) and bool((exact - fast).abs().max() < 1e-2)


def cut(image: FloatArray, tile: Tile, network: AUNet) -> FloatArray:
    """Return the input patch (z, y, x) of an output window; outside the image it is reflected."""
    indices = [
        reflected_indices(start - halo, size, extent)
        for start, halo, size, extent in zip(
            tile.start,
            network.grid.halo,
            network.grid.input_size(tile.size),
            image.shape,
            strict=True,
        )
    ]
    return np.ascontiguousarray(gather(image, indices))
