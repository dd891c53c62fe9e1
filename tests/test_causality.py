"""No look ahead: what the network reads of a record depends on nothing that came later, nor on later files."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.shuffled import payments
from pipelines.core.data.arrays import Encoded
from pipelines.core.data.dataset import Dataset
from tests.small import PIPELINES, Small, prices, small

IN_TIME = ["fraud", "stocks"]
APART = [pipeline.name for pipeline in PIPELINES if pipeline.name not in IN_TIME]
"""Pipelines whose records have no time: there no record may depend on any other."""
CUTS = (0.1, 0.5, 0.9)
"""Where each side is cut, in parts of its records."""
LATEST = 300
"""Records before a cut that are compared, besides as many drawn among all before it."""


@cache
def learnt(name: str):
    """The facts that the training records of the small data teach, network preprocessing apart."""
    case = small(name)
    return case.pipeline.data.learn(case.data.take(case.splits.train), case.settings)


@cache
def whole(name: str) -> Encoded:
    """What the network reads of all records."""
    case = small(name)
    return case.pipeline.data.encode(case.data, learnt(name))


def unequal(one: Encoded, other: Encoded, rows: np.ndarray, same: np.ndarray) -> list[str]:
    """Inputs that differ between `rows` of the one and the rows `same` of the other, in any bit."""
    assert set(one.inputs) == set(other.inputs)
    pairs = ((name, values[rows], other.inputs[name][same]) for name, values in one.inputs.items())
    return [name for name, a, b in pairs if a.dtype != b.dtype or not np.array_equal(a, b, equal_nan=True)]


def compared(last: int) -> np.ndarray:
    """Some rows of the first so many: the latest, and others drawn."""
    drawn = np.random.default_rng(last).integers(0, last, LATEST)
    return np.unique(np.concatenate([np.arange(max(last - LATEST, 0), last), drawn]))


def times(case: Small) -> list[pd.Timestamp]:
    """A few times inside each side."""
    time = case.data.records["time"].to_numpy()
    return [time[rows[int(share * len(rows))]] for rows in case.splits.sides().values() for share in CUTS]


def until(case: Small, time: np.datetime64) -> tuple[Dataset, int]:
    """What was on record at that time: the records up to then, and of these the labels that were known."""
    records = case.data.records
    count = int(np.searchsorted(records["time"], time, side="right"))
    known = (records["known_at"].iloc[:count] <= time).to_numpy()
    frame = records.iloc[:count].assign(labelled=records["labelled"].iloc[:count] & known)
    for name in case.targets:
        nothing = np.nan if frame[name].dtype.kind == "f" else -1
        frame[name] = frame[name].where(known, nothing).astype(frame[name].dtype)
    return replace(case.data, records=frame.reset_index(drop=True)), count


def looking_ahead(name: str, time: np.datetime64) -> list[str]:
    """Inputs of records up to a time that are others once later records and labels are known."""
    case = small(name)
    data, count = until(case, time)
    rows = compared(count)
    return unequal(case.pipeline.data.encode(data, learnt(name)), whole(name), rows, rows)


def file_of(name: str, folder: Path, table: pd.DataFrame) -> Dataset:
    """The table as a user's file, payments as CSV and prices as Parquet."""
    case = small(name)
    if name == "fraud":
        table.to_csv(path := folder / "payments.csv", index=False)
    else:
        table.to_parquet(path := folder / "prices.parquet", index=False)
    return case.pipeline.data.read(path, case.settings)


def differing_from_file(name: str, folder: Path, times: list) -> list[str]:
    """Inputs that are others when a file ends at a time than when it goes on."""
    case, facts = small(name), learnt(name)
    table = payments(60) if name == "fraud" else prices()
    column = "time" if name == "fraud" else "Date"
    data = file_of(name, folder, table)
    # Encoded anew, so that what a planted fault does in reading is in both.
    everything = case.pipeline.data.encode(data, facts)
    place, found = pd.Series(np.arange(len(data)), data.records["id"]), []
    for time in times:
        part = file_of(name, folder, table[table[column] <= time])
        rows = compared(len(part))
        same = place[part.records["id"].iloc[rows]].to_numpy()
        assert (part.records["time"].iloc[rows].to_numpy() == data.records["time"].iloc[same].to_numpy()).all()
        found += unequal(case.pipeline.data.encode(part, facts), everything, rows, same)
    return sorted(set(found))


def depending_on_others(name: str, rows: np.ndarray) -> list[str]:
    """Inputs of these records that are others without the rest of the records."""
    case = small(name)
    again = case.pipeline.data.encode(case.data.take(rows), learnt(name))
    return unequal(again, case.pipeline.data.encode(case.data, learnt(name)), np.arange(len(rows)), rows)


@pytest.mark.parametrize("name", IN_TIME)
def test_inputs_up_to_a_time_are_those_of_all_records_at_several_times_inside_each_side(name):
    cuts = times(small(name))
    assert len(cuts) == 3 * len(CUTS)
    assert {str(time): found for time in cuts if (found := looking_ahead(name, time))} == {}


@pytest.mark.parametrize("name", IN_TIME)
@given(share=st.floats(0.01, 1.0))
@settings(max_examples=8)
def test_inputs_up_to_any_record_are_those_of_all_records(name, share):
    time = small(name).data.records["time"].to_numpy()
    assert looking_ahead(name, time[max(int(share * len(time)) - 1, 0)]) == []


@pytest.mark.parametrize("name", IN_TIME)
def test_inputs_are_the_same_where_the_file_ends_earlier(name, tmp_path):
    case = small(name)
    assert differing_from_file(name, tmp_path, times(case)[1::3]) == []


@pytest.mark.parametrize("name", APART)
@given(seed=st.integers(0, 2**16))
@settings(max_examples=3)
def test_records_without_a_time_are_read_as_if_each_were_alone(name, seed):
    count = len(small(name).data)
    rows = np.random.default_rng(seed).permutation(count)[: min(count // 2, LATEST)]
    assert depending_on_others(name, rows) == []


def test_every_pipeline_is_tested_in_time_or_record_by_record():
    assert all(("time" in small(name).data) == (name in IN_TIME) for name in [*IN_TIME, *APART])


# ------------------------------------------------------------------------------------------------- planted: look ahead


def wrapped(monkeypatch: pytest.MonkeyPatch, name: str, change: Callable[[Dataset, Encoded], Encoded]) -> None:
    """Let `encode` of the pipeline change its inputs, and forget what it gave before."""
    module = small(name).pipeline.data
    encode = module.encode
    monkeypatch.setattr(module, "encode", lambda data, facts: change(data, encode(data, facts)))
    whole.cache_clear()


@pytest.fixture(autouse=True)
def forgotten():
    """Nothing that a planted fault gave outlives its test."""
    yield
    whole.cache_clear()


def hours_to_the_next_payment(data: Dataset, encoded: Encoded) -> Encoded:
    time = data.records["time"]
    hours = (time.groupby(data.records["customer"]).shift(-1) - time) / pd.Timedelta(hours=1)
    return Encoded({**encoded.inputs, "next": hours.to_numpy(np.float32)}, encoded.targets)


def payments_of_the_day(data: Dataset, encoded: Encoded) -> Encoded:
    """Of all customers and of the whole day, its evening included."""
    count = data.records.groupby(data.records["time"].dt.date)["id"].transform("size")
    return Encoded({**encoded.inputs, "day": count.to_numpy(np.float32)}, encoded.targets)


def amount_by_the_files_mean(data: Dataset, encoded: Encoded) -> Encoded:
    amount = data.records["amount"] / data.records["amount"].mean()
    return Encoded({**encoded.inputs, "amount": amount.to_numpy(np.float32)}, encoded.targets)


def tomorrows_return(data: Dataset, encoded: Encoded) -> Encoded:
    following = data.records["return"].groupby(data.records["ticker"]).shift(-1)
    return Encoded({**encoded.inputs, "tomorrow": following.to_numpy(np.float32)}, encoded.targets)


def other_tickers_tomorrow(data: Dataset, encoded: Encoded) -> Encoded:
    """The market's return of the day after, of which the ticker itself is only a part."""
    market = data.records.groupby("time")["return"].mean().shift(-1)
    return Encoded({**encoded.inputs, "market": data.records["time"].map(market).to_numpy(np.float32)}, encoded.targets)


def return_by_the_files_deviation(data: Dataset, encoded: Encoded) -> Encoded:
    scaled = data.records["return"] / data.records["return"].std()
    return Encoded({**encoded.inputs, "scaled": scaled.to_numpy(np.float32)}, encoded.targets)


def frauds_so_far(data: Dataset, encoded: Encoded) -> Encoded:
    """Also those that nobody knows of yet."""
    count = (data.records["label"] == 1).cumsum()
    return Encoded({**encoded.inputs, "frauds": count.to_numpy(np.float32)}, encoded.targets)


@pytest.mark.parametrize(
    ("name", "plant", "found"),
    [
        ("fraud", hours_to_the_next_payment, "next"),
        ("fraud", payments_of_the_day, "day"),
        ("fraud", amount_by_the_files_mean, "amount"),
        ("fraud", frauds_so_far, "frauds"),
        ("stocks", tomorrows_return, "tomorrow"),
        ("stocks", other_tickers_tomorrow, "market"),
        ("stocks", return_by_the_files_deviation, "scaled"),
    ],
)
def test_an_input_that_looks_ahead_is_found_on_every_side(name, plant, found, monkeypatch, tmp_path):
    wrapped(monkeypatch, name, plant)
    assert all(looking_ahead(name, time) == [found] for time in times(small(name)))
    if plant is not frauds_so_far:  # the file holds all labels
        assert differing_from_file(name, tmp_path, times(small(name))[4:5]) == [found]


def test_a_column_scaled_by_the_files_mean_as_it_is_read_is_found(monkeypatch, tmp_path):
    """Which nothing that comes after reading can see."""
    module = small("fraud").pipeline.data
    read = module.read

    def scaled(path, settings):
        data = read(path, settings)
        amount = data.records["amount"]
        return replace(data, records=data.records.assign(amount=amount / amount.mean()))

    monkeypatch.setattr(module, "read", scaled)
    assert "payment" in differing_from_file("fraud", tmp_path, times(small("fraud"))[4:5])


@pytest.mark.parametrize("name", ["medical_images", "blobs"])
def test_an_input_relative_to_all_records_is_found(name, monkeypatch):
    def centred(data, encoded):
        rows = np.arange(len(data))
        inputs = {key: values[rows] - values[rows].mean(axis=0) for key, values in encoded.inputs.items()}
        return Encoded(inputs, encoded.targets)

    wrapped(monkeypatch, name, centred)
    assert depending_on_others(name, np.arange(20)) == list(whole(name).inputs)
