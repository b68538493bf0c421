"""The report's figures, tested by properties of their pixels and axes."""

import io

import numpy as np
import pytest
from PIL import Image

from components.reporting import charts, figures
from components.reporting.measurements import DigitImages, ScoredImages


@pytest.fixture(scope="module")
def scores():
    rng = np.random.default_rng(0)
    return ScoredImages(
        pixels=rng.integers(0, 2, [300, 28, 28, 1]).astype(np.float32),
        labels=np.arange(300) % 10,
        elbo=rng.normal(-100, 10, 300),
        baseline=rng.normal(-103, 10, 300),
        loc=rng.normal(size=[300, 4]).astype(np.float32),
    )


@pytest.fixture(scope="module")
def digits(scores):
    images = np.tile(scores.pixels, [4, 1, 1, 1])
    return DigitImages(
        labels=np.arange(10),
        ten=images[:30].reshape(3, 10, 28, 28, 1),
        samples=images[:96],
        latents=np.array([2, 0, 3, 1]),
        traversals=images[:44].reshape(4, 11, 28, 28, 1),
        steps=np.linspace(-3, 3, 11),
        interpolations=images[:55].reshape(5, 11, 28, 28, 1),
        worst=np.arange(10),
        worst_means=images[:10],
    )


CURVES = {
    ("train", "elbo"): [(1, -200.0), (2, -110.0), (3, -100.0), (4, -99.0)],
    ("eval", "elbo"): [(1, -120.0), (2, -105.0), (3, -101.0), (4, -100.0)],
    ("train", "images_per_second"): [(1, 3000.0), (2, 4000.0), (3, 4100.0)],
}


@pytest.fixture(scope="module")
def drawn(scores, digits):
    spread = scores.loc.std(axis=0)
    return {
        "rebuilt": figures.draw_reconstructions(digits),
        "samples": figures.draw_samples(digits),
        "traversals": figures.draw_traversals(digits, spread),
        "interpolations": figures.draw_interpolations(digits),
        "worst": figures.draw_worst(scores, digits),
        "latent_map": figures.draw_latent_map(scores),
        "elbo_histogram": figures.draw_elbo_histogram(scores, -115.0),
        "training": figures.draw_training_curves(CURVES),
        "labels": figures.draw_label_shares({"train": {0: 30, 1: 10}, "test": {0: 5}}),
        "steps": charts.draw_seconds_per_step(
            [("Ingest", 16.0, True), ("Trainer", 150.5, False)]
        ),
    }


NAMES = [
    *("rebuilt", "samples", "traversals", "interpolations", "worst", "latent_map"),
    *("elbo_histogram", "training", "labels", "steps"),
]


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_is_a_small_png_on_white(drawn, name):
    data = charts.encode_png(drawn[name])
    picture = Image.open(io.BytesIO(data))
    assert (picture.format, picture.mode) == ("PNG", "P")
    assert picture.width == 990
    assert picture.convert("RGB").getpixel((1, picture.height - 1)) == (255, 255, 255)
    assert len(data) < 200_000


@pytest.mark.parametrize("name", NAMES)
def test_no_text_is_cut_off_or_covers_another(drawn, name):
    figure = drawn[name]
    figure.draw_without_rendering()
    texts = list(figure.texts)
    for axes in figure.axes:
        texts += [*axes.texts, axes.title, axes.xaxis.label, axes.yaxis.label]
        for axis in (axes.xaxis, axes.yaxis) if axes.axison else ():
            low, high = sorted(axis.get_view_interval())
            texts += [
                tick.label1
                for tick in axis.get_major_ticks()
                if low <= tick.get_loc() <= high
            ]
    boxes = [
        (text.get_text(), text.get_window_extent())
        for text in texts
        if text.get_text() and text.get_visible()
    ]
    assert boxes or name == "samples"
    for number, (text, box) in enumerate(boxes):
        assert -1 <= box.x0 < box.x1 <= figure.bbox.width + 1, text
        assert -1 <= box.y0 < box.y1 <= figure.bbox.height + 1, text
        for other, of_other in boxes[number + 1 :]:
            assert not box.padded(-1).overlaps(of_other.padded(-1)), (text, other)


def test_images_are_where_they_belong(drawn, digits):
    (axes,) = drawn["rebuilt"].axes
    picture = axes.images[0].get_array()
    side = picture.shape[1] // 10
    for row, column in ((0, 0), (1, 3), (2, 9)):
        cell = picture[row * side : (row + 1) * side, column * side :][:, :side]
        # Each pixel covers 4 x 4 pixels of the figure, inside a frame and a margin.
        image = cell[5:-5:4, 5:-5:4]
        np.testing.assert_array_equal(image, digits.ten[row, column, ..., 0])


def test_the_histogram_counts_every_image_between_its_ends(drawn, scores):
    (axes,) = drawn["elbo_histogram"].axes
    filled = [patch for patch in axes.patches if hasattr(patch, "get_width")]
    counted = sum(patch.get_height() for patch in filled)
    both = np.concatenate([scores.elbo, scores.baseline])
    low, high = np.quantile(both, (0.001, 0.999))
    assert counted == np.sum((both >= low) & (both <= high))
    labels = axes.get_legend_handles_labels()[1]
    assert labels == [
        f"candidate, mean {scores.elbo.mean():.2f}",
        f"baseline, mean {scores.baseline.mean():.2f}",
        "floor of the mean, -115.00",
    ]


def test_a_model_without_a_finite_elbo_has_a_histogram_that_says_so(scores):
    broken = scores._replace(elbo=scores.elbo * np.nan, baseline=None)
    (axes,) = figures.draw_elbo_histogram(broken, -100).axes
    assert [text.get_text() for text in axes.texts] == ["no ELBO is a finite number"]


def test_the_curves_are_those_given(drawn):
    elbo, *_, speed, legend = drawn["training"].axes
    lines = {line.get_label(): line.get_xydata().tolist() for line in elbo.lines}
    assert lines == {
        "train": [[1, -200], [2, -110], [3, -100], [4, -99]],
        "eval": [[1, -120], [2, -105], [3, -101], [4, -100]],
    }
    assert elbo.get_ylim()[0] > -120  # without the first epoch
    assert speed.lines[0].get_ydata().tolist() == [3000, 4000, 4100]
    assert [text.get_text() for text in legend.get_legend().get_texts()] == [
        "train",
        "eval",
    ]


def test_label_shares_are_percents(drawn):
    (axes,) = drawn["labels"].axes
    assert [bar.get_height() for bar in axes.patches] == [75, 25, 100, 0]


def test_marks_keep_their_distance():
    places = np.array([[0.0, 0.0], [0.01, 0.0], [5.0, 5.0]])
    moved = figures._move_apart(places, np.array([1.0, 2.0]))
    assert np.linalg.norm((moved[0] - moved[1]) / [1.0, 2.0]) >= 0.99
    np.testing.assert_array_equal(moved[2], places[2])
