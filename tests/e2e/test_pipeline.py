"""The whole pipeline on the smoke preset: the metadata and the files after each run.

The tests share one root and run in order, as a user would run the commands.
"""

import gzip
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
import tensorflow_datasets as tfds
from ml_metadata import metadata_store
from ml_metadata.proto import metadata_store_pb2

from components.registry import listing, rolling_back
from model import export
from model.training.tensorboard import read_curves
from pipeline.cli import main
from pipeline.runs import lifecycle, run_record
from tests.support.bars import write_idx
from tests.support.report_page import PageReader

pytestmark = pytest.mark.e2e


class Place:
    """A root, its data, and the output of its last run."""

    def __init__(self, path, capfd):
        self.path, self.capfd = path, capfd
        self.destination = path / "runs" / "serving" / "vae"
        self.printed = ""

    def arguments(self, *settings, dataset="bars", options=()):
        settings = [part for setting in settings for part in ("--set", setting)]
        return [
            *("run", "--preset", "smoke", "--dataset", dataset),
            *("--set", "data.limit=null", "--set", "train.epochs=8", *settings),
            *("--root", str(self.path / "runs")),
            *("--data-dir", str(self.path / "data"), *options),
        ]

    def run(self, *settings, **others):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TMPDIR", str(self.path / "temporary"))
            patch.setattr(tempfile, "tempdir", None)  # reads TMPDIR again
            code = main.main(self.arguments(*settings, **others))
        self.printed = self.capfd.readouterr().out
        return code

    def command(self, *arguments):
        code = main.main([*arguments, "--root", str(self.path / "runs")])
        self.printed = self.capfd.readouterr().out
        return code

    def numbers(self):
        found = (path.name for path in self.destination.iterdir())
        return sorted(int(name) for name in found if name.isdecimal())

    def folders(self, step):
        folders = (self.path / "runs" / "artifacts" / step).glob("[!.]*/*")
        return {folder.name for folder in folders}

    def unfolded(self):
        """Returns the output without spaces and borders, which undoes its folds."""
        return re.sub(r"[\s│]", "", self.printed)

    def reports(self):
        """Returns the report pages of all runs, in order."""
        return sorted((self.path / "runs" / "reports").glob("*/report.html"))

    def report(self):
        """Returns the last run's report page, parsed."""
        return PageReader(self.reports()[-1].read_text())

    def served(self):
        return listing.find_served_version(str(self.destination))

    def record(self):
        """Returns the last run's record."""
        newest, *_ = run_record.read_all(self.path / "runs")[0]
        return newest

    def snapshot(self):
        return {
            str(path.relative_to(self.destination)): path.read_bytes()
            for path in self.destination.rglob("*")
            if path.is_file()
        }

    def last(self, step):
        """Returns a step's last execution and its output artifacts, from metadata."""
        config = metadata_store_pb2.ConnectionConfig()
        config.sqlite.filename_uri = str(self.path / "runs" / "metadata.sqlite")
        store = metadata_store.MetadataStore(config)
        (kind,) = [k for k in store.get_execution_types() if k.name.endswith(step)]
        last = max(store.get_executions_by_type(kind.name), key=lambda e: e.id)
        events = store.get_events_by_execution_ids([last.id])
        outputs = [e.artifact_id for e in events if e.type == e.OUTPUT]
        return last, store.get_artifacts_by_id(outputs)

    def state(self, step):
        execution, _ = self.last(step)
        return metadata_store_pb2.Execution.State.Name(execution.last_known_state)

    def measure_independent_pixels(self):
        """Returns the test images' mean log-likelihood, from Transform's files."""
        _, artifacts = self.last("Transform")
        (examples,) = [each for each in artifacts if each.type == "Examples"]
        bits = {}
        for split in ("train", "test"):
            files = tf.io.gfile.glob(f"{examples.uri}/Split-{split}/*")
            records = tf.data.TFRecordDataset(files, compression_type="GZIP")
            packed = [
                tf.train.Example.FromString(record).features.feature["bits"]
                for record in records.as_numpy_iterator()
            ]
            rows = [
                np.frombuffer(each.bytes_list.value[0], np.uint8) for each in packed
            ]
            bits[split] = np.unpackbits(np.stack(rows), axis=1)
        on = (bits["train"].sum(axis=0) + 1) / (len(bits["train"]) + 2)
        return scipy.stats.bernoulli.logpmf(bits["test"], on).sum(axis=1).mean()

    def blessed(self):
        _, artifacts = self.last("Evaluator")
        (blessing,) = [a for a in artifacts if a.type == "ModelBlessing"]
        return blessing.custom_properties["blessed"].int_value

    def pushed(self):
        _, (artifact,) = self.last("Pusher")
        return artifact.custom_properties["pushed"].int_value


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("place")
    (path / "temporary").mkdir()
    write_idx(path / "bars", labels=range(10))
    write_idx(path / "bad", labels=[3, 11])
    return path


@pytest.fixture
def place(path, capfd):
    return Place(path, capfd)


def test_the_first_run_pushes_a_good_model(place):
    umask = os.umask(0)
    try:
        code = place.run(
            f"metrics.textfile={place.path}/vae.prom",
            options=["--source", str(place.path / "bars")],
        )
    finally:
        os.umask(umask)
    assert code == 0, place.printed
    assert "baseline's ELBO  │ none: nothing was served" in place.printed
    assert "verdict          │ BLESSED" in place.printed
    assert (place.blessed(), place.pushed()) == (1, 1)
    version = place.served()
    listing.verify_version(version)
    assert f"pushed           │ version {version.number} to" in place.printed
    manifest = version.manifest.content
    assert manifest["baseline"] is None
    assert manifest["config"]["data"]["dataset"] == "bars"
    assert manifest["stack"]["tensorflow"] == tf.__version__
    terms = manifest["elbo"]
    assert terms["elbo"] == pytest.approx(terms["reconstruction"] - terms["kl"])
    assert terms["elbo"] >= -300
    assert (terms["split"], terms["images"]) == ("test", 500)
    assert 0.0 < terms["standard_error"] < 10.0
    assert "no check of the served model's ELBO: nothing was served" in place.printed
    assert f"candidate's ELBO │ {terms['elbo']:.2f} nats per image" in place.printed
    expected = place.measure_independent_pixels()
    assert terms["independent_pixels"] == pytest.approx(expected, abs=1e-3)
    of_pixels = f"independent pixels: {terms['independent_pixels']:.2f} nats per image"
    assert f"  compare with   │ {of_pixels} (log-likelihood)" in place.printed
    assert f"(test), {of_pixels.removesuffix(' nats per image')}\n" in place.printed
    assert re.search(r"candidate's IWAE │ -\d+\.\d\d nats per image", place.printed)
    assert re.search(r"active latents   │ \d of 4 ", place.printed)
    kept = place.record()
    assert (kept.status, kept.version) == ("pushed", version.number)
    assert (kept.served_version, kept.versions) == (version.number, 1)
    assert kept.run_key == manifest["run_key"]
    assert (kept.elbo, kept.difference) == (terms["elbo"], None)
    assert kept.independent_pixels == terms["independent_pixels"]
    assert kept.elbo_fall is None
    assert kept.estimate in " ".join(re.sub("[│\n]", " ", place.printed).split())
    assert [step.name for step in kept.steps[:2]] == ["Imports", "Data"]
    assert len(kept.steps) == 18
    assert not any(step.cached for step in kept.steps)
    written = (place.path / "vae.prom").read_text()
    assert 'last_run_verdict{model="vae",verdict="pushed"} 1.0' in written
    assert f'elbo_nats{{model="vae"}} {terms["elbo"]}\n' in written
    (page,) = place.reports()
    assert f"report{page}secondsinall" in place.unfolded()
    logs = place.path / "runs" / "artifacts" / "Trainer" / "model_run"
    assert f"/tensorboard --logdir {logs}\n" in place.printed


def test_the_report_has_the_result_of_the_push(place):
    """The report is that of the first run, the only one so far."""
    terms = place.served().manifest.content["elbo"]
    elbo, independent_pixels = terms["elbo"], terms["independent_pixels"]
    page = place.report()
    assert f"independent pixels {independent_pixels:.2f} nats per image" in page.text
    assert "BLESSED" in page.text
    assert f"candidate's ELBO {elbo:.2f} nats per image, higher is better" in page.text
    assert "There is no baseline to compare with: nothing was served." in page.text
    assert "8 epochs at " in page.text
    assert f"pushed {place.served().path} " in page.text
    assert place.served().manifest.content["data_fingerprint"] in page.text
    assert place.served().digest in page.text  # as in the manifest
    assert "split images 0 1 2 3 4 5 6 7 8 9 train " in page.text
    assert len(page.all("img")) == 10
    for image in page.all("img"):
        assert image["src"].startswith("data:image/png;base64,")
    _, artifacts = place.last("Report")
    (metrics,) = [a for a in artifacts if a.type == "Metrics"]
    assert metrics.custom_properties["elbo"].double_value == pytest.approx(elbo)
    assert metrics.custom_properties["pushed"].double_value == 1
    # The command makes the same page again, from the metadata alone.
    (file,) = place.reports()
    before = file.read_bytes()
    file.unlink()
    program = pathlib.Path(sys.executable).parent / "vae-pipeline"
    command = [program, "report", "--root", place.path / "runs"]
    result = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    assert result.stdout.decode().strip() == str(file)
    assert file.read_bytes() == before
    assert len(before) < 3_000_000


def test_tensorboard_has_the_run_where_the_table_says(place):
    folder = place.path / "runs" / "artifacts" / "Trainer" / "model_run"
    (board,) = folder.glob("*/tensorboard")
    curves = read_curves(str(board))
    assert [epoch for epoch, _ in curves["eval", "elbo"]] == list(range(1, 9))


def test_the_modes_do_not_depend_on_the_umask(place):
    """After a run with umask 0 all users may read the version, and none may write."""
    for path in (place.path / "runs").rglob("*"):
        assert not path.stat().st_mode & 0o002, path
    for path in (place.destination, *place.destination.rglob("*")):
        expected = 0o755 if path.is_dir() else 0o644
        assert path.stat().st_mode & 0o777 == expected, path
    assert (place.path / "vae.prom").stat().st_mode & 0o777 == 0o644


def test_a_run_leaves_no_temporary_files(place):
    assert list((place.path / "temporary").iterdir()) == []


def test_the_served_model_scores_as_in_the_gate(place):
    """TensorFlow alone computes the mean ELBO of the test images."""
    data = gzip.decompress((place.path / "bars/t10k-images-idx3-ubyte.gz").read_bytes())
    images = np.frombuffer(data, np.uint8, offset=16).reshape(-1, 28, 28, 1) / 255
    version = place.served()
    loaded = tf.saved_model.load(version.path)
    elbo = loaded.signatures["elbo"](images=tf.constant(images, tf.float32))["elbo"]
    assert np.mean(elbo) == pytest.approx(
        version.manifest.content["elbo"]["elbo"], abs=1e-3
    )


def test_the_command_measures_what_the_run_measured(place):
    version = place.served()
    _, (artifact,) = place.last("Bounds")
    bounds = json.loads(
        pathlib.Path(artifact.uri, "bounds.json").read_text(encoding="utf-8")
    )
    assert (bounds["images"], bounds["k"]) == (500, 8)
    assert bounds["elbo"] == pytest.approx(
        version.manifest.content["elbo"]["elbo"], abs=1e-3
    )
    code = main.main(
        [
            *("evaluate", "--dataset", "bars", "--iwae", "8"),
            *("--root", str(place.path / "runs")),
            *("--data-dir", str(place.path / "data")),
        ]
    )
    printed = place.capfd.readouterr().out
    assert code == 0, printed
    assert f"{bounds['elbo']:.2f} nats per image (higher is better)" in printed
    assert f"{bounds['iwae']:.2f} nats per image (higher is better)" in printed
    active = f"{bounds['active_dimensions']} of {bounds['latent_size']}"
    assert f"active latents │ {active} " in printed


def test_nothing_on_the_way_was_noise(place):
    place.run()
    for line in place.printed.splitlines():
        assert not line.startswith(("WARNING", "INFO", "I0000", "20"))
        assert "tensorflow/core" not in line
        assert ".py:" not in line
    (log, *_) = sorted((place.path / "runs" / "logs").glob("run-*.log"))
    assert "Trainer" in log.read_text()


def test_the_same_again_comes_from_the_cache(place):
    before = place.snapshot()
    logs = place.path / "runs" / "logs"
    names = list(logs.iterdir())
    assert place.run() == 0
    # the run's log files have new names
    assert len(list(logs.iterdir())) == len(names) + 2
    assert "seconds per step │ every step came from the cache" in place.printed
    assert place.printed.count("from the cache") == 17  # 16 steps and that line
    assert place.state("Pusher") == "CACHED"
    assert place.state("Report") == "CACHED"
    assert place.snapshot() == before
    kept = place.record()
    assert (kept.status, kept.version, kept.versions) == ("unchanged", None, 1)
    assert [step.cached for step in kept.steps] == [False] * 2 + [True] * 16
    assert len(place.reports()) == 3  # each run has one


def test_a_model_under_the_floor_is_refused(place):
    before = place.snapshot()
    assert place.run("gate.elbo_floor=-1") == 3
    assert "verdict          │ REFUSED: ELBO -" in place.printed
    assert "must be at least the floor, -1.00" in place.printed
    kept = place.record()
    assert (kept.status, kept.version) == ("refused", None)
    assert "must be at least the floor, -1.00" in kept.refusals[0]
    assert kept.difference == pytest.approx(0.0, abs=1e-3)
    page = place.report().text
    assert "REFUSED ELBO -" in page
    assert "must be at least the floor, -1.00 nats per image" in page
    assert "pushed nothing" in page
    assert (place.blessed(), place.pushed()) == (0, 0)
    assert place.snapshot() == before


def test_a_model_with_a_nan_is_refused(place, monkeypatch):
    real_export = export.export

    def export_with_a_nan(vae, *args, **kwargs):
        weights = vae.get_weights()
        weights[0][0, 0] = np.nan
        vae.set_weights(weights)
        real_export(vae, *args, **kwargs)

    before = place.snapshot()
    with monkeypatch.context() as patch:
        patch.setattr(export, "export", export_with_a_nan)
        assert place.run("train.seed=1", "gate.elbo_floor=-1e6") == 3
    assert "REFUSED" in place.printed
    assert "InfraCheck: ValueError" in place.printed
    assert (place.record().status, place.record().elbo) == ("refused", None)
    page = place.report().text
    assert "REFUSED" in page
    assert "The candidate's mean ELBO is not a finite number." in page
    assert "Not drawn: MeasurementError: the posterior's means must be finite" in page
    assert (place.blessed(), place.pushed()) == (0, 0)
    assert place.snapshot() == before


def test_a_better_model_becomes_the_next_version(place):
    """The run is recorded as pushed, although the step after the push fails."""
    first = place.served()
    pages = place.path / "runs" / "artifacts" / "Report"
    aside = pages.rename(pages.with_name("aside"))
    pages.write_text("no folder")
    assert place.run("train.epochs=16") == 1
    assert "Report failed: " in place.printed
    kept = place.record()
    assert (kept.status, kept.version) == ("pushed", place.served().number)
    assert kept.served_version == kept.version
    assert kept.elbo == place.served().manifest.content["elbo"]["elbo"]
    assert kept.error.startswith("Report failed: ")
    assert lifecycle.summarize(kept).startswith(
        f"vae-pipeline: vae, run {kept.run_id}: pushed version {kept.version}, ELBO "
        f"{kept.elbo:.2f} nats per image (the evidence lower bound, 2 samples of z"
    )
    assert "; then: Report failed: " in lifecycle.summarize(kept)
    pages.unlink()
    aside.rename(pages)
    assert place.run("train.epochs=16") == 0
    assert f"nothing; version {kept.version} is served" in place.printed
    second = place.served()
    assert second.number > first.number
    assert second.manifest.content["baseline"] == {
        "version": first.number,
        "digest": first.digest,
    }
    assert (
        second.manifest.content["elbo"]["elbo"] > first.manifest.content["elbo"]["elbo"]
    )


def test_a_model_worse_than_the_one_served_is_refused(place):
    """The model is that of the first run, which the better one has replaced."""
    before = place.snapshot()
    assert place.run() == 3
    assert "Trainer          from the cache" in place.printed
    assert "against the baseline must be at least -0.50" in place.printed
    assert f"(version {place.served().number})" in place.printed
    page = place.report().text
    assert "It is worse than the baseline: -" in page
    assert "REFUSED ELBO against the baseline must be at least -0.50 nats per" in page
    assert "with 95% confidence, got at least -" in page
    assert f"version {place.served().number}, which was served" in page
    # The split is that of the version's own run.
    same = "a fall of 0.00 nats, 0.0 standard errors"
    assert f"version {place.served().number}: {same} from its own" in place.printed
    assert f"Version {place.served().number} has {same}" in page
    assert place.record().elbo_fall == pytest.approx(0.0, abs=1e-3)
    assert page.count(" worse ") >= 10  # the model is worse on each digit
    assert (place.blessed(), place.pushed()) == (0, 0)
    assert place.snapshot() == before


def test_a_rollback_serves_the_older_model_again(place):
    one, two = place.numbers()
    assert place.command("rollback", "--reason", "blurred") == 0
    three = place.numbers()[-1]
    assert f"version {three} is version {one} again, in place of {two}" in place.printed
    served = place.served()
    assert served.number == three
    assert served.manifest.content["config"]["train"]["epochs"] == 8


def test_the_rejected_model_is_not_pushed_again(place):
    one, two, three = place.numbers()
    assert place.run("train.epochs=16") == 3
    [record] = rolling_back.read_rejected_models(str(place.destination))
    table = " ".join(place.printed.replace("│", " ").split())
    assert (
        "verdict REFUSED: this model must not be served again: version "
        f"{two} was rolled back from by {record.by} at {record.at} (blurred)"
    ) in table
    assert f"pushed nothing; version {three} is served from" in table
    assert f"(version {three}); difference" in table  # the baseline of the comparison
    assert place.numbers() == [one, two, three]


def test_the_restored_model_comes_from_the_cache(place):
    before = place.numbers()
    assert place.run() == 0
    assert "seconds per step │ every step came from the cache" in place.printed
    assert place.numbers() == before


def test_prune_leaves_what_the_last_run_used(place):
    *_, three = place.numbers()
    trainers, ingests = place.folders("Trainer"), place.folders("Ingest")
    assert len(trainers) == 3
    assert place.command("prune", "--keep", "1", "--dry-run") == 0
    assert place.folders("Trainer") == trainers
    assert len(place.numbers()) == 3
    assert place.command("prune", "--keep", "1") == 0
    assert place.numbers() == [three]
    assert f"versions that are kept: {three}" in place.printed
    assert " that no kept run uses" in place.printed
    assert place.folders("Trainer") == {min(trainers, key=int)}
    assert place.folders("Ingest") == ingests
    assert place.command("prune", "--keep", "1") == 0
    assert "nothing to remove\n" in place.printed


def test_a_damaged_version_is_named_and_does_not_stop_the_run(place):
    [three] = place.numbers()
    newer = three + 10
    folder = place.destination / str(newer)
    folder.mkdir()
    (folder / "saved_model.pb").write_bytes(b"half")
    assert place.run() == 0
    assert (
        f"version {newer} of {place.destination} is damaged: it has no MANIFEST.json "
        f"yet; the baseline is version {three}\n"
    ) in place.printed
    assert "seconds per step │ every step came from the cache" in place.printed
    assert place.command("versions", "--json") == 0
    listed = json.loads(place.printed)
    assert [(row["version"], row["state"]) for row in listed] == [
        (newer, "damaged"),
        (three, "served"),
    ]
    shutil.rmtree(folder)


def test_a_warm_start_on_two_replicas(place):
    """The run is a process of its own, which starts with two logical devices."""
    before = place.served()
    arguments = place.arguments(
        *("train.epochs=1", "train.learning_rate=1e-6", "gate.tolerance=5"),
        options=["--warm-start", "--replicas", "2"],
    )
    result = subprocess.run(
        [sys.executable, "-m", "pipeline", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "Trainer          warm start: with the weights of " in result.stdout
    after = place.served()
    assert after.number > before.number
    # With such a small rate an epoch changes nothing, so the ELBO is that of the start.
    elbo = before.manifest.content["elbo"]["elbo"]
    assert after.manifest.content["elbo"]["elbo"] == pytest.approx(elbo, abs=1.0)
    assert after.manifest.content["config"]["train"]["replicas"] == 2


def test_after_the_served_version_is_removed_there_is_no_baseline(place):
    shutil.rmtree(place.destination)
    assert place.run("gate.tolerance=0.25") == 0
    assert "baseline's ELBO  │ none: nothing was served" in place.printed
    assert place.served().manifest.content["baseline"] is None
    # The pushed version is removed, so the same model is pushed again.
    shutil.rmtree(place.destination)
    assert place.run("gate.tolerance=0.25") == 0
    assert place.pushed() == 1
    listing.verify_version(place.served())


def test_labels_that_the_dataset_does_not_have_are_named(place):
    before = place.snapshot()
    code = place.run(dataset="bad", options=["--source", str(place.path / "bad")])
    assert code == 2
    assert "the train labels go up to 11, expected 0 to 9 for bad" in place.printed
    assert (place.record().status, place.record().step) == ("bad_data", "Data")
    assert place.snapshot() == before


class TwelveClasses(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A data set whose labels are not in the reviewed schema."""

    name = "twelve"
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(28, 28, 1)),
            "label": tfds.features.ClassLabel(num_classes=12),
        }
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(features)
        )

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples() for split in ("train", "test")}

    def _generate_examples(self):
        for key in range(300):
            image = np.full([28, 28, 1], key % 256, np.uint8)
            yield key, {"image": image, "label": key % 12}


def test_anomalies_in_the_data_stop_the_run_and_are_named(place):
    TwelveClasses(data_dir=place.path / "data").download_and_prepare()
    before = place.snapshot()
    assert place.run(dataset="twelve") == 1
    assert "DataGate failed: the data are not what pipeline/schema.pbtxt says: " in (
        place.printed
    )
    for split in ("train", "eval", "test"):
        assert f"{split}: feature 'label'" in place.printed
    assert "Transform" not in place.printed
    assert place.state("DataGate") == "FAILED"
    assert (place.record().status, place.record().step) == ("bad_data", "DataGate")
    assert place.record().error in place.printed
    assert place.snapshot() == before


def test_a_second_run_on_the_same_root_is_refused(place):
    import filelock

    with filelock.FileLock(pathlib.Path(place.path, "runs", ".lock")):
        assert place.run() == 1
    assert "another run is using" in place.printed
    assert "choose another --root" in place.printed


def test_the_config_that_was_run_is_kept(place):
    configs = sorted((place.path / "runs" / "logs").glob("run-*.yaml"))
    assert configs
    assert "elbo_floor: -400.0" in configs[0].read_text()
    assert json.dumps(place.served().manifest.content)
