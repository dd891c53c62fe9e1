"""What a payment may see: strictly earlier events, and labels only once they are known."""

import tracemalloc
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.fraud import history, timelines
from pipelines.fraud.data import Facts
from pipelines.fraud.reading import Roles

DELAY = 7.0
ROLES = Roles("id", "fraud", "when", "amount", ("card", "shop"))
FACTS = Facts(ROLES, DELAY, ("score",), {"country": ("DE", "FR")}, ("amount", "score", "country"), {})
START, DAY = np.datetime64("2024-03-01", "us"), np.timedelta64(1, "D")


def payments(*rows: tuple) -> pd.DataFrame:
    """Payments from (day, card, shop, amount, label), where a label of -1 is none."""
    table = pd.DataFrame(rows, columns=["day", "card", "shop", "amount", "label"])
    table["time"] = START + (table["day"].to_numpy(float) * 86_400_000_000).astype("timedelta64[us]")
    table = labelled(table, table["label"])
    return table.assign(score=table["amount"] / 2, country=np.where(table["shop"] > 0, "DE", "US"))


def labelled(table: pd.DataFrame, label: np.ndarray | pd.Series) -> pd.DataFrame:
    return table.assign(label=np.asarray(label, np.int8), labelled=np.asarray(label) != -1)


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
    found = history.inputs(table, FACTS)["payment"]
    return found[np.arange(len(table))][:, found.names.index(name)].tolist()


@settings(deadline=None)
@given(tables, st.data())
def test_a_payment_sees_neither_later_ones_nor_those_of_its_own_time(table, data):
    row = data.draw(st.integers(0, len(table) - 1))
    changed = table.copy()
    hidden = (table["day"] >= table["day"][row]) & (table.index != row)
    for name, values in {"card": [0, 1, 2], "shop": [0.0, 1.0], "amount": [1.0, 99.0], "label": [-1, 0, 1]}.items():
        drawn = data.draw(st.lists(st.sampled_from(values), min_size=len(table), max_size=len(table)))
        changed.loc[hidden, name] = np.array(drawn, table[name].dtype)[hidden]
    changed = labelled(changed, changed["label"])
    assert_same(seen(table, slice(row, row + 1)), seen(changed, slice(row, row + 1)))


@settings(deadline=None)
@given(tables, st.data())
def test_a_label_is_seen_only_once_the_delay_has_passed(table, data):
    row = data.draw(st.integers(0, len(table) - 1))
    changed = table.copy()
    unknown = table["day"] + DELAY > table["day"][row]
    drawn = data.draw(st.lists(st.sampled_from([-1, 0, 1]), min_size=len(table), max_size=len(table)))
    changed = labelled(changed, np.where(unknown, drawn, table["label"]))
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
    asked = table[table["day"] <= day]
    asked = labelled(asked, asked["label"].where(asked["day"] < day, -1))
    assert_same(seen(table, rows), seen(asked.reset_index(drop=True), np.flatnonzero(asked["day"] == day)))


@settings(deadline=None)
@given(tables)
def test_the_payments_of_other_entities_do_not_matter(table):
    mine = np.flatnonzero(table["card"] == 0)
    alone = table.iloc[mine].reset_index(drop=True)
    names = history.inputs(table, FACTS)["payment"].names
    cards = [i for i, name in enumerate(names) if name.startswith("card")]
    whole, part = seen(table, mine), seen(alone)
    np.testing.assert_array_equal(whole["payment"][:, cards], part["payment"][:, cards])
    np.testing.assert_array_equal(whole["card"], part["card"])


# --------------------------------------------------------------- the same by looking through all payments for each one


def before(table: pd.DataFrame, row: int, *columns: str) -> pd.DataFrame:
    """The strictly earlier payments of the same entities, the latest last, with their age in days."""
    own = table[(table[list(columns)] == table.loc[row, list(columns)]).all(axis=1)]
    own = own[own["time"] < table["time"][row]].sort_values(["time", "amount", "label"])
    return own.assign(age=(table["time"][row] - own["time"]) / DAY)


def visits(past: pd.DataFrame, windows: list[str]) -> Iterator[tuple[str, float]]:
    recent = past["age"][past["age"] <= 90]
    yield "is new", past.empty
    yield "days since first event", recent.max()
    yield "days since latest event", recent.min()
    for span in windows:
        yield f"events in {span}", (past["age"] <= timelines.WINDOWS[span]).sum()


def frauds(past: pd.DataFrame, delay: float) -> Iterator[tuple[str, float]]:
    known = past[(past["age"] >= delay) & (past["age"] <= delay + 90)]
    for span, days in timelines.WINDOWS.items():
        labels = known["label"][(known["age"] <= delay + days) & (known["label"] >= 0)]
        yield f"known frauds in {span}", labels.sum()
        yield f"known fraud rate in {span}", labels.mean()
        yield f"days since first known fraud in {span}", known["age"][labels.index[labels == 1]].max()
    legitimate = np.flatnonzero(known["label"] == 0)
    run = known[legitimate[-1] + 1 if len(legitimate) else 0 :].query("label == 1")
    yield "days since latest known fraud", known["age"][known["label"] == 1].min()
    yield "days since latest known legitimate", known["age"][known["label"] == 0].min()
    yield "frauds in the latest known run", len(run)
    yield "days since start of the latest known run", run["age"].max()


def usual(past: pd.DataFrame, delay: float) -> float:
    known_fraud = (past["label"] == 1) & (past["age"] >= delay)
    return past["amount"][(past["age"] <= 90) & ~known_fraud].mean()


def amounts(past: pd.DataFrame, amount: float, delay: float) -> Iterator[tuple[str, float]]:
    often = usual(past, delay)
    yield "amount to usual", np.log((amount + 0.01) / (often + 0.01))
    for span, days in timelines.WINDOWS.items():
        mean = past["amount"][past["age"] <= days].mean()
        yield f"amount to mean of {span}", np.log((amount + 0.01) / (mean + 0.01))
        yield f"mean of {span} to usual", np.log((mean + 0.01) / (often + 0.01))


def expected(table: pd.DataFrame, row: int, delay: float) -> dict[str, float]:
    """The columns of a payment by name, those of its time apart."""
    found = {"amount": table["amount"][row], "score": table["score"][row]}
    for entity in ROLES.entities:
        past = before(table, row, entity)
        kinds = [visits(past, list(timelines.WINDOWS)), frauds(past, delay)]
        kinds.append(amounts(past, table["amount"][row], delay))
        found |= {f"{entity}: {name}": value for kind in kinds for name, value in kind}
    together = visits(before(table, row, "card", "shop"), ["90 days"])
    return found | {f"card and shop: {name}": value for name, value in together}


def expected_events(table: pd.DataFrame, row: int, entity: str, delay: float) -> np.ndarray:
    """The latest events of an entity before a payment, (STEPS, CHANNELS)."""
    past, found = before(table, row, entity)[-history.STEPS :], np.zeros((history.STEPS, len(history.CHANNELS)))
    for place, (event, one) in zip(range(-len(past), 0), past.iterrows(), strict=True):
        often = usual(before(table, event, entity), delay)
        known = one["age"] >= delay and one["label"] >= 0
        log, now = np.log(one["amount"] + 0.01), np.log(table["amount"][row] + 0.01)
        own = 0 if np.isnan(often) else log - np.log(often + 0.01)
        found[place] = 1, one["age"], log, log - now, own, known, known and one["label"] == 1
    return found


@settings(deadline=None, max_examples=20)
@given(tables, st.sampled_from([0.0, 0.5, DELAY, 100.0]), st.sampled_from([1, 10]), st.data())
def test_what_is_found_in_timelines_is_what_looking_through_all_payments_finds(table, delay, stretch, data):
    table = table.assign(time=START + (table["time"] - START) * stretch)
    row = data.draw(st.integers(0, len(table) - 1))
    inputs = history.inputs(table, replace(FACTS, delay_days=delay))
    found = dict(zip(inputs["payment"].names, inputs["payment"][np.array([row])][0], strict=True))
    wanted = expected(table, row, delay)
    assert {name for name in found if not name.startswith("time of")} == set(wanted)
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-5, err_msg=name)
    for entity in ROLES.entities:
        events = inputs[entity][np.array([row])][0]
        np.testing.assert_allclose(events, expected_events(table, row, entity, delay), rtol=1e-5, atol=1e-5)


@settings(deadline=None, max_examples=20)
@given(tables)
def test_the_number_of_earlier_payments_counts_all_of_the_entity(table):
    for entity in ROLES.entities:
        counts = [len(before(table, row, entity)) for row in range(len(table))]
        assert history.inputs(table, FACTS)[entity].earlier(np.arange(len(table))).tolist() == counts


# ------------------------------------------------------------------------------------------------ how it is worked out


def many(n: int) -> pd.DataFrame:
    """Payments of a busy bank, in no order of time."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"day": rng.integers(0, 100_000, n) / 1_000, "card": rng.integers(0, n // 50, n)})
    table = table.assign(shop=rng.integers(0, n // 50, n), amount=rng.gamma(2, 20, n).round(2))
    return payments(*table.assign(label=rng.integers(-1, 2, n)).itertuples(index=False))


def test_the_order_of_the_rows_does_not_matter_where_many_have_the_same_time():
    table = many(3_000)
    table["time"] = table["time"].dt.floor("12h")
    order = np.random.default_rng(1).permutation(len(table))
    assert_same(seen(table, order), seen(table.iloc[order].reset_index(drop=True)))


def test_blocks_change_no_bit(monkeypatch):
    table = many(3_000)
    rows = np.random.default_rng(1).permutation(len(table))
    whole = seen(table, rows)
    monkeypatch.setattr(timelines, "BLOCK", 7)
    monkeypatch.setattr(history, "BLOCK", 11)
    assert_same(whole, seen(table, rows))
    assert_same({name: values[:5] for name, values in whole.items()}, seen(table, rows[:5]))


def test_columns_in_memory_are_those_gathered_and_too_many_stay_as_they_are(monkeypatch):
    lazy = history.inputs(many(3_000), FACTS)["payment"]
    rows = np.random.default_rng(1).integers(0, 3_000, 500)
    assert lazy.materialised().dtype == lazy.dtype
    np.testing.assert_array_equal(lazy.materialised()[rows], lazy[rows])
    monkeypatch.setattr(history, "MOST_BYTES", 3_000 * lazy.shape[1] * 4 - 1)
    assert lazy.materialised() is lazy


def test_a_payment_takes_no_more_than_130_bytes():
    table, facts = many(200_000), replace(FACTS, categorical={})
    tracemalloc.start()
    kept = history.inputs(table, facts)
    assert tracemalloc.get_traced_memory()[1] / len(table) < 130
    tracemalloc.stop()
    assert len(kept) == 3


# --------------------------------------------------------------------------------------------------------- by example


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


def test_a_fraud_older_than_the_longest_window_and_not_yet_known_does_not_touch_what_is_usual():
    table = payments((0, 1, 0, 900, 1), (25, 1, 0, 800, 1), (50, 1, 0, 10, 0), (120, 1, 0, 20, 0))
    found = history.inputs(table, replace(FACTS, delay_days=100.0))["payment"]
    to_usual = found[np.array([3])][0, found.names.index("card: amount to usual")]
    assert to_usual == pytest.approx(np.log(20.01 / 10.01))


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


@pytest.mark.parametrize(("time", "entities"), [("", ("card", "shop")), ("when", ()), ("when", ("card",))])
def test_without_time_or_entities_there_is_no_history(time, entities):
    facts = replace(FACTS, roles=replace(ROLES, time=time, entities=entities))
    table = CARD if time else CARD.drop(columns="time")
    found = history.inputs(table, facts)
    assert sorted(found) == sorted(["payment", "categories", *(entities if time else ())])
    assert found["payment"][np.arange(2)].shape == (2, found["payment"].shape[1])


def test_unseen_and_missing_categories_are_coded_0():
    table = CARD.assign(country=["FR", "US", None, "DE", "FR"])
    assert history.inputs(table, FACTS)["categories"].ravel().tolist() == [2, 0, 0, 1, 2]


def test_a_table_without_amounts_has_a_history_of_counts_and_labels():
    facts = replace(FACTS, roles=replace(ROLES, amount=""))
    found = history.inputs(CARD.drop(columns="amount"), facts)
    assert not [name for name in found["payment"].names if "amount" in name or "mean" in name]
    assert found["payment"][np.arange(2)].shape == (2, found["payment"].shape[1])
    assert np.isfinite(found["card"][np.arange(len(CARD))]).all()


def test_a_code_is_no_label_where_the_payment_is_not_labelled():
    table = CARD.assign(labelled=[True, False, True, True, True])  # the fraud of day 1
    events = history.inputs(table, FACTS)["card"][np.array([3])][0]
    assert events[-3:, history.CHANNELS.index("known")].tolist() == [1, 0, 1]
    assert not events[:, history.CHANNELS.index("fraud")].any()
    assert column(table, "card: known frauds in 7 days") == [0, 0, 0, 0, 0]
