"""The distances between data sets that TFDV computes, compared with NumPy."""

import pathlib

import numpy as np
import pytest
import tensorflow_data_validation as tfdv
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from components.evaluation import drift
from tests.support.span_folders import bars

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
    p, q = one / one.sum(), other / other.sum()
    middle = (p + q) / 2

    def relative_entropy(x):
        there = x > 0
        return np.sum(x[there] * np.log2(x[there] / middle[there]))

    return (relative_entropy(p) + relative_entropy(q)) / 2


def test_tfdv_measures_what_numpy_does(schema):
    one, other = bars(0), bars(1)
    other["train_images"] = other["train_images"] // 3
    images = [a["train_images"].reshape(1000, -1) for a in (one, other)]
    shares = [np.bincount(a["train_labels"]) / 1000 for a in (one, other)]
    pixels = [np.histogram(i, np.arange(0, 257, 16))[0] for i in images]
    means = [np.histogram(i.mean(1), np.arange(0, 257, 8))[0] for i in images]
    expected = {
        "label": np.abs(shares[0] - shares[1]).max(),
        "pixel": jensen_shannon(*pixels),
        "image_mean": jensen_shannon(*means),
    }
    found = drift.measure_distances(
        schema, of_split(one), test=None, baseline=of_split(other)
    )
    assert {each.feature: each.distance for each in found} == pytest.approx(expected)
    assert {each.kind for each in found} == {"drift"}
    assert {each.feature: each.measure for each in found} == {
        "label": "infinity_norm",
        "pixel": "jensen_shannon_divergence",
        "image_mean": "jensen_shannon_divergence",
    }


def test_statistics_are_the_same_in_any_order(schema):
    arrays = bars(0)
    order = np.random.default_rng(0).permutation(1000)
    images, labels = arrays["train_images"], arrays["train_labels"]
    found = statistics(images[order], labels[order], batch=77)
    assert found == of_split(arrays)
    assert drift.count_images(found) == 1000
    for each in drift.measure_distances(schema, found, test=found, baseline=found):
        assert (each.distance, each.is_too_far) == (0.0, False)


def test_skew_and_drift_are_both_measured_if_both_are_there(schema):
    train, test = (of_split(bars(0), split) for split in ("train", "test"))
    found = drift.measure_distances(schema, train, test=test, baseline=train)
    kinds = [(each.feature, each.kind) for each in found]
    features = ("label", "pixel", "image_mean")
    assert kinds == [(name, kind) for name in features for kind in ("drift", "skew")]
    assert drift.measure_distances(schema, train, test=None, baseline=None) == []
    skew = {each.feature: each.distance for each in found if each.kind == "skew"}
    only = drift.measure_distances(schema, train, test=test, baseline=None)
    assert {each.feature: each.distance for each in only} == skew


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
    assert too_far(schema, images, now["train_labels"], before) == features


@pytest.mark.parametrize("digit", range(10))
def test_a_tripled_class_is_caught(schema, digit):
    before, now = bars(100 + digit), bars(digit, train=4000)
    rng = np.random.default_rng(digit)
    weight = np.where(now["train_labels"] == digit, 3.0, 1.0)
    rows = rng.choice(4000, 1000, replace=False, p=weight / weight.sum())
    found = too_far(
        schema, now["train_images"][rows], now["train_labels"][rows], of_split(before)
    )
    assert found == {"label"}


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
