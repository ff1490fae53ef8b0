"""Which sizes and offsets the network can take: arithmetic on its levels, no weights.

Valid convolutions lose a border, pooling needs even sizes and makes a result depend on where a
tile starts. All of it follows from the levels' settings (docs/method.md section 4).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from liverseg.errors import SettingsError
from liverseg.settings import NetworkSettings

Size = tuple[int, int, int]


@dataclass(frozen=True)
class NetworkGrid:
    """Sizes (z, y, x) of the network described by `settings`."""

    settings: NetworkSettings

    @cached_property
    def alignment(self) -> Size:
        """Product of the poolings: tile offsets and valid sizes step by it."""
        products = [1, 1, 1]
        for factors in self.settings.pooling:
            products = [p * f for p, f in zip(products, factors, strict=True)]
        return products[0], products[1], products[2]

    @cached_property
    def smallest_output(self) -> Size:
        """Smallest output size per axis; valid ones are this plus k times the alignment."""
        return self._each(self._smallest)

    @cached_property
    def halo(self) -> Size:
        """Voxels that the input extends beyond the output on each side."""
        smallest = self.smallest_output
        wide = self.input_size(smallest)
        return self._each(lambda axis: (wide[axis] - smallest[axis]) // 2)

    def input_size(self, output: Size) -> Size:
        """Return the input size for an output size; raises SettingsError if it is not valid."""
        sizes = self._each(lambda axis: self._input(output[axis], axis) or -1)
        if -1 in sizes:
            raise SettingsError(
                f"output size {output} is not valid: sizes (z, y, x) are "
                f"{self.smallest_output} plus multiples of {self.alignment}"
            )
        return sizes

    def output_size(self, patch: Size) -> Size:
        """Return the output size of an input patch; raises SettingsError if it is not valid."""
        halo, smallest, step = self.halo, self.smallest_output, self.alignment
        output = self._each(lambda axis: patch[axis] - 2 * halo[axis])
        if any(o < s or (o - s) % a for o, s, a in zip(output, smallest, step, strict=True)):
            start = self.input_size(smallest)
            raise SettingsError(
                f"training.patch {patch} does not fit the network: sizes (z, y, x) are "
                f"{start} plus multiples of {step}"
            )
        return output

    def next_output(self, wanted: Size) -> Size:
        """Return the smallest valid output size that covers `wanted`."""
        smallest, step = self.smallest_output, self.alignment
        return self._each(
            lambda axis: (
                smallest[axis]
                + max(0, -(-(wanted[axis] - smallest[axis]) // step[axis])) * step[axis]
            )
        )

    def peak_values(self, patch: Size) -> int:
        """Return the most float values that a forward pass over one patch holds at once."""
        counter = _ValueCounter(patch)
        levels, features = len(self.settings.features), self.settings.features
        for level in range(levels):
            self._block(counter, level, features[level])
            if level < levels - 1:
                counter.store_skip()
                counter.pool(self.settings.pooling[level])
        for level in reversed(range(levels - 1)):
            counter.up(self.settings.pooling[level], 2 * features[level])
            counter.concatenate()
            self._block(counter, level, 2 * features[level])
        counter.convolve((1, 1, 1), 2)
        return counter.peak

    def _block(self, counter: "_ValueCounter", level: int, channels: int) -> None:
        for _ in range(2):
            counter.convolve((1, 3, 3), channels)
            if self.settings.z_convolutions[level]:
                counter.convolve((3, 1, 1), channels)

    def _each(self, function: Callable[[int], int]) -> Size:
        return function(0), function(1), function(2)

    def _loss(self, level: int, axis: int) -> int:
        """Voxels that the two convolutions of a block take away along an axis."""
        return 4 if axis > 0 or self.settings.z_convolutions[level] else 0

    def _input(self, output: int, axis: int) -> int | None:
        """Return the input extent for an output extent, None if some level does not divide."""
        levels, size = len(self.settings.features), output
        for level in range(levels - 1):
            size += self._loss(level, axis)
            if size % self.settings.pooling[level][axis] or size < 1:
                return None
            size //= self.settings.pooling[level][axis]
        for level in reversed(range(levels)):
            size += self._loss(level, axis)
            if level:
                size *= self.settings.pooling[level - 1][axis]
        return size

    def _smallest(self, axis: int) -> int:
        return next(o for o in range(1, self.alignment[axis] + 1) if self._input(o, axis))


class _ValueCounter:
    """Walks through the network once, with sizes instead of tensors."""

    def __init__(self, patch: Size) -> None:
        self.size, self.channels = patch, 1
        self.skips: list[tuple[Size, int]] = []
        self.peak = 0

    def convolve(self, kernel: Size, channels: int) -> None:
        before = self._values()
        z, y, x = (s - k + 1 for s, k in zip(self.size, kernel, strict=True))
        self.size, self.channels = (z, y, x), channels
        self._record(before)

    def up(self, factors: Size, channels: int) -> None:
        before = self._values()
        z, y, x = (s * f for s, f in zip(self.size, factors, strict=True))
        self.size, self.channels = (z, y, x), channels
        self._record(before)

    def pool(self, factors: Size) -> None:
        z, y, x = (s // f for s, f in zip(self.size, factors, strict=True))
        self.size = (z, y, x)

    def store_skip(self) -> None:
        self.skips.append((self.size, self.channels))

    def concatenate(self) -> None:
        before = self._values()
        _, channels = self.skips[-1]
        self.channels += channels
        self._record(before)
        self.skips.pop()

    def _values(self) -> int:
        return self.channels * self.size[0] * self.size[1] * self.size[2]

    def _record(self, before: int) -> None:
        stored = sum(c * s[0] * s[1] * s[2] for s, c in self.skips)
        self.peak = max(self.peak, before + self._values() + stored)
