"""Promises: kept, broken or undecided, and the intervals that say so."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.core.evaluation.bootstrap import Interval
from pipelines.core.evaluation.promises import Promise, mean_difference, share

ROWS = np.arange(400)
ONES = np.ones(400)


@pytest.mark.parametrize(
    ("interval", "at_most", "state"),
    [
        ((0.01, 0.005, 0.02), True, "kept"),
        ((0.03, 0.025, 0.04), True, "broken"),
        ((0.02, 0.01, 0.03), True, "undecided"),
        ((0.01, 0.005, 0.015), False, "broken"),
        ((0.03, 0.02, 0.04), False, "kept"),
    ],
)
def test_a_promise_is_decided_where_the_whole_interval_is_on_one_side(interval, at_most, state):
    assert Promise("errors", 0.02, Interval(*interval), at_most).state == state


@given(st.floats(0.01, 0.9), st.floats(0, 0.09), st.booleans())
def test_tolerance_only_ever_favours_the_promise(value, width, at_most):
    order = ["broken", "undecided", "kept"]
    measured = Interval(value, value - width / 2, value + width / 2)
    strict, lenient = (Promise("p", 0.5, measured, at_most, tolerance).state for tolerance in (0.0, 0.1))
    assert order.index(strict) <= order.index(lenient)


def test_a_promise_says_what_was_wanted_and_what_was_measured():
    promise = Promise("specificity", 0.9, Interval(0.547, 0.50, 0.59), at_most=False, tolerance=0.02)
    assert str(promise) == "specificity: 54.7 [50.0, 59.0] %, wanted at least 90 % (2 % less is tolerated)"
    count = Promise("false accepts an hour", 10, Interval(12.0, 8.0, 17.0), percent=False)
    assert str(count) == "false accepts an hour: 12.0 [8.0, 17.0], wanted at most 10"


def test_no_error_among_few_rows_proves_little():
    none = np.zeros(400, bool)
    few, all_ = share(none, ROWS < 20, ONES, {}), share(none, ROWS >= 0, ONES, {})
    assert few.value == all_.value == 0
    assert few.high > 0.1 > 0.02 > all_.high
    assert share(none, none, ONES, {}) is None


def test_rows_that_belong_together_make_a_share_less_certain():
    hits = (ROWS // 40) % 2 == 0
    alone, together = share(hits, ROWS >= 0, ONES, {}), share(hits, ROWS >= 0, ONES, {"patient": ROWS // 40})
    assert together.high - together.low > 3 * (alone.high - alone.low)


def test_a_share_is_weighted_and_scaled():
    hits, weights = ROWS % 4 == 0, np.where(ROWS % 4 == 0, 3.0, 1.0)
    assert share(hits, ROWS >= 0, weights, {}).value == pytest.approx(0.5)
    assert share(hits, ROWS >= 0, weights, {}, scale=30).value == pytest.approx(15)


def test_a_difference_of_means_is_paired():
    base = np.random.default_rng(0).normal(0, 10, 400)
    found = mean_difference(base + 0.1, base, ONES, {})
    assert (found.low, found.high) == pytest.approx((0.1, 0.1))
