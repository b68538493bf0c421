"""Comparisons of the candidate with the baseline, against SciPy's intervals."""

import math

import numpy as np
import pytest
import scipy.stats

from components.evaluation.comparison import (
    Moments,
    compare_by_digit,
    compute_interval,
)


def draw(count, mean=-0.3, spread=2.0, seed=0):
    return np.random.default_rng(seed).normal(mean, spread, count)


@pytest.mark.parametrize("count", [2, 7, 500])
def test_the_interval_is_scipys(count):
    differences = draw(count)
    found = compute_interval(differences)
    expected = scipy.stats.ttest_1samp(differences, 0.0).confidence_interval(0.95)
    assert found.mean == pytest.approx(np.mean(differences))
    assert found[1:] == pytest.approx(tuple(expected), rel=1e-9)


@pytest.mark.parametrize("confidence", [0.51, 0.9, 0.95, 0.999])
@pytest.mark.parametrize("count", [2, 7, 10_000])
def test_the_lower_end_is_scipys_of_a_paired_test(count, confidence):
    baseline = draw(count, mean=-90, spread=25, seed=1)
    candidate = baseline + draw(count)
    test = scipy.stats.ttest_rel(candidate, baseline, alternative="greater")
    moments = Moments.from_values(candidate - baseline)
    assert moments.find_lower_end(confidence) == pytest.approx(
        test.confidence_interval(confidence).low, rel=1e-9
    )
    assert moments.standard_error == pytest.approx(
        scipy.stats.sem(candidate - baseline)
    )


@pytest.mark.parametrize("parts", [[0, 300], [1, 1, 298], [150, 150], [100, 0, 200]])
def test_parts_are_merged_to_the_whole(parts):
    values = draw(300)
    merged = Moments()
    for part in np.split(values, np.cumsum(parts)[:-1]):
        merged = merged.merge(Moments.from_values(part))
    assert merged.count == 300
    assert merged.mean == pytest.approx(np.mean(values), rel=1e-12)
    assert merged.standard_error == pytest.approx(scipy.stats.sem(values), rel=1e-12)


def test_one_after_another_is_the_whole_too():
    values = draw(300)
    merged = Moments()
    for value in values:
        merged = merged.merge(Moments(count=1, mean=value))
    assert merged.mean == pytest.approx(np.mean(values), rel=1e-12)
    assert merged.standard_error == pytest.approx(scipy.stats.sem(values), rel=1e-12)


def test_a_small_spread_about_a_large_mean_is_kept():
    """The sum of squares minus the square of the sum would lose every digit."""
    noise = draw(1_000, mean=0.0, spread=1e-3)
    merged = Moments.from_values(noise[:500] + 1e6).merge(
        Moments.from_values(noise[500:] + 1e6)
    )
    assert Moments.from_values(noise + 1e6).standard_error == pytest.approx(
        scipy.stats.sem(noise), rel=1e-5
    )
    assert merged.standard_error == pytest.approx(scipy.stats.sem(noise), rel=1e-5)


@pytest.mark.parametrize("value", [0.0, 0.1, -1 / 3])
def test_of_equal_values_the_lower_end_is_their_value_exactly(value):
    values = np.full(999, value)
    assert Moments.from_values(values).find_lower_end(0.999) == value
    merged = Moments.from_values(values[:1])
    for _ in range(6):
        merged = merged.merge(merged).merge(Moments.from_values(values[:7]))
    assert merged.find_lower_end(0.999) == value
    assert compute_interval(values) == (value, value, value)


def test_of_one_image_there_is_no_saying():
    assert compute_interval(np.array([0.5])) == (0.5, -math.inf, math.inf)
    assert Moments.from_values(np.array([0.5])).find_lower_end(0.51) == -math.inf
    assert Moments.from_values(np.array([])).find_lower_end(0.51) == -math.inf


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("place", [0, -1])
def test_a_value_that_is_not_finite_passes_no_bound(value, count, place):
    values = np.zeros(count)
    values[place] = value
    merged = Moments()
    for one in values:
        merged = merged.merge(Moments(count=1, mean=float(one)))
    for moments in (merged, Moments.from_values(values)):
        assert not moments.find_lower_end(0.95) >= -1e300


@pytest.mark.parametrize("count", [2, 10, 200])
@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_a_candidate_that_is_worse_by_the_tolerance_passes_as_often_as_allowed(
    count, confidence
):
    """With 95% confidence, it is blessed in 5% of the draws of the test split."""
    draws, tolerance = 4_000, 0.5
    rng = np.random.default_rng(0)
    blessed = sum(
        Moments.from_values(rng.normal(-tolerance, 3.0, count)).find_lower_end(
            confidence
        )
        >= -tolerance
        for _ in range(draws)
    )
    expected = 1 - confidence
    # 99.9% of all seeds are this close: 3.3 standard deviations of a binomial.
    margin = 3.3 * math.sqrt(expected * confidence / draws)
    assert blessed / draws == pytest.approx(expected, abs=margin)


def test_a_digit_is_worse_when_its_whole_interval_is_below_zero():
    labels = np.repeat([3, 5, 8], 100)
    baseline = np.linspace(-120, -80, 300)
    noise = np.tile([-0.5, 0.5], 150)
    shift = np.repeat([-1.0, 0.0, 1.0], 100)
    digits = compare_by_digit(labels, baseline + shift + noise, baseline=baseline)
    assert [digit.label for digit in digits] == [3, 5, 8]
    assert [digit.images for digit in digits] == [100, 100, 100]
    assert [digit.worse for digit in digits] == [True, False, False]
    assert [digit.difference.mean for digit in digits] == pytest.approx([-1, 0, 1])
    assert digits[1].elbo == pytest.approx(np.mean(baseline[100:200]))
    assert digits[1].baseline == pytest.approx(np.mean(baseline[100:200]))


def test_without_a_baseline_nothing_is_worse():
    (digit,) = compare_by_digit(
        np.zeros(4, int), np.array([-1.0, -2, -3, -4]), baseline=None
    )
    assert digit == (0, 4, -2.5, None, None, False)
