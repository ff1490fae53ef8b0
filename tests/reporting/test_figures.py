import base64
import io

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from liverseg.reporting import figures

SHAPE = (6, 60, 80)
SPACING = (4.0, 1.5, 1.0)


def pixels_of(figure: Figure) -> np.ndarray:
    return pixels(figures.data_uri(figure))


def pixels(uri: str) -> np.ndarray:
    kind, data = uri.split(",")
    assert kind in ("data:image/png;base64", "data:image/webp;base64")
    with Image.open(io.BytesIO(base64.b64decode(data))) as picture:
        return np.asarray(picture.convert("RGB")) / 255


def has(picture: np.ndarray, colour: str, within: float = 0.05) -> bool:
    rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return bool((np.abs(picture - rgb).max(axis=-1) < within).any())


@pytest.fixture
def masks() -> dict[str, np.ndarray]:
    z, y, x = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    liver = np.broadcast_to((y - 30) ** 2 + (x - 40) ** 2 < 24**2, SHAPE).copy()
    lesion = (z == 4) & ((y - 30) ** 2 + (x - 40) ** 2 < 36)
    return {"liver": liver, "lesion": lesion, "none": np.zeros(SHAPE, bool)}


def test_everybody_s_contour_is_drawn_and_nobody_else_s(masks) -> None:
    image = np.zeros(SHAPE, np.float32)
    raters = {"R1": masks["lesion"], "R2": np.roll(masks["lesion"], 14, axis=2)}
    drawn = pixels_of(
        figures.slices(image, masks["liver"], raters, {"A1": masks["none"]}, SPACING, 1)
    )
    # The legend names the network too; its contour would be in the picture above it.
    above = drawn[: int(len(drawn) * 0.85)]
    assert has(above, figures.RATER_COLOURS[0])
    assert has(above, figures.RATER_COLOURS[1])
    assert not has(above, figures.NETWORK_COLOUR)
    network = np.roll(masks["lesion"], -14, axis=2)
    drawn = pixels_of(figures.slices(image, masks["liver"], raters, {"A1": network}, SPACING, 1))
    assert has(drawn[: int(len(drawn) * 0.85)], figures.NETWORK_COLOUR)


@pytest.mark.parametrize("lesion", ["lesion", "none"])
def test_more_slices_make_a_wider_picture_with_a_lesion_or_without(masks, lesion) -> None:
    image = np.zeros(SHAPE, np.float32)
    pictures = [
        pixels_of(
            figures.slices(
                image,
                masks["liver"],
                {"R1": masks[lesion]},
                {"A1": masks["none"]},
                SPACING,
                count,
            )
        )
        for count in (1, 3)
    ]
    assert pictures[1].shape[1] > 2 * pictures[0].shape[1]


def test_more_raters_than_colours_are_drawn(masks) -> None:
    raters = {f"R{n}": masks["lesion"] for n in range(1, 7)}
    image = np.zeros(SHAPE, np.float32)
    assert figures.slices(image, masks["liver"], raters, {"A1": masks["none"]}, SPACING)


def test_every_slice_with_a_contour_is_drawn_and_no_other(masks) -> None:
    image, few = np.zeros(SHAPE, np.float32), masks["lesion"].copy()
    few[np.flatnonzero(few.any(axis=(1, 2)))[1:]] = False
    everywhere = np.repeat(few.any(axis=0)[None], len(few), axis=0)
    sizes = [
        pixels_of(
            figures.slices(image, masks["liver"], {"R1": mask}, {}, SPACING, count=None)
        ).shape
        for mask in (few, everywhere)
    ]
    assert sizes[1][1] > 4 * sizes[0][1]  # six slices: five beside each other, one below
    assert sizes[1][0] > 1.5 * sizes[0][0]


def test_a_second_algorithm_has_its_own_colour(masks) -> None:
    image = np.zeros(SHAPE, np.float32)
    both = {"A1": masks["lesion"], "A2": np.roll(masks["lesion"], 14, axis=2)}
    drawn = pixels_of(figures.slices(image, masks["liver"], {}, both, SPACING, 1))
    above = drawn[: int(len(drawn) * 0.85)]
    assert has(above, figures.ALGORITHM_COLOURS[0])
    assert has(above, figures.ALGORITHM_COLOURS[1])


def test_the_same_numbers_give_the_same_bytes() -> None:
    curves = {0: [{"iteration": 5, "jaccard": 0.1}], 1: [{"iteration": 5, "jaccard": None}], 2: []}
    first = figures.learning_curves(curves, [5, 10], leader=0)
    assert first == figures.learning_curves(curves, [5, 10], leader=0)
    assert has(pixels(first), figures.NETWORK_COLOUR)
    assert not has(pixels(figures.learning_curves(curves, [5, 10], None)), figures.NETWORK_COLOUR)


def test_the_heat_lies_where_the_seeds_disagree_beside_the_contour(masks) -> None:
    image = np.zeros(SHAPE, np.float32)
    heat = np.where(np.roll(masks["lesion"], 1, axis=0), np.float32(1), np.float32(0))
    drawn = {}
    for name, amount in (("none", 0.0), ("some", 1.0)):
        uri = figures.disagreement(image, masks["liver"], masks["lesion"], heat * amount, SPACING)
        drawn[name] = pixels(uri)
    height, width, _ = drawn["some"].shape
    # The scale is below both.
    drawn = {name: picture[: int(0.8 * height)] for name, picture in drawn.items()}
    left, right = slice(0, width // 2), slice(width // 2, width)
    # A WebP has a colour for every second pixel only.
    assert has(drawn["none"][:, left], figures.NETWORK_COLOUR, within=0.2)
    assert not coloured(drawn["none"][:, right])
    # The next slice is shown for its heat; the network has no lesion there.
    assert not has(drawn["some"][:, left], figures.NETWORK_COLOUR, within=0.2)
    assert coloured(drawn["some"][:, right])


@pytest.fixture(scope="module")
def noisy() -> Figure:
    """Every slice has contours, and noise is what is hardest to make small."""
    shape = (6, 220, 220)
    y, x = np.ogrid[: shape[1], : shape[2]]
    liver = np.broadcast_to((y - 110) ** 2 + (x - 110) ** 2 < 90**2, shape)
    lesion = np.broadcast_to((y - 100) ** 2 + (x - 110) ** 2 < 40**2, shape)
    image = np.random.default_rng(0).normal(0.5, 0.3, shape).astype(np.float32)
    raters = {f"R{n + 1}": np.roll(lesion, 5 * n, axis=2) for n in range(3)}
    return figures.slices(image, liver, raters, {"A1": lesion}, (3.0, 1.0, 1.0), count=None)


@pytest.mark.slow
def test_slices_on_a_page_are_small_and_look_as_they_were_drawn(noisy, masks, monkeypatch) -> None:
    monkeypatch.setattr(figures, "PICTURE_BYTES", 60_000)
    assert len(figures.drawn(noisy, "webp", figures.QUALITIES[0])) > figures.PICTURE_BYTES
    plain = figures.slices(
        np.zeros(SHAPE, np.float32), masks["liver"], {"R1": masks["lesion"]}, {}, SPACING
    )
    for figure in (noisy, plain):
        uri = figures.slices_uri(figure)
        assert uri.startswith("data:image/webp;base64,")
        assert len(uri) < 4 / 3 * figures.PICTURE_BYTES + 100
        drawn, exact = pixels(uri), pixels_of(figure)
        assert drawn.shape == exact.shape
        # Noise is smoothed; shapes, contours and text stay in their places.
        blocks = [
            p[: len(p) // 8 * 8, : p.shape[1] // 8 * 8].reshape(len(p) // 8, 8, -1, 8, 3)
            for p in (drawn, exact)
        ]
        assert np.abs(blocks[0].mean((1, 3)) - blocks[1].mean((1, 3))).mean() < 0.02
    assert len(figures.data_uri(noisy)) > 5 * len(figures.slices_uri(noisy))


def test_slices_that_fit_keep_the_highest_quality(masks) -> None:
    figure = figures.slices(
        np.zeros(SHAPE, np.float32), masks["liver"], {"R1": masks["lesion"]}, {}, SPACING
    )
    best = base64.b64encode(figures.drawn(figure, "webp", figures.QUALITIES[0])).decode()
    assert figures.slices_uri(figure) == f"data:image/webp;base64,{best}"


def coloured(picture: np.ndarray) -> bool:
    """Whether a pixel is neither grey nor nearly so."""
    return bool((np.ptp(picture, axis=-1) > 0.3).any())
