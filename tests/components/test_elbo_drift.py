"""ElboDrift: the served model's ELBO on this run's test split against its manifest."""

import itertools
import math
import os
import pathlib

import numpy as np
import pytest
from tfx.types import standard_artifacts
from tfx.utils import path_utils

from components.elbo_drift import ElboDrift, ElboDriftError
from components.evaluation.elbo_fall import ElboDriftReport, MeanElbo
from components.evaluation.scores import Scores, ScoresError
from components.registry.manifest import Manifest
from tests.support import evaluations

OF_ITS_OWN = {"elbo": -88.36, "standard_error": 0.3, "images": 10_000}


def two_values(mean, images=1_601):
    """Returns ELBOs 16 nats above and below a mean, and a last one on it.

    The standard error of their mean is 16 / sqrt(1,601), which is 0.4.
    """
    elbo = mean + np.where(np.arange(images) % 2, 16.0, -16.0)
    elbo[-1] = mean
    return elbo


@pytest.fixture
def baseline(tmp_path):
    """Returns a function that makes ServedModel's output, version 3, or none."""

    def baseline(elbo=None):
        model = standard_artifacts.Model()
        model.uri = str(tmp_path / "baseline")
        if elbo is not None:
            os.makedirs(path_utils.serving_model_dir(model.uri), exist_ok=True)
            manifest = Manifest.from_content({"elbo": elbo}).with_files({"a": "b"})
            path = pathlib.Path(model.uri, "MANIFEST.json")
            path.write_text(manifest.to_json(), encoding="utf-8")
            model.set_int_custom_property("version", 3)
        return model

    return baseline


@pytest.fixture
def compare(tmp_path):
    """Returns a function that runs the step and returns its report."""
    count = itertools.count()

    def compare(model, elbo=None, *, threshold=8.0, accept_drift=0):
        scored = None
        if elbo is not None:
            numbers, nothing = np.arange(len(elbo)), np.zeros(len(elbo))
            scored = Scores(
                images=numbers,
                labels=numbers % 10,
                elbo=elbo,
                reconstruction=nothing,
                kl=nothing,
            )
        scores = evaluations.write_scores(tmp_path / f"scores-{next(count)}", scored)
        report = standard_artifacts.ModelEvaluation()
        report.uri = str(tmp_path / "report")
        os.makedirs(report.uri, exist_ok=True)
        ElboDrift.test_call(
            baseline=model,
            scores=scores,
            report=report,
            threshold=threshold,
            accept_drift=accept_drift,
        )
        return ElboDriftReport.read(report.uri)

    return compare


def test_a_fall_beyond_the_threshold_stops_the_run_with_the_numbers(baseline, compare):
    # The standard error of the difference is hypot(0.3, 0.4) = 0.5.
    with pytest.raises(ElboDriftError) as error:
        compare(baseline(OF_ITS_OWN), two_values(-101.2))
    assert str(error.value) == (
        "the served version 3 had ELBO -88.36 on its test split (10,000 images); on "
        "this run's test split it has -101.20 (1,601 images): a fall of 12.84 nats, "
        "25.7 standard errors, above the threshold of 8; if that is wanted, accept it "
        "once with --set data.accept_drift=true. Look at the data, or review the "
        "threshold, data.elbo_fall"
    )


def test_the_report_is_written_before_the_run_is_stopped(baseline, compare, tmp_path):
    with pytest.raises(ElboDriftError):
        compare(baseline(OF_ITS_OWN), two_values(-101.2))
    report = ElboDriftReport.read(str(tmp_path / "report"))
    assert report.is_too_far
    assert report.fall.nats == pytest.approx(12.84, rel=1e-6)
    assert report.fall.standard_errors == pytest.approx(25.68, rel=1e-3)


def test_a_fall_that_is_accepted_is_a_warning(baseline, compare, caplog):
    report = compare(baseline(OF_ITS_OWN), two_values(-101.2), accept_drift=1)
    assert report.is_too_far
    assert report.accept_drift
    (logged,) = [each for each in caplog.records if each.levelname == "WARNING"]
    assert logged.getMessage() == (
        "accepted: the served version 3 had ELBO -88.36 on its test split (10,000 "
        "images); on this run's test split it has -101.20 (1,601 images): a fall of "
        "12.84 nats, 25.7 standard errors, above the threshold of 8"
    )


@pytest.mark.parametrize("mean", [-92.3, -88.36, -60.0, -1e-3])
def test_a_small_fall_and_any_rise_pass(baseline, compare, mean, caplog):
    report = compare(baseline(OF_ITS_OWN), two_values(mean))
    assert not report.is_too_far
    assert report.baseline_version == 3
    assert report.unchecked == ""
    assert report.fall.nats == pytest.approx(-88.36 - mean, abs=1e-4)
    assert report.fall.before == MeanElbo(**OF_ITS_OWN)
    assert report.fall.now.standard_error == pytest.approx(0.4, rel=1e-3)
    assert "accepted" not in caplog.text


@pytest.mark.parametrize(("threshold", "stops"), [(8.1, False), (7.7, True)])
def test_the_threshold_is_in_standard_errors(baseline, compare, threshold, stops):
    model, elbo = baseline(OF_ITS_OWN), two_values(-92.31)  # 7.9 standard errors
    if stops:
        with pytest.raises(
            ElboDriftError, match=r"7\.9 .* above the threshold of 7\.7"
        ):
            compare(model, elbo, threshold=threshold)
    else:
        assert compare(model, elbo, threshold=threshold).fall.standard_errors < 8


@pytest.mark.parametrize("bad", [math.nan, -math.inf, math.inf])
def test_scores_that_are_not_finite_are_a_fall(baseline, compare, bad):
    elbo = two_values(-60.0)
    elbo[[3, 8]] = bad
    with pytest.raises(ElboDriftError) as error:
        compare(baseline(OF_ITS_OWN), elbo)
    assert str(error.value).startswith(
        "the served version 3 had ELBO -88.36 on its test split (10,000 images); on "
        "this run's test split the ELBO of 2 of 1,601 images is not a finite number, "
        "which counts as a fall; if that is wanted, accept it once with"
    )


def test_a_manifest_without_a_standard_error_is_compared_too(baseline, compare):
    old = {"elbo": -88.36, "images": 6_404}  # 4 times the images: half the error
    report = compare(baseline(old), two_values(-88.46))
    assert report.fall.before.standard_error == pytest.approx(0.2, rel=1e-3)
    with pytest.raises(ElboDriftError, match=r"\(6,404 images\); on this run's"):
        compare(baseline(old), two_values(-101.2))


def test_a_manifest_without_the_number_of_images_is_described_without_it(
    baseline, compare
):
    known = {"elbo": -88.36, "standard_error": 0.3}
    with pytest.raises(ElboDriftError, match=r"on its test split; on this run's"):
        compare(baseline(known), two_values(-101.2))


def test_without_a_baseline_there_is_nothing_to_compare(baseline, compare):
    assert compare(baseline()) == ElboDriftReport(
        baseline_version=None,
        fall=None,
        unchecked="nothing was served",
        threshold=8.0,
        accept_drift=False,
    )


def test_a_damaged_baseline_is_why_there_is_no_check(baseline, compare):
    model = baseline()
    model.set_string_custom_property("damaged", "version 3 is damaged: no file")
    assert compare(model).unchecked == "version 3 is damaged: no file"


@pytest.mark.parametrize(
    ("elbo", "images", "why"),
    [
        ({}, 1_601, "its manifest has no ELBO"),
        (
            {"elbo": -88.36},
            1_601,
            "its manifest has neither the ELBO's standard error nor the images",
        ),
        (OF_ITS_OWN, 99, "the test split has 99 images, fewer than 100"),
    ],
)
def test_what_is_not_checked_has_a_reason(baseline, compare, elbo, images, why):
    report = compare(baseline(elbo), two_values(-500.0, images))
    assert report.unchecked == f"version 3: {why}"
    assert report.fall is None
    assert not report.is_too_far


def test_scores_that_are_lost_are_not_none(baseline, compare):
    """Else a run on changed data would pass."""
    with pytest.raises(ScoresError) as error:
        compare(baseline(OF_ITS_OWN))
    assert str(error.value) == (
        "the scores must be those of version 3, there are none: run the step "
        "BaselineScores again"
    )
