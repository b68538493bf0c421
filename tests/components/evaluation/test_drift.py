"""The distances between data sets that TFDV computes, compared with SciPy."""

import pathlib

import numpy as np
import pytest
import scipy.spatial
import scipy.stats
import tensorflow_data_validation as tfdv
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from components.evaluation import drift
from tests.support import corruptions
from tests.support.span_folders import bars

JS = "jensen_shannon_divergence"
POSITIONS = ["position_mean", "position_variance", "row_mean", "column_mean"]
SCHEMA = pathlib.Path(__file__).parents[3] / "pipeline" / "schema.pbtxt"


@pytest.fixture(scope="module")
def schema():
    return tfdv.load_schema_text(str(SCHEMA))


def statistics(images, labels, batch=300):
    flat = images.reshape(len(images), -1)
    starts = range(0, len(flat), batch)
    return drift.compute_statistics(
        (flat[s:][:batch], labels[s:][:batch]) for s in starts
    )


def of_split(arrays, split="train"):
    return statistics(arrays[f"{split}_images"], arrays[f"{split}_labels"])


def too_far(schema, images, labels, before):
    """Returns the features that have drifted."""
    found = drift.measure_distances(
        schema, statistics(images, labels), test=None, baseline=before
    )
    return {each.feature for each in found if each.is_too_far}


def jensen_shannon(one, other):
    """Returns the Jensen-Shannon divergence of two histograms, in bits."""
    return scipy.spatial.distance.jensenshannon(one, other, base=2) ** 2


def of_shares(one, other):
    """Returns the mean divergence between Bernoulli distributions of shares."""
    pairs = zip(one.ravel(), other.ravel())
    return np.mean([jensen_shannon([p, 1 - p], [q, 1 - q]) for p, q in pairs])


def drift_of(schema, now, before):
    """Returns the drift by feature and measure, from statistics to statistics."""
    found = drift.measure_distances(schema, now, test=None, baseline=before)
    assert {each.kind for each in found} == {"drift"}
    return {(each.feature, each.measure): each.distance for each in found}


def of_positions(schema, now, before):
    """Returns the drift of the features that see positions."""
    found = drift_of(schema, statistics(now, LABELS), statistics(before, LABELS))
    return {name: found[name, JS] for name in POSITIONS}


def test_tfdv_measures_what_scipy_does(schema):
    one, other = bars(0), bars(1)
    other["train_images"] = other["train_images"] // 3
    images = [a["train_images"] for a in (one, other)]
    labels = [np.bincount(a["train_labels"]) / 1000 for a in (one, other)]
    pixels = [np.histogram(i, np.arange(0, 257, 16))[0] for i in images]
    means = [np.histogram(i.mean((1, 2)), np.arange(0, 257, 8))[0] for i in images]
    shares = [i / 255 for i in images]
    expected = {
        ("label", "infinity_norm"): np.abs(labels[0] - labels[1]).max(),
        ("label", JS): jensen_shannon(*labels),
        ("pixel", JS): jensen_shannon(*pixels),
        ("image_mean", JS): jensen_shannon(*means),
        ("position_mean", JS): of_shares(*(s.mean(0) for s in shares)),
        ("position_variance", JS): of_shares(*(4 * s.var(0) for s in shares)),
        ("row_mean", JS): of_shares(*(s.mean((0, 2)) for s in shares)),
        ("column_mean", JS): of_shares(*(s.mean((0, 1)) for s in shares)),
    }
    found = drift_of(schema, of_split(one), of_split(other))
    assert found == pytest.approx(expected)
    assert list(found) == list(expected)


# Statistics that see positions.

LABELS = np.zeros(2, int)


def lit(*rows, columns=slice(None)):
    """Returns two equal black images with white rows, or with white parts of rows."""
    images = np.zeros([2, 28, 28], np.uint8)
    images[:, rows, columns] = 255
    return images


def test_the_divergence_of_black_and_white_is_one_bit_a_position(schema):
    assert of_positions(schema, lit(3), lit(4)) == pytest.approx(
        {
            "position_mean": 2 / 28,
            "position_variance": 0,
            "row_mean": 2 / 28,
            "column_mean": 0,
        }
    )


def test_two_swapped_rows_change_the_row_mean_alone_by_their_own_divergence(schema):
    before = lit(6, columns=slice(7))  # a quarter of the row is white
    now = before.copy()
    now[:, [6, 7]] = now[:, [7, 6]]
    # Jensen-Shannon divergence of Bernoulli(0) and Bernoulli(1/4): H(1/8) - H(1/4) / 2
    entropy = [scipy.stats.entropy([p, 1 - p], base=2) for p in (1 / 8, 1 / 4)]
    found = of_positions(schema, now, before)
    assert found == pytest.approx(
        {
            "position_mean": 14 / 784,
            "position_variance": 0,
            "row_mean": 2 / 28 * (entropy[0] - entropy[1] / 2),
            "column_mean": 0,
        }
    )


def test_a_position_that_varies_has_another_variance_with_the_same_mean(schema):
    grey, varying = np.zeros([2, 2, 28, 28], np.uint8)
    grey[:, 5, 5] = 100
    varying[:, 5, 5] = 0, 200
    share = 4 * (100 / 255) ** 2  # of the largest variance, that of 0 and 255
    assert of_positions(schema, varying, grey) == pytest.approx(
        {
            "position_mean": 0,
            "position_variance": jensen_shannon([share, 1 - share], [0, 1]) / 784,
            "row_mean": 0,
            "column_mean": 0,
        }
    )


def test_positions_count_as_much_before_a_white_background(schema):
    now, before = bars(0)["train_images"][:2], bars(1)["train_images"][:2]
    assert of_positions(schema, 255 - now, 255 - before) == pytest.approx(
        of_positions(schema, now, before)
    )


def test_black_images_have_distances_like_all_others(schema):
    black, white = np.zeros([2, 28, 28], np.uint8), np.full([2, 28, 28], 255, np.uint8)
    zero = dict.fromkeys(POSITIONS, 0)
    assert of_positions(schema, black, black) == zero
    assert of_positions(schema, white, white) == zero
    # A black and a white image at each position differ by one bit.
    means = {"position_mean": 1, "row_mean": 1, "column_mean": 1}
    assert of_positions(schema, black, white) == pytest.approx(zero | means)


def without(found, *names):
    """Returns statistics that lack features, as an older release computed them."""
    old = drift.Statistics()
    old.CopyFrom(found)
    kept = [f for f in found.datasets[0].features if f.path.step[0] not in names]
    del old.datasets[0].features[:]
    old.datasets[0].features.extend(kept)
    return old


def test_what_an_older_baseline_lacks_is_listed_and_the_rest_is_measured(schema):
    now, before = of_split(bars(0)), of_split(bars(1))
    old = without(before, *POSITIONS)
    assert drift.list_missing_features(schema, before) == []
    assert drift.list_missing_features(schema, old) == POSITIONS
    both = drift.measure_distances(schema, now, test=before, baseline=before)
    assert drift.measure_distances(schema, now, test=before, baseline=old) == [
        each for each in both if each.kind == "skew" or each.feature not in POSITIONS
    ]


def test_a_feature_without_a_drift_comparator_is_not_missing():
    schema = text_format.Parse(
        'feature { name: "row_mean" skew_comparator { '
        "jensen_shannon_divergence { threshold: 0.5 } } } "
        'feature { name: "unknown" drift_comparator { '
        "jensen_shannon_divergence { threshold: 0.5 } } }",
        schema_pb2.Schema(),
    )
    old = without(of_split(bars(0)), *POSITIONS)
    assert drift.list_missing_features(schema, old) == []


DIGITS = corruptions.load_other_digits()


@pytest.mark.parametrize("name", corruptions.MUST_STOP)
def test_a_corruption_is_too_far_from_a_data_set(schema, name):
    """On scikit-learn's digits: half of them are corrupted, half are clean."""
    images, labels = DIGITS
    if name == "rows swapped in pairs":
        images = corruptions.blur(images)  # else groups of three rows are equal
    before = statistics(images[::2], labels[::2])
    assert too_far(schema, images[1::2], labels[1::2], before) == set()
    corrupted = corruptions.MUST_STOP[name](images[1::2], labels[1::2])
    assert too_far(schema, *corrupted, before) & SEES[name]


SEES = {
    "transposed": {"row_mean", "column_mean"},
    "flipped left-right": {"position_mean", "position_variance"},
    "flipped up-down": {"position_mean", "position_variance"},
    "rotated by 90 degrees": {"row_mean", "column_mean"},
    "shifted by 3 pixels": {"column_mean"},
    "inverted": {"pixel"},
    "contrast halved": {"pixel"},
    "rows swapped in pairs": {"row_mean"},
}


@pytest.mark.parametrize(("down", "right"), [(3, 0), (-3, 0), (0, 3), (0, -3)])
def test_a_shift_in_each_direction_is_too_far(schema, down, right):
    images, labels = DIGITS
    shifted = corruptions.shift(images[1::2], down=down, right=right)
    before = statistics(images[::2], labels[::2])
    name = "row_mean" if down else "column_mean"
    assert name in too_far(schema, shifted, labels[1::2], before)


def test_another_data_set_is_too_far(schema):
    before = of_split(bars(0))
    assert too_far(schema, *DIGITS, before) >= {"pixel", *POSITIONS}


def test_shuffled_labels_are_not_seen(schema):
    images, labels = DIGITS
    before = statistics(images, labels)
    shuffled = corruptions.shuffle_labels(images, labels)
    assert (shuffled[1] != labels).mean() > 0.8
    assert set(drift_of(schema, statistics(*shuffled), before).values()) == {0.0}


def test_statistics_are_the_same_in_any_order(schema):
    arrays = bars(0)
    order = np.random.default_rng(0).permutation(1000)
    images, labels = arrays["train_images"], arrays["train_labels"]
    for batch in (1, 77, 1000):
        assert statistics(images[order], labels[order], batch) == of_split(arrays)
    found = of_split(arrays)
    assert drift.count_images(found) == 1000
    for each in drift.measure_distances(schema, found, test=found, baseline=found):
        assert (each.distance, each.is_too_far) == (0.0, False)


def test_skew_and_drift_are_both_measured_if_both_are_there(schema):
    train, test = (of_split(bars(0), split) for split in ("train", "test"))
    found = drift.measure_distances(schema, train, test=test, baseline=train)
    kinds = [(each.feature, each.kind) for each in found]
    both, twice = ["drift", "skew"], ["drift", "drift", "skew", "skew"]
    features = {"label": twice, "pixel": both, "image_mean": both}
    features |= dict.fromkeys(POSITIONS, both)
    assert kinds == [(name, kind) for name in features for kind in features[name]]
    assert drift.measure_distances(schema, train, test=None, baseline=None) == []
    skew = [each for each in found if each.kind == "skew"]
    assert drift.measure_distances(schema, train, test=test, baseline=None) == skew


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("count", [500, 1000])
def test_spans_of_the_same_kind_pass(schema, seed, count):
    one, other = bars(seed, count, 1), bars(100 + seed, count, 1)
    before = of_split(other)
    assert too_far(schema, one["train_images"], one["train_labels"], before) == set()


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("change", "features"),
    [
        (lambda x: 255 - x, {"pixel", "image_mean"}),
        (lambda x: x // 2, {"pixel", "image_mean"}),  # values 0..127
        (lambda x: x // 255, {"pixel", "image_mean"}),  # values 0 and 1
        (lambda x: np.where(x > 200, 255, 0).astype(np.uint8), {"pixel", "image_mean"}),
        (np.zeros_like, {"pixel", "image_mean"}),
    ],
    ids=["inverted", "0..127", "0..1", "black and white", "black"],
)
def test_images_gone_wrong_are_caught(schema, seed, change, features):
    before = of_split(bars(100 + seed))
    now = bars(seed)
    images = change(now["train_images"])
    assert too_far(schema, images, now["train_labels"], before) >= features


@pytest.mark.parametrize("digit", range(10))
def test_a_tripled_class_is_caught(schema, digit):
    before = bars(digit)
    times = np.where(before["train_labels"] == digit, 3, 1)
    images, labels = (
        before[f"train_{s}"].repeat(times, 0) for s in ("images", "labels")
    )
    share = (before["train_labels"] == digit).mean()
    found = drift_of(schema, statistics(images, labels), of_split(before))
    expected = 3 * share / (1 + 2 * share) - share
    assert found["label", "infinity_norm"] == pytest.approx(expected)
    assert "label" in too_far(schema, images, labels, of_split(before))


@pytest.mark.parametrize("digit", range(10))
def test_a_missing_class_is_caught(schema, digit):
    before, now = bars(100 + digit), bars(digit)
    rows = now["train_labels"] != digit
    images, labels = now["train_images"][rows], now["train_labels"][rows]
    assert "label" in too_far(schema, images, labels, of_split(before))


def test_a_new_label_is_caught(schema):
    now = bars(0)
    labels = np.where(now["train_labels"] == 3, 4, now["train_labels"])
    assert "label" in too_far(schema, now["train_images"], labels, of_split(bars(1)))


def test_a_distance_says_what_is_too_far():
    far = drift.Distance("pixel", "drift", 0.12345, 0.02, "jensen_shannon_divergence")
    assert far.is_too_far
    assert str(far) == (
        "feature 'pixel' by 0.1235 (jensen_shannon_divergence), above the threshold "
        "0.02"
    )
    assert not far._replace(distance=0.02).is_too_far
    assert far._replace(distance=float("nan")).is_too_far


def test_a_feature_without_a_comparator_is_not_measured():
    schema = text_format.Parse(
        'feature { name: "label" type: INT drift_comparator { '
        "jensen_shannon_divergence { threshold: 0.5 } } } "
        'feature { name: "pixel" type: FLOAT }',
        schema_pb2.Schema(),
    )
    one, other = bars(0), bars(1)
    (found,) = drift.measure_distances(
        schema, of_split(one), test=of_split(one), baseline=of_split(other)
    )
    counts = [np.bincount(a["train_labels"]) for a in (one, other)]
    assert found.distance == pytest.approx(jensen_shannon(*counts))
    assert (found.feature, found.measure) == ("label", "jensen_shannon_divergence")


def test_the_reviewed_schema_has_a_threshold_for_everything(schema):
    for feature in schema.feature:
        has = feature.HasField("drift_comparator"), feature.HasField("skew_comparator")
        assert has == ((False, False) if feature.name == "image" else (True, True))
