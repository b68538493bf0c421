"""DataGate, on what StatisticsGen and ExampleValidator really find."""

import pathlib

import pytest
import tensorflow as tf
import tensorflow_data_validation as tfdv
from tensorflow_metadata.proto.v0 import anomalies_pb2
from tfx.components import ExampleValidator, StatisticsGen
from tfx.types import artifact_utils, channel_utils, standard_artifacts

from components.data_gate import DataAnomalyError, DataGate, describe

SCHEMA = pathlib.Path(__file__).parent.parent / "pipeline" / "schema.pbtxt"


def example(**values):
    """Returns a serialized example: ints and bytes, as Ingest writes them."""
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
    """Runs a component's executor as an orchestrator would; returns its one output."""
    [(name, channel)] = component.outputs.items()
    output = channel.type()
    output.uri = str(folder)
    executor = component.executor_spec.executor_class()
    executor.Do(inputs, {name: [output]}, component.exec_properties)
    return output


@pytest.fixture(scope="module")
def statistics(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    examples = standard_artifacts.Examples()
    examples.uri = str(root / "examples")
    examples.split_names = artifact_utils.encode_split_names(list(SPLITS))
    for split, records in SPLITS.items():
        folder = root / "examples" / f"Split-{split}"
        folder.mkdir(parents=True)
        path = str(folder / "data_tfrecord-00000-of-00001.gz")
        with tf.io.TFRecordWriter(path, "GZIP") as writer:
            for record in records:
                writer.write(record)
    component = StatisticsGen(examples=channel_utils.as_channel([examples]))
    return run(component, {"examples": [examples]}, root / "statistics")


@pytest.fixture
def anomalies(statistics, tmp_path):
    schema = standard_artifacts.Schema()
    schema.uri = str(tmp_path / "schema")
    (tmp_path / "schema").mkdir()
    (tmp_path / "schema" / "schema.pbtxt").write_text(SCHEMA.read_text())
    component = ExampleValidator(
        statistics=channel_utils.as_channel([statistics]),
        schema=channel_utils.as_channel([schema]),
    )
    inputs = {"statistics": [statistics], "schema": [schema]}
    return run(component, inputs, tmp_path / "anomalies")


def test_every_anomaly_of_every_split_is_named(anomalies):
    with pytest.raises(DataAnomalyError) as error:
        DataGate.test_call(anomalies=anomalies)
    assert str(error.value) == (
        "the data are not what pipeline/schema.pbtxt says: " + "; ".join(FOUND)
    )


@pytest.mark.parametrize(("split", "found"), [("eval", FOUND[:3]), ("test", FOUND[3:])])
def test_one_bad_split_stops_the_run(anomalies, split, found):
    anomalies.split_names = artifact_utils.encode_split_names(["train", split])
    with pytest.raises(DataAnomalyError) as error:
        DataGate.test_call(anomalies=anomalies)
    assert str(error.value).endswith(" says: " + "; ".join(found))


def test_clean_data_pass(anomalies):
    anomalies.split_names = artifact_utils.encode_split_names(["train"])
    DataGate.test_call(anomalies=anomalies)


def test_anomalies_that_were_not_written_stop_the_run(anomalies):
    anomalies.split_names = artifact_utils.encode_split_names(["train", "other"])
    with pytest.raises(tf.errors.NotFoundError, match="Split-other"):
        DataGate.test_call(anomalies=anomalies)


def test_an_anomaly_of_the_data_set_is_named(statistics):
    """Of none of its features: our schema asks for nothing of the kind, one might."""
    schema = tfdv.load_schema_text(str(SCHEMA))
    schema.dataset_constraints.min_examples_count = 11
    path = pathlib.Path(statistics.uri, "Split-train", "FeatureStats.pb")
    found = tfdv.validate_statistics(tfdv.load_stats_binary(str(path)), schema)
    assert describe("train", found) == [
        "train: The dataset has 10 examples, which is fewer than expected."
    ]


def test_no_anomalies_no_lines():
    assert describe("train", anomalies_pb2.Anomalies()) == []
