"""Metrics and intervals, against scikit-learn, simulations and sums done by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn import metrics as sk

from pipelines.core.contract import Gate, InputError
from pipelines.core.evaluation.bootstrap import Interval, blocks, bootstrap
from pipelines.core.evaluation.metrics import (
    accuracy,
    average_precision,
    brier,
    log_loss,
    mean_of,
    of_scores,
    ratio_of_sums,
    roc_auc,
)
from pipelines.core.review.gates import GateResult

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


def resampled(metrics, labels, scores, **options):
    """The bootstrap of metrics of labels and scores, which are the same labels for each model."""
    measures = {model: {"label": labels, "score": of_model} for model, of_model in scores.items()}
    return bootstrap({name: of_scores(metric) for name, metric in metrics.items()}, measures, **options)


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
        resampled({"auc": roc_auc}, np.array([0, 1, 0]), scores)


def test_probability_metrics_refuse_scores_that_are_no_probabilities():
    with pytest.raises(InputError, match=r"between 0 and 1\. Received: 12\.5"):
        brier(np.array([0, 1]), np.array([0.5, 12.5]))


@MANY
@given(scored())
def test_a_mean_of_a_measure_is_its_weighted_mean_whatever_its_sign(case):
    _, values, weights = case
    values = values - 0.5
    expected = sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights)
    assert mean_of("loss")({"loss": values})(weights) == pytest.approx(expected)
    assert np.isnan(mean_of("loss")({"loss": values})(np.zeros(len(values))))


@MANY
@given(st.integers(1, 20), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_a_ratio_of_sums_is_the_mean_over_columns_of_ratios_that_exist(rows, columns, seed):
    """As mean intersection over union: pixels are summed over all images first, and absent classes left out."""
    rng = np.random.default_rng(seed)
    union = rng.integers(0, 4, (rows, columns)) * (rng.random(columns) < 0.7)
    intersection = np.minimum(rng.integers(0, 4, (rows, columns)), union)
    weights = rng.integers(0, 3, rows).astype(float)
    ratios = []
    for column in range(columns):
        above = sum(weights[row] * intersection[row, column] for row in range(rows))
        below = sum(weights[row] * union[row, column] for row in range(rows))
        ratios += [above / below] if below else []
    expected = sum(ratios) / len(ratios) if ratios else -1.0
    metric = ratio_of_sums("intersection", "union", empty=-1.0)
    assert metric({"intersection": intersection, "union": union})(weights) == pytest.approx(expected)


def test_a_ratio_of_sums_without_any_denominator_is_not_defined():
    none = np.zeros((3, 2))
    assert np.isnan(ratio_of_sums("a", "b")({"a": none, "b": none})(np.ones(3)))


def test_a_metric_of_measures_is_resampled_row_by_row():
    """Rows that are all alike have the same ratio in every resampling; where they differ, the intervals pair."""
    above, below = np.tile([1.0, 2.0], (50, 1)), np.full((50, 2), 4.0)
    better = above + np.random.default_rng(0).random((50, 2))
    models = {"a": {"above": above, "below": below}, "b": {"above": better, "below": below}}
    found = bootstrap({"ratio": ratio_of_sums("above", "below")}, models, count=200)
    assert found.interval("a", "ratio") == Interval(0.375, 0.375, 0.375)
    assert found.values["b", "ratio"] == pytest.approx((better.sum(axis=0) / below.sum(axis=0)).mean())
    assert found.difference("b", "a", "ratio").low > 0


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
        interval = resampled({"auc": roc_auc}, labels, scores, count=150, seed=seed).interval("a", "auc")
        covered += interval.low <= truth <= interval.high
    assert 0.90 <= covered / 200 <= 0.985


def test_rows_tied_in_clusters_give_a_wider_interval():
    groups = np.repeat(np.arange(40), 25)
    labels, _ = simulated(1, n=1000, groups=groups, effect=0.0)
    # Every row of a group has the group's label: 1,000 rows, 40 facts.
    labels = labels[::25].repeat(25)
    metrics, models = {"mean": mean_of("label")}, {"a": {"label": labels}}
    rowwise = bootstrap(metrics, models, count=300)
    clustered = bootstrap(metrics, models, clusters={"patient": groups}, count=300)
    # The standard error of a mean of 40 clusters is five times that of 1,000 independent rows.
    assert 4 < width(clustered.interval("a", "mean")) / width(rowwise.interval("a", "mean")) < 6


def test_of_several_ways_of_clustering_the_wider_interval_counts():
    groups, rows = np.repeat(np.arange(40), 25), np.arange(1000)
    labels, scores = simulated(1, n=1000, groups=groups, effect=2.0)
    single = {
        name: resampled({"auc": roc_auc}, labels, scores, clusters={name: codes}).interval("a", "auc")
        for name, codes in {"terminal": groups, "payment": rows}.items()
    }
    both = resampled({"auc": roc_auc}, labels, scores, clusters={"terminal": groups, "payment": rows}).interval(
        "a", "auc"
    )
    assert both == max(single.values(), key=width)


def test_cluster_columns_may_hold_text_and_missing_values():
    labels, scores = simulated(1, n=300)
    names = np.array(["x", "y", None], dtype=object)[np.arange(300) % 3]
    boot = resampled({"auc": roc_auc}, labels, scores, clusters={"shop": pd.Series(names)})
    # Two shops, and a hundred rows of unknown shops that each stand alone.
    assert "shop (102)" in boot.unit


def test_a_column_with_one_value_is_no_way_of_clustering():
    labels, scores = simulated(1)
    one = resampled({"auc": roc_auc}, labels, scores, clusters={"speaker": np.zeros(400)})
    assert one.interval("a", "auc") == resampled({"auc": roc_auc}, labels, scores).interval("a", "auc")


def test_few_clusters_are_said_to_give_too_narrow_an_interval():
    labels, scores = simulated(1)
    boot = resampled({"auc": roc_auc}, labels, scores, clusters={"speaker": np.arange(400) % 6})
    assert "speaker (6)" in boot.unit
    assert "too narrow" in boot.unit


def test_a_paired_difference_is_narrower_than_two_separate_intervals_suggest():
    labels, scores = simulated(5)
    boot = resampled({"auc": roc_auc}, labels, scores)
    unpaired = np.hypot(width(boot.interval("a", "auc")), width(boot.interval("b", "auc")))
    assert width(boot.difference("a", "b", "auc")) < 0.6 * unpaired


def test_identical_scores_differ_by_exactly_zero():
    labels, scores = simulated(5)
    boot = resampled({"ap": average_precision}, labels, {"a": scores["a"], "twin": scores["a"].copy()})
    assert boot.difference("a", "twin", "ap") == Interval(0.0, 0.0, 0.0)


def test_the_same_seed_draws_the_same_for_whatever_models():
    labels, scores = simulated(5)
    metrics = {"auc": roc_auc}
    both = resampled(metrics, labels, scores, seed=7).interval("b", "auc")
    assert both == resampled(metrics, labels, {"b": scores["b"]}, seed=7).interval("b", "auc")
    assert both != resampled(metrics, labels, scores, seed=8).interval("b", "auc")


def test_two_clusters_are_enough_for_an_interval():
    labels, scores = np.tile([0, 1], 40), np.tile([0.2, 0.7, 0.6, 0.8], 20)
    clusters = {"speaker": np.repeat(["a", "b"], 40)}
    found = resampled({"accuracy": accuracy}, labels, {"network": scores}, clusters=clusters)
    assert np.isfinite(found.replicates["network", "accuracy"]).all()
    assert "with so few values of speaker" in found.unit


def test_an_interval_on_two_positives_is_refused():
    labels, scores = np.zeros(50, int), np.random.default_rng(0).random(50)
    labels[:2] = 1
    boot = resampled({"ap": average_precision}, labels, {"a": scores})
    with pytest.raises(InputError, match="ap has no interval, because a class has so few"):
        boot.interval("a", "ap")


def test_a_metric_without_a_finite_value_is_refused():
    with pytest.raises(InputError, match='ap of "a"'):
        resampled({"ap": average_precision}, np.zeros(5, int), {"a": np.linspace(0, 1, 5)})


def test_the_deficit_is_positive_where_the_network_is_behind_in_either_direction():
    labels, _ = simulated(2)
    p = {"good": np.where(labels == 1, 0.8, 0.2), "poor": np.full(len(labels), 0.5)}
    boot = resampled({"ap": average_precision, "brier": brier}, labels, p)
    assert boot.deficit("poor", "good", "ap").low > 0
    assert boot.deficit("poor", "good", "brier", higher=False).low > 0
    assert boot.deficit("good", "poor", "ap").high < 0
    # The share of label 1 where everyone is at 0.5, and 1 where all are right.
    assert boot.deficit("poor", "good", "ap").value == pytest.approx(1 - labels.mean())
    assert boot.deficit("poor", "good", "brier", higher=False).value == pytest.approx(0.25 - 0.04)


def test_blocks_hold_so_many_distinct_times():
    days = pd.Series(pd.to_datetime(["2020-01-06", "2020-01-02", "2020-01-02", "2020-01-03", "2020-02-10"]))
    assert blocks(days, 2).tolist() == [1, 0, 0, 0, 1]


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(-0.05, -0.01, "passed"), (-0.05, 0.01, "passed"), (0.0, 0.02, "undecided"), (0.01, 0.04, "undecided"),
     (0.021, 0.04, "failed")],
)  # fmt: skip
def test_a_gate_compares_both_ends_of_the_deficit_with_its_margin(low, high, verdict):
    assert GateResult(Gate("trees"), Interval((low + high) / 2, low, high), margin=0.02).state == verdict


def test_an_exact_tie_does_not_pass_a_gate_that_asks_to_be_ahead():
    assert GateResult(Gate("trees"), Interval(0.0, 0.0, 0.0)).state == "undecided"


def test_an_interval_prints_no_more_digits_than_its_width_bears():
    assert str(Interval(0.73141, 0.70512, 0.75631)) == "0.731 [0.705, 0.756]"
    assert str(Interval(1234.5, 1100.2, 1310.7)) == "1234 [1100, 1311]"
