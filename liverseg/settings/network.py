"""The network's architecture."""

from dataclasses import dataclass

from liverseg.settings.rules import Rule, within


@dataclass(frozen=True)
class NetworkSettings:
    """The anisotropic U-Net of figure 1; axes are (z, y, x)."""

    features: tuple[int, ...] = (16, 32, 64, 128, 256)
    """Channels per level, finest first."""
    z_convolutions: tuple[bool, ...] = (False, False, True, True, True)
    """Levels whose 3x3x1 convolutions are followed by 1x1x3 ones."""
    pooling: tuple[tuple[int, int, int], ...] = ((1, 2, 2), (1, 2, 2), (2, 2, 2), (2, 2, 2))
    """Max pooling (z, y, x) below each level but the last."""
    dropout: float = 0.25
    """Spatial dropout after each concatenation."""
    batch_norm_momentum: float = 0.01
    """In torch's sense: the weight of the new batch. Keras' default 0.99 is 0.01 here."""
    batch_norm_epsilon: float = 1e-3
    """Keras' default."""

    def rules(self) -> list[Rule]:
        """Return what a training needs of these values."""
        ranges = {
            "features": (1, 4096),
            "pooling": (1, 16),
            "dropout": (0, 0.999),
            "batch_norm_momentum": (1e-9, 1),
            "batch_norm_epsilon": (1e-12, 1),
        }
        return [
            (
                len(self.features) == len(self.z_convolutions) == len(self.pooling) + 1,
                f"network.features ({len(self.features)}) and network.z_convolutions "
                f"({len(self.z_convolutions)}) need one entry a level, network.pooling "
                f"({len(self.pooling)}) one fewer",
            ),
            *within("network", self, ranges),
        ]
