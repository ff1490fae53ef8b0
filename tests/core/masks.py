"""Masks for property tests: few lesions, many of them empty, touching, or at the border."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

spacings = st.tuples(*[st.sampled_from([0.7, 1.0, 1.25, 2.5, 7.7])] * 3)
shapes = st.tuples(st.integers(2, 5), st.integers(2, 7), st.integers(2, 7))


def _thinned(pair: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    return pair[0] == 0, pair[1] == 0


# One voxel in four is inside: lesions of some voxels that overlap in part.
pairs = shapes.flatmap(
    lambda shape: st.tuples(
        *[arrays.arrays(np.uint8, shape, elements=st.integers(0, 3), fill=st.just(1))] * 2
    )
).map(_thinned)
flips = st.sets(st.integers(0, 2)).map(lambda axes: tuple(sorted(axes)))
