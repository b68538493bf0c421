"""The fall of the served model's ELBO, in closed form and against SciPy."""

import dataclasses
import json
import math
import warnings

import numpy as np
import pytest
import scipy.stats

from components.evaluation import elbo_fall
from components.evaluation.elbo_fall import ElboDriftReport, ElboFall, MeanElbo
from components.registry.manifest import Manifest


def two_values(mean, images):
    """Returns ELBOs 10 nats above and below a mean; their standard error is known."""
    return mean + np.where(np.arange(images) % 2, 10.0, -10.0)


def manifest(**elbo):
    return Manifest.from_content({"elbo": elbo})


def fall(before, now, *, errors=(3.0, 4.0)):
    """Returns a fall between two means, whose difference has a standard error of 5."""
    one, other = (
        MeanElbo(elbo=elbo, standard_error=error, images=1_000)
        for elbo, error in zip((before, now), errors)
    )
    return ElboFall(before=one, now=other)


def test_the_standard_error_is_that_of_the_closed_form():
    # N values of +-10 have the variance 100 N / (N - 1), and the mean 100 / (N - 1).
    mean = elbo_fall.compute_mean(two_values(-90.0, 122))
    assert mean.elbo == pytest.approx(-90.0, rel=1e-12)
    assert mean.standard_error == pytest.approx(10 / 11, rel=1e-12)
    assert mean.images == 122


def test_a_fall_is_in_nats_and_in_standard_errors_of_both_splits():
    measured = fall(-90.0, -110.0)
    assert measured.nats == 20.0
    assert measured.standard_errors == pytest.approx(4.0, rel=1e-12)


def test_the_standard_errors_are_the_statistic_of_welchs_test():
    rng = np.random.default_rng(0)
    before, now = rng.normal(-90, 25, 500), rng.normal(-93, 40, 2_000)
    measured = ElboFall(
        before=elbo_fall.compute_mean(before), now=elbo_fall.compute_mean(now)
    )
    expected = scipy.stats.ttest_ind(before, now, equal_var=False).statistic
    assert measured.standard_errors == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("now", "is_above"),
    [(-130.0, False), (-130.1, True), (-90.0, False), (-50.0, False), (1e9, False)],
)
def test_only_a_fall_beyond_the_threshold_is_above_it(now, is_above):
    assert fall(-90.0, now).is_above(8.0) is is_above


@pytest.mark.parametrize("bad", [math.nan, -math.inf, math.inf])
@pytest.mark.parametrize("which", ["before", "now"])
def test_a_mean_that_is_not_finite_is_a_fall(which, bad):
    means = {"before": -90.0, "now": -90.0, which: bad}
    errors = {"before": 3.0, "now": 4.0, which: math.nan}
    measured = fall(**means, errors=errors.values())
    assert math.isnan(measured.standard_errors)
    assert measured.is_above(1e300)


@pytest.mark.parametrize("bad", [math.nan, -math.inf, math.inf])
@pytest.mark.parametrize("error", [{}, {"standard_error": 2.0}])
def test_one_score_that_is_not_finite_is_a_fall(bad, error):
    elbo = two_values(-90.0, 122)
    elbo[7] = bad
    known = manifest(elbo=-90.0, images=122, **error)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        measured = elbo_fall.measure_fall(known, elbo)
    assert measured.is_above(1e300)


@pytest.mark.parametrize(
    ("now", "errors", "is_above"),
    [(-90.0, 0.0, False), (-90.1, math.inf, True), (-89.9, -math.inf, False)],
)
def test_means_without_an_error_differ_infinitely_or_not(now, errors, is_above):
    measured = fall(-90.0, now, errors=(0.0, 0.0))
    assert measured.standard_errors == errors
    assert measured.is_above(8.0) is is_above


def test_a_single_image_proves_nothing():
    mean = elbo_fall.compute_mean(np.array([-90.0]))
    assert mean == MeanElbo(elbo=-90.0, standard_error=math.inf, images=1)


def test_the_manifest_has_the_standard_error_of_its_split():
    known = manifest(elbo=-80.0, standard_error=1.5, images=9_000)
    measured = elbo_fall.measure_fall(known, two_values(-90.0, 170))
    assert dataclasses.astuple(measured.before) == (-80.0, 1.5, 9_000)
    error = math.sqrt(1.5**2 + (10 / 13) ** 2)
    assert measured.standard_errors == pytest.approx(10 / error, rel=1e-12)


def test_without_it_the_old_split_is_taken_to_vary_like_the_new_one():
    known = manifest(elbo=-80.0, images=680)
    measured = elbo_fall.measure_fall(known, two_values(-90.0, 170))
    # 4 times the images: half the standard error, which is 10 / 13.
    assert measured.before.standard_error == pytest.approx(5 / 13, rel=1e-12)
    error = math.sqrt(125) / 13
    assert measured.standard_errors == pytest.approx(10 / error, rel=1e-12)


@pytest.mark.parametrize(
    ("elbo", "images", "why"),
    [
        ({"images": 500}, 500, "its manifest has no ELBO"),
        (
            {"elbo": -80.0},
            500,
            "its manifest has neither the ELBO's standard error nor the images",
        ),
        (
            {"elbo": -80.0, "images": 99},
            500,
            "its test split had 99 images, fewer than 100",
        ),
        (
            {"elbo": -80.0, "images": 500},
            99,
            "the test split has 99 images, fewer than 100",
        ),
    ],
)
def test_what_cannot_be_measured_has_a_reason(elbo, images, why):
    assert elbo_fall.find_obstacle(manifest(**elbo), images) == why
    with pytest.raises(ValueError, match=f"cannot be measured: {why}$"):
        elbo_fall.measure_fall(manifest(**elbo), two_values(-90.0, images))


@pytest.mark.parametrize(
    "elbo",
    [{"images": 100}, {"standard_error": 2.0}, {"images": 100, "standard_error": 2.0}],
)
def test_the_least_that_can_be_measured(elbo):
    known = manifest(elbo=-80.0, **elbo)
    assert elbo_fall.find_obstacle(known, 100) == ""
    assert elbo_fall.measure_fall(known, two_values(-80.0, 100)).nats == 0.0


def test_honest_splits_differ_by_less_than_half_the_threshold():
    """With the fewest images and a lower tail such as that of ELBOs."""
    rng = np.random.default_rng(0)
    scores = -70.0 - rng.gamma(2.0, 15.0, 10_000)
    largest = 0.0
    for _ in range(1_000):
        old, new = rng.choice(scores, (2, elbo_fall.MIN_IMAGES))
        measured = ElboFall(
            before=elbo_fall.compute_mean(old), now=elbo_fall.compute_mean(new)
        )
        largest = max(largest, measured.standard_errors)
    assert 3.0 < largest < 4.0


def test_the_report_is_read_as_it_was_written(tmp_path):
    mean = MeanElbo(elbo=-math.inf, standard_error=math.nan, images=None)
    report = ElboDriftReport(
        baseline_version=3,
        fall=ElboFall(before=mean, now=mean),
        unchecked="",
        threshold=8.0,
        accept_drift=True,
    )
    report.write(str(tmp_path))
    assert repr(ElboDriftReport.read(str(tmp_path))) == repr(report)
    content = json.loads((tmp_path / "elbo_drift.json").read_text())
    assert list(content) == [
        *("baseline_version", "fall", "unchecked", "threshold", "accept_drift")
    ]


@pytest.mark.parametrize(
    ("now", "text"),
    [
        (-102.344, "a fall of 12.34 nats, 2.5 standard errors"),
        (-88.5, "a rise of 1.50 nats, 0.3 standard errors"),
        (-90.0, "a fall of 0.00 nats, 0.0 standard errors"),
        (-89.996, "a fall of 0.00 nats, 0.0 standard errors"),
        (math.nan, "a fall of nan nats, nan standard errors"),
    ],
)
def test_a_fall_and_a_rise_are_described(now, text):
    assert fall(-90.0, now).describe() == text
