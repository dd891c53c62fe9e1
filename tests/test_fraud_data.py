"""Payments in, records out: faults told in one sentence, roles recognised, sides that respect time and label delay."""

import gzip
import json
import os
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.core.contract import InputError
from pipelines.core.data import leakage, typed_json
from pipelines.core.data.dataset import Dataset
from pipelines.core.data.identity import identities
from pipelines.core.data.splits import Splits
from pipelines.core.reading.downloads import Origin
from pipelines.core.store import manifest
from pipelines.fraud import PIPELINE, Settings, data, history, reading
from pipelines.fraud.reading import About, Roles

DAY = pd.Timedelta(days=1)
OWN = Settings(label="bad", time="when", amount="sum", id="number", entity=("card", "shop"), label_delay_days=2)


def payments(n: int = 400, days: int = 40, seed: int = 0) -> pd.DataFrame:
    """A user's own table: a tenth of the payments are frauds, spread evenly."""
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "number": [f"p{i}" for i in range(n)],
            "when": pd.date_range("2024-03-01", periods=n, freq=days * DAY / n).strftime("%Y-%m-%d %H:%M:%S"),
            "card": rng.integers(0, 30, n),
            "shop": rng.choice(list("abcdef"), n),
            "sum": rng.gamma(2, 20, n).round(2),
            "points": rng.normal(size=n).round(3),
            "kind": rng.choice(["chip", "online"], n),
            "bad": (np.arange(n) % 10 == 3).astype(int),
        }
    )


def csv(tmp_path: Path, table: pd.DataFrame, name: str = "own.csv") -> Path:
    table.to_csv(tmp_path / name, index=False)
    return tmp_path / name


def read(tmp_path: Path, table: pd.DataFrame, settings: Settings = OWN) -> Dataset[About]:
    return data.read(csv(tmp_path, table), settings)


def refused(tmp_path: Path, table: pd.DataFrame, settings: Settings = OWN) -> str:
    with pytest.raises(InputError) as error:
        read(tmp_path, table, settings)
    return str(error.value)


# ------------------------------------------------------------------------------------------------------------- faults


def test_a_missing_label_column_is_told_with_the_close_names_and_the_flag(tmp_path):
    message = refused(tmp_path, payments().rename(columns={"bad": "is_fraud"}), Settings(time="when"))
    assert "own.csv" in message
    assert "--label" in message
    assert "close: is_fraud" in message


@pytest.mark.parametrize("role", ["label", "time", "amount", "id"])
def test_a_flag_that_names_no_column_is_told_with_the_close_name(tmp_path, role):
    column = getattr(OWN, role)
    message = refused(tmp_path, payments(), Settings(**{"label": "bad", role: column + "s"}))
    assert f"no column '{column}s', which --{role} names" in message
    assert f"close: {column}" in message


def test_an_entity_that_names_no_column_is_told(tmp_path):
    assert "no column 'cart', which --entity names" in refused(
        tmp_path, payments(), Settings(label="bad", entity=("cart",))
    )


def test_a_column_cannot_play_two_roles(tmp_path):
    message = refused(tmp_path, payments(), Settings(label="bad", amount="sum", entity=("sum",)))
    assert "'sum' for --amount and for --entity" in message


def test_a_column_with_a_reserved_name_is_refused(tmp_path):
    assert "'weight' has a name that records keep" in refused(tmp_path, payments().assign(weight=1.5))


CELLS = [
    ("sum", "12,50", "column 'sum': expected a number. Received: '12,50'"),
    ("sum", "inf", "column 'sum': expected a number. Received: inf"),
    ("sum", None, "column 'sum': expected a number. Received: an empty cell"),
    ("points", "many", "column 'points': expected a number. Received: 'many'"),
    ("when", "2024-13-01", "column 'when': expected a date such as"),
    ("when", "31/03/2024", "Received: '31/03/2024'"),
    ("when", None, "column 'when': expected a date such as 2024-01-31 or 2024-01-31 12:30:00. Received: an empty cell"),
    ("bad", "maybe", "column 'bad': expected 0 for legitimate or 1 for fraud. Received: 'maybe'"),
    ("bad", 2, "column 'bad': expected 0 for legitimate or 1 for fraud. Received: 2"),
    ("number", None, "column 'number': expected an identifier. Received: an empty cell"),
]


@pytest.mark.parametrize(("column", "value", "sentence"), CELLS)
def test_a_bad_cell_is_told_by_file_row_and_column(tmp_path, column, value, sentence):
    table = payments().astype({column: object})
    table.loc[5, column] = value  # row 7 of the file: the header is row 1
    message = refused(tmp_path, table)
    assert message.startswith("own.csv, row 7, column")
    assert sentence in message


def test_the_first_of_several_bad_cells_is_told_with_their_number(tmp_path):
    table = payments().astype({"sum": object})
    table.loc[[9, 4, 30], "sum"] = "?"
    message = refused(tmp_path, table)
    assert "row 6, column 'sum'" in message
    assert "(3 such rows)" in message


def test_duplicate_identifiers_are_told_with_both_rows(tmp_path):
    table = payments()
    table.loc[20, "number"] = "p3"
    message = refused(tmp_path, table)
    assert "'p3' in rows 5 and 22" in message


def test_a_row_without_a_label_is_refused_for_training(tmp_path):
    table = payments().astype({"bad": float})
    table.loc[8, "bad"] = np.nan
    assert "payment p8: expected a label" in refused(tmp_path, table)


def test_labels_of_one_class_are_refused(tmp_path):
    assert "0 frauds of 400" in refused(tmp_path, payments().assign(bad=0))
    assert "400 frauds of 400" in refused(tmp_path, payments().assign(bad=1))


FILES = [
    ("empty.csv", b"", "empty.csv is empty"),
    ("blank.csv", b"\n\n", "neither CSV text in UTF-8 nor Parquet"),
    ("header.csv", b"when,sum,bad\n", "header.csv holds no rows"),
    ("photo.csv", b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "neither CSV"),
    ("latin.csv", "when,sum,bad,città\n".encode("latin-1"), "neither CSV"),
    ("cut.parquet", b"PAR1 and then nothing", "neither CSV"),
    ("ragged.csv", b"sum,bad\n1,0\n2,1,3,4\n", "Expected 2 fields in line 3, saw 4"),
    ("cut.csv.gz", gzip.compress(b"sum,bad\n" + os.urandom(500).hex().encode())[:90], "neither CSV"),
]


@pytest.mark.parametrize(("name", "content", "sentence"), FILES, ids=[name for name, _, _ in FILES])
def test_a_file_that_is_no_table_is_told_in_one_sentence(tmp_path, name, content, sentence):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as error:
        data.read(tmp_path / name, Settings(label="bad"))
    assert sentence in str(error.value)
    assert name in str(error.value)
    assert "\n" not in str(error.value)


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match="is a folder"):
        data.read(tmp_path, OWN)


def test_a_public_set_with_rows_missing_is_refused(tmp_path):
    path = csv(tmp_path, ulb(), "creditcard.csv")
    with pytest.raises(InputError, match="expected 284,807 payments with 492 frauds"):
        data.read(path, Settings(data="creditcard"))


def test_a_public_set_is_counted_with_its_copies(tmp_path, monkeypatch):
    monkeypatch.setitem(reading.FULL_SETS, "creditcard", (407, 41))
    path = csv(tmp_path, pd.concat([ulb(), ulb().iloc[:7]]), "creditcard.csv")
    assert len(data.read(path, Settings(data="creditcard"))) == 400


def test_alerts_per_day_need_a_time(tmp_path):
    assert "--alerts-per-day" in refused(tmp_path, payments(), Settings(label="bad", alerts_per_day=5))


# -------------------------------------------------------------------------------------------------------------- roles


def handbook(n: int = 400) -> pd.DataFrame:
    table = payments(n)
    return pd.DataFrame(
        {
            "TRANSACTION_ID": np.arange(n),
            "TX_DATETIME": pd.to_datetime(table["when"]),
            "CUSTOMER_ID": table["card"],
            "TERMINAL_ID": table["points"].rank().astype(int) % 7,
            "TX_AMOUNT": table["sum"],
            "TX_TIME_SECONDS": (pd.to_datetime(table["when"]) - pd.Timestamp("2024-03-01")).dt.total_seconds(),
            "TX_TIME_DAYS": np.arange(n) * 40 // n,
            "TX_FRAUD": table["bad"],
            "TX_FRAUD_SCENARIO": table["bad"] * 2,
        }
    )


def ulb(n: int = 400) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    return pd.DataFrame(
        {
            "Time": np.sort(rng.integers(0, 172_800, n)).astype(float),
            "V1": rng.normal(size=n),
            "V2": rng.normal(size=n),
            "Amount": rng.gamma(2, 20, n).round(2),
            "Class": np.arange(n) % 10 == 0,
        }
    ).astype({"Class": int})


def test_the_handbooks_layout_is_recognised_and_its_scenario_left_out(tmp_path):
    handbook().to_parquet(tmp_path / "t.parquet")
    payments = data.read(tmp_path / "t.parquet", Settings())
    entities = ("CUSTOMER_ID", "TERMINAL_ID")
    assert payments.about.roles == Roles("TRANSACTION_ID", "TX_FRAUD", "TX_DATETIME", "TX_AMOUNT", entities)
    assert payments.about.delay_days == 7
    assert "TX_FRAUD_SCENARIO" not in payments
    assert data.learn(payments, Settings()).features == ("TX_AMOUNT",)  # seconds and days grow with time
    told = data.describe(payments)
    for word in ("Fraud Detection Handbook", "entities CUSTOMER_ID, TERMINAL_ID", "TX_FRAUD_SCENARIO is left out"):
        assert word in told


def test_ulbs_layout_is_recognised_and_exact_copies_left_out(tmp_path):
    payments = read(tmp_path, pd.concat([ulb(), ulb().iloc[:7]]), Settings())
    records = payments.records
    assert len(records) == 400
    assert any(note.startswith("7 rows are left out: exact copies") for note in payments.notes)
    assert payments.about.roles.entities == ()
    assert (records["known_at"] == records["time"]).all()
    assert ((records["time"] - pd.Timestamp("1970")).dt.total_seconds() == records["Time"]).all()
    assert "without their history" in data.describe(payments)
    assert data.learn(payments, Settings()).numeric == ("V1", "V2")


def test_the_demo_data_is_recognised():
    payments = data.read(None, Settings())
    facts = data.learn(payments, Settings())
    assert payments.about.layout == "demo data"
    assert facts.roles.entities == ("customer", "terminal")
    assert set(facts.categorical) == {"channel", "country"}


def test_a_flag_wins_over_a_recognised_layout(tmp_path):
    table = handbook()
    payments = read(tmp_path, table, Settings(entity=("TERMINAL_ID",), label_delay_days=3))
    assert payments.about.roles.entities == ("TERMINAL_ID",)
    assert (payments.records["known_at"] - payments.records["time"] == 3 * DAY).all()


@pytest.mark.parametrize("words", [("false", "true"), ("No", "Yes"), (0.0, 1.0), (False, True)])
def test_a_label_may_be_written_in_several_ways(tmp_path, words):
    table = payments()
    expected = table["bad"].to_numpy()
    written = read(tmp_path, table.assign(bad=[words[value] for value in expected]))
    assert (written.records["label"] == expected).all()
    assert written.labelled.all()


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_a_csv_file_may_be_compressed_and_use_other_separators(tmp_path, mark):
    payments().to_csv(tmp_path / "own.csv.gz", sep=mark, index=False)
    assert len(data.read(tmp_path / "own.csv.gz", OWN)) == 400


def test_times_with_a_zone_are_brought_to_utc(tmp_path):
    table = payments()
    table["when"] = table["when"] + "+02:00"
    assert read(tmp_path, table).records["time"].min() == pd.Timestamp("2024-02-29 22:00")


@pytest.mark.parametrize("with_zone", [True, False])
def test_times_with_and_without_a_zone_in_one_column_are_told_by_row(tmp_path, with_zone):
    table = payments()
    few = table.index.isin([5, 9])
    table["when"] += np.where(few == with_zone, "", "+02:00")
    message = refused(tmp_path, table)
    assert message.startswith(f"own.csv, row 7, column 'when': expected a time {'with' if with_zone else 'without'} a")
    assert "(2 such rows)" in message


def test_days_and_times_in_one_column_have_no_zone(tmp_path):
    table = payments()
    table.loc[::3, "when"] = table["when"].str[:10]
    assert len(read(tmp_path, table)) == 400


def test_day_first_and_month_first_dates_among_others_are_told_by_row(tmp_path):
    table = payments()
    table.loc[[4, 8], "when"] = ["13/03/2024 10:00", "03/13/2024 10:00"]
    assert "row 6, column 'when'" in refused(tmp_path, table)


def test_an_assumed_label_delay_is_told(tmp_path):
    def told(**given) -> bool:
        notes = read(tmp_path, payments(), Settings(label="bad", time="when", **given)).notes
        return any("--label-delay-days" in note for note in notes)

    assert told()
    assert not told(label_delay_days=3)


def test_a_file_without_identifiers_is_identified_by_its_rows(tmp_path):
    nameless = read(tmp_path, payments().drop(columns="number"), Settings(label="bad", time="when"))
    assert nameless.records["id"].tolist() == list(range(2, 402))


# ----------------------------------------------------------------------------------------------------------- identity


WITHOUT_TIME = replace(OWN, time="", label_delay_days=-1)
WITHOUT_ENTITIES = replace(OWN, entity=())
KINDS = pytest.mark.parametrize(
    "kind", [OWN, WITHOUT_TIME, WITHOUT_ENTITIES], ids=["history", "no time", "no entities"]
)


def of_id(own: Dataset[About]) -> pd.Series:
    """The identity of each record by its id."""
    return pd.Series(own.identity, own.records["id"].astype(str))


@KINDS
def test_every_payment_is_told_from_the_others(tmp_path, kind):
    assert len(set(read(tmp_path, payments(), kind).identity)) == 400


@KINDS
@pytest.mark.parametrize(
    "rows", [np.arange(100, 250), np.random.default_rng(0).permutation(400)], ids=["part", "mixed"]
)
def test_part_of_a_file_and_the_file_in_another_order_hold_the_same_payments(tmp_path, kind, rows):
    whole = of_id(read(tmp_path, payments(), kind))
    some = of_id(read(tmp_path, payments().iloc[rows], kind))
    assert some.equals(whole[some.index])
    assert len(some) == len(rows)


@KINDS
@pytest.mark.parametrize("column", ["kind", "shop", "points"])
def test_a_column_that_is_constant_in_a_part_changes_no_identity(tmp_path, kind, column):
    table = payments().assign(points=np.arange(400) % 7)
    part = table[table[column] == table[column][3]]  # such as the payments of one country
    whole, some = of_id(read(tmp_path, table, kind)), of_id(read(tmp_path, part, kind))
    assert some.equals(whole[some.index])
    assert 40 < len(some) < 250


@KINDS
def test_identity_does_not_depend_on_how_numbers_are_written(tmp_path, kind):
    table = payments().assign(points=np.arange(400) % 50)
    written = table.assign(
        card=table["card"].astype(float),
        points=table["points"].map("{:.1f}".format),
        sum=table["sum"].map("{:.3f}".format),
    )
    plain = of_id(read(tmp_path, table, kind))
    assert of_id(read(tmp_path, written, kind)).equals(plain)
    written.to_parquet(tmp_path / "text.parquet")  # numbers as text
    assert of_id(data.read(tmp_path / "text.parquet", kind)).equals(plain)


@KINDS
def test_a_csv_file_and_the_same_as_parquet_hold_the_same_payments(tmp_path, kind):
    table = payments().assign(refund=np.arange(400) % 3 == 0)
    table.loc[::7, "kind"] = None
    from_csv = read(tmp_path, table, kind)
    pd.read_csv(tmp_path / "own.csv").to_parquet(tmp_path / "plain.parquet")
    table.assign(when=pd.to_datetime(table["when"])).to_parquet(tmp_path / "typed.parquet")
    for name in ("plain.parquet", "typed.parquet"):
        assert of_id(data.read(tmp_path / name, kind)).equals(of_id(from_csv))


@KINDS
def test_a_further_column_makes_no_payment_new(tmp_path, kind):
    old = read(tmp_path, payments(), kind)
    new = read(tmp_path, payments().assign(further=np.arange(400) % 9), kind)
    assert np.array_equal(identities(new.records, old.key), old.identity)
    if kind is OWN:
        assert np.array_equal(new.identity, old.identity)


@KINDS
def test_appending_a_file_with_a_further_column_keeps_each_payment_once(tmp_path, kind):
    first = csv(tmp_path, payments().iloc[:300], "first.csv")
    second = csv(tmp_path, payments().iloc[200:].assign(further=np.arange(200) % 9), "second.csv")
    together = data.append([(first, kind), (second, kind)])
    assert sorted(together.records["id"]) == sorted(payments()["number"])
    assert "further" not in together
    assert any(note.startswith("further is left out") for note in together.notes)
    whole = of_id(read(tmp_path, payments(), kind))
    assert of_id(together).sort_index().equals(whole.sort_index())


@KINDS
def test_rows_without_an_identifier_are_appended_once_and_keep_ids_of_their_own(tmp_path, kind):
    table, nameless = payments().drop(columns="number"), replace(kind, id="")
    parts = [
        csv(tmp_path, table.iloc[rows], name) for name, rows in (("a.csv", slice(300)), ("b.csv", slice(200, 400)))
    ]
    together = data.append([(part, nameless) for part in parts])
    assert len(together) == 400
    assert together.records["id"].is_unique


def test_appended_files_must_give_their_columns_the_same_roles(tmp_path):
    parts = [
        (csv(tmp_path, handbook(), "a.csv"), Settings()),
        (csv(tmp_path, handbook(), "b.csv"), Settings(id="TX_TIME_DAYS")),
    ]
    with pytest.raises(InputError):
        data.append(parts)


def test_appended_files_may_hold_one_class_each_but_together_both(tmp_path):
    table = payments()
    parts = [csv(tmp_path, table[table["bad"] == label], f"{label}.csv") for label in (0, 1)]
    assert len(data.append([(part, OWN) for part in parts])) == 400
    with pytest.raises(InputError, match="0 frauds of 360"):
        data.read(parts[0], OWN)


@KINDS
def test_what_a_version_was_trained_on_is_recognised_in_a_part_of_another_form(tmp_path, kind):
    own = read(tmp_path, payments(), kind)
    splits = data.split(own, kind)
    summary, table = manifest.describe(own, splits, [Origin("own", "own.csv", tmp_path / "own.csv")])
    used = set(own.records["id"].iloc[np.concatenate([splits.train, splits.validation])])
    part = payments().iloc[::-3].assign(further=1, card=lambda table: table["card"].astype(float))
    again = read(tmp_path, part, kind)
    seen = manifest.learnt_from(table, again, identities(again.records, summary["key"]))
    assert seen.tolist() == again.records["id"].isin(used).tolist()
    assert 0 < seen.sum() < len(again)


def test_twins_in_training_and_test_are_found_without_time(tmp_path):
    twice = pd.concat([payments(), payments()], ignore_index=True)
    twice["number"] = [f"q{number}" for number in range(800)]
    own = read(tmp_path, twice, WITHOUT_TIME)
    kept = leakage.refuse_leaks(own, data.split(own, WITHOUT_TIME), data.CLASSES)
    sides = {side: set(own.identity[rows]) for side, rows in kept.sides().items()}
    assert sides["train"].isdisjoint(sides["test"])
    assert sum(kept.left_out.values()) > 0


def test_a_version_to_start_from_keeps_its_columns_and_their_kinds(tmp_path):
    facts = data.learn(read(tmp_path, payments()), OWN)
    kind = np.where(np.arange(400) % 2, "sms", "online")
    for change in ({"points": 1.0}, {"kind": np.nan}, {"kind": kind, "further": 1}):
        now = data.adopt(read(tmp_path, payments().assign(**change)), facts)
        again = data.learn(now, OWN)
        assert (again.features, again.numeric) == (facts.features, facts.numeric)
        assert again.categorical["kind"][:2] == ("chip", "online")
        assert ("sms" in again.categorical["kind"]) == ("further" in change)
        assert any(note.startswith("further is left out") for note in now.notes) == ("further" in change)
    with pytest.raises(InputError, match="'kind'"):
        data.learn(data.adopt(read(tmp_path, payments().drop(columns="kind")), facts), OWN)


# ----------------------------------------------------------------------------------------------------------- features


def test_columns_that_cannot_help_are_left_out_and_reported(tmp_path):
    table = payments()
    n = len(table)
    table = table.assign(
        constant=4,
        blank=np.nan,
        counter=np.arange(1000, 1000 + n),
        email=[f"user{i}@example.org" for i in range(n)],
        born=pd.date_range("1950-01-01", periods=n).strftime("%Y-%m-%d"),
        refund=np.arange(n) % 3 == 0,
        code=np.arange(n) % 7,
    )
    everything = read(tmp_path, table)
    assert set(table) <= set(everything.records)  # reading drops none: another file may tell another story
    facts = data.learn(everything, OWN)
    notes = {note.split(" is left out: ")[0]: note for note in facts.notes}
    assert set(notes) == {"constant", "blank", "counter", "email", "born"}
    assert "constant" in notes["constant"]
    assert "grows" in notes["counter"]
    assert "400 different texts" in notes["email"]
    assert "date" in notes["born"]
    assert facts.numeric == ("points", "refund", "code")
    assert facts.features == ("sum", "points", "refund", "code", "kind")


def test_missing_values_stay_missing(tmp_path):
    table = payments()
    table.loc[[3, 5], "points"] = np.nan
    table.loc[[4, 6], "kind"] = None
    records = read(tmp_path, table).records.set_index("id")
    assert np.isnan(records.loc[["p3", "p5"], "points"]).all()
    assert records.loc[["p4", "p6"], "kind"].isna().all()
    assert records["kind"].isna().sum() == 2


def test_categories_are_learnt_from_training_rows_and_others_read_as_unseen(tmp_path):
    facts = data.learn(read(tmp_path, payments()).take(np.arange(300)), OWN)
    assert facts.categorical == {"kind": ("chip", "online")}
    asked = payments().assign(kind=["sms", "online", None, "chip"] * 100)
    codes = data.encode(data.parse(asked, facts), facts).inputs["categories"]
    assert codes[:4].ravel().tolist() == [0, 2, 0, 1]


def test_a_category_of_few_training_rows_is_not_learnt(tmp_path):
    kind = np.array(["chip", "online", "rare"])[np.r_[np.arange(391) % 2, [2] * 9]]
    facts = data.learn(read(tmp_path, payments().assign(kind=kind)), OWN)
    assert facts.categorical == {"kind": ("chip", "online")}


def test_texts_that_all_are_rare_are_no_feature(tmp_path):
    table = payments().assign(rare=[f"t{number // 5}" for number in range(400)])
    facts = data.learn(read(tmp_path, table), OWN)
    assert "rare" not in facts.features
    assert any(note.startswith("rare is left out") for note in facts.notes)


def test_a_column_that_varies_only_outside_the_training_rows_is_no_feature(tmp_path):
    own = read(tmp_path, payments().assign(late=(np.arange(400) > 350).astype(float)))
    facts = data.learn(own.take(np.arange(300)), OWN)
    assert "late" not in facts.features
    assert any(note.startswith("late is left out") for note in facts.notes)


@pytest.mark.parametrize("flags", [{}, {"time": ""}])
def test_features_depend_on_training_payments_alone(tmp_path, flags):
    table = payments().assign(counter=np.arange(400), early=(np.arange(400) < 90).astype(int))
    rows = np.arange(100, 300)
    chosen = replace(OWN, **flags)
    whole = data.learn(read(tmp_path, table, chosen).take(rows), chosen)
    alone = data.learn(read(tmp_path, table.iloc[rows], chosen), chosen)
    assert whole == alone
    assert {"counter", "early"}.isdisjoint(whole.features)


def test_a_request_needs_no_label_and_keeps_its_order(tmp_path):
    facts = data.learn(read(tmp_path, payments()), OWN)
    asked = payments().drop(columns="bad").sample(frac=1, random_state=0).assign(further="ignored")
    request = data.parse(asked.reset_index(drop=True), facts)
    assert request.records["id"].tolist() == asked["number"].tolist()
    assert not request.labelled.any()
    assert (request.records["label"] == -1).all()
    assert "further" not in request


def test_a_request_without_a_learnt_column_is_refused(tmp_path):
    facts = data.learn(read(tmp_path, payments()), OWN)
    with pytest.raises(InputError, match="expected the column 'points'"):
        data.parse(payments().drop(columns="points"), facts)


def test_a_request_holds_what_training_read(tmp_path):
    facts = data.learn(read(tmp_path, payments()), OWN)
    assert data.columns(facts) == {
        "number": ("string", False),
        "card": ("string", True),
        "shop": ("string", True),
        "when": ("datetime", True),
        "bad": ("double", False),
        "sum": ("double", True),
        "points": ("double", True),
        "kind": ("string", True),
    }


def test_records_that_are_parsed_again_stay_the_same(tmp_path):
    own = read(tmp_path, payments())
    again = data.parse(own.records, data.learn(own, OWN))
    pd.testing.assert_frame_equal(again.records[own.records.columns], own.records, check_index_type=False)


def test_facts_survive_as_json(tmp_path):
    facts = data.learn(read(tmp_path, payments().assign(email=[f"{n}@example.org" for n in range(400)])), OWN)
    facts = replace(facts, encoding=data.Encoding((0, 3), ((0.5, 1.25), ()), (1,), (2,)), threshold=0.25)
    stored = json.loads(json.dumps(typed_json.to_json(facts)))
    assert typed_json.from_json(data.Facts, stored) == facts


def test_a_base_rate_weighs_legitimate_rows_up_to_it(tmp_path):
    records = read(tmp_path, payments(), Settings(label="bad", time="when", base_rate=0.01)).records
    assert np.average(records["label"], weights=records["weight"]) == pytest.approx(0.01)
    assert (records.loc[records["label"] == 1, "weight"] == 1).all()


@pytest.mark.parametrize("rate", [-0.1, 0.2, 1.5])
def test_a_base_rate_that_fits_no_subsampling_is_refused(tmp_path, rate):
    assert "--base-rate" in refused(tmp_path, payments(), Settings(label="bad", base_rate=rate))


# -------------------------------------------------------------------------------------------------------------- split


def payments_at(days: np.ndarray, delay: float = 2, cards: np.ndarray | None = None) -> Dataset[About]:
    """Payments at the given days, every third a fraud."""
    table = pd.DataFrame({"when": pd.Timestamp("2024-03-01") + pd.to_timedelta(days, unit="D")})
    table["bad"] = np.arange(len(days)) % 3 == 0
    table["card"] = 1 if cards is None else cards
    about = About(Roles(label="bad", time="when", entities=("card",)), delay)
    return reading.parse(table, about, None, "own")


@given(
    days=st.lists(st.floats(0, 100, width=32), min_size=30, max_size=80),
    delay=st.sampled_from([0, 0.5, 7]),
    seed=st.integers(0, 9),
)
@settings(max_examples=30, deadline=None)
def test_sides_follow_one_another_and_labels_are_known_when_the_next_begins(days, delay, seed):
    own = payments_at(np.array([0.0, 100.0, *days]), delay)
    records, splits = own.records, data.split(own, OWN)
    sides = list(splits.sides().values())
    assert sum(map(len, sides)) + sum(splits.left_out.values()) == len(records)
    for rows, later in pairwise(sides):
        assert set(rows).isdisjoint(later)
        if len(rows) and len(later):
            begin = records["time"].iloc[later].min()
            assert records["time"].iloc[rows].max() < begin
            assert records["known_at"].iloc[rows].max() <= begin

    order = np.random.default_rng(seed).permutation(len(records))
    shuffled = data.split(own.take(order), OWN)
    for side, rows in splits.sides().items():
        assert set(order[shuffled.sides()[side]]) == set(rows)


def test_a_hundred_days_are_cut_at_midnight():
    own = payments_at(np.arange(0, 100, 0.25), delay=7)
    splits = data.split(own, OWN)
    day = (own.records["time"] - pd.Timestamp("2024-03-01")) / DAY
    # 20 of 100 days are test, 15 before the delay of 7 days are validation, a delay before that ends train.
    assert sorted(set(day.iloc[splits.test].astype(int))) == list(range(80, 100))
    assert (day.iloc[splits.validation].min(), day.iloc[splits.validation].max()) == (58, 73)
    assert (day.iloc[splits.train].min(), day.iloc[splits.train].max()) == (0, 51)


def test_two_days_are_cut_to_the_second_and_without_a_gap():
    splits = data.split(payments_at(np.linspace(0, 2, 201), delay=0), OWN)
    assert [len(rows) for rows in splits.sides().values()] == [130, 30, 41]
    assert splits.left_out == {}


def test_a_period_too_short_for_the_delay_is_refused():
    with pytest.raises(InputError, match="--label-delay-days"):
        data.split(payments_at(np.linspace(0, 15, 100), delay=7), OWN)


def test_without_time_rows_are_drawn_at_random_with_equal_shares_of_frauds(tmp_path):
    own = read(tmp_path, payments(), Settings(label="bad", entity=("card",)))
    splits = data.split(own, Settings(seed=1))
    assert sorted(np.concatenate(list(splits.sides().values()))) == list(range(400))
    assert [len(rows) for rows in splits.sides().values()] == [260, 60, 80]
    assert [own.records["label"].iloc[rows].sum() for rows in splits.sides().values()] == [26, 6, 8]
    assert np.array_equal(splits.test, data.split(own, Settings(seed=2)).test)  # seeds share their test rows
    assert "without their history" in data.describe(own)


@pytest.mark.parametrize("delay", [2, 0])
def test_payments_without_a_label_are_on_no_side(delay):
    own = payments_at(np.linspace(0, 60, 300), delay)
    unknown = np.arange(300) % 5 == 0
    own.records.loc[unknown, ["labelled", "label"]] = [False, -1]
    for kind in (own, replace(own, about=replace(own.about, roles=replace(own.about.roles, time="")))):
        splits = data.split(kind, OWN)
        assert not unknown[np.concatenate(list(splits.sides().values()))].any()
        assert all(len(rows) for rows in splits.sides().values())


def test_customers_count_as_known_while_their_fraud_is_freshly_known():
    look_back = history.LOOK_BACK / DAY
    # Card 1 has a fraud on day 0, known on day 2. Card 2 has none. Frauds are rows 0, 3, 6, ...
    days = np.array([0, 1, 2, 3, 2 + look_back, 2.5, 50, 3 + look_back])
    cards = np.array([1, 1, 1, 2, 1, 1, 3, 1])
    records = payments_at(days, delay=2, cards=cards).records
    known = history.known_customers(records, "card", np.arange(len(days)))
    assert records["label"].tolist() == [1, 0, 0, 1, 0, 0, 1, 0]
    assert known.tolist() == [False, False, False, False, True, True, False, False]


def test_a_fraud_does_not_make_its_own_customer_known_when_labels_come_at_once():
    records = payments_at(np.array([0.0, 5.0, 6.0]), delay=0).records
    assert history.known_customers(records, "card", np.arange(3)).tolist() == [False, True, True]


# ---------------------------------------------------------------------------------------------------------- real data


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "rows", "frauds"),
    # 19 of the 492 frauds in the ULB subset are exact copies.
    [("handbook_transactions.parquet", 1_754_155, 14_681), ("creditcard_subset.csv", 6_696 - 19, 492 - 19)],
)
def test_real_payments_are_read_and_split_without_a_flag(real_data, name, rows, frauds):
    real = data.read(real_data / "fraud" / name, Settings())
    splits, labels = data.split(real, Settings()), real.records["label"]
    assert isinstance(splits, Splits)
    assert (len(real), labels.sum()) == (rows, frauds)
    assert len(np.unique(real.identity)) == rows
    assert all(labels.iloc[side].sum() > 30 for side in splits.sides().values())


def test_the_headline_is_average_precision():
    assert PIPELINE.headline.name == "average_precision"
