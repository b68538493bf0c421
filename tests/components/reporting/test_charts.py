"""The report's charts: size, colours and files."""

import io

import numpy as np
import pytest
from matplotlib.colors import to_hex
from PIL import Image

from components.reporting import charts

STEPS = [("Ingest", 16.0, True), ("Trainer", 150.5, False), ("Pusher", 0.0, False)]


@pytest.fixture(scope="module")
def steps():
    (axes,) = charts.draw_seconds_per_step(STEPS).axes
    return axes


def test_each_step_is_a_bar_of_its_seconds(steps):
    assert [bar.get_width() for bar in steps.patches] == [16.0, 150.5, 0.0]
    assert steps.get_xlabel() == "seconds"


def test_the_first_step_is_at_the_top_beside_its_name(steps):
    names = [label.get_text() for label in steps.get_yticklabels()]
    assert names == ["Ingest", "Trainer", "Pusher"]
    centres = [bar.get_y() + bar.get_height() / 2 for bar in steps.patches]
    assert centres == pytest.approx(steps.get_yticks())
    heights = steps.transData.transform([(0, centre) for centre in centres])[:, 1]
    assert heights.tolist() == sorted(heights, reverse=True)


def test_a_cached_step_is_grey_and_has_no_seconds(steps):
    colours = [to_hex(bar.get_facecolor()) for bar in steps.patches]
    assert colours == [charts.GREY, charts.BLUE, charts.BLUE]
    texts = [text.get_text() for text in steps.texts]
    assert texts == ["from the cache", "150.5 s", "0.0 s"]


def test_each_text_begins_just_behind_its_bar(steps):
    longest = 150.5
    for text, bar in zip(steps.texts, steps.patches):
        x, y = text.get_position()
        assert bar.get_width() < x < bar.get_width() + 0.02 * longest
        assert y == bar.get_y() + bar.get_height() / 2
        assert text.get_va() == "center"


def test_the_longest_bar_leaves_room_for_its_text(steps):
    left, right = steps.get_xlim()
    assert left == 0
    assert 1.1 * 150.5 < right < 1.2 * 150.5


def test_more_steps_make_a_higher_chart():
    few, many = (charts.draw_seconds_per_step(STEPS * n) for n in (1, 4))
    added = many.get_figheight() - few.get_figheight()
    assert added / 9 == pytest.approx(0.28)
    assert few.get_figheight() == pytest.approx(0.9 + 3 * 0.28)
    assert few.get_figwidth() == many.get_figwidth() == 9.0


@pytest.mark.parametrize("steps", [[], [("Ingest", 0.0, True)]])
def test_without_a_second_there_is_a_chart_too(steps):
    (axes,) = charts.draw_seconds_per_step(steps).axes
    assert axes.get_xlim() == (0, 1.15)
    assert len(axes.patches) == len(steps)


def test_axes_have_a_line_left_and_below_and_small_labels():
    figure, axes = charts.make_chart(2.5)
    assert figure.get_size_inches().tolist() == [9.0, 2.5]
    shown = {side: spine.get_visible() for side, spine in axes.spines.items()}
    assert shown == {"left": True, "bottom": True, "right": False, "top": False}
    assert {label.get_size() for label in axes.get_xticklabels()} == {8.5}


def test_a_png_has_a_palette_of_at_most_128_colours_and_keeps_rare_ones():
    figure, axes = charts.make_chart(3.0)
    rng = np.random.default_rng(0)
    axes.imshow(rng.random([60, 60, 3]), aspect="auto")
    axes.text(0, 0, "x", color="red")
    picture = Image.open(io.BytesIO(charts.encode_png(figure)))
    assert (picture.format, picture.mode, picture.size) == ("PNG", "P", (990, 330))
    assert 100 < len(picture.getcolors()) <= 128
    assert picture.convert("RGB").getpixel((1, 1)) == (255, 255, 255)


def test_a_drawing_in_one_colour_keeps_it():
    figure, axes = charts.make_chart(1.0)
    axes.axis("off")
    axes.axhspan(0, 1, color=charts.BLUE)
    picture = Image.open(io.BytesIO(charts.encode_png(figure))).convert("RGB")
    middle = picture.getpixel((picture.width // 2, picture.height // 2))
    assert "#" + bytes(middle).hex() == charts.BLUE
