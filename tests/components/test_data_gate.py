"""DataGate, with the real results of StatisticsGen and ExampleValidator."""

import json
import os
import pathlib
import re

import pytest
import tensorflow as tf
import tensorflow_data_validation as tfdv
from tensorflow_metadata.proto.v0 import anomalies_pb2
from tfx.components import ExampleValidator, StatisticsGen
from tfx.types import artifact_utils, channel_utils, standard_artifacts
from tfx.utils import path_utils

from components.data_gate import (
    SERVED_STATISTICS,
    DataAnomalyError,
    DataGate,
    DriftError,
    describe_anomalies,
    read_report,
)
from components.evaluation import drift
from tests.support.corruptions import shift
from tests.support.span_folders import bars

POSITIONS = ("position_mean", "position_variance", "row_mean", "column_mean")
SCHEMA = pathlib.Path(__file__).parents[2] / "pipeline" / "schema.pbtxt"


def example(**values):
    """Returns a serialized example with integers and bytes, as Ingest writes it."""
    feature = {
        name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
        if isinstance(value, bytes)
        else tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
        for name, value in values.items()
    }
    features = tf.train.Features(feature=feature)
    return tf.train.Example(features=features).SerializeToString()


IMAGE = bytes(784)
SPLITS = {
    "train": [example(image=IMAGE, label=label) for label in range(10)],
    "eval": [
        example(image=IMAGE, label=9),
        example(image=IMAGE, label=11, colour=3),
        example(label=1),
    ],
    "test": [],
}
FOUND = [
    "eval: feature 'colour': New column (column in data but not in schema)",
    "eval: feature 'image': The feature has a shape, but it's not always present (if "
    "the feature is nested, then it should always be present at each nested level) or "
    "its value lengths vary. The feature was present in fewer examples than expected: "
    "minimum fraction = 1.000000, actual = 0.666667",
    "eval: feature 'label': Unexpectedly large value: 11.",
    "test: no examples",
]


def run(component, inputs, folder):
    """Runs a component's executor as an orchestrator does; returns its only output."""
    [(name, channel)] = component.outputs.items()
    output = channel.type()
    output.uri = str(folder)
    executor = component.executor_spec.executor_class()
    executor.Do(inputs, {name: [output]}, component.exec_properties)
    return output


def write_examples(folder, splits):
    """Writes serialized examples as Ingest does; returns the artifact."""
    examples = standard_artifacts.Examples()
    examples.uri = str(folder)
    examples.split_names = artifact_utils.encode_split_names(list(splits))
    for split, records in splits.items():
        (folder / f"Split-{split}").mkdir(parents=True)
        path = str(folder / f"Split-{split}" / "data_tfrecord-00000-of-00001.gz")
        with tf.io.TFRecordWriter(path, "GZIP") as writer:
            for record in records:
                writer.write(record)
    return examples


@pytest.fixture(scope="module")
def statistics(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    examples = write_examples(root / "examples", SPLITS)
    component = StatisticsGen(examples=channel_utils.as_channel([examples]))
    return run(component, {"examples": [examples]}, root / "statistics")


@pytest.fixture
def schema(tmp_path):
    schema = standard_artifacts.Schema()
    schema.uri = str(tmp_path / "schema")
    (tmp_path / "schema").mkdir()
    (tmp_path / "schema" / "schema.pbtxt").write_text(SCHEMA.read_text())
    return schema


@pytest.fixture
def anomalies(statistics, schema, tmp_path):
    component = ExampleValidator(
        statistics=channel_utils.as_channel([statistics]),
        schema=channel_utils.as_channel([schema]),
    )
    inputs = {"statistics": [statistics], "schema": [schema]}
    return run(component, inputs, tmp_path / "anomalies")


@pytest.fixture
def gate(schema, tmp_path):
    """Returns a function that runs DataGate and returns the folder of its report.

    By default the examples are black images.
    """
    black = write_examples(
        tmp_path / "black", dict.fromkeys(("train", "test"), SPLITS["train"])
    )

    def gate(anomalies=None, examples=black, baseline=None, accept_drift=0):
        if anomalies is None:
            anomalies = standard_artifacts.ExampleAnomalies()
            anomalies.split_names = "[]"
        if baseline is None:
            baseline = standard_artifacts.Model()
            baseline.uri = str(tmp_path / "none")
        report = standard_artifacts.ExampleStatistics()
        report.uri = str(tmp_path / "report")
        os.makedirs(report.uri, exist_ok=True)
        DataGate.test_call(
            anomalies=anomalies,
            examples=examples,
            schema=schema,
            baseline=baseline,
            report=report,
            accept_drift=accept_drift,
        )
        return report.uri

    return gate


def test_every_anomaly_of_every_split_is_named(gate, anomalies):
    with pytest.raises(DataAnomalyError) as error:
        gate(anomalies)
    assert str(error.value) == (
        "the data are not what pipeline/schema.pbtxt says: " + "; ".join(FOUND)
    )


@pytest.mark.parametrize(("split", "found"), [("eval", FOUND[:3]), ("test", FOUND[3:])])
def test_one_bad_split_stops_the_run(gate, anomalies, split, found):
    anomalies.split_names = artifact_utils.encode_split_names(["train", split])
    with pytest.raises(DataAnomalyError) as error:
        gate(anomalies)
    assert str(error.value).endswith(" says: " + "; ".join(found))


def test_clean_data_pass(gate, anomalies):
    anomalies.split_names = artifact_utils.encode_split_names(["train"])
    gate(anomalies)


def test_anomalies_that_were_not_written_stop_the_run(gate, anomalies):
    anomalies.split_names = artifact_utils.encode_split_names(["train", "other"])
    with pytest.raises(tf.errors.NotFoundError, match="Split-other"):
        gate(anomalies)


def test_an_anomaly_of_the_data_set_is_named(statistics):
    """An anomaly of the whole data set has no feature; other schemas may cause one."""
    schema = tfdv.load_schema_text(str(SCHEMA))
    schema.dataset_constraints.min_examples_count = 11
    path = pathlib.Path(statistics.uri, "Split-train", "FeatureStats.pb")
    found = tfdv.validate_statistics(tfdv.load_stats_binary(str(path)), schema)
    assert describe_anomalies("train", found) == [
        "train: The dataset has 10 examples, which is fewer than expected."
    ]


def test_examples_that_are_lost_are_not_few(gate, tmp_path):
    examples = write_examples(
        tmp_path / "lost", dict.fromkeys(("train", "test"), SPLITS["train"])
    )
    folder = pathlib.Path(examples.uri, "Split-test")
    for file in folder.iterdir():
        file.unlink()
    with pytest.raises(FileNotFoundError) as error:
        gate(examples=examples)
    assert str(error.value) == f"{folder} must have files of examples, it has none"


def test_no_anomalies_no_lines():
    assert describe_anomalies("train", anomalies_pb2.Anomalies()) == []


# Drift and skew.


def ingested(folder, train, test):
    """Writes two splits, each (images, labels), and returns Ingest's artifact."""
    splits = {
        split: [
            example(image=image.tobytes(), label=int(label))
            for image, label in zip(*pair)
        ]
        for split, pair in (("train", train), ("test", test))
    }
    return write_examples(folder, splits)


def split_of(arrays, split, change=lambda images: images):
    return change(arrays[f"{split}_images"]), arrays[f"{split}_labels"]


def drift_in(report):
    """Returns the drift by feature in the content of drift.json."""
    return {
        each["feature"]: each["distance"]
        for each in report["features"]
        if each["kind"] == "drift"
    }


@pytest.fixture
def served(tmp_path):
    """Returns a function that makes a baseline, with or without data statistics."""

    def served(statistics):
        model = standard_artifacts.Model()
        model.uri = str(tmp_path / "baseline")
        model.set_int_custom_property("version", 12)
        folder = pathlib.Path(path_utils.serving_model_dir(model.uri))
        folder.mkdir(parents=True)
        if statistics is not None:
            (folder / SERVED_STATISTICS).parent.mkdir()
            (folder / SERVED_STATISTICS).write_bytes(statistics)
        return model

    return served


@pytest.fixture
def before(gate, tmp_path):
    """Returns the data statistics that a run on similar data left."""
    arrays = bars(7)
    examples = ingested(
        tmp_path / "before", split_of(arrays, "train"), split_of(arrays, "test")
    )
    return pathlib.Path(gate(examples=examples), "statistics.pb").read_bytes()


def test_what_is_left_is_of_the_train_split(before):
    images, labels = split_of(bars(7), "train")
    expected = drift.compute_statistics([(images.reshape(1000, -1), labels)])
    assert drift.Statistics.FromString(before) == expected


def test_data_of_the_same_kind_pass_with_their_distances(
    gate, served, before, tmp_path
):
    arrays = bars(8)
    now = ingested(
        tmp_path / "now", split_of(arrays, "train"), split_of(arrays, "test")
    )
    report = read_report(gate(examples=now, baseline=served(before)))
    assert report["baseline_version"] == 12
    assert report["unchecked"] == []
    assert report["accepted"] is False
    kinds = {"label": ["drift", "drift", "skew", "skew"]}  # two measures
    kinds |= {key: ["drift", "skew"] for key in ("pixel", "image_mean", *POSITIONS)}
    assert [(each["feature"], each["kind"]) for each in report["features"]] == [
        (feature, kind) for feature in kinds for kind in kinds[feature]
    ]
    for each in report["features"]:
        assert set(each) == {"feature", "kind", "distance", "threshold", "measure"}
        assert 0 < each["distance"] < each["threshold"]


def test_inverted_images_stop_the_run_unless_accepted(gate, served, before, tmp_path):
    arrays = bars(8)
    pairs = (split_of(arrays, split, lambda x: 255 - x) for split in ("train", "test"))
    now, baseline = ingested(tmp_path / "now", *pairs), served(before)
    with pytest.raises(DriftError) as error:
        gate(examples=now, baseline=baseline)
    thresholds = {"pixel": 0.02, "image_mean": 0.05, "position_mean": 0.0035}
    thresholds |= {"row_mean": 0.001, "column_mean": 0.001}
    distances = drift_in(read_report(str(tmp_path / "report")))
    far = "; ".join(
        f"feature '{name}' by {distances[name]:.4g} (jensen_shannon_divergence), above "
        f"the threshold {threshold}"
        for name, threshold in thresholds.items()
    )
    assert str(error.value) == (
        f"the train split is not like what version 12 was trained on: {far}; if that "
        "is wanted, accept it once with --set data.accept_drift=true. Look at the "
        "data, or review the thresholds in pipeline/schema.pbtxt"
    )
    report = read_report(gate(examples=now, baseline=baseline, accept_drift=1))
    assert report["accepted"] is True
    assert drift_in(report) == distances


def test_shifted_images_stop_the_run_by_their_positions_alone(
    gate, served, before, tmp_path
):
    arrays = bars(8)
    pairs = (
        split_of(arrays, split, lambda x: shift(x, down=3, right=3))
        for split in ("train", "test")
    )
    now, baseline = ingested(tmp_path / "now", *pairs), served(before)
    with pytest.raises(DriftError) as error:
        gate(examples=now, baseline=baseline)
    named = re.findall(r"feature '(\w+)' by", str(error.value))
    assert named == list(POSITIONS)


def test_statistics_of_an_older_release_are_compared_as_far_as_they_go(
    gate, served, before, tmp_path
):
    old = drift.Statistics.FromString(before)
    kept = [f for f in old.datasets[0].features if f.path.step[0] not in POSITIONS]
    del old.datasets[0].features[:]
    old.datasets[0].features.extend(kept)
    arrays = bars(8)
    pairs = (
        split_of(arrays, split, lambda x: shift(x, down=3, right=3))
        for split in ("train", "test")
    )
    now = ingested(tmp_path / "now", *pairs)
    baseline = served(old.SerializeToString())
    report = read_report(gate(examples=now, baseline=baseline))
    assert report["unchecked"] == [
        "no check of drift of position_mean, position_variance, row_mean, column_mean: "
        "version 12 came with statistics of an older release"
    ]
    assert set(drift_in(report)) == {"label", "pixel", "image_mean"}
    skew = [each["feature"] for each in report["features"] if each["kind"] == "skew"]
    assert skew[-4:] == list(POSITIONS)


@pytest.mark.parametrize("accept_drift", [0, 1])
def test_skew_stops_the_run_and_is_never_accepted(gate, tmp_path, accept_drift):
    arrays = bars(8)
    inverted = split_of(arrays, "test", lambda x: 255 - x)
    now = ingested(tmp_path / "now", split_of(arrays, "train"), inverted)
    with pytest.raises(DriftError) as error:
        gate(examples=now, accept_drift=accept_drift)
    text = str(error.value)
    assert text.startswith("train is not like the gate's test: feature 'pixel' by 0.")
    assert "accept" not in text


def test_without_a_baseline_there_is_no_check_of_drift(gate, served, tmp_path):
    arrays = bars(8)
    now = ingested(
        tmp_path / "now", split_of(arrays, "train"), split_of(arrays, "test")
    )
    report = read_report(gate(examples=now))
    assert report["baseline_version"] is None
    assert report["unchecked"] == ["no check of drift: nothing was served"]
    assert {each["kind"] for each in report["features"]} == {"skew"}
    report = read_report(gate(examples=now, baseline=served(None)))
    assert report["baseline_version"] == 12
    assert report["unchecked"] == [
        "no check of drift: version 12 came without statistics"
    ]


def test_a_damaged_baseline_is_why_there_is_no_check_of_drift(gate, tmp_path):
    arrays = bars(8)
    now = ingested(
        tmp_path / "now", split_of(arrays, "train"), split_of(arrays, "test")
    )
    none = standard_artifacts.Model()
    none.uri = str(tmp_path / "none")
    none.set_string_custom_property("damaged", "version 3 is damaged: no file")
    report = read_report(gate(examples=now, baseline=none))
    assert report["unchecked"] == ["no check of drift: version 3 is damaged: no file"]


def test_few_images_are_not_compared(gate, served, before):
    report = read_report(gate(baseline=served(before)))
    assert report == {
        "baseline_version": 12,
        "features": [],
        "unchecked": [
            "no check of drift: train has 10 images, fewer than 500",
            "no check of skew: train has 10 images, fewer than 500 and test has 10 "
            "images, fewer than 500",
        ],
        "accepted": False,
    }
    assert json.dumps(report)
