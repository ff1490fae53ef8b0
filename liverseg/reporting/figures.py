"""Figures as data URIs, so that a page needs nothing beside it: slices as WebP, others as PNG."""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from liverseg.core.volumes.volume import FloatArray, Mask, bounding_box

RATER_COLOURS = ("#ffd92f", "#66c2ff", "#ff8ad8", "#8dff8a")
NETWORK_COLOUR = "#ff3b30"
ALGORITHM_COLOURS = (NETWORK_COLOUR, "#0a84ff", "#30d158", "#bf5af2", "#ff9f0a")
HEAT_COLOURS = "plasma"
MARGIN_VOXELS = 12
GREY_RANGE = (-0.3, 1.3)
"""Shown from black to white: the liver's 2nd and 98th percentile are 0 and 1."""
PICTURE_BYTES = 500_000
"""More than this no picture of slices takes on a page, if a lower quality avoids it."""
QUALITIES = (70, 50, 30, 15)
"""Of a WebP, the first that fits."""


def learning_curves(
    curves: Mapping[int, Sequence[Mapping[str, Any]]],
    rungs: Sequence[int],
    leader: int | None,
    role: Literal["winner", "leads"] = "winner",
) -> str:
    """Draw validation Jaccard over iterations, one line a seed, the winner's in front.

    Args:
        curves: By seed, validations with `iteration` and `jaccard`.
        rungs: Iterations at which a rung lies.
        leader: The seed that is drawn in colour; None while there is none.
        role: What the legend calls it.
    """
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes = figure.add_subplot()
    for iteration in rungs:
        axes.axvline(iteration, color="#bbbbbb", linewidth=0.8, linestyle=":")
    for seed in sorted(curves, key=lambda s: s == leader):
        points = [(c["iteration"], c["jaccard"]) for c in curves[seed] if c["jaccard"] is not None]
        style: dict[str, Any] = {
            "color": NETWORK_COLOUR,
            "linewidth": 2.0,
            "label": f"seed {seed}, {role}",
        }
        if seed != leader:
            style = {"color": "#7a8794", "linewidth": 0.9, "alpha": 0.8}
        axes.plot(*zip(*points, strict=True) if points else ([], []), marker=".", **style)
    axes.set(xscale="log", xlabel="iterations", ylabel="validation Jaccard", ylim=(0, None))
    axes.set_xticks(list(rungs), [f"{r:,}" for r in rungs])
    axes.minorticks_off()
    if leader is not None:
        axes.legend(frameon=False, loc="upper left")
    return data_uri(figure)


def slices(
    image: FloatArray,
    liver: Mask,
    raters: Mapping[str, Mask],
    algorithms: Mapping[str, Mask],
    spacing_mm: tuple[float, float, float],
    count: int | None = 3,
) -> Figure:
    """Draw slices, cropped to the liver, with everybody's contours.

    All arrays share one grid (z, y, x); pixels keep their shape in millimetres. `count`: those
    with most lesion; None: every slice with a contour.
    """
    area = np.sum([*algorithms.values(), *raters.values()], axis=0).sum(axis=(1, 2))
    if not area.any():
        # Without any lesion the slices with most liver are the ones to look at.
        area, count = liver.sum(axis=(1, 2)), count or 3
    most = np.argsort(-area, kind="stable")[: count or int((area > 0).sum())]
    chosen = sorted(int(z) for z in most)
    y, x = _around(liver)
    columns = min(len(chosen), 3 if count else 5)
    rows = -(-len(chosen) // columns)
    side = 3.4 if count else 2.2
    figure = Figure(figsize=(side * columns, (side + 0.1) * rows + 0.3), layout="constrained")
    for position, z in enumerate(chosen, start=1):
        axes = figure.add_subplot(rows, columns, position)
        _grey(axes, image[z, y, x], spacing_mm)
        for colour, mask in zip(RATER_COLOURS * 4, raters.values(), strict=False):
            _contour(axes, mask[z, y, x], colour, 1.0)
        for colour, mask in zip(ALGORITHM_COLOURS, algorithms.values(), strict=False):
            _contour(axes, mask[z, y, x], colour, 1.8)
        axes.set_title(f"slice {z + 1} of {len(image)}", fontsize=9 if count else 7)
    lines = [
        Line2D([], [], color=c, linewidth=2, label=name)
        for c, name in zip(ALGORITHM_COLOURS, algorithms, strict=False)
    ]
    lines += [
        Line2D([], [], color=c, linewidth=1.2, label=name)
        for c, name in zip(RATER_COLOURS * 4, raters, strict=False)
    ]
    legend = figure.legend(handles=lines, loc="outside lower center", ncols=6, fontsize=8)
    legend.get_frame().set_facecolor("#444444")
    for text in legend.get_texts():
        text.set_color("white")
    return figure


def disagreement(
    image: FloatArray,
    liver: Mask,
    network: Mask,
    heat: FloatArray,
    spacing_mm: tuple[float, float, float],
) -> str:
    """Draw the slice with most disagreement twice: with the network's contour, with the heat.

    All arrays share one grid (z, y, x). `heat` goes from 0, where all networks agree, to 1.
    """
    disputed = heat.sum(axis=(1, 2), dtype=np.float64)
    # Where nobody disagrees the slice with most lesion is shown, else that with most liver.
    amounts = (disputed, network.sum(axis=(1, 2)), liver.sum(axis=(1, 2)))
    z = int(next((a for a in amounts if a.any()), amounts[0]).argmax())
    y, x = _around(liver)
    figure = Figure(figsize=(7.2, 3.9), layout="constrained")
    left, right = (figure.add_subplot(1, 2, position) for position in (1, 2))
    for axes in (left, right):
        _grey(axes, image[z, y, x], spacing_mm)
    _contour(left, network[z, y, x], NETWORK_COLOUR, 1.8)
    left.set_title(f"segmentation, slice {z + 1} of {len(image)}", fontsize=9)
    shown = right.imshow(
        np.ma.masked_less_equal(heat[z, y, x], 0),
        cmap=HEAT_COLOURS,
        vmin=0,
        vmax=1,
        alpha=0.8,
        aspect=spacing_mm[1] / spacing_mm[2],
        interpolation="nearest",
    )
    right.set_title("where several seeds disagree", fontsize=9)
    bar = figure.colorbar(
        shown, ax=[left, right], location="bottom", ticks=[0, 0.5, 1], shrink=0.5, aspect=30
    )
    bar.ax.set_xticklabels(["all agree", "", "half against half"], fontsize=8)
    return slices_uri(figure)


def _around(liver: Mask) -> tuple[slice, slice]:
    """Return the rows and columns that show the liver with a margin."""
    box = bounding_box(liver)
    assert box is not None, "a case without liver is refused when it is prepared"
    y, x = (
        slice(max(0, b.start - MARGIN_VOXELS), b.stop + MARGIN_VOXELS) for b in (box[1], box[2])
    )
    return y, x


def _grey(axes: Axes, pixels: FloatArray, spacing_mm: tuple[float, float, float]) -> None:
    """Show a slice (y, x) in grey, its pixels as they are in millimetres."""
    low, high = GREY_RANGE
    axes.imshow(
        pixels,
        cmap="gray",
        vmin=low,
        vmax=high,
        aspect=spacing_mm[1] / spacing_mm[2],
        interpolation="bilinear",
    )
    axes.set_axis_off()


def _contour(axes: Axes, mask: Mask, colour: str, width: float) -> None:
    if mask.any() and not mask.all():
        axes.contour(mask.astype(float), levels=[0.5], colors=[colour], linewidths=width)


def data_uri(figure: Figure) -> str:
    """Return a figure as a PNG that a page can hold."""
    return _uri("png", drawn(figure, "png"))


def slices_uri(figure: Figure) -> str:
    """Return a figure of slices as a WebP that a page can hold: a tenth of the PNG.

    A noisy one loses more detail, so that 19 cases of 400 x 400 x 80 voxels stay below 15 MB.
    """
    data = b""
    for quality in QUALITIES:
        data = drawn(figure, "webp", quality)
        if len(data) <= PICTURE_BYTES:
            break
    return _uri("webp", data)


def drawn(figure: Figure, kind: Literal["png", "svg", "webp"], quality: int | None = None) -> bytes:
    """Return a figure as a file's bytes; the same numbers give the same bytes.

    `quality` is that of a WebP, to 100.
    """
    target = io.BytesIO()
    # No date in the file, and no random ids.
    metadata = {"png": {"Software": None}, "svg": {"Date": None}, "webp": None}[kind]
    options: dict[str, Any] = {} if quality is None else {"pil_kwargs": {"quality": quality}}
    with rc_context({"svg.hashsalt": "liverseg"}):
        figure.savefig(target, format=kind, dpi=110, metadata=metadata, **options)
    return target.getvalue()


def _uri(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
