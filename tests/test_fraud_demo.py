"""The simulated payments: repeatable, as documented, and neither trivial nor hopeless."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from pipelines.fraud import demo


@pytest.fixture(scope="module")
def payments() -> pd.DataFrame:
    return demo.make(0)


@pytest.fixture(scope="module")
def mechanisms() -> np.ndarray:
    return demo.mechanisms(0)


def test_the_same_seed_makes_the_same_payments_and_another_seed_others(payments):
    pd.testing.assert_frame_equal(demo.make(0), payments)
    assert not demo.make(1)["amount"].equals(payments["amount"])


def test_there_are_200000_payments_in_order_of_time_over_180_days(payments):
    assert len(payments) == 200_000
    assert payments["time"].is_monotonic_increasing
    assert payments["payment_id"].is_unique
    assert payments["time"].min() >= pd.Timestamp("2024-01-01")
    assert payments["time"].max() < pd.Timestamp("2024-01-01") + pd.Timedelta(days=180)
    assert payments["time"].dt.normalize().nunique() == 180
    assert payments.notna().all(axis=None)


@pytest.mark.parametrize("seed", [0, 7])
def test_about_one_percent_are_frauds_of_three_kinds(seed):
    table, kinds = demo.make(seed), demo.mechanisms(seed)
    assert 0.008 < table["fraud"].mean() < 0.014
    assert ((kinds != "none") == (table["fraud"] == 1)).all()
    counts = pd.Series(kinds).value_counts()
    assert set(counts.index) == set(demo.MECHANISMS)
    assert counts.min() > 300


def test_no_column_names_the_mechanism(payments):
    assert list(payments) == ["payment_id", "time", "customer", "terminal", "amount", "channel", "country", "fraud"]


def test_amounts_are_cents_within_the_limits_of_a_card(payments):
    assert payments["amount"].between(0.5, 5_000).all()
    assert np.allclose(payments["amount"] * 100, (payments["amount"] * 100).round())


def test_customers_return_to_their_terminals(payments):
    top = payments.groupby(["customer", "terminal"]).size().groupby("customer").max()
    assert (top / payments.groupby("customer").size()).median() > 0.1  # by chance it would be near a thousandth


def test_no_single_column_gives_the_frauds_away(payments):
    frauds = payments["fraud"]
    assert 0.5 < roc_auc_score(frauds, payments["amount"]) < 0.8
    assert average_precision_score(frauds, payments["amount"]) < 0.1
    assert payments.groupby(["channel", "country"])["fraud"].mean().max() < 0.2


def test_skimmed_terminals_are_revealed_by_their_past_alone(payments, mechanisms):
    skimmed = mechanisms == "skimmed terminal"
    after = payments[skimmed].groupby("terminal")["time"].agg(["min", "max"])
    spell = payments.join(after, on="terminal")
    inside = spell["time"].between(spell["min"], spell["max"])
    assert 0.3 < payments["fraud"][inside].mean() < 0.8  # not every payment of a skimmed terminal is a fraud
    medians = payments.groupby(mechanisms)["amount"].median()
    assert 0.7 < medians["skimmed terminal"] / medians["none"] < 1.5


def test_cards_that_were_taken_over_pay_beyond_their_habits_within_minutes(payments, mechanisms):
    usual = payments[mechanisms == "none"].groupby("customer")["amount"].median()
    ratio = payments["amount"] / payments["customer"].map(usual)
    gap = payments.groupby("customer")["time"].diff() / pd.Timedelta(minutes=1)
    taken = mechanisms == "taken over"
    assert ratio[taken].median() > 1.5
    assert gap[taken].median() < 60 < gap[~taken].median()
    assert (payments["amount"][taken] < 3).mean() > 0.1  # tests of the card
    assert payments["fraud"][payments["amount"] < 3].mean() < 0.2  # which most tiny payments are not
