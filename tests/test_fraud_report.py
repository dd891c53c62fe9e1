"""Metrics against brute force and scikit-learn, decisions within the budget, and a report that can be read."""

import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from sklearn.metrics import average_precision_score, roc_auc_score

from pipelines.core.data.arrays import Encoded, Part
from pipelines.core.data.splits import Splits
from pipelines.core.evaluation.metrics import brier
from pipelines.fraud import Settings, data, report
from pipelines.fraud.reading import DAY, Roles
from pipelines.fraud.task import CARD_PRECISION, NO_CARD, TASK, card_precision
from tests.builders import contents, without_words

ROLES = Roles("", "bad", "when", "sum", ("card", "shop"))
FACTS = data.Facts(ROLES, 1.0, (), {}, ("sum",), {})


def part_of(n: int = 3_000, days: int = 30, seed: int = 0) -> tuple[Part, np.ndarray]:
    """Payments of 150 cards, a twentieth of them frauds, and scores that know something about them."""
    rng = np.random.default_rng(seed)
    bad = rng.random(n) < 0.05
    table = pd.DataFrame(
        {
            "when": pd.date_range("2024-03-01", periods=n, freq=days * DAY / n),
            "sum": rng.gamma(2, 20, n).round(2),
            "card": rng.integers(0, 150, n),
            "shop": rng.integers(0, 40, n),
            "bad": bad.astype(int),
        }
    )
    own = data.parse(table, FACTS)
    scores = 1 / (1 + np.exp(-(rng.normal(size=n) + 2.5 * bad - 2)))
    return Part(own, np.arange(n), data.encode(own, FACTS)), scores


def calibrated(part: Part, scores: np.ndarray, settings: Settings | None = None) -> data.Facts:
    return TASK.calibrate(lambda _: scores[:, None], part, settings or Settings(), FACTS)


def measures(days, cards, labels, scores) -> dict[str, np.ndarray]:
    """What card precision is computed from; cards are numbers from 0, and -1 is none."""
    codes = (cards * 7_919 % 10_007).astype(np.uint64)  # in no order
    codes[cards < 0] = NO_CARD
    return {"day": np.asarray(days) - 3, "card": codes, "label": labels, "score": scores}


def handbook_card_precision(days, cards, labels, scores, k):
    """The Handbook's definition, payment by payment."""
    caught, shares = set(), []
    for day in np.unique(days):
        best, fraud = {}, {}
        for card, label, score in zip(cards[days == day], labels[days == day], scores[days == day], strict=True):
            if card not in caught:
                best[card] = max(score, best.get(card, -1))
                fraud[card] = max(label, fraud.get(card, 0))
        top = sorted(best, key=best.get, reverse=True)[:k]
        if top:
            shares.append(np.mean([fraud[card] for card in top]))
        caught |= {card for card in top if fraud[card]}
    return np.mean(shares)


@given(seed=st.integers(0, 10_000), cards=st.integers(1, 30), k=st.integers(1, 12), share=st.floats(0.05, 0.6))
@settings(max_examples=60, deadline=None)
def test_card_precision_is_the_handbooks(seed, cards, k, share):
    rng = np.random.default_rng(seed)
    n = 200
    days, card = np.sort(rng.integers(0, 6, n)), rng.integers(0, cards, n)
    labels, scores = (rng.random(n) < share).astype(int), rng.permutation(n) / n
    value = card_precision(measures(days, card, labels, scores), k)(np.ones(n))
    assert value == pytest.approx(handbook_card_precision(days, card, labels, scores, k))


@given(seed=st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_a_cards_weight_says_how_many_cards_it_stands_for(seed):
    rng = np.random.default_rng(seed)
    n, k = 40, 10
    card, day = np.arange(n), np.zeros(n, int)
    labels, scores, weights = rng.integers(0, 2, n), rng.permutation(n) / n, rng.integers(0, 3, n)
    copies = np.repeat(card, weights)
    expected = handbook_card_precision(day[copies], np.arange(len(copies)), labels[copies], scores[copies], k)
    assert card_precision(measures(day, card, labels, scores), k)(weights.astype(float)) == pytest.approx(expected)


def test_a_few_hundred_rejected_candidates_do_not_hide_the_rest():
    # The 900 best cards have no weight in this replicate: the 100 behind them are judged.
    n = 1_000
    labels = (np.arange(n) % 2 == 0).astype(int)
    value = card_precision(measures(np.zeros(n, int), np.arange(n), labels, -np.arange(n, dtype=float)))
    assert value((np.arange(n) >= 900).astype(float)) == pytest.approx(0.5)


def test_payments_without_a_card_are_left_out_of_card_precision():
    labels, scores = np.array([1, 0, 1]), np.array([0.9, 0.8, 0.7])
    value = card_precision(measures(np.zeros(3, int), np.array([0, 1, -1]), labels, scores))
    assert value(np.ones(3)) == pytest.approx(1 / 2)


def test_without_any_card_there_is_no_card_precision():
    value = card_precision(measures(np.zeros(3, int), np.full(3, -1), np.array([1, 0, 1]), np.array([0.9, 0.8, 0.7])))
    assert np.isnan(value(np.ones(3)))


def test_of_cards_with_equal_scores_the_first_among_the_payments_ranks_higher():
    labels, cards = np.array([0, 1, 0, 0]), np.array([3, 0, 2, 1])
    for k, expected in ((1, 0), (2, 1 / 2), (3, 1 / 3)):
        value = card_precision(measures(np.zeros(4, int), cards, labels, np.full(4, 0.5)), k)
        assert value(np.ones(4)) == pytest.approx(expected)


def test_the_measures_of_a_payment_depend_on_it_alone():
    part, scores = part_of(400)
    part.records["card"] = part.records["card"].where(part.records["card"] != 3)  # some have none
    few = np.arange(50, 300, 7)
    whole, some = TASK.measures(scores, part), TASK.measures(scores[few], part.take(few))
    assert set(whole) == {"label", "score", "day", "card"}
    assert (whole["day"].dtype, whole["card"].dtype) == (np.int64, np.uint64)
    for name, values in whole.items():
        np.testing.assert_array_equal(values[few], some[name])
    cards = part.records["card"].to_numpy()
    assert (whole["card"] == NO_CARD).tolist() == np.isnan(cards).tolist()
    assert len(np.unique(whole["card"])) == len(np.unique(cards))
    assert whole["day"].min() == (pd.Timestamp("2024-03-01") - pd.Timestamp("1970-01-01")) // DAY


def test_metrics_agree_with_scikit_learn():
    part, scores = part_of()
    measured = TASK.measures(scores, part)
    found = {name: metric(measured)(part.weights) for name, metric in TASK.metrics(FACTS).items()}
    assert set(found) == {"average_precision", "roc_auc", "card_precision_at_100"}
    assert found["average_precision"] == pytest.approx(average_precision_score(part.labels, scores))
    assert found["roc_auc"] == pytest.approx(roc_auc_score(part.labels, scores))


def test_payments_without_time_have_no_card_precision():
    part, scores = part_of()
    roles = replace(ROLES, time="")
    assert set(TASK.metrics(replace(FACTS, roles=roles))) == {"average_precision", "roc_auc"}
    timeless = replace(part, data=replace(part.data, about=replace(part.data.about, roles=roles)))
    assert set(TASK.measures(scores, timeless)) == {"label", "score"}


@pytest.mark.parametrize(("budget", "expected"), [(0, 1), (10, 10), (10**6, 100)])
def test_the_threshold_keeps_to_the_alert_budget(budget, expected):
    part, scores = part_of()
    facts = calibrated(part, scores, Settings(alerts_per_day=budget))
    decided = TASK.decide(scores[:, None], facts, part)
    # 3,000 payments in 30 days: a hundredth of them is one a day.
    assert decided["alert"].sum() / 30 == pytest.approx(expected, rel=0.01)


def test_calibrated_scores_are_probabilities_in_the_same_order():
    part, scores = part_of(8_000)
    probability = TASK.scores(scores[:, None], calibrated(part, scores))
    assert (np.diff(probability[np.argsort(scores)]) > 0).all()
    assert probability.mean() == pytest.approx(part.labels.mean(), rel=0.05)
    assert brier(part.labels, probability)(part.weights) < brier(part.labels, scores)(part.weights)


def test_a_payment_without_history_says_so():
    part, scores = part_of(300)
    asked = part.take(np.arange(200, 300))
    earlier = TASK.decide(scores[200:, None], calibrated(part, scores), asked)["earlier_payments"]
    cards = part.records["card"].to_numpy()
    assert earlier.tolist() == [int((cards[:row] == cards[row]).sum()) for row in range(200, 300)]


def outcome_of(examples: str = "full", roles: Roles = ROLES) -> SimpleNamespace:
    part, scores = part_of()
    part = replace(part, data=replace(part.data, about=replace(part.data.about, roles=roles)))
    counted = part.records["card"].to_numpy() != 3
    chosen = Settings(data="own.csv", examples=examples)
    facts = replace(calibrated(part, scores, chosen), roles=roles)
    probability = TASK.scores(scores[:, None], facts)
    rng = np.random.default_rng(5)
    headline = part.take(counted)
    value = average_precision_score(headline.labels, probability[counted])
    return SimpleNamespace(
        settings=chosen,
        facts=facts,
        parts={"test": part},
        outputs=scores[:, None],
        scores=probability,
        baselines={"chance": rng.random(len(part)), "amount": part.records["sum"].to_numpy()},
        splits=Splits(*[np.array([], int)] * 2, np.arange(len(part)), clusters=roles.entities),
        counted=counted,
        headline=headline,
        headline_scores=probability[counted],
        resampled=SimpleNamespace(values={("network", "average_precision"): value}),
    )


def test_the_report_holds_the_figures_and_numbers_of_a_fraud_desk():
    outcome = outcome_of()
    items = contents(report.report(outcome))
    for name in ("precision and recall", "reliability", "cost against threshold", "daily alerts", "slices"):
        assert isinstance(items[name], Figure)
    part, scores = outcome.headline, outcome.headline_scores
    alert = scores >= outcome.facts.threshold
    stolen, money = part.labels == 1, part.frame["sum"].to_numpy()
    assert items["recall_at_budget"] == pytest.approx(alert[stolen].mean())
    assert items["precision_at_budget"] == pytest.approx(stolen[alert].mean())
    assert items["money_caught_at_budget"] == pytest.approx(money[stolen & alert].sum() / money[stolen].sum())
    assert items["alerts_per_day"] == pytest.approx(alert.sum() / 30)
    for name in ("recall_at_budget", "precision_at_budget", "money_caught_at_budget"):
        assert items[f"{name}_low"] < items[name] < items[f"{name}_high"]
    every = outcome.parts["test"]
    assert items["roc_auc_all_rows"] == pytest.approx(roc_auc_score(every.labels, outcome.scores))
    ceiling, reached = items["card_precision_at_100_ceiling"], items["card_precision_at_100_all_rows"]
    assert reached > 0
    assert 0 < ceiling < 1


def test_every_item_says_what_it_is_and_how_to_read_it():
    assert without_words(report.report(outcome_of())) == []


def test_the_verdict_begins_with_what_a_fraud_desk_asks():
    outcome = outcome_of()
    items = contents(report.report(outcome))
    said = report.remarks(outcome)[0]
    assert said.startswith(f"{items['alerts_per_day']:.3g} alerts a day, {items['precision_at_budget']:.0%}"[:-1])
    found = re.search(r"(\d+) % \((\d+) to (\d+)\) of the frauds and (\d+) % .* of the money", said)
    recall = [items[f"recall_at_budget{end}"] for end in ("", "_low", "_high")]
    assert [int(share) for share in found.groups()] == pytest.approx(
        [100 * share for share in (*recall, items["money_caught_at_budget"])], abs=0.51
    )
    bare = report.remarks(outcome_of(roles=replace(ROLES, time="", amount="", entities=())))[0]
    assert bare.startswith("Alerts, ")
    assert "money" not in bare


def test_a_network_without_alerts_says_so():
    outcome = outcome_of()
    outcome.facts = replace(outcome.facts, threshold=2.0)
    assert report.remarks(outcome)[0].startswith("No test payment gets an alert")
    assert contents(report.report(outcome))["recall_at_budget"] == 0


def test_every_way_of_slicing_covers_the_headline_rows():
    outcome = outcome_of()
    table = contents(report.report(outcome))["table of slices"]
    assert set(table["slice"]) == {"amount", "hour"}  # every card and shop is of one age group
    for _, slices in table.groupby("slice"):
        assert slices["rows"].sum() == len(outcome.headline)
        assert slices["frauds"].sum() == outcome.headline.labels.sum()
    quarters = table[table["slice"] == "amount"]["rows"]
    assert len(quarters) == 4
    assert quarters.max() - quarters.min() <= 1


def test_a_payment_is_sliced_by_the_age_of_its_customer_and_terminal():
    part, _ = part_of(days=200)
    parts = dict(report._parts(part, ROLES))
    first = part.records.groupby("card")["time"].min()
    age = (part.records["time"] - part.records["card"].map(first)) / DAY
    assert (np.asarray(parts["age of card"] == "under 30 days") == (age < 30)).all()
    assert (np.asarray(parts["age of card"] == "over 90 days") == (age >= 90)).all()
    assert list(parts["age of shop"].categories) == list(report.AGES)


def test_the_worst_misses_are_the_dearest_frauds_without_an_alert():
    outcome = outcome_of()
    misses = contents(report.report(outcome))["worst misses"]
    part = outcome.headline
    missed = (part.labels == 1) & (outcome.headline_scores < outcome.facts.threshold)
    assert misses["sum"].tolist() == sorted(part.frame["sum"][missed], reverse=True)[: report.MISSES]


@pytest.mark.parametrize(("examples", "columns"), [("ids", ["id", "probability"]), ("auto", ["id", "probability"])])
def test_peoples_own_payments_are_shown_by_identifier_alone(examples, columns):
    assert list(contents(report.report(outcome_of(examples)))["worst misses"]) == columns


def test_no_example_is_shown_where_none_may_be_stored():
    assert "worst misses" not in contents(report.report(outcome_of("none")))


def test_a_table_of_label_and_features_alone_can_be_reported():
    items = contents(report.report(outcome_of(roles=replace(ROLES, time="", amount="", entities=()))))
    assert "daily alerts" not in items
    assert "cost against threshold" not in items
    assert items["table of slices"].empty
    assert "worst misses" in items


# ---------------------------------------------------------------------------------------------------------- real data


@pytest.mark.real
def test_a_perfect_scorer_reaches_the_handbooks_ceiling_of_card_precision(real_data):
    # Test week of the fold whose training week starts on 2018-08-15. Left out on its day k is every customer with a
    # fraud in the training week or on the days from its last to the k-th of the week after.
    real = data.read(real_data / "fraud" / "handbook_transactions.parquet", Settings())
    records = real.records
    day = ((records["time"] - pd.Timestamp("2018-08-15")) // DAY).to_numpy()
    customer, fraud = records["CUSTOMER_ID"].to_numpy(), records["label"].to_numpy() == 1
    rows = []
    for k in range(7):
        known = customer[fraud & (day >= 0) & (day < 7 + k)]
        rows.append(np.flatnonzero((day == 14 + k) & ~np.isin(customer, known)))
    label = records["label"].to_numpy()
    part = Part(real, np.concatenate(rows), Encoded({}, {"label": label}))
    assert (len(part), part.labels.sum()) == (57_604, 422)
    facts = data.learn(real, Settings())
    perfect = TASK.metrics(facts)[CARD_PRECISION](TASK.measures(part.labels.astype(float), part))
    assert perfect(part.weights) == pytest.approx(0.451, abs=5e-4)
