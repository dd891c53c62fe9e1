"""Payments in, records out: faults told in one sentence, roles recognised, sides that respect time and label delay."""

import gzip
import os
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.core.contract import InputError
from pipelines.core.data.splits import Splits
from pipelines.fraud import PIPELINE, Settings, data

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


def read(tmp_path: Path, table: pd.DataFrame, settings: Settings = OWN) -> pd.DataFrame:
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
    monkeypatch.setitem(data.FULL_SETS, "creditcard", (407, 41))
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
    records = data.read(tmp_path / "t.parquet", Settings())
    assert records.attrs["roles"] == {
        "id": "TRANSACTION_ID",
        "label": "TX_FRAUD",
        "time": "TX_DATETIME",
        "amount": "TX_AMOUNT",
        "entities": ["CUSTOMER_ID", "TERMINAL_ID"],
    }
    assert records.attrs["delay_days"] == 7
    assert "TX_FRAUD_SCENARIO" not in records
    assert data.learn(records, Settings())["features"] == ["TX_AMOUNT"]  # seconds and days grow with time
    told = data.describe(records)
    for word in ("Fraud Detection Handbook", "entities CUSTOMER_ID, TERMINAL_ID", "TX_FRAUD_SCENARIO is left out"):
        assert word in told


def test_ulbs_layout_is_recognised_and_exact_copies_left_out(tmp_path):
    table = pd.concat([ulb(), ulb().iloc[:7]])
    records = read(tmp_path, table, Settings())
    assert len(records) == 400
    assert any(note.startswith("7 rows are left out: exact copies") for note in records.attrs["notes"])
    assert records.attrs["roles"]["entities"] == []
    assert (records["known_at"] == records["time"]).all()
    assert ((records["time"] - pd.Timestamp("1970")).dt.total_seconds() == records["Time"]).all()
    assert "without their history" in data.describe(records)
    assert data.learn(records, Settings())["numeric"] == ["V1", "V2"]


def test_the_demo_data_is_recognised():
    records = data.read(None, Settings())
    facts = data.learn(records, Settings())
    assert records.attrs["layout"] == "demo data"
    assert facts["roles"]["entities"] == ["customer", "terminal"]
    assert set(facts["categorical"]) == {"channel", "country"}


def test_a_flag_wins_over_a_recognised_layout(tmp_path):
    table = handbook()
    records = read(tmp_path, table, Settings(entity=("TERMINAL_ID",), label_delay_days=3))
    assert records.attrs["roles"]["entities"] == ["TERMINAL_ID"]
    assert (records["known_at"] - records["time"] == 3 * DAY).all()


@pytest.mark.parametrize("words", [("false", "true"), ("No", "Yes"), (0.0, 1.0), (False, True)])
def test_a_label_may_be_written_in_several_ways(tmp_path, words):
    table = payments()
    expected = table["bad"].to_numpy()
    records = read(tmp_path, table.assign(bad=[words[value] for value in expected]))
    assert (records["label"] == expected).all()


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_a_csv_file_may_be_compressed_and_use_other_separators(tmp_path, mark):
    payments().to_csv(tmp_path / "own.csv.gz", sep=mark, index=False)
    assert len(data.read(tmp_path / "own.csv.gz", OWN)) == 400


def test_times_with_a_zone_are_brought_to_utc(tmp_path):
    table = payments()
    table["when"] = table["when"] + "+02:00"
    assert read(tmp_path, table)["time"].min() == pd.Timestamp("2024-02-29 22:00")


def test_an_assumed_label_delay_is_told(tmp_path):
    def told(**given) -> bool:
        records = read(tmp_path, payments(), Settings(label="bad", time="when", **given))
        return any("--label-delay-days" in note for note in records.attrs["notes"])

    assert told()
    assert not told(label_delay_days=3)


def test_a_file_without_identifiers_is_identified_by_its_rows(tmp_path):
    records = read(tmp_path, payments().drop(columns="number"), Settings(label="bad", time="when"))
    assert records["id"].tolist() == list(range(2, 402))


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
    records = read(tmp_path, table)
    notes = {note.split(" is left out: ")[0]: note for note in records.attrs["notes"]}
    assert set(notes) == {"constant", "blank", "counter", "email", "born"}
    assert "constant" in notes["constant"]
    assert "grows" in notes["counter"]
    assert "400 different texts" in notes["email"]
    assert "date" in notes["born"]
    facts = data.learn(records, OWN)
    assert facts["numeric"] == ["points", "refund", "code"]
    assert facts["features"] == ["sum", "points", "refund", "code", "kind"]


def test_missing_values_stay_missing(tmp_path):
    table = payments()
    table.loc[[3, 5], "points"] = np.nan
    table.loc[[4, 6], "kind"] = None
    records = read(tmp_path, table).set_index("id")
    assert np.isnan(records.loc[["p3", "p5"], "points"]).all()
    assert records.loc[["p4", "p6"], "kind"].isna().all()
    assert records["kind"].isna().sum() == 2


def test_categories_are_learnt_from_training_rows_and_others_read_as_unseen(tmp_path):
    records = read(tmp_path, payments())
    facts = data.learn(records.iloc[:300], OWN)
    assert facts["categorical"] == {"kind": ["chip", "online"]}
    asked = payments().assign(kind=["sms", "online", None, "chip"] * 100)
    codes = data.decode(data.parse(asked, facts), facts)["categories"]
    assert codes[:4].ravel().tolist() == [0, 2, 0, 1]


def test_a_category_of_few_training_rows_is_not_learnt(tmp_path):
    kind = np.array(["chip", "online", "rare"])[np.r_[np.arange(391) % 2, [2] * 9]]
    facts = data.learn(read(tmp_path, payments().assign(kind=kind)), OWN)
    assert facts["categorical"] == {"kind": ["chip", "online"]}


def test_a_column_that_varies_only_outside_the_training_rows_is_no_feature(tmp_path):
    records = read(tmp_path, payments().assign(late=(np.arange(400) > 350).astype(float)))
    facts = data.learn(records.iloc[:300], OWN)
    assert "late" not in facts["features"]
    assert any(note.startswith("late is left out") for note in facts["notes"])


def test_a_request_needs_no_label_and_keeps_its_order(tmp_path):
    facts = data.learn(read(tmp_path, payments()), OWN)
    asked = payments().drop(columns="bad").sample(frac=1, random_state=0).assign(further="ignored")
    records = data.parse(asked.reset_index(drop=True), facts)
    assert records["id"].tolist() == asked["number"].tolist()
    assert (records["label"] == -1).all()
    assert "further" not in records


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
    records = read(tmp_path, payments())
    facts = data.learn(records, OWN)
    again = data.parse(records, facts)
    pd.testing.assert_frame_equal(again[records.columns], records, check_index_type=False)


def test_a_base_rate_weighs_legitimate_rows_up_to_it(tmp_path):
    records = read(tmp_path, payments(), Settings(label="bad", time="when", base_rate=0.01))
    assert np.average(records["label"], weights=records["weight"]) == pytest.approx(0.01)
    assert (records.loc[records["label"] == 1, "weight"] == 1).all()


@pytest.mark.parametrize("rate", [-0.1, 0.2, 1.5])
def test_a_base_rate_that_fits_no_subsampling_is_refused(tmp_path, rate):
    assert "--base-rate" in refused(tmp_path, payments(), Settings(label="bad", base_rate=rate))


# -------------------------------------------------------------------------------------------------------------- split


def records_of(days: np.ndarray, delay: float = 2, cards: np.ndarray | None = None) -> pd.DataFrame:
    """Records at the given days, every third a fraud."""
    table = pd.DataFrame({"when": pd.Timestamp("2024-03-01") + pd.to_timedelta(days, unit="D")})
    table["bad"] = np.arange(len(days)) % 3 == 0
    table["card"] = 1 if cards is None else cards
    roles = {"id": "", "label": "bad", "time": "when", "amount": "", "entities": ["card"]}
    return data.parse(table, {"roles": roles, "delay_days": delay})


@given(
    days=st.lists(st.floats(0, 100, width=32), min_size=30, max_size=80),
    delay=st.sampled_from([0, 0.5, 7]),
    seed=st.integers(0, 9),
)
@settings(max_examples=30, deadline=None)
def test_sides_follow_one_another_and_labels_are_known_when_the_next_begins(days, delay, seed):
    records = records_of(np.array([0.0, 100.0, *days]), delay)
    splits = data.split(records, OWN)
    sides = list(splits.sides().values())
    assert sum(map(len, sides)) + sum(splits.left_out.values()) == len(records)
    for rows, later in pairwise(sides):
        assert set(rows).isdisjoint(later)
        if len(rows) and len(later):
            begin = records["time"].iloc[later].min()
            assert records["time"].iloc[rows].max() < begin
            assert records["known_at"].iloc[rows].max() <= begin

    order = np.random.default_rng(seed).permutation(len(records))
    shuffled = data.split(records.iloc[order].reset_index(drop=True), OWN)
    for side, rows in splits.sides().items():
        assert set(order[shuffled.sides()[side]]) == set(rows)


def test_a_hundred_days_are_cut_at_midnight():
    records = records_of(np.arange(0, 100, 0.25), delay=7)
    splits = data.split(records, OWN)
    day = (records["time"] - pd.Timestamp("2024-03-01")) / DAY
    # 20 of 100 days are test, 15 before the delay of 7 days are validation, a delay before that ends train.
    assert sorted(set(day.iloc[splits.test].astype(int))) == list(range(80, 100))
    assert (day.iloc[splits.validation].min(), day.iloc[splits.validation].max()) == (58, 73)
    assert (day.iloc[splits.train].min(), day.iloc[splits.train].max()) == (0, 51)


def test_two_days_are_cut_to_the_second_and_without_a_gap():
    records = records_of(np.linspace(0, 2, 201), delay=0)
    splits = data.split(records, OWN)
    assert [len(rows) for rows in splits.sides().values()] == [130, 30, 41]
    assert splits.left_out == {}


def test_a_period_too_short_for_the_delay_is_refused():
    with pytest.raises(InputError, match="--label-delay-days"):
        data.split(records_of(np.linspace(0, 15, 100), delay=7), OWN)


def test_without_time_rows_are_drawn_at_random_with_equal_shares_of_frauds(tmp_path):
    records = read(tmp_path, payments(), Settings(label="bad", entity=("card",)))
    splits = data.split(records, Settings(seed=1))
    assert sorted(np.concatenate(list(splits.sides().values()))) == list(range(400))
    assert [len(rows) for rows in splits.sides().values()] == [260, 60, 80]
    assert [records["label"].iloc[rows].sum() for rows in splits.sides().values()] == [26, 6, 8]
    assert np.array_equal(splits.test, data.split(records, Settings(seed=2)).test)  # seeds share their test rows
    assert "without their history" in data.describe(records)


def test_customers_count_as_known_while_their_fraud_is_freshly_known():
    look_back = data.LOOK_BACK / DAY
    # Card 1 has a fraud on day 0, known on day 2. Card 2 has none. Frauds are rows 0, 3, 6, ...
    days = np.array([0, 1, 2, 3, 2 + look_back, 2.5, 50, 3 + look_back])
    cards = np.array([1, 1, 1, 2, 1, 1, 3, 1])
    records = records_of(days, delay=2, cards=cards)
    known = data.known_customers(records, np.arange(len(days)))
    assert records["label"].tolist() == [1, 0, 0, 1, 0, 0, 1, 0]
    assert known.tolist() == [False, False, False, False, True, True, False, False]


def test_a_fraud_does_not_make_its_own_customer_known_when_labels_come_at_once():
    records = records_of(np.array([0.0, 5.0, 6.0]), delay=0)
    assert data.known_customers(records, np.arange(3)).tolist() == [False, True, True]


# ---------------------------------------------------------------------------------------------------------- real data


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "rows", "frauds"),
    # 19 of the 492 frauds in the ULB subset are exact copies.
    [("handbook_transactions.parquet", 1_754_155, 14_681), ("creditcard_subset.csv", 6_696 - 19, 492 - 19)],
)
def test_real_payments_are_read_and_split_without_a_flag(real_data, name, rows, frauds):
    records = data.read(real_data / "fraud" / name, Settings())
    splits = data.split(records, Settings())
    assert isinstance(splits, Splits)
    assert (len(records), records["label"].sum()) == (rows, frauds)
    assert all(records["label"].iloc[side].sum() > 30 for side in splits.sides().values())


def test_the_headline_is_average_precision():
    assert PIPELINE.headline.name == "average_precision"
