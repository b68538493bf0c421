"""Comparisons of the candidate with the baseline, against SciPy's intervals."""

import math

import numpy as np
import pytest
import scipy.stats

from components.evaluation.comparison import compare_by_digit, compute_interval


def test_the_interval_is_scipys():
    differences = np.random.default_rng(0).normal(-0.3, 2.0, 500)
    found = compute_interval(differences)
    low, high = scipy.stats.norm.interval(
        0.95, np.mean(differences), scipy.stats.sem(differences)
    )
    assert found.mean == pytest.approx(np.mean(differences))
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-6)


def test_the_interval_of_thousands_is_students_too():
    differences = np.random.default_rng(1).normal(0.1, 1.0, 10_000)
    found = scipy.stats.ttest_1samp(differences, 0.0).confidence_interval(0.95)
    assert compute_interval(differences)[1:] == pytest.approx(tuple(found), abs=1e-4)


def test_of_one_image_there_is_no_saying():
    assert compute_interval(np.array([0.5])) == (0.5, -math.inf, math.inf)


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
