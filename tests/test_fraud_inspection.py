"""Checks of payments: what the inputs give away, copies under a new id and time, contradictions, delay, labels."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipelines.core.contract import InputError
from pipelines.core.data import leakage
from pipelines.core.data.splits import Splits
from pipelines.fraud import Settings, data, inspection

N = 8_000
DAY = pd.Timedelta(days=1)
OWN = Settings(label="bad", time="when", amount="sum", id="number", entity=("card", "shop"), label_delay_days=2)


def payments(seed: int = 0) -> pd.DataFrame:
    """A bank of 30 cards that often pay at the same few shops, 6 % frauds, 100 days."""
    rng = np.random.default_rng(seed)
    card = rng.integers(0, 30, N)
    return pd.DataFrame(
        {
            "number": [f"p{i}" for i in range(N)],
            "when": pd.Timestamp("2024-03-01") + pd.to_timedelta(np.sort(rng.integers(0, 100 * 86_400, N)), unit="s"),
            "card": np.char.add("C", (card + 10_000).astype(str)),
            "shop": np.char.add("S", ((card + rng.integers(0, 4, N)) % 30 + 100).astype(str)),
            "sum": rng.gamma(2, 20, N).round(2),
            "kind": rng.choice(["chip", "online"], N),
            "bad": (rng.random(N) < 0.06).astype(int),
        }
    )


def some(table: pd.DataFrame, share: float) -> np.ndarray:
    """That share of the frauds."""
    return ((table["bad"] == 1) & (np.random.default_rng(1).random(len(table)) < share)).to_numpy()


def checked(tmp_path: Path, table: pd.DataFrame, settings: Settings = OWN) -> Splits:
    """What the checks of a training leave of the split."""
    table.to_parquet(tmp_path / "own.parquet")
    return inspected(tmp_path / "own.parquet", settings)


def inspected(path: Path | None, settings: Settings) -> Splits:
    own = data.read(path, settings)
    splits = data.split(own, settings)
    facts = data.learn(own.take(splits.train), settings)
    splits = leakage.refuse_leaks(own, splits, data.CLASSES, facts.features, settings.allow_column)
    return inspection.inspect(own, splits, facts, settings)


def test_clean_payments_raise_no_alarm_and_lose_no_record(tmp_path):
    splits = checked(tmp_path, payments())
    assert splits.warnings == ()
    assert splits.copies is None
    assert all("arrived after" in reason for reason in splits.left_out)


@pytest.mark.parametrize("digits", [2, 0])
def test_amounts_above_a_limit_that_are_all_frauds_raise_no_alarm(tmp_path, digits):
    table = payments()
    dear = some(table, 0.2)
    table["sum"] = np.where(dear, 220 + table["sum"], table["sum"].clip(upper=220)).round(digits)
    assert checked(tmp_path, table).warnings == ()


def test_entities_whose_payments_are_all_frauds_raise_no_alarm(tmp_path):
    table = payments()
    table["bad"] = table["card"].isin(["C10001", "C10002", "C10003", "C10004"]).astype(int)
    assert checked(tmp_path, table).warnings == ()


# ------------------------------------------------------------------------------------------------- what inputs reveal


def to_midnight(table, rows):
    return table.assign(when=table["when"].where(~rows, table["when"].dt.normalize()))


def to_full_hours(table, rows):
    return table.assign(when=table["when"].where(~rows, table["when"].dt.floor("h")))


def to_seconds(table, rows):
    part = np.random.default_rng(2).integers(1, 1_000_000, N)
    return table.assign(when=table["when"] + pd.to_timedelta(np.where(rows, 0, part), unit="us"))


def without_card(table, rows):
    return table.assign(card=table["card"].where(~rows))


def of_other_form(table, rows):
    return table.assign(shop=np.where(rows, "X-" + table["shop"], table["shop"]))


def of_new_cards(table, rows):
    return table.assign(card=table["card"].where(~rows, np.char.add("C", (np.arange(N) + 20_000).astype(str))))


def of_one_card(table, rows):
    return table.assign(card=table["card"].where(~rows, "C99999"))


def with_rare_texts(table, rows):
    return table.assign(kind=table["kind"].where(~rows, np.char.add("case ", (np.arange(N) // 40).astype(str))))


PLANTED = [
    (to_midnight, "when"),
    (to_full_hours, "when"),
    (to_seconds, "when"),
    (without_card, "card"),
    (of_other_form, "shop"),
    (of_one_card, "card"),
    (with_rare_texts, "kind"),
]


@pytest.mark.parametrize(("plant", "column"), [*PLANTED, (of_new_cards, "card")])
def test_what_most_frauds_have_in_common_is_refused_unless_allowed(tmp_path, plant, column):
    share = 1 if plant is of_new_cards else 0.7
    table = plant(payments(), some(payments(), share))
    with pytest.raises(InputError, match=rf"column '{column}'.*--allow-column {column}"):
        checked(tmp_path, table)
    allowed = Settings(**{**vars(OWN), "allow_column": (column,)})
    assert checked(tmp_path, table, allowed).warnings == ()


@pytest.mark.parametrize(("plant", "column"), [pair for pair in PLANTED if pair[0] not in (to_seconds, of_one_card)])
def test_what_some_frauds_have_in_common_is_a_warning(tmp_path, plant, column):
    warnings = checked(tmp_path, plant(payments(), some(payments(), 0.2))).warnings
    assert warnings
    assert all(f"--allow-column {column}" in warning for warning in warnings)


@pytest.mark.parametrize("plant", [plant for plant, _ in PLANTED])
def test_the_same_among_frauds_and_others_raises_no_alarm(tmp_path, plant):
    mixed = np.random.default_rng(3).permutation(some(payments(), 0.7))
    assert checked(tmp_path, plant(payments(), mixed)).warnings == ()


# -------------------------------------------------------------------------------------------------------------- copies


def with_copies(table: pd.DataFrame, count: int, days: int) -> pd.DataFrame:
    """With copies, under a new number and so many days earlier, of payments of the last two weeks."""
    latest = table[table["when"] > table["when"].max() - 14 * DAY].sample(count, random_state=0)
    copies = latest.assign(number="q" + latest["number"], when=latest["when"] - days * DAY - pd.Timedelta(minutes=17))
    return pd.concat([table, copies], ignore_index=True)


def precise(table: pd.DataFrame) -> pd.DataFrame:
    """With two measured features, as a risk engine gives."""
    rng = np.random.default_rng(4)
    return table.assign(speed=rng.gamma(2, 20, len(table)).round(4), risk=rng.normal(size=len(table)))


def test_copies_with_measured_features_are_dropped_however_few(tmp_path):
    splits = checked(tmp_path, with_copies(precise(payments()), 5, days=60))
    assert splits.left_out["train records equal in all but id and time to one of validation or test"] == 5
    assert splits.warnings == ()


def test_copies_within_test_are_drawn_together(tmp_path):
    table = with_copies(precise(payments()), 5, days=0)
    splits = checked(tmp_path, table)
    tied = pd.Series(splits.copies[splits.test]).duplicated(keep=False)
    assert tied.sum() == 10
    assert not any("equal" in reason for reason in splits.left_out)


def test_copies_without_features_are_found_by_their_number(tmp_path):
    splits = checked(tmp_path, with_copies(payments(), 300, days=60))
    dropped = splits.left_out["train records equal in all but id and time to one of validation or test"]
    assert dropped >= 300
    [warning] = splits.warnings
    assert "times as often as payments within training" in warning


def test_habits_are_no_copies(tmp_path):
    """Half of all payments are of a fixed price, whichever side they are on."""
    table = payments()
    fixed = np.random.default_rng(5).random(N) < 0.5
    price = table["shop"].str[1:].astype(int) / 10
    splits = checked(tmp_path, table.assign(sum=np.where(fixed, price, table["sum"])))
    assert splits.warnings == ()
    assert splits.copies is None


def test_features_that_follow_from_amount_or_entities_make_no_copies(tmp_path):
    table = payments()
    table["sum"] = table["sum"].round()  # so that many payments are equal by chance
    place = table["shop"].str[1:].astype(int)
    derived = table.assign(dollars=table["sum"] * 1.1, log=np.log1p(table["sum"]), x=place * 0.77, y=place**0.5)
    splits = checked(tmp_path, derived)
    assert splits.warnings == ()
    assert splits.copies is None


def test_one_payment_under_two_labels_is_told_by_its_ids(tmp_path):
    table = precise(payments())
    twice = table.iloc[[20]].assign(number="twice", bad=1 - table["bad"][20])
    for moved in (0 * DAY, DAY):
        both = pd.concat([table, twice.assign(when=twice["when"] + moved)], ignore_index=True)
        [warning] = checked(tmp_path, both).warnings
        assert "such as p20 and twice" in warning
        assert "label" in warning


def test_many_payments_under_two_labels_are_refused(tmp_path):
    table = payments()
    twice = table.iloc[::10].assign(number=table["number"] + "x", bad=1 - table["bad"])
    with pytest.raises(InputError, match=r"contradict one another: 1,\d+ records .* p0 and p0x"):
        checked(tmp_path, pd.concat([table, twice], ignore_index=True))


# ----------------------------------------------------------------------------------------------------- delay and labels


def test_a_delay_of_0_is_said_as_a_choice(tmp_path):
    at_once = Settings(**{**vars(OWN), "label_delay_days": 0})
    [warning] = checked(tmp_path, payments(), at_once).warnings
    assert "label delay is 0" in warning
    assert "--label-delay-days" in warning


def test_inverted_labels_are_refused_unless_legitimate_rows_were_subsampled(tmp_path):
    inverted = payments().assign(bad=lambda table: 1 - table["bad"])
    with pytest.raises(InputError, match=r"1 in 7,\d+ of 8,000 rows: exchange them in 'bad'"):
        checked(tmp_path, inverted)
    subsampled = Settings(**{**vars(OWN), "base_rate": 0.06})
    assert len(data.read(tmp_path / "own.parquet", subsampled)) == N


def test_the_demo_raises_no_alarm():
    splits = inspected(None, Settings())
    assert splits.warnings == ()
    assert splits.copies is None


@pytest.mark.real
@pytest.mark.parametrize("name", ["handbook_transactions.parquet", "creditcard_subset.csv"])
def test_real_payments_raise_no_alarm(real_data, name):
    assert inspected(real_data / "fraud" / name, Settings()).warnings == ()
