"""What a payment may see: strictly earlier events, and labels only once they are known."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.fraud import history

DELAY = 7.0
FACTS = {
    "roles": {"id": "id", "label": "fraud", "time": "when", "amount": "amount", "entities": ["card", "shop"]},
    "numeric": ["score"],
    "categorical": {"country": ["DE", "FR"]},
    "delay_days": DELAY,
}
START, DAY = np.datetime64("2024-03-01", "us"), np.timedelta64(1, "D")


def payments(*rows: tuple) -> pd.DataFrame:
    """Payments from (day, card, shop, amount, label)."""
    table = pd.DataFrame(rows, columns=["day", "card", "shop", "amount", "label"])
    table["time"] = START + (table["day"].to_numpy(float) * 86_400_000_000).astype("timedelta64[us]")
    table["label"] = table["label"].astype(np.int8)
    return table.assign(score=table["amount"] / 2, country=np.where(table["shop"] > 0, "DE", "US"))


# Few cards, shops, times and amounts, so that payments tie, and gaps on either side of the delay.
tables = st.lists(
    st.tuples(
        st.integers(0, 40).map(lambda half: half / 2),
        st.integers(0, 2),
        st.sampled_from([0, 1, np.nan]),
        st.sampled_from([0.0, 5.0, 10.01, 250.0]),
        st.sampled_from([-1, 0, 1]),
    ),
    min_size=1,
    max_size=40,
).map(lambda rows: payments(*rows))


def seen(table: pd.DataFrame, rows: np.ndarray | slice = slice(None)) -> dict[str, np.ndarray]:
    """Every input of the given rows as an array."""
    at = np.arange(len(table))[rows]
    return {name: values[at] for name, values in history.inputs(table, FACTS).items()}


def assert_same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def column(table: pd.DataFrame, name: str) -> list[float]:
    return history.inputs(table, FACTS)["payment"][:, history.names(FACTS).index(name)].tolist()


@settings(deadline=None)
@given(tables, st.data())
def test_a_payment_sees_neither_later_ones_nor_those_of_its_own_time(table, data):
    row = data.draw(st.integers(0, len(table) - 1))
    changed = table.copy()
    hidden = (table["day"] >= table["day"][row]) & (table.index != row)
    for name, values in {"card": [0, 1, 2], "shop": [0.0, 1.0], "amount": [1.0, 99.0], "label": [-1, 0, 1]}.items():
        drawn = data.draw(st.lists(st.sampled_from(values), min_size=len(table), max_size=len(table)))
        changed.loc[hidden, name] = np.array(drawn, table[name].dtype)[hidden]
    assert_same(seen(table, slice(row, row + 1)), seen(changed, slice(row, row + 1)))


@settings(deadline=None)
@given(tables, st.data())
def test_a_label_is_seen_only_once_the_delay_has_passed(table, data):
    row = data.draw(st.integers(0, len(table) - 1))
    changed = table.copy()
    unknown = table["day"] + DELAY > table["day"][row]
    drawn = data.draw(st.lists(st.sampled_from([-1, 0, 1]), min_size=len(table), max_size=len(table)))
    changed.loc[unknown, "label"] = np.array(drawn, np.int8)[unknown]
    assert_same(seen(table, slice(row, row + 1)), seen(changed, slice(row, row + 1)))


@settings(deadline=None)
@given(tables, st.randoms(use_true_random=False))
def test_the_order_of_the_rows_does_not_matter(table, random):
    order = random.sample(range(len(table)), len(table))
    assert_same(seen(table, order), seen(table.iloc[order].reset_index(drop=True)))


@settings(deadline=None)
@given(tables, st.data())
def test_a_few_payments_with_their_past_look_as_they_do_in_the_full_table(table, data):
    day = data.draw(st.sampled_from(sorted(table["day"])))
    rows = np.flatnonzero(table["day"] == day)
    asked = table[table["day"] <= day].assign(label=lambda past: past["label"].where(past["day"] < day, -1))
    assert_same(seen(table, rows), seen(asked.reset_index(drop=True), np.flatnonzero(asked["day"] == day)))


@settings(deadline=None)
@given(tables)
def test_the_payments_of_other_entities_do_not_matter(table):
    mine = np.flatnonzero(table["card"] == 0)
    alone = table.iloc[mine].reset_index(drop=True)
    cards = [i for i, name in enumerate(history.names(FACTS)) if name.startswith("card")]
    whole, part = seen(table, mine), seen(alone)
    np.testing.assert_array_equal(whole["payment"][:, cards], part["payment"][:, cards])
    np.testing.assert_array_equal(whole["card"], part["card"])


CARD = payments((0, 1, 0, 10, 0), (1, 1, 0, 30, 1), (1, 1, 0, 50, 0), (8, 1, 0, 20, 0), (8.5, 2, 0, 20, 0))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("card: is new", [1, 0, 0, 0, 1]),
        ("card: events in 7 days", [0, 1, 1, 2, 0]),  # a window of 7 days holds the event at exactly 7 days
        ("card: days since latest event", [np.nan, 1, 1, 7, np.nan]),
        ("card: known frauds in 7 days", [0, 0, 0, 1, 0]),  # known on the very day that the delay ends
        ("card: known fraud rate in 7 days", [np.nan, np.nan, np.nan, 1 / 3, np.nan]),
        ("card: days since latest known fraud", [np.nan, np.nan, np.nan, 7, np.nan]),
        ("shop: days since latest known legitimate", [np.nan, np.nan, np.nan, 7, 7.5]),
        ("card: frauds in the latest known run", [0, 0, 0, 0, 0]),
        ("amount", [10, 30, 50, 20, 20]),
        ("score", [5, 15, 25, 10, 10]),
    ],
)
def test_what_a_card_did_before(name, expected):
    # Of the two payments on day 1 the cheaper counts as the earlier, so that the latest known one is legitimate.
    np.testing.assert_allclose(column(CARD, name), expected, rtol=1e-6)


def test_an_amount_is_compared_with_the_mean_of_the_past_without_known_frauds():
    to_mean, to_usual = column(CARD, "card: amount to mean of 90 days"), column(CARD, "card: amount to usual")
    assert to_mean[3] == pytest.approx(np.log(20.01 / 30.01))  # the mean of 10, 30 and 50
    assert to_usual[3] == pytest.approx(np.log(20.01 / 30.01))  # the mean of 10 and 50: the fraud is known on day 8
    assert column(CARD, "card: amount to usual")[2] == pytest.approx(np.log(50.01 / 10.01))


def test_a_run_of_frauds_begins_after_the_latest_known_legitimate_payment():
    shop = payments(
        (0, 1, 1, 9, 1), (2, 2, 1, 9, 0), (3, 3, 1, 9, 1), (5, 3, 1, 9, -1), (6, 2, 1, 9, 1), (20, 1, 1, 9, 0)
    )
    assert column(shop, "shop: frauds in the latest known run")[-1] == 2
    assert column(shop, "shop: days since start of the latest known run")[-1] == 17
    assert column(shop, "shop: days since first known fraud in 30 days")[-1] == 20
    assert column(shop, "shop: known fraud rate in 30 days")[-1] == pytest.approx(3 / 4)


def test_the_latest_events_are_gathered_by_pair():
    events = history.inputs(CARD, FACTS)["card"][np.array([3])][0]
    assert events.shape == (history.STEPS, len(history.CHANNELS))
    assert not events[:-3].any()
    by_name = {name: events[-3:, channel].tolist() for channel, name in enumerate(history.CHANNELS)}
    assert by_name["event"] == [1, 1, 1]
    assert by_name["age"] == [8, 7, 7]
    assert by_name["fraud"] == [0, 1, 0]
    assert by_name["known"] == [1, 1, 1]
    np.testing.assert_allclose(by_name["amount"], np.log([10.01, 30.01, 50.01]), rtol=1e-6)
    np.testing.assert_allclose(by_name["ratio"], np.log(np.array([10.01, 30.01, 50.01]) / 20.01), rtol=1e-5)


def test_the_same_event_is_known_to_a_later_payment_and_unknown_to_an_earlier_one():
    table = payments((0, 1, 0, 10, 1), (6.9, 1, 0, 10, 0), (7, 1, 0, 10, 0))
    fraud = history.CHANNELS.index("fraud")
    events = history.inputs(table, FACTS)["card"][np.arange(3)]
    assert events[:, :, fraud].sum(axis=1).tolist() == [0, 0, 1]


def test_more_events_than_steps_keep_the_latest():
    table = payments(*[(day, 1, 0, 10 + day, 0) for day in range(history.STEPS + 5)])
    events = history.inputs(table, FACTS)["card"][np.array([len(table) - 1])][0]
    assert events[:, history.CHANNELS.index("age")].tolist() == list(range(history.STEPS, 0, -1))


@pytest.mark.parametrize(("time", "entities"), [("", ["card", "shop"]), ("when", []), ("when", ["card"])])
def test_without_time_or_entities_there_is_no_history(time, entities):
    facts = FACTS | {"roles": FACTS["roles"] | {"time": time, "entities": entities}}
    table = CARD if time else CARD.drop(columns="time")
    found = history.inputs(table, facts)
    assert sorted(found) == sorted(["payment", "categories", *(entities if time else [])])
    assert found["payment"].shape == (len(table), len(history.names(facts)))


def test_unseen_and_missing_categories_are_coded_0():
    table = CARD.assign(country=["FR", "US", None, "DE", "FR"])
    assert history.inputs(table, FACTS)["categories"].ravel().tolist() == [2, 0, 0, 1, 2]


def test_a_table_without_amounts_has_a_history_of_counts_and_labels():
    facts = FACTS | {"roles": FACTS["roles"] | {"amount": ""}}
    assert not [name for name in history.names(facts) if "amount" in name or "mean" in name]
    found = history.inputs(CARD.drop(columns="amount"), facts)
    assert found["payment"].shape == (len(CARD), len(history.names(facts)))
    assert np.isfinite(found["card"][np.arange(len(CARD))]).all()
