"""Calibration and thresholds, against scikit-learn, simulations and sums done by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, logit
from scipy.stats import binomtest

from pipelines.core.contract import InputError
from pipelines.core.evaluation import calibration
from pipelines.core.evaluation.metrics import brier, log_loss
from tests.test_evaluate import MANY, scored

# -------------------------------------------------------------------------------------------------------- calibration


def distorted(seed, n):
    """(labels, distorted scores, true probabilities): twice as sure of itself as it may be, and too high throughout."""
    rng = np.random.default_rng(seed)
    logit = rng.normal(-1, 1.5, n)
    p = 1 / (1 + np.exp(-logit))
    return (rng.random(n) < p).astype(int), 1 / (1 + np.exp(-2 * logit - 1)), p


@pytest.mark.parametrize("learn", [calibration.temperature, calibration.isotonic])
def test_calibration_repairs_a_distorted_score_on_other_rows(learn):
    labels, scores, _ = distorted(0, 8000)
    facts = learn(scores, labels, np.ones(8000))
    labels, scores, p = distorted(1, 8000)
    ones, mended = np.ones(8000), calibration.apply(facts, scores)
    perfect, before = (brier(labels, x)(ones) for x in (p, scores))
    assert brier(labels, mended)(ones) - perfect < 0.1 * (before - perfect)
    assert np.abs(mended - p).mean() < 0.03


def test_temperature_finds_the_slope_and_offset_that_undo_the_distortion():
    labels, scores, _ = distorted(0, 20000)
    facts = calibration.temperature(scores, labels, np.ones(20000))
    # logit p = (logit s - 1) / 2
    assert facts.slope == pytest.approx(0.5, abs=0.03)
    assert facts.offset == pytest.approx(-0.5, abs=0.06)


def test_temperature_of_several_classes_lowers_the_loss_and_leaves_every_decision():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(3000, 3)) * 1.5
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = (rng.random((3000, 1)) > p.cumsum(axis=1)).sum(axis=1)
    sure = p**3 / (p**3).sum(axis=1, keepdims=True)
    facts, ones = calibration.learn(sure, labels, np.ones(3000)), np.ones(3000)
    mended = calibration.apply(facts, sure)
    assert facts.slope == pytest.approx(1 / 3, abs=0.03)
    assert log_loss(labels, mended)(ones) < log_loss(labels, sure)(ones)
    assert (mended.argmax(axis=1) == sure.argmax(axis=1)).all()
    assert mended.sum(axis=1) == pytest.approx(1.0)


@MANY
@given(st.lists(st.floats(0, 1, width=32), min_size=5, max_size=50, unique=True), st.integers(0, 2**31))
def test_calibration_never_changes_or_ties_the_order_of_scores(scores, seed):
    scores = np.sort(np.array(scores, dtype=np.float32))
    labels = np.random.default_rng(seed).integers(0, 2, len(scores))
    labels[:2] = 0, 1
    facts = calibration.isotonic(scores, labels, np.ones(len(scores)))
    apart = np.diff(calibration.apply(facts, scores)) > 0
    # Below 1e-9 a millionth of the score drowns in float64.
    assert apart[scores[1:] > 1e-9].all()


def test_calibrated_probabilities_stay_off_0_and_1():
    labels = np.repeat([0, 1], 50)
    scores = np.linspace(0.01, 0.99, 100)
    for learn in (calibration.isotonic, calibration.temperature):
        p = calibration.apply(learn(scores, labels, np.ones(100)), np.array([0.01, 0.99]))
        assert 0 < p[0] < 0.5 < p[1] < 1


def test_isotonic_ends_carry_one_pseudo_record_of_the_overall_share():
    labels, scores = np.repeat([0, 1], 50), np.linspace(0.01, 0.99, 100)
    facts = calibration.isotonic(scores, labels, np.ones(100))
    # Fifty records of label 0 and one worth a half; at the other end fifty of label 1 and the same.
    assert facts.y == pytest.approx([0.5 / 51] * 2 + [50.5 / 51] * 2)


def test_the_default_calibration_is_isotonic_only_where_both_classes_have_a_thousand_records():
    labels, scores, _ = distorted(0, 8000)
    assert calibration.learn(scores, labels, np.ones(8000)).kind == "isotonic"
    assert calibration.learn(scores[:2000], labels[:2000], np.ones(2000)).kind == "temperature"


def test_calibration_on_a_single_class_is_refused():
    with pytest.raises(InputError, match="2 records, all with label 0"):
        calibration.learn(np.array([0.1, 0.2]), np.zeros(2, int), np.ones(2))


def test_calibration_error_of_a_small_case_done_by_hand():
    labels = np.array([0, 0, 1, 0, 1, 1])
    p = np.array([0.1, 0.1, 0.1, 0.8, 0.8, 0.8])
    weights = np.array([1.0, 1.0, 2.0, 1.0, 1.0, 2.0])
    # Lower bin: predicted .1, observed 2/4; upper: .8 against 3/4; each half of the weight.
    assert calibration.expected_calibration_error(labels, p, weights, bins=2) == pytest.approx((0.4 + 0.05) / 2)


def test_calibration_error_of_true_probabilities_is_near_zero_and_of_a_distortion_is_not():
    labels, scores, p = distorted(3, 20000)
    ones = np.ones(20000)
    assert calibration.expected_calibration_error(labels, p, ones) < 0.012
    assert calibration.expected_calibration_error(labels, scores, ones) > 0.08


def test_reliability_intervals_are_wilsons():
    labels = np.repeat([1, 0], [3, 37])
    table = calibration.reliability_table(labels, np.full(40, 0.1), np.full(40, 2.0))
    expected = binomtest(3, 40).proportion_ci(method="wilson")
    assert table[["low", "high"]].to_numpy()[0] == pytest.approx(list(expected), abs=1e-4)


def test_reliability_bins_hold_equal_weight_and_their_intervals_cover_the_truth():
    labels, _, p = distorted(4, 15000)
    table = calibration.reliability_table(labels, p, np.ones(15000), bins=10)
    assert table["rows"].tolist() == [1500] * 10
    assert table["predicted"].is_monotonic_increasing
    assert ((table["low"] <= table["predicted"]) & (table["predicted"] <= table["high"])).sum() >= 8


# --------------------------------------------------------------------------------------------------------- thresholds


@MANY
@given(scored(), st.floats(0, 1))
def test_the_threshold_at_a_rate_is_the_lowest_within_it(case, rate):
    _, scores, weights = case
    threshold = calibration.threshold_at_rate(scores, rate, weights)

    def share(t):
        return weights[scores >= t].sum() / weights.sum()

    assert share(threshold) <= rate + 1e-9
    lower = scores[scores < threshold]
    assert not lower.size or share(lower.max()) > rate


def test_no_threshold_flags_a_row_where_the_budget_is_nought():
    scores = np.array([0.2, 1.0, 1.0])
    assert not (scores >= calibration.threshold_at_rate(scores, 0.0)).any()


def test_the_cost_curve_done_by_hand():
    labels, scores, amounts = np.array([1, 0, 1]), np.array([0.9, 0.5, 0.1]), np.array([100.0, 30.0, 7.0])
    curve = calibration.cost_curve(labels, scores, np.ones(3), cost_miss=amounts, cost_alert=10.0)
    assert curve["threshold"].tolist() == [np.nextafter(0.9, 1), 0.9, 0.5, 0.1]
    assert curve["cost"].tolist() == pytest.approx([107, 17, 27, 30])
    assert curve["alerts"].tolist() == pytest.approx([0, 1, 2, 3])


def test_an_offset_is_learnt_only_where_records_support_it():
    """Calibrated scores of a few hundred records need none; a shift of all log-odds is repaired."""
    rng = np.random.default_rng(0)
    scores = expit(rng.normal(0, 3, 300))
    labels = (rng.random(300) < scores).astype(int)
    for shown, helps in ((scores, False), (expit(logit(scores) + 3), True), (expit(4 * logit(scores)), False)):
        assert calibration.offset_helps(shown, labels, np.ones(300)) == helps
        learnt = calibration.learn(shown, labels, np.ones(300))
        assert (learnt.offset != 0) == helps
