"""The report's figures of models and data."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from components.reporting.charts import BLUE, WIDTH, make_chart, remove_box
from components.reporting.measurements import (
    DigitImages,
    ScoredImages,
    compute_principal_plane,
)
from model.training.tensorboard import Curve

_CANDIDATE, _BASELINE = BLUE, "#d1701f"
_LEGEND_ABOVE: dict[str, Any] = {
    "loc": "lower left",
    "bbox_to_anchor": (0, 1),
    "ncols": 3,
}  # a legend above the chart, where it hides nothing
_TERMS = ("elbo", "reconstruction", "kl")
_LEVELS = (0.001, 0.999)  # quantiles of the values, between which the axis extends


def draw_reconstructions(digits: DigitImages) -> Figure:
    """Returns a figure of ten images and of p(x|z)'s modes and means for them."""
    return _draw_rows(
        list(digits.ten),
        ["input", "mode of p(x|z)", "mean of p(x|z)"],
        columns=[f"label {label}" for label in digits.labels],
    )


def draw_samples(digits: DigitImages) -> Figure:
    """Returns a figure of p(x|z)'s modes for samples z of the prior."""
    rows = digits.samples.reshape(-1, 16, *digits.samples.shape[1:])
    return _draw_rows(list(rows))


def draw_traversals(digits: DigitImages, spread: np.ndarray) -> Figure:
    """Returns a figure of p(x|z)'s means while one latent at a time changes.

    Args:
      digits: the images to draw.
      spread: the standard deviation of the posterior means, for each latent, [Z].
    """
    names = [f"z{latent}  (sd {spread[latent]:.2f})" for latent in digits.latents]
    return _draw_rows(
        list(digits.traversals),
        names,
        columns=[f"{step:+.1f} sd" if step else "mean" for step in digits.steps],
    )


def draw_interpolations(digits: DigitImages) -> Figure:
    """Returns a figure of p(x|z)'s means on lines between two images' latents."""
    count = digits.interpolations.shape[1]
    shares = [f"{100 * step / (count - 1):.0f}%" for step in range(count)]
    return _draw_rows(list(digits.interpolations), columns=shares)


def draw_worst(test: ScoredImages, digits: DigitImages) -> Figure:
    """Returns a figure of the images with the lowest ELBO and their reconstructions."""
    columns = [
        f"label {test.labels[number]}\n{test.elbo[number]:.0f} nats"
        for number in digits.worst
    ]
    images = [test.pixels[digits.worst], digits.worst_means]
    return _draw_rows(images, ["input", "mean of p(x|z)"], columns=columns)


def _draw_rows(
    rows: list[np.ndarray], names: Sequence[str] = (), *, columns: Sequence[str] = ()
) -> Figure:
    """Returns a figure of images in rows and columns.

    All images are drawn as one, because axes for each image would take seconds.

    Args:
      rows: the images of each row, float32 [C, 28, 28, 1] in [0, 1].
      names: a name for each row, to its left; or none.
      columns: a title for each column; or none.
    """
    count, size = len(rows[0]), rows[0].shape[1]
    left = 1.25 if names else 0.03  # inches, for the names
    top = 0.06 + 0.16 * max((text.count("\n") + 1 for text in columns), default=0)
    side = (WIDTH - left - 0.03) / count
    height = top + side * len(rows) + 0.03
    figure = Figure(figsize=(WIDTH, height))
    place = (left / WIDTH, 0.03 / height, side * count / WIDTH, 1)
    axes = figure.add_axes((*place[:3], side * len(rows) / height))
    zoom = 4  # so that a thin frame fits
    pixels = np.stack(rows)[..., 0].repeat(zoom, axis=2).repeat(zoom, axis=3)
    for width, grey in ((1, 0.2), (zoom, 0.0)):  # a frame, and space around it
        pixels = np.pad(
            pixels,
            [(0, 0), (0, 0), (width, width), (width, width)],
            constant_values=grey,
        )
    side_pixels = size * zoom + 2 * (1 + zoom)
    picture = pixels.transpose(0, 2, 1, 3).reshape(len(rows) * side_pixels, -1)
    axes.imshow(picture, cmap="gray_r", vmin=0.0, vmax=1.0, aspect="auto")
    axes.set_axis_off()
    for c, text in enumerate(columns):
        x = (left + (c + 0.5) * side) / WIDTH
        figure.text(x, 1 - top / height, text, fontsize=8, ha="center", va="bottom")
    for r, text in enumerate(names):
        y = 1 - (top + (r + 0.5) * side) / height
        figure.text((left - 0.08) / WIDTH, y, text, fontsize=8, ha="right", va="center")
    return figure


def draw_latent_map(test: ScoredImages) -> Figure:
    """Returns a scatter plot of the posterior means' first two principal components."""
    plane, shares = compute_principal_plane(test.loc)
    figure, axes = make_chart(6.2)
    classes = np.unique(test.labels)
    centers = [np.median(plane[test.labels == label], axis=0) for label in classes]
    marks = _move_apart(np.stack(centers), 0.06 * np.ptp(plane, axis=0))
    # In a random order, so that no label's points hide those of the others.
    order = np.random.default_rng(0).permutation(len(plane))
    colours = colormaps["tab10"](np.searchsorted(classes, test.labels) % 10)
    x, y = plane[order].T
    axes.scatter(x, y, s=5, color=colours[order], alpha=0.6, linewidths=0)
    for number, (label, mark) in enumerate(zip(classes, marks)):
        colour = colormaps["tab10"](number % 10)
        axes.text(
            mark[0],
            mark[1],
            str(label),
            fontsize=13,
            fontweight="bold",
            ha="center",
            va="center",
            bbox={"boxstyle": "circle,pad=0.25", "fc": "white", "ec": colour, "lw": 2},
        )
    axes.set_xlabel(f"first principal component ({shares[0]:.1%} of the variance)")
    axes.set_ylabel(f"second principal component ({shares[1]:.1%} of the variance)")
    return figure


def _move_apart(places: np.ndarray, least: np.ndarray) -> np.ndarray:
    """Moves points away from each other until they are far enough apart.

    Args:
      places: the points, [N, 2].
      least: the least distance along each axis, [2].
    """
    scale = np.where(least > 0, least, 1.0)
    moved = places / scale
    for _ in range(100):
        way = moved[:, np.newaxis] - moved
        distance = np.linalg.norm(way, axis=2)
        near = (distance < 1) & ~np.eye(len(moved), dtype=bool)
        if not near.any():
            break
        push = np.where(near, (1 - distance) / 2, 0.0)[..., np.newaxis]
        moved = moved + (push * way / np.maximum(distance, 1e-6)[..., np.newaxis]).sum(
            1
        )
    return moved * scale


def draw_elbo_histogram(test: ScoredImages, floor: float) -> Figure:
    """Returns a histogram of the images' ELBOs for the candidate and the baseline.

    Args:
      test: the ELBOs of each image.
      floor: the gate's floor for the mean ELBO, in nats.
    """
    figure, axes = make_chart(3.8)
    both = [
        ("candidate", test.elbo, _CANDIDATE),
        ("baseline", test.baseline, _BASELINE),
    ]
    models = [
        (name, values[np.isfinite(values)], colour)
        for name, values, colour in both
        if values is not None and np.isfinite(values).any()
    ]
    if not models:
        axes.text(0.5, 0.5, "no ELBO is a finite number", ha="center")
        return figure
    ends = np.quantile(np.concatenate([values for _, values, _ in models]), _LEVELS)
    bins = np.linspace(ends[0], ends[1] + 1e-6, 81).tolist()
    for name, values, colour in models:
        mean = values.mean()
        label = f"{name}, mean {mean:.2f}"
        axes.hist(values, bins, color=colour, alpha=0.35)
        axes.hist(values, bins, color=colour, histtype="step", linewidth=1.3)
        axes.axvline(mean, color=colour, linewidth=1.6, label=label)
    axes.set_xlim(bins[0], bins[-1])  # even if the floor is outside
    label = f"floor of the mean, {floor:.2f}"
    axes.axvline(floor, color="#444444", linewidth=1.0, linestyle="--", label=label)
    axes.set_xlabel("ELBO of an image, nats (higher is better)")
    axes.set_ylabel("images")
    axes.legend(fontsize=9, frameon=False, **_LEGEND_ABOVE)
    return figure


def draw_training_curves(curves: Mapping[tuple[str, str], Curve]) -> Figure:
    """Returns a figure of the training curves: metrics by epoch, for train and eval.

    Args:
      curves: the curves by split and metric; a point is an epoch and a value.
    """
    figure = Figure(figsize=(WIDTH, 5.4), layout="constrained")
    grid = figure.subplots(2, 3)
    panels = [
        ("ELBO", "nats per image", "elbo"),
        ("reconstruction", "nats per image", "reconstruction"),
        ("KL", "nats per image", "kl"),
        ("learning rate", "at the epoch's end", "learning_rate"),
        ("speed", "images/s", "images_per_second"),
    ]
    for axes, (title, unit, name) in zip(grid.flat, panels):
        for split, colour in (("train", _BASELINE), ("eval", _CANDIDATE)):
            if curve := curves.get((split, name)):
                axes.plot(*zip(*curve), "o-", ms=3, lw=1.3, color=colour, label=split)
        later = [v for (_, of), c in curves.items() if of == name for _, v in c[1:]]
        if name in _TERMS and len(later) > 4:
            # With the first epoch's value, the others would look like a flat line.
            margin = 0.1 * np.ptp(later) + 0.1
            axes.set_ylim(min(later) - margin, max(later) + margin)
        axes.set_title(title, fontsize=10)
        axes.set_ylabel(unit, fontsize=8)
        axes.set_xlabel("epoch", fontsize=8)
        axes.xaxis.get_major_locator().set_params(integer=True)
        remove_box(axes)
    grid[1, 1].set_ylim(bottom=0)
    legend = grid[1, 2]
    legend.set_axis_off()
    handles, names = grid[0, 0].get_legend_handles_labels()
    if handles:
        legend.legend(handles, names, title="split", loc="center", frameon=False)
    return figure


def draw_label_shares(counts: Mapping[str, Mapping[int, int]]) -> Figure:
    """Returns a bar chart of each label's share in each split, in percent.

    Args:
      counts: the number of images for each split and label.
    """
    figure, axes = make_chart(3.0)
    labels = sorted({label for of_split in counts.values() for label in of_split})
    width = 0.8 / max(len(counts), 1)
    for number, (split, of_split) in enumerate(counts.items()):
        total = max(sum(of_split.values()), 1)
        places = np.arange(len(labels)) + (number - (len(counts) - 1) / 2) * width
        shares = [100 * of_split.get(label, 0) / total for label in labels]
        axes.bar(places, shares, width, label=split, color=colormaps["tab10"](number))
    axes.set_xticks(np.arange(len(labels)), [str(label) for label in labels])
    axes.set_xlabel("label")
    axes.set_ylabel("% of the split")
    axes.legend(fontsize=9, frameon=False, **_LEGEND_ABOVE)
    return figure
