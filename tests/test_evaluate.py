"""Metrics and intervals, against scikit-learn, simulations and sums done by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn import metrics as sk

from pipelines.core.contract import InputError
from pipelines.core.data.splits import halves
from pipelines.core.evaluation.bootstrap import Interval, blocks, bootstrap
from pipelines.core.evaluation.metrics import accuracy, average_precision, brier, log_loss, roc_auc
from pipelines.core.review import promotion

MANY = settings(max_examples=60, deadline=None)


@st.composite
def scored(draw, levels=6):
    """Labels with both classes, scores full of ties, weights of which some are zero."""
    n = draw(st.integers(4, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    labels = rng.integers(0, 2, n)
    labels[:2] = 0, 1
    weights = rng.integers(0, 4, n) * rng.random(n)
    weights[:2] = 1.0
    return labels, rng.integers(0, levels, n) / levels, weights


# ------------------------------------------------------------------------------------------------------------ metrics


@MANY
@given(scored())
def test_ranking_metrics_agree_with_scikit_learn_under_weights_and_ties(case):
    labels, scores, weights = case
    expected = sk.average_precision_score(labels, scores, sample_weight=weights)
    assert average_precision(labels, scores)(weights) == pytest.approx(expected)
    expected = sk.roc_auc_score(labels, scores, sample_weight=weights)
    assert roc_auc(labels, scores)(weights) == pytest.approx(expected)


@MANY
@given(scored())
def test_probability_metrics_agree_with_scikit_learn(case):
    labels, p, weights = case
    assert brier(labels, p)(weights) == pytest.approx(sk.brier_score_loss(labels, p, sample_weight=weights))
    assert log_loss(labels, p)(weights) == pytest.approx(sk.log_loss(labels, p, sample_weight=weights))
    expected = sk.accuracy_score(labels, p >= 0.5, sample_weight=weights)
    assert accuracy(labels, p)(weights) == pytest.approx(expected)


def test_metrics_of_several_classes_agree_with_scikit_learn():
    rng = np.random.default_rng(3)
    labels, p, weights = rng.integers(0, 4, 300), rng.dirichlet(np.ones(4), 300), rng.random(300)
    assert log_loss(labels, p)(weights) == pytest.approx(sk.log_loss(labels, p, sample_weight=weights))
    expected = sk.accuracy_score(labels, p.argmax(axis=1), sample_weight=weights)
    assert accuracy(labels, p)(weights) == pytest.approx(expected)
    # With weights scikit-learn's own one-against-rest is the same mean over classes.
    each = [sk.roc_auc_score(labels == c, p[:, c], sample_weight=weights) for c in range(4)]
    assert roc_auc(labels, p)(weights) == pytest.approx(np.mean(each))


@MANY
@given(scored())
def test_a_weight_of_two_counts_like_the_same_row_twice(case):
    labels, scores, _ = case
    times = np.arange(len(labels)) % 3 + 1
    for metric in (average_precision, roc_auc, brier):
        repeated = metric(np.repeat(labels, times), np.repeat(scores, times))(np.ones(times.sum()))
        assert metric(labels, scores)(times.astype(float)) == pytest.approx(repeated)


def test_ranking_metrics_are_nan_where_a_class_is_missing():
    scores, ones = np.array([0.1, 0.2]), np.ones(2)
    assert np.isnan(average_precision(np.zeros(2, int), scores)(ones))
    assert np.isnan(roc_auc(np.ones(2, int), scores)(ones))
    assert np.isnan(roc_auc(np.array([0, 1]), scores)(np.array([1.0, 0.0])))


def test_scores_that_are_not_finite_are_refused_with_model_and_row():
    scores = {"network": np.array([0.1, 0.2, 0.3]), "forest": np.array([0.1, 0.2, np.nan])}
    with pytest.raises(InputError, match=r'"forest".*nan in row 2'):
        bootstrap({"auc": roc_auc}, np.array([0, 1, 0]), scores)


def test_probability_metrics_refuse_scores_that_are_no_probabilities():
    with pytest.raises(InputError, match=r"between 0 and 1\. Received: 12\.5"):
        brier(np.array([0, 1]), np.array([0.5, 12.5]))


# ---------------------------------------------------------------------------------------------------------- intervals


def simulated(seed, n=400, groups=None, effect=0.0):
    """Labels at rate 0.3 and two correlated scores; in `groups`, scores share an error of size `effect`."""
    rng = np.random.default_rng(seed)
    labels = (rng.random(n) < 0.3).astype(int)
    signal = labels + rng.normal(size=n)
    if groups is not None:
        signal = signal + effect * rng.normal(size=groups.max() + 1)[groups]
    return labels, {"a": signal + 0.3 * rng.normal(size=n), "b": signal + 0.3 * rng.normal(size=n)}


def width(interval):
    return interval.high - interval.low


def test_the_interval_covers_the_true_auc_about_95_times_in_100():
    # Scores normal with unit distance between the classes and variance 1 + 0.3²: AUC = Phi(1 / sqrt(2 x 1.09)).
    truth, covered = norm.cdf(1 / np.sqrt(2 * 1.09)), 0
    for seed in range(200):
        labels, scores = simulated(seed, n=300)
        interval = bootstrap({"auc": roc_auc}, labels, scores, count=150, seed=seed).interval("a", "auc")
        covered += interval.low <= truth <= interval.high
    assert 0.90 <= covered / 200 <= 0.985


def test_rows_tied_in_clusters_give_a_wider_interval():
    groups = np.repeat(np.arange(40), 25)
    labels, scores = simulated(1, n=1000, groups=groups, effect=0.0)
    # Every row of a group has the group's label: 1,000 rows, 40 facts.
    labels = labels[::25].repeat(25)
    metrics = {"mean": lambda labels, scores: lambda w: float(w @ labels / w.sum())}
    rowwise = bootstrap(metrics, labels, scores, count=300)
    clustered = bootstrap(metrics, labels, scores, clusters={"patient": groups}, count=300)
    # The standard error of a mean of 40 clusters is five times that of 1,000 independent rows.
    assert 4 < width(clustered.interval("a", "mean")) / width(rowwise.interval("a", "mean")) < 6


def test_of_several_ways_of_clustering_the_wider_interval_counts():
    groups, rows = np.repeat(np.arange(40), 25), np.arange(1000)
    labels, scores = simulated(1, n=1000, groups=groups, effect=2.0)
    single = {
        name: bootstrap({"auc": roc_auc}, labels, scores, clusters={name: codes}).interval("a", "auc")
        for name, codes in {"terminal": groups, "payment": rows}.items()
    }
    both = bootstrap({"auc": roc_auc}, labels, scores, clusters={"terminal": groups, "payment": rows}).interval(
        "a", "auc"
    )
    assert both == max(single.values(), key=width)


def test_cluster_columns_may_hold_text_and_missing_values():
    labels, scores = simulated(1, n=300)
    names = np.array(["x", "y", None], dtype=object)[np.arange(300) % 3]
    boot = bootstrap({"auc": roc_auc}, labels, scores, clusters={"shop": pd.Series(names)})
    # Two shops, and a hundred rows of unknown shops that each stand alone.
    assert "shop (102)" in boot.unit


def test_a_column_with_one_value_is_no_way_of_clustering():
    labels, scores = simulated(1)
    one = bootstrap({"auc": roc_auc}, labels, scores, clusters={"speaker": np.zeros(400)})
    assert one.interval("a", "auc") == bootstrap({"auc": roc_auc}, labels, scores).interval("a", "auc")


def test_few_clusters_are_said_to_give_too_narrow_an_interval():
    labels, scores = simulated(1)
    boot = bootstrap({"auc": roc_auc}, labels, scores, clusters={"speaker": np.arange(400) % 6})
    assert "speaker (6)" in boot.unit
    assert "too narrow" in boot.unit


def test_a_paired_difference_is_narrower_than_two_separate_intervals_suggest():
    labels, scores = simulated(5)
    boot = bootstrap({"auc": roc_auc}, labels, scores)
    unpaired = np.hypot(width(boot.interval("a", "auc")), width(boot.interval("b", "auc")))
    assert width(boot.difference("a", "b", "auc")) < 0.6 * unpaired


def test_identical_scores_differ_by_exactly_zero():
    labels, scores = simulated(5)
    boot = bootstrap({"ap": average_precision}, labels, {"a": scores["a"], "twin": scores["a"].copy()})
    assert boot.difference("a", "twin", "ap") == Interval(0.0, 0.0, 0.0)


def test_the_same_seed_draws_the_same_for_whatever_models():
    labels, scores = simulated(5)
    metrics = {"auc": roc_auc}
    both = bootstrap(metrics, labels, scores, seed=7).interval("b", "auc")
    assert both == bootstrap(metrics, labels, {"b": scores["b"]}, seed=7).interval("b", "auc")
    assert both != bootstrap(metrics, labels, scores, seed=8).interval("b", "auc")


def test_two_clusters_are_enough_for_an_interval():
    labels, scores = np.tile([0, 1], 40), np.tile([0.2, 0.7, 0.6, 0.8], 20)
    clusters = {"speaker": np.repeat(["a", "b"], 40)}
    found = bootstrap({"accuracy": accuracy}, labels, {"network": scores}, clusters=clusters)
    assert np.isfinite(found.replicates["network", "accuracy"]).all()
    assert "with so few values of speaker" in found.unit


def test_an_interval_on_two_positives_is_refused():
    labels, scores = np.zeros(50, int), np.random.default_rng(0).random(50)
    labels[:2] = 1
    boot = bootstrap({"ap": average_precision}, labels, {"a": scores})
    with pytest.raises(InputError, match="ap has no interval, because a class has so few"):
        boot.interval("a", "ap")


def test_a_metric_without_a_finite_value_is_refused():
    with pytest.raises(InputError, match='ap of "a"'):
        bootstrap({"ap": average_precision}, np.zeros(5, int), {"a": np.linspace(0, 1, 5)})


def test_the_deficit_is_positive_where_the_network_is_behind_in_either_direction():
    labels, _ = simulated(2)
    p = {"good": np.where(labels == 1, 0.8, 0.2), "poor": np.full(len(labels), 0.5)}
    boot = bootstrap({"ap": average_precision, "brier": brier}, labels, p)
    assert boot.deficit("poor", "good", "ap").low > 0
    assert boot.deficit("poor", "good", "brier", higher=False).low > 0
    # Against a fixed figure: everyone at 0.5 has a Brier score of 0.25, whatever is drawn.
    assert boot.deficit("poor", 0.2, "brier", higher=False) == Interval(*[pytest.approx(0.05)] * 3)
    assert boot.deficit("good", 0.9, "ap").value == pytest.approx(-0.1)


def test_blocks_hold_so_many_distinct_times():
    days = pd.Series(pd.to_datetime(["2020-01-06", "2020-01-02", "2020-01-02", "2020-01-03", "2020-02-10"]))
    assert blocks(days, 2).tolist() == [1, 0, 0, 0, 1]


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(-0.05, -0.01, "holds"), (-0.05, 0.01, "holds"), (0.0, 0.02, "undecided"), (0.01, 0.04, "undecided"),
     (0.021, 0.04, "missed")],
)  # fmt: skip
def test_a_gate_compares_both_ends_of_the_deficit_with_its_margin(low, high, verdict):
    assert promotion.gate_state(Interval((low + high) / 2, low, high), margin=0.02) == verdict


def test_an_exact_tie_does_not_pass_a_gate_that_asks_to_be_ahead():
    assert promotion.gate_state(Interval(0.0, 0.0, 0.0), margin=0.0) == "undecided"


def test_an_interval_prints_no_more_digits_than_its_width_bears():
    assert str(Interval(0.73141, 0.70512, 0.75631)) == "0.731 [0.705, 0.756]"
    assert str(Interval(1234.5, 1100.2, 1310.7)) == "1234 [1100, 1311]"


# ------------------------------------------------------------------------------------------------------------- halves


def records(n, seed=0):
    rng = np.random.default_rng(seed)
    return pd.DataFrame({"label": (rng.random(n) < 0.2).astype(int)})


@given(st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_halves_keep_groups_whole_and_share_the_labels(seed):
    frame = records(600, seed)
    frame["group"] = np.random.default_rng(seed).integers(0, 60, 600).astype(str)
    rows = np.arange(100, 600)
    stopping, calibration = halves(frame, rows, seed)
    assert not set(frame["group"].iloc[stopping]) & set(frame["group"].iloc[calibration])
    assert sorted([*stopping, *calibration]) == rows.tolist()
    assert 0.4 < len(stopping) / 500 < 0.6
    assert frame["label"].iloc[stopping].mean() == pytest.approx(frame["label"].iloc[calibration].mean(), abs=0.06)


def test_halves_in_time_stop_on_the_earlier_and_calibrate_on_the_later():
    frame = records(9)
    frame["time"] = pd.to_datetime(["2020-01-0" + day for day in "313151559"])
    stopping, calibration = halves(frame, np.arange(9), seed=0)
    # Half of nine rows would cut the two of the 3rd apart, which stay together.
    assert stopping.tolist() == [0, 1, 2, 3, 5]
    assert calibration.tolist() == [4, 6, 7, 8]


def test_halves_of_no_rows_are_empty():
    assert [len(half) for half in halves(records(5), np.arange(0), seed=0)] == [0, 0]


def test_halves_at_random_are_stratified_and_the_same_for_the_same_seed():
    frame, rows = records(500), np.arange(500)
    stopping, calibration = halves(frame, rows, seed=1)
    assert abs(len(stopping) - len(calibration)) <= 2
    assert abs(frame["label"].iloc[stopping].sum() - frame["label"].iloc[calibration].sum()) <= 2
    assert np.array_equal(stopping, halves(frame, rows, seed=1)[0])
    assert not np.array_equal(stopping, halves(frame, rows, seed=2)[0])


@pytest.mark.parametrize("column", ["group", "time"])
def test_halves_of_a_single_group_or_time_are_refused(column):
    frame = records(10).assign(**{column: pd.Timestamp("2020-01-01")})
    with pytest.raises(InputError, match=r"cannot be cut in two.*Received: one, in 10 records"):
        halves(frame, np.arange(10), seed=0)
