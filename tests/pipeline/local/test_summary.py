"""The summary of a run: its record, its closing table and the text for each step."""

import dataclasses
import json

import numpy as np
import pytest
from tfx.types import standard_artifacts

from components.evaluation.evaluation_result import (
    Difference,
    Evaluation,
    ModelResult,
)
from components.evaluation.gate_result import GateResult
from components.evaluation.measure import Measurements
from components.evaluation.scores import Scores
from components.registry.listing import Version
from components.registry.manifest import Manifest
from pipeline.config.loading import decisive, resolve
from pipeline.local import summary
from pipeline.local.summary import RunSummary, Step
from pipeline.runs.recorder import RunRecorder
from pipeline.runs.run_record import RunStatus
from tests.support.records import make_record
from tests.support.report_page import make_elbo_drift, make_no_elbo_drift

CONFIG = resolve("smoke", settings=["gate.elbo_floor=-100", "gate.tolerance=0.5"])
ESTIMATE = "the evidence lower bound, as the Pusher wrote it"
BLESSED = GateResult(
    refusals=(),
    elbo=-90.5,
    baseline_elbo=None,
    estimate=ESTIMATE,
    pushed="/serving/vae/18",
)
AGAINST = GateResult(
    refusals=(),
    elbo=-90.5,
    baseline_elbo=-92.0,
    estimate=ESTIMATE,
    pushed="/serving/vae/18",
    difference=Difference(
        images=1_000, mean=1.5, standard_error=0.2, lower_end=1.17, confidence=0.95
    ),
)
REFUSED = GateResult(
    refusals=("too low", "no answer"),
    elbo=-190.5,
    baseline_elbo=-92.0,
    estimate=ESTIMATE,
    pushed=None,
)
UNCHANGED = GateResult(
    refusals=(), elbo=-90.5, baseline_elbo=None, estimate=ESTIMATE, pushed=None
)


def of_version(number):
    return Version(
        number=number, path=f"/serving/vae/{number}", manifest=Manifest.from_content({})
    )


def summarize(gate, served=18, cached=False, baseline_version=17):
    of_baseline = None
    if gate.baseline_elbo is not None:
        of_baseline = ModelResult(
            elbo=gate.baseline_elbo,
            reconstruction=gate.baseline_elbo + 20,
            kl=20.0,
            elbo_by_label={},
        )
    by_label = {3: gate.elbo - 5.0, 4: gate.elbo + 4.0, 5: gate.elbo}
    candidate = ModelResult(
        elbo=gate.elbo, reconstruction=gate.elbo + 21.0, kl=21.0, elbo_by_label=by_label
    )
    return RunSummary(
        config=CONFIG,
        steps=[
            Step(name="Ingest", outputs={}, cached=cached, seconds=1.25),
            Step(name="Pusher", outputs={}, cached=cached, seconds=2.0),
        ],
        gate=gate,
        evaluation=Evaluation(
            candidate=candidate,
            baseline=of_baseline,
            independent_pixels=-206.125,
            images=1_000,
        ),
        bounds=Measurements(1_000, gate.elbo, -70.0, 21.0, -88.25, 64, 7, 16),
        baseline_version=baseline_version if of_baseline else None,
        why_no_baseline="" if of_baseline else "nothing was served",
        elbo_drift=make_elbo_drift() if of_baseline else make_no_elbo_drift(),
        served=None if served is None else of_version(served),
    )


@pytest.fixture
def recorder(tmp_path):
    return RunRecorder(tmp_path, make_record())


@pytest.fixture
def fill(recorder):
    """Returns a function that adds a summary to the record, and returns the record."""

    def fill(found):
        summary.record_summary(recorder, found)
        return recorder.record

    return fill


# The record.


def test_a_push_is_recorded_with_its_numbers(fill):
    record = fill(summarize(AGAINST))
    assert (record.status, record.version) == (RunStatus.PUSHED, 18)
    assert (record.elbo, record.reconstruction, record.kl) == (-90.5, -69.5, 21.0)
    assert (record.baseline_elbo, record.baseline_version) == (-92.0, 17)
    assert (record.difference, record.estimate) == (1.5, ESTIMATE)
    assert record.independent_pixels == -206.125
    assert (record.refusals, record.served_version) == ([], 18)
    assert (record.elbo_fall, record.elbo_fall_standard_errors) == (3.0, 0.6)


def test_without_a_baseline_there_is_no_difference_in_the_record(fill):
    record = fill(summarize(BLESSED))
    values = (record.baseline_elbo, record.baseline_version, record.difference)
    assert values == (None, None, None)
    assert (record.elbo_fall, record.elbo_fall_standard_errors) == (None, None)


def test_a_refusal_is_recorded_with_its_reasons(fill):
    record = fill(summarize(REFUSED, served=17))
    assert (record.status, record.version) == (RunStatus.REFUSED, None)
    assert record.refusals == ["too low", "no answer"]
    assert record.served_version == 17


@pytest.mark.parametrize(
    ("gate", "cached"), [(UNCHANGED, False), (BLESSED, True), (UNCHANGED, True)]
)
def test_what_an_earlier_run_pushed_is_unchanged(gate, cached, fill):
    record = fill(summarize(gate, cached=cached))
    assert (record.status, record.version) == (RunStatus.UNCHANGED, None)


def test_nothing_served_is_recorded_as_none(fill):
    assert fill(summarize(REFUSED, served=None)).served_version is None


def test_a_push_is_recorded_from_its_manifest_alone(recorder):
    elbo = {"elbo": -90.5, "reconstruction": -69.5, "kl": 21.0}
    elbo |= {"independent_pixels": -206.125, "images": 1_000}
    content = {"elbo": elbo, "config": decisive(CONFIG)}
    summary.record_pushed_version(recorder, 18, manifest=Manifest.from_content(content))
    record = recorder.record
    assert (record.elbo, record.reconstruction, record.kl) == (-90.5, -69.5, 21.0)
    assert record.independent_pixels == -206.125
    samples, seed = CONFIG.gate.samples, CONFIG.gate.seed
    assert record.estimate == (
        f"the evidence lower bound, {samples} samples of z per image, fixed "
        f"binarization, seed {seed}, 1,000 images of the test split"
    )
    assert (record.status, record.version) == (RunStatus.PUSHED, 18)
    assert record.served_version == 18


def test_a_manifest_without_settings_has_no_estimate(recorder):
    summary.record_pushed_version(recorder, 18, manifest=Manifest.from_content({}))
    record = recorder.record
    assert (record.status, record.elbo, record.estimate) == ("pushed", None, None)


# The closing table.


def test_the_table_of_a_push():
    rows = summary.rows(summarize(AGAINST), "/serving/vae")
    seed = CONFIG.gate.seed
    assert rows == [
        ("candidate's ELBO", "-90.50 nats per image (higher is better)"),
        ("  estimated by", ESTIMATE),
        ("  its terms", "reconstruction -69.50, KL 21.00"),
        (
            "  compare with",
            "independent pixels: -206.12 nats per image (log-likelihood)",
        ),
        ("  by digit", "best 4 (-86.50), worst 3 (-95.50)"),
        ("candidate's IWAE", "-88.25 nats per image (decides nothing)"),
        (
            "  estimated by",
            "the importance-weighted bound, 64 samples of z per image, fixed "
            f"binarization, seed {seed}, 1,000 images of the test split",
        ),
        ("active latents", "7 of 16"),
        ("floor", "-100.00"),
        (
            "baseline's ELBO",
            "-92.00 (version 17); difference +1.50 (with 95% confidence at least "
            "+1.17), tolerance 0.50",
        ),
        ("verdict", "BLESSED"),
        ("pushed", "version 18 to /serving/vae"),
        ("seconds per step", "Ingest 1.2, Pusher 2.0"),
    ]


def test_the_table_has_the_number_of_a_floor_that_is_auto():
    config = resolve("smoke", settings=["gate.elbo_floor=auto"])
    found = dataclasses.replace(summarize(BLESSED), config=config)
    rows = dict(summary.rows(found, "/serving/vae"))
    assert rows["floor"] == "-206.12 (auto: that of independent pixels)"


def test_the_table_of_a_refusal():
    rows = dict(summary.rows(summarize(REFUSED, served=17), "/serving/vae"))
    assert rows["verdict"] == "REFUSED: too low; no answer"
    assert rows["pushed"] == "nothing; version 17 is served from /serving/vae"
    rows = dict(summary.rows(summarize(REFUSED, served=None), "/serving/vae"))
    assert rows["pushed"] == "nothing, and nothing is served"


def test_the_table_names_the_reason_for_a_missing_baseline():
    rows = dict(summary.rows(summarize(BLESSED), "/serving/vae"))
    assert rows["baseline's ELBO"] == "none: nothing was served"


def test_a_run_from_the_cache_names_no_seconds():
    found = summarize(BLESSED, cached=True)
    rows = dict(summary.rows(found, "/serving/vae"))
    assert rows["seconds per step"] == "every step came from the cache"
    assert rows["pushed"] == "nothing; version 18 is served from /serving/vae"
    steps = [*found.steps, Step(name="Report", outputs={}, cached=False, seconds=3.0)]
    some = RunSummary(**{**vars(found), "steps": steps})
    rows = dict(summary.rows(some, "/serving/vae"))
    assert rows["seconds per step"] == "Report 3.0; 2 steps from the cache"


# The text for each step.


def describe(name, **outputs):
    return summary.describe(Step(name=name, outputs=outputs, cached=False))


def examples(counts, spans=""):
    artifact = standard_artifacts.Examples()
    artifact.set_string_custom_property("counts", json.dumps(counts))
    artifact.set_string_custom_property("spans", spans)
    return artifact


def test_ingest_counts_its_images_and_names_its_spans():
    counts = {"train": 9_000, "eval": 1_000, "test": 500}
    words = "9,000 train, 1,000 eval, 500 test images"
    assert describe("Ingest", examples=examples(counts)) == words
    assert describe("Ingest", examples=examples(counts, "[]")) == words
    spans = json.dumps([{"span": n, "fingerprint": "f"} for n in (5, 7)])
    found = describe("Ingest", examples=examples(counts, spans))
    assert found == f"{words} of spans 5, 7"


def report(tmp_path, **changes):
    content = {"baseline_version": 17, "unchecked": [], "accepted": False}
    content["features"] = [
        {"kind": kind, "feature": feature, "distance": distance, "threshold": threshold}
        for kind, feature, distance, threshold in [
            *(("drift", "pixel", 0.0123456, 0.01), ("drift", "label", 0.2, 0.5)),
            ("skew", "label", 0.03, 0.4),
        ]
    ]
    (tmp_path / "drift.json").write_text(json.dumps({**content, **changes}))
    artifact = standard_artifacts.ExampleStatistics()
    artifact.uri = str(tmp_path)
    return artifact


def test_data_gate_gives_its_distances(tmp_path):
    assert describe("DataGate", report=report(tmp_path)) == (
        "no anomalies; drift from version 17's data: at most 123% of a threshold "
        "(pixel 0.01235 of 0.01); skew of train and test: at most 8% of a threshold "
        "(label 0.03 of 0.4)"
    )
    accepted = report(tmp_path, accepted=True)
    assert "version 17's data, accepted: at most" in describe(
        "DataGate", report=accepted
    )
    assert "skew of train and test: " in describe("DataGate", report=accepted)
    unchecked = report(tmp_path, features=[], unchecked=["no check of drift: why"])
    assert describe("DataGate", report=unchecked) == (
        "no anomalies; no check of drift: why"
    )


def test_elbo_drift_gives_the_fall_or_why_there_is_none(tmp_path):
    artifact = standard_artifacts.ModelEvaluation()
    artifact.uri = str(tmp_path)
    for report, text in [
        (
            make_elbo_drift(),
            "version 17: a fall of 3.00 nats, 0.6 standard errors from its own test "
            "split to this one",
        ),
        (
            make_elbo_drift(-90.0),
            "version 17: a rise of 10.00 nats, 2.0 standard errors from its own test "
            "split to this one",
        ),
        (
            make_elbo_drift(-150.0, accept_drift=True),
            "version 17: a fall of 50.00 nats, 10.0 standard errors from its own test "
            "split to this one, accepted",
        ),
        (
            make_no_elbo_drift(),
            "no check of the served model's ELBO: nothing was served",
        ),
    ]:
        report.write(artifact.uri)
        assert describe("ElboDrift", report=artifact) == text


def test_the_served_model_is_named_or_why_there_is_none():
    model = standard_artifacts.Model()
    assert describe("ServedModel", model=model) == "none: nothing was served"
    model.set_string_custom_property("damaged", "version 17 is damaged")
    assert describe("ServedModel", model=model) == "none: version 17 is damaged"
    model.set_int_custom_property("version", 17)
    assert describe("ServedModel", model=model) == "version 17"


def test_scores_are_their_mean_or_there_is_no_baseline(tmp_path):
    artifact = standard_artifacts.Examples()
    artifact.uri = str(tmp_path)
    text = "none: there is no baseline"
    assert describe("BaselineScores", scores=artifact) == text
    elbo = np.array([-90.0, -91.5, -89.25])
    scores = Scores(
        images=np.arange(3),
        labels=np.zeros(3, np.int64),
        elbo=elbo,
        reconstruction=elbo + 20,
        kl=np.full(3, 20.0),
    )
    scores.write(artifact.uri)
    artifact.set_int_custom_property("images", 3)
    for step in ("BaselineScores", "CandidateScores"):
        text = "ELBO -90.25 nats per image (test)"
        assert describe(step, scores=artifact) == text


def test_bounds_are_the_iwae_and_the_latents(tmp_path):
    measured = Measurements(1_000, -90.5, -69.5, 21.0, -88.25, 64, 7, 16)
    (tmp_path / "bounds.json").write_text(json.dumps(measured._asdict()))
    artifact = standard_artifacts.ModelEvaluation()
    artifact.uri = str(tmp_path)
    assert describe("Bounds", bounds=artifact) == (
        "importance-weighted bound (k = 64) -88.25 nats per image (test), 7 of 16 "
        "latents active"
    )


def test_infra_check_blesses_or_gives_the_reason():
    blessing = standard_artifacts.InfraBlessing()
    blessing.set_int_custom_property("blessed", 1)
    assert describe("InfraCheck", blessing=blessing) == (
        "blessed: every signature answers in a fresh process"
    )
    blessing.set_int_custom_property("blessed", 0)
    blessing.set_string_custom_property("reason", "no answer")
    assert describe("InfraCheck", blessing=blessing) == "refused: no answer"


def test_the_pusher_names_its_version():
    pushed = standard_artifacts.PushedModel()
    assert describe("Pusher", pushed_model=pushed) == "nothing pushed"
    pushed.set_string_custom_property("pushed_version", "18")
    assert describe("Pusher", pushed_model=pushed) == "version 18"


def test_a_model_and_a_page_have_their_size(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "a").write_bytes(bytes(1_200_000))
    (tmp_path / "deep" / "b").write_bytes(bytes(400_000))
    model = standard_artifacts.Model()
    model.uri = str(tmp_path)
    assert describe("Trainer", model=model) == "a model of 1.6 MB"
    assert describe("Report", page=model) == "a page of 1.6 MB"
