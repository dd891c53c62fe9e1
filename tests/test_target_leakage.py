"""Target leakage: what a label leaves behind in a column is refused or told, and strong predictors pass."""

import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import beta
from sklearn.metrics import average_precision_score

from pipelines.core.contract import InputError
from pipelines.core.data import target_leakage
from pipelines.core.data.splits import Splits

N = 10_000
RNG = np.random.default_rng(0)
FRAUD = RNG.random(N) < 0.05
SPLITS = Splits(np.arange(6_000), np.arange(6_000, 8_000), np.arange(8_000, N))


def some(share: float) -> np.ndarray:
    """That share of the frauds."""
    return FRAUD & (np.random.default_rng(1).random(N) < share)


def judged(values, labels=FRAUD, allowed=(), classes=("honest", "fraud")) -> tuple[str, ...]:
    views = target_leakage.columns_seen(pd.DataFrame({"x": values}), ["x"])
    return target_leakage.refuse_views(views, np.asarray(labels, int), SPLITS, classes, allowed)


def refusal(values, labels=FRAUD) -> str:
    with pytest.raises(InputError) as error:
        judged(values, labels)
    return str(error.value)


AMOUNTS = np.random.default_rng(2).gamma(2, 50, N).round(2)
CODES = np.random.default_rng(3).choice([1.0, 2, 3, 5, 6, 7], N)
LEAKS = {
    "code": lambda rows: np.where(rows, 4, CODES),
    "text": lambda rows: np.where(rows, "chargeback", np.char.add("kind", CODES.astype(str))),
    "missing number": lambda rows: np.where(rows, np.nan, AMOUNTS),
    "missing text": lambda rows: pd.Series(np.char.add("kind", CODES.astype(str))).where(~rows),
    "filled alone": lambda rows: np.where(rows, AMOUNTS, np.nan),
    "zero but here": lambda rows: np.where(rows, AMOUNTS, 0),
    "decimals": lambda rows: AMOUNTS + np.where(rows, 0.003, 0),
    "form": lambda rows: np.where(rows, "X-", "X") + pd.Series(np.arange(N) % 900).astype(str),
    "flag": lambda rows: rows,
}


@pytest.mark.parametrize("kind", LEAKS)
def test_what_most_frauds_have_and_hardly_others_is_refused_unless_allowed(kind):
    values = LEAKS[kind](some(0.7))
    message = refusal(values)
    assert "column 'x'" in message.lower()
    assert "--allow-column x" in message
    assert judged(values, allowed=("x",)) == ()


@pytest.mark.parametrize("kind", LEAKS)
def test_what_some_frauds_have_and_hardly_others_is_a_warning_with_share_and_purity(kind):
    [warning] = judged(LEAKS[kind](some(0.2)))
    assert "column 'x'" in warning.lower()
    assert "--allow-column x" in warning


def test_a_warning_names_value_share_and_purity():
    [warning] = judged(LEAKS["code"](some(0.2)))
    right = some(0.2)[SPLITS.validation].sum()
    assert warning.startswith(f"Column 'x': 4 holds {right / FRAUD[SPLITS.validation].sum():.1%} of class 'fraud'")
    assert f"100.0% of the {right} records" in warning


@pytest.mark.parametrize("kind", LEAKS)
def test_the_same_among_frauds_and_others_is_no_leak(kind):
    assert judged(LEAKS[kind](np.random.default_rng(4).permutation(some(0.7)))) == ()


def test_a_text_that_gives_the_label_away_where_it_is_present_is_told():
    present = np.random.default_rng(5).random(N) < 0.3
    [warning] = judged(pd.Series(np.where(FRAUD, "confirmed", "cleared")).where(present))
    assert "'x' alone separates" in warning


def test_a_rank_that_finds_most_frauds_is_refused_where_auc_sees_nothing():
    """A score written after the fact for 95 % of the frauds: its AUC is below the limit."""
    rng = np.random.default_rng(6)
    area = re.search(r"AUC (\S+),", refusal(rng.random(N) + some(0.95)))
    assert float(area[1]) < target_leakage.MOST_AUC


@pytest.mark.parametrize("digits", [2, 0])
def test_amounts_above_a_limit_are_a_predictor_however_pure(digits):
    dear = some(0.2)
    amounts = np.where(dear, 220 + AMOUNTS, AMOUNTS.clip(max=220)).round(digits)
    assert judged(amounts) == ()


def test_a_strong_predictor_passes():
    assert judged(np.random.default_rng(7).normal(size=N) + 2.4 * FRAUD) == ()  # an AUC of .955


def test_frequent_values_that_are_mostly_fraud_pass():
    risky = some(0.3) | (np.random.default_rng(8).random(N) < 0.005)  # three quarters of them are frauds
    assert judged(np.where(risky, "gambling", "groceries")) == ()


def test_pure_values_are_common_where_labels_are_balanced():
    labels = np.random.default_rng(9).random(N) < 0.5
    usual = np.where(labels, np.random.default_rng(10).random(N) < 0.1, np.random.default_rng(11).random(N) < 0.006)
    assert judged(np.where(usual, "metal", "wood"), labels) == ()  # 94 % pure


def test_a_pattern_of_training_that_validation_does_not_confirm_is_no_warning():
    values = np.where(some(0.3) & (np.arange(N) < 6_000), "spell", "other")
    assert judged(values) == ()


def test_test_labels_are_never_looked_at():
    turned = np.where(np.arange(N) >= 8_000, ~FRAUD, FRAUD)
    for kind in LEAKS:
        values = LEAKS[kind](some(0.2))
        assert judged(values, turned) == judged(values)


def test_the_rarer_of_two_classes_is_judged_and_each_of_several():
    turned = ~FRAUD
    assert "class 'legitimate'" in str(refusal_of(np.where(FRAUD, 4, CODES), turned, ("legitimate", "fraud")))
    three = np.where(FRAUD, 2, np.arange(N) % 2)
    assert "class 'c'" in str(refusal_of(np.where(three == 2, 4, CODES), three, ("a", "b", "c")))


def refusal_of(values, labels, classes) -> InputError:
    with pytest.raises(InputError) as error:
        judged(values, labels, classes=classes)
    return error.value


@given(st.integers(1, 50), st.data())
def test_the_bound_is_that_of_clopper_and_pearson(trials, data):
    successes = data.draw(st.integers(1, trials))
    expected = beta.ppf(0.05, successes, trials - successes + 1)
    assert target_leakage.lower_bound(successes, trials) == pytest.approx(expected)
    assert target_leakage.lower_bound(0, trials) == 0


@given(st.data())
def test_the_average_precision_is_that_of_scikit_learn(data):
    labels = data.draw(arrays(bool, st.integers(2, 50)).filter(any))
    scores = data.draw(arrays(float, len(labels), elements=st.integers(-3, 3).map(float)))
    expected = average_precision_score(labels, scores)
    assert target_leakage.average_precision(labels, scores) == pytest.approx(expected)


def test_decimals_are_counted_up_to_four():
    values = pd.Series([3, 2.5, 19.99, -0.125, 1 / 3, 1e12 + 0.5, np.nan])
    counted = target_leakage.decimals(values)
    assert counted[:5].tolist() == [0, 1, 2, 3, 4]
    assert counted.isna().tolist() == values.isna().tolist()
