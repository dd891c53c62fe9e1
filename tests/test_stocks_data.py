"""Prices in, records out: faults named or repaired by rule, targets, an embargo, and inputs without any future."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_stocks_baselines import facts_of

from pipelines.core.contract import InputError
from pipelines.core.data import leakage, typed_json
from pipelines.core.data.arrays import Part
from pipelines.core.data.dataset import Dataset
from pipelines.stocks import Settings, data, features

WINDOW = 6
SHORT = Settings(window=WINDOW)


def walk(days: int = 40, tickers: str = "AB", seed: int = 0) -> pd.DataFrame:
    """A long table with nothing amiss, by ticker and day."""
    rng = np.random.default_rng(seed)
    parts = []
    for ticker in tickers:
        path = rng.normal(0, 0.004, (days, 5)).cumsum().reshape(days, 5)
        prices = 50 * np.exp(path)
        columns = {"Open": prices[:, 0], "High": prices.max(axis=1), "Low": prices.min(axis=1), "Close": prices[:, -1]}
        volume = rng.integers(1_000, 9_000, days)
        dates = pd.bdate_range("2020-01-01", periods=days)
        parts.append(pd.DataFrame({"Date": dates, "Ticker": ticker, **columns, "Volume": volume}))
    return pd.concat(parts, ignore_index=True)


def read(tmp_path: Path, table: pd.DataFrame, given: Settings = SHORT) -> Dataset:
    table.to_csv(tmp_path / "own.csv", index=False)
    return data.read(tmp_path / "own.csv", given)


def refused(tmp_path: Path, table: pd.DataFrame, given: Settings = SHORT) -> str:
    with pytest.raises(InputError) as error:
        read(tmp_path, table, given)
    assert "\n" not in str(error.value)
    return str(error.value)


def note_with(prices: Dataset, words: str) -> str:
    """The one note that contains these words."""
    (note,) = [note for note in prices.notes if words in note]
    return note


def request_of(table: pd.DataFrame) -> Dataset:
    """Records as a request gives them, without a file."""
    return data.parse(table, facts_of("open", "high", "low", "close", "volume"))


def encoded(prices: Dataset, har: float = 0.5) -> dict[str, np.ndarray]:
    """Every input, with coefficients that make all regressors count."""
    coefficients = np.full((2, 6, 1 + len(features.LINEAR)), har)
    facts = facts_of(*prices.about.columns[1:], tickers=("A",), window=WINDOW, har=coefficients)
    return Part(prices, np.arange(len(prices)), data.encode(prices, facts)).x()


# ------------------------------------------------------------------------------------------------------------- faults


def test_clean_prices_are_read_as_they_are_and_dividends_alone_are_noted(tmp_path):
    table = walk()
    prices = read(tmp_path, table)
    records = prices.records
    assert records["id"].tolist()[:3] == ["A 2020-01-01", "B 2020-01-01", "A 2020-01-02"]
    by_ticker = records.sort_values(["ticker", "time"])
    for name in ("Open", "High", "Low", "Close", "Volume"):
        np.testing.assert_allclose(by_ticker[name.lower()], table[name])
    assert (records["adjustment"] == 1).all()
    assert prices.notes == ("Returns hold dividends only if the prices are adjusted for them.",)
    assert "80 daily prices of 2 tickers on 40 days, 2020-01-01 to 2020-02-25" in data.describe(prices)


def spoil(column: str, value: float, *rows: int):
    def spoiled(table: pd.DataFrame) -> pd.DataFrame:
        table = table.astype({column: float})
        table.loc[list(rows), column] = value
        return table

    return spoiled


def repeat(table: pd.DataFrame, change: float) -> pd.DataFrame:
    return pd.concat([table, table.iloc[[7]].assign(Close=lambda row: row["Close"] * change)], ignore_index=True)


FAULTS = [
    (spoil("Close", np.nan, 5, 50), "2 rows are left out: a price is missing", 78),
    (spoil("Open", np.nan, 5), "1 row is left out: a price is missing", 79),
    (spoil("Low", 0, 5, 6, 7), "3 rows are left out: a price is zero or negative", 77),
    (spoil("Close", -3, 5), "1 row is left out: a price is zero or negative", 79),
    (spoil("High", 1, 5), "1 row is repaired: high and low are widened", 80),
    (spoil("Low", 54.9, 5, 50), "2 rows are repaired: high and low are widened", 80),
    (spoil("Low", 0.01, 5), "1 row is repaired: a high or low over 2 times away", 80),
    (spoil("High", 500, 5, 7), "2 rows are repaired: a high or low over 2 times away", 80),
    (spoil("Volume", 0, 5, 9), "2 rows are without a volume above 0", 80),
    (spoil("Volume", np.nan, 5), "1 row is without a volume above 0", 80),
    (lambda table: repeat(table, 1), "1 row is left out: exact copies of another", 80),
    (lambda table: repeat(table, 1.01), "1 row is left out: a later row has other prices", 80),
    (lambda table: table.iloc[::-1], "78 rows are earlier than the one before", 80),
    (lambda table: table.drop(index=[5, 6, 50]), "3 ticker-days have no price although other tickers traded", 77),
    (lambda table: table.drop(index=range(10)), "1 of 2 tickers start later or end earlier", 70),
    (lambda table: table.drop(index=range(70, 80)), "1 of 2 tickers start later or end earlier", 70),
    (lambda table: table.assign(Volume=0), "80 rows are without a volume above 0", 80),
    (lambda table: table.assign(Sector="x"), "The column 'Sector' is not used", 80),
    (lambda table: table.drop(columns="Low"), "The column 'High' is not used", 80),
]


@pytest.mark.parametrize(("spoiled", "sentence", "left"), FAULTS, ids=[sentence for _, sentence, _ in FAULTS])
def test_each_fault_is_repaired_or_left_out_and_counted(tmp_path, spoiled, sentence, left):
    prices = read(tmp_path, spoiled(walk()))
    assert note_with(prices, sentence)
    assert len(prices) == left
    records = prices.records
    if "open" in records:
        assert (records["high"] >= records[["open", "close"]].max(axis=1)).all()
        assert (records["low"] <= records[["open", "close"]].min(axis=1)).all()


def test_the_later_of_two_rows_for_a_day_stands(tmp_path):
    table = repeat(walk(), 1.01)
    records = read(tmp_path, table).records.set_index("id")
    assert records.loc[f"A {table['Date'][7]:%Y-%m-%d}", "close"] == pytest.approx(table["Close"][80])


def test_a_slip_in_the_low_becomes_the_lower_of_open_and_close(tmp_path):
    table = spoil("Low", 0.01, 5)(walk())
    row = read(tmp_path, table).records.query("ticker == 'A'").iloc[5]
    assert row["low"] == pytest.approx(min(table["Open"][5], table["Close"][5]))


REFUSED = [
    (
        lambda t: t.drop(columns="Date"),
        "own.csv: expected a column 'date'; name it with --date. Received: columns Ticker",
    ),
    (lambda t: t.drop(columns="Close"), "own.csv: expected a column 'close'. Received: columns Date"),
    (lambda t: t.assign(close=1), "expected one column 'close'. Received: Close and close"),
    (lambda t: t.astype({"High": object}).replace({"High": {t["High"][3]: "many"}}), "own.csv, row 5, column 'High'"),
    (lambda t: t.assign(Date=t["Date"].dt.strftime("%d/%m/%Y")), "row 2, column 'Date': expected a date such as"),
    (lambda t: t.assign(Ticker=t["Ticker"].where(t.index != 4)), "row 6, column 'Ticker': expected a ticker"),
    (lambda t: t.drop(columns="Ticker"), "expected one row for each ticker and day"),
    (lambda t: t.assign(Close=-1), "expected daily prices above 0. Received: 80 rows"),
]


@pytest.mark.parametrize(("spoiled", "sentence"), REFUSED, ids=[sentence for _, sentence in REFUSED])
def test_data_that_cannot_be_used_are_refused_in_one_sentence(tmp_path, spoiled, sentence):
    assert sentence in refused(tmp_path, spoiled(walk()))


@pytest.mark.parametrize("flag", ["date", "ticker"])
def test_a_flag_that_names_no_column_is_refused(tmp_path, flag):
    assert f"no column 'Datum', which --{flag} names" in refused(tmp_path, walk(), Settings(**{flag: "Datum"}))


def test_columns_may_be_named_by_flags(tmp_path):
    table = walk().rename(columns={"Date": "When", "Ticker": "Which"})
    assert read(tmp_path, table, Settings(date="When", ticker="Which")).records["ticker"].nunique() == 2


@pytest.mark.parametrize(
    "names", ["date,SYMBOL,open,HIGH,low,close,volume", "Timestamp,name,1. open,2. high,3. low,4. close,vol"]
)
def test_usual_names_are_recognised_in_any_case(tmp_path, names):
    renamed = walk().set_axis(names.split(","), axis=1)
    pd.testing.assert_frame_equal(read(tmp_path, renamed).records, read(tmp_path, walk()).records)


@pytest.mark.parametrize("form", ["%Y%m%d", "%Y-%m-%d 16:00:00", "%Y-%m-%d 00:00:00+09:00", "%Y-%m-%dT00:00:00-05:00"])
def test_days_are_the_local_ones_in_any_form_of_iso_8601(tmp_path, form):
    records = read(tmp_path, walk().assign(Date=lambda table: table["Date"].dt.strftime(form))).records
    assert records["time"].tolist() == read(tmp_path, walk()).records["time"].tolist()


def test_a_parquet_file_may_hold_times_with_a_zone(tmp_path):
    table = walk().assign(Date=lambda table: table["Date"].dt.tz_localize("Asia/Tokyo"))
    table.to_parquet(tmp_path / "own.parquet")
    records = data.read(tmp_path / "own.parquet", SHORT).records
    assert records["time"].tolist() == read(tmp_path, walk()).records["time"].tolist()


def test_a_folder_holds_a_file_for_each_ticker_with_or_without_a_column_for_it(tmp_path):
    table = walk()
    folder = tmp_path / "prices"
    folder.mkdir()
    (folder / "README.md").write_text("Prices.")
    table[table["Ticker"] == "A"].drop(columns="Ticker").to_csv(folder / "A.csv", index=False)
    table[table["Ticker"] == "B"].to_parquet(folder / "b.parquet")
    prices, expected = data.read(folder, SHORT), read(tmp_path, table)
    assert note_with(prices, "README.md is left out")
    assert (prices.identity == expected.identity).all()
    pd.testing.assert_frame_equal(prices.records, expected.records, check_exact=False)


def test_a_column_that_only_some_files_have_is_left_out_of_all(tmp_path):
    folder = tmp_path / "prices"
    folder.mkdir()
    walk(tickers="A").to_csv(folder / "A.csv", index=False)
    walk(tickers="B").drop(columns="Volume").to_csv(folder / "B.csv", index=False)
    prices = data.read(folder, SHORT)
    assert note_with(prices, "The column 'volume' is left out: B.csv has none")
    assert "volume" not in prices


def test_a_folder_without_tables_is_refused(tmp_path):
    with pytest.raises(InputError, match="expected a CSV or Parquet file for each ticker"):
        data.read(tmp_path, SHORT)


# ------------------------------------------------------------------------------------------------------------- splits


@pytest.mark.parametrize(("ratio", "seen"), [(2, True), (1.5, True), (10, True), (0.1, True), (1.8, False)])
def test_an_unadjusted_split_is_adjusted_for_and_noted(tmp_path, ratio, seen):
    table = walk(tickers="A")
    calm = read(tmp_path, table).records
    prices = ["Open", "High", "Low", "Close"]
    table.loc[20:, prices] /= ratio
    split = read(tmp_path, table)
    records = split.records
    jump = records["return"][20] - calm["return"][20]
    assert jump == pytest.approx(0 if seen else -np.log(ratio), abs=1e-9)
    assert any("taken as splits" in note and "1 (A 2020-01-29)" in note for note in split.notes) == seen
    np.testing.assert_allclose(records["return"].drop([0, 20]), calm["return"].drop([0, 20]), atol=1e-9)
    assert (records["close"][20:] < calm["close"][20:]).all() == (ratio > 1)  # prices stay as they came


def test_a_fall_by_half_on_a_day_as_wild_is_no_split(tmp_path):
    table = walk(tickers="A")
    table.loc[20:, ["Open", "High", "Low", "Close"]] /= 2
    table.loc[20, "High"] *= 1.2
    prices = read(tmp_path, table)
    assert prices.records["return"][20] < -0.6
    assert not any("splits" in note for note in prices.notes)


def test_an_adjusted_close_includes_dividends(tmp_path):
    table = walk(tickers="A")
    factor = np.where(table.index < 20, 0.98, 1.0)
    adjusted = read(tmp_path, table.assign(**{"Adj Close": table["Close"] * factor}))
    records, plain = adjusted.records, read(tmp_path, table).records
    assert records["return"][20] == pytest.approx(plain["return"][20] - np.log(0.98))
    assert "adj_close" in adjusted.about.columns
    np.testing.assert_allclose(records["variance"], plain["variance"])


# ------------------------------------------------------------------------------------------------------------ targets


def test_targets_equal_a_computation_by_hand(tmp_path):
    table = walk(days=60, tickers="A")
    row = read(tmp_path, table).records.iloc[30]
    o, c = table["Open"], table["Close"]
    v = [
        max(0.5 * np.log(high / low) ** 2 - 0.386294361 * np.log(last / first) ** 2, 1e-6)
        for first, high, low, last in table[["Open", "High", "Low", "Close"]].to_numpy()
    ]
    assert o[31] != c[30]  # an overnight gap, which must not count
    assert row["variance"] == pytest.approx(v[30])
    for days in (1, 5, 21):
        assert row[f"variance_{days}d"] == pytest.approx(sum(v[31 : 31 + days]) / days)
        assert row[f"return_{days}d"] == pytest.approx(np.log(c[30 + days] / c[30]))
    assert row["label"] == row["variance_1d"]
    assert row["known_at"] == table["Date"][51]


def test_rows_without_a_month_before_or_after_them_are_context(tmp_path):
    records = read(tmp_path, walk(days=60)).records
    usable = records[records["labelled"]]
    days = np.sort(records["time"].unique())
    assert usable["time"].min() == days[22]
    assert usable["time"].max() == days[-22]
    assert records.loc[~records["labelled"], "label"].isna().all()
    assert usable[["label", *features.TARGETS]].notna().all(axis=None)


def test_close_prices_alone_are_judged_by_squared_returns(tmp_path):
    table = walk(days=60, tickers="A")[["Date", "Ticker", "Close"]]
    prices = read(tmp_path, table)
    records = prices.records
    assert note_with(prices, "Close prices alone")
    squares = np.diff(np.log(table["Close"])) ** 2
    np.testing.assert_allclose(records["variance"][1:], np.maximum(squares, 1e-6))
    assert records["variance_5d"][30] == pytest.approx(np.maximum(squares[30:35], 1e-6).mean())
    assert encoded(prices)["past"].shape == (60, WINDOW, len(features.channels(["close"])))


def test_a_price_that_stands_still_has_the_floor_as_its_variance(tmp_path):
    flat = walk(tickers="A").assign(Open=7, High=7, Low=7, Close=7)
    prices = read(tmp_path, flat)
    assert (prices.records["variance"] == 1e-6).all()
    assert np.isfinite(encoded(prices)["past"]).all()


# -------------------------------------------------------------------------------------------------------------- sides


@pytest.fixture(scope="module")
def years(tmp_path_factory):
    return read(tmp_path_factory.mktemp("years"), walk(days=800).drop(index=range(800, 1200)))


def test_the_last_fifth_is_test_and_the_year_before_it_validation(years):
    splits, time = data.split(years, Settings()), years.records["time"]
    days = np.sort(time.unique())
    first = {side: time.iloc[rows].min() for side, rows in splits.sides().items()}
    last = {side: time.iloc[rows].max() for side, rows in splits.sides().items()}
    assert first["test"] == days[640]
    assert first["validation"] == days[640 - 252]
    assert last["train"] == days[640 - 252 - 22]  # its last target is of the very day before validation
    assert last["validation"] == days[640 - 22]
    assert last["test"] == days[-22]
    assert leakage.refuse_leaks(years, splits).train.tolist() == splits.train.tolist()
    assert sum(map(len, splits.sides().values())) + sum(splits.left_out.values()) == len(years)
    assert splits.left_out["ticker-days whose targets reach into test"] == 42


def test_no_target_reaches_into_the_next_side_even_where_a_ticker_paused(tmp_path):
    table = walk(days=800)
    paused = table.drop(index=range(1170, 1190))  # B, around the beginning of validation
    prices = read(tmp_path, paused)
    splits, records = data.split(prices, Settings()), prices.records
    for before, after in ((splits.train, splits.validation), (splits.validation, splits.test)):
        assert records["known_at"].iloc[before].max() < records["time"].iloc[after].min()


def test_the_first_day_of_test_can_be_set(years):
    splits = data.split(years, Settings(test_start="2022-09-03"))  # a Saturday
    assert years.records["time"].iloc[splits.test].min() == pd.Timestamp("2022-09-05")
    assert "test from 2022-09-05" in splits.rule


@pytest.mark.parametrize("day", ["2019-01-01", "2040-01-01", "soon"])
def test_a_first_day_of_test_outside_the_data_is_refused(years, day):
    with pytest.raises(InputError, match=re.escape(f"after 2020-01-01 and up to 2023-01-24. Received: {day}")):
        data.split(years, Settings(test_start=day))


def test_too_short_a_period_is_refused(tmp_path):
    with pytest.raises(InputError, match="expected at least 545 days before the test period"):
        data.split(read(tmp_path, walk(days=600)), Settings())


def test_intervals_resample_blocks_of_a_month(years):
    (name,) = data.split(years, Settings()).clusters
    days = years.records.groupby(name)["time"].nunique()
    assert (days[:-1] == 21).all()
    assert (years.records.groupby("time")[name].nunique() == 1).all()


# ------------------------------------------------------------------------------------------------------------- inputs


@settings(max_examples=25)
@given(st.integers(26, 59), st.integers(0, 2**32 - 1))
def test_whatever_happens_later_changes_no_input_of_an_earlier_day(day, seed):
    rng, table = np.random.default_rng(seed), walk(days=60)
    later = table["Date"] > table["Date"][day]
    changed = table.copy()
    for name in ("Open", "High", "Low", "Close", "Volume"):
        changed[name] = np.where(later, table[name] * rng.uniform(0.2, 5, len(table)), table[name])
    changed = changed[~later | (rng.random(len(table)) < 0.7)]
    new = walk(days=60, tickers="C", seed=1)[lambda one: one["Date"] > table["Date"][day]]
    changed = pd.concat([changed, new], ignore_index=True)
    requests = request_of(table), request_of(changed)
    before, after = (request.records for request in requests)
    rows = before["time"] <= table["Date"][day]
    assert before["id"][rows].tolist() == after["id"][: rows.sum()].tolist()
    one, other = map(encoded, requests)
    for name in one:
        np.testing.assert_array_equal(one[name][rows], other[name][: rows.sum()], err_msg=name)
    known = rows & (before["known_at"] <= table["Date"][day])
    assert known.sum() >= 2 * (day - 20)
    targets = [*features.TARGETS, "label"]
    count = int(rows.sum())  # rows come in order of time
    pd.testing.assert_frame_equal(before[:count][known[:count]][targets], after[:count][known[:count]][targets])


def test_what_training_teaches_does_not_depend_on_later_days(years):
    time, facts = years.records["time"], facts_of(*years.about.columns[1:])
    later = time >= time.iloc[data.split(years, SHORT).validation].min()
    raw = data.example(years, facts)
    raw.loc[later, ["high", "close"]] *= 1.5
    changed = replace(data.parse(raw, facts), notes=years.notes)
    assert changed.records["variance"][later].min() > years.records["variance"][later].max()
    assert learnt(changed) == learnt(years)


def learnt(prices: Dataset) -> data.Facts:
    return data.learn(prices.take(data.split(prices, SHORT).train), SHORT)


def test_facts_survive_the_way_through_json(years):
    facts = replace(learnt(years), widening=((1.0, 2.0),) * 3)
    assert typed_json.from_json(data.Facts, json.loads(json.dumps(typed_json.to_json(facts)))) == facts


def test_a_volume_that_is_never_above_0_in_training_is_no_input(years):
    volume = years.records["volume"]
    train = years.records["time"] < years.records["time"].iloc[data.split(years, SHORT).validation].min()
    late = learnt(replace(years, records=years.records.assign(volume=volume.mask(train))))
    assert late.features == ("ticker", "open", "high", "low", "close")
    assert "The volume is no input" in late.notes[-1]
    assert learnt(years).features[-1] == "volume"


def test_windows_equal_a_loop_over_days():
    table = walk(days=30).drop(index=[33, 34, 40])
    records = request_of(table).records.sample(frac=1, random_state=0).reset_index(drop=True)
    past = features.inputs(records, facts_of("open", "volume", window=6))["past"]
    names = features.channels(["open", "volume"])
    young = np.flatnonzero(records["history"] == 2)[0]  # its window begins before its ticker does
    rows = np.array([3, 50, young, 3])
    got = past[rows]
    assert got.shape == (4, 6, len(names))
    assert got.dtype == past.dtype
    by_day = records.assign(log_variance=np.log(records["variance"])).query("history > 0").groupby("time")
    market = {"market return": by_day["return"].mean(), "market log variance": by_day["log_variance"].mean()}
    for row, window in zip(rows, got, strict=True):
        own = records[records["ticker"] == records["ticker"][row]].sort_values("time").reset_index(drop=True)
        now = own.index[own["id"] == records["id"][row]][0]
        for step in range(6):
            at = now - 5 + step
            if at < 1:
                assert not window[step].any()
                continue
            day, before = own.loc[at], own.loc[at - 1]
            volumes = np.log(own["volume"][max(at - 22, 0) : at])
            expected = {
                "exists": 1,
                "return": np.log(day["close"] / before["close"]),
                "log variance": np.log(day["variance"]),
                "negative return": min(np.log(day["close"] / before["close"]), 0),
                "absolute return": abs(np.log(day["close"] / before["close"])),
                "overnight gap": np.log(day["open"] / before["close"]),
                "log range": np.log(max(np.log(day["high"] / day["low"]) ** 2 / (4 * np.log(2)), 1e-6)) / 2,
                "log volume to past": np.log(day["volume"]) - volumes.mean(),
            } | {name: values[day["time"]] for name, values in market.items()}
            assert dict(zip(names, window[step], strict=True)) == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_the_regressors_are_averages_of_a_day_a_week_and_a_month():
    prices = request_of(walk(days=40))
    records = prices.records
    linear = dict(zip(features.LINEAR, encoded(prices)["linear"].T, strict=True))
    of_a = records["ticker"] == "A"
    logs = np.log(records["variance"].where(records["history"] > 0))
    own, market = logs[of_a].reset_index(drop=True), logs.groupby(records["time"]).mean()
    for values, name in ((own, "log variance"), (market, "market")):
        for days, suffix in ((1, ""), (5, ", week"), (22, ", month")):
            rolled = values.rolling(days).mean()[-15:]
            np.testing.assert_allclose(linear[name + suffix][of_a][-15:], rolled, rtol=1e-6)
    moves = records["return"][of_a].to_numpy()[1:]
    np.testing.assert_allclose(linear["negative return"][of_a][1:], np.minimum(moves, 0), rtol=1e-5)
    np.testing.assert_allclose(linear["absolute return"][of_a][1:], np.abs(moves), rtol=1e-5)


def test_an_unseen_ticker_is_0():
    assert encoded(request_of(walk()))["ticker"][:2].tolist() == [1, 0]  # of A, which is known, and of B


# ----------------------------------------------------------------------------------------------------------- requests


def test_a_request_with_the_history_that_it_needs_gets_the_inputs_of_training(years):
    facts, time = learnt(years), years.records["time"]
    day = time.iloc[-60]
    past = years.records[time <= day].groupby("ticker").tail(WINDOW + features.MONTH + 1)
    table = data.example(replace(years, records=past), facts).sample(frac=1, random_state=0)
    assert set(table) == {name for name, (_, required) in data.columns(facts).items() if required}
    request = data.parse(table.reset_index(drop=True), facts)
    wanted = np.flatnonzero(request.records["score"])
    assert request.records["id"].iloc[wanted].tolist() == [f"{ticker} {day:%Y-%m-%d}" for ticker in "AB"]
    assert_same_inputs(request, wanted, years, np.flatnonzero(time == day), facts)


def assert_same_inputs(request: Dataset, wanted: np.ndarray, whole: Dataset, rows: np.ndarray, facts) -> None:
    served = Part(request, wanted, data.encode(request, facts)).x()
    for name, values in Part(whole, rows, data.encode(whole, facts)).x().items():
        np.testing.assert_allclose(served[name], values, rtol=1e-6, atol=1e-7, err_msg=name)


def test_the_context_of_a_record_is_all_that_its_forecast_reads(years):
    splits, facts = data.split(years, SHORT), learnt(years)
    part = Part(years, splits.test[-2:], data.encode(years, facts))
    rows = data.context(part, facts)
    assert set(part.rows) <= set(rows)
    assert years.records["time"].iloc[rows].max() == part.frame["time"].max()
    request = data.parse(data.example(years.take(rows), facts), facts)
    wanted = np.flatnonzero(request.records["score"])
    assert request.records["id"].iloc[wanted].tolist() == part.frame["id"].tolist()
    assert_same_inputs(request, wanted, years, part.rows, facts)


def rows_of_request(years: Dataset) -> tuple[pd.DataFrame, data.Facts]:
    """The last 80 rows as a request has them, and what training learns."""
    facts = learnt(years)
    return data.example(years.take(np.arange(len(years) - 80, len(years))), facts).reset_index(drop=True), facts


def test_a_request_may_say_which_rows_to_answer(years):
    table, facts = rows_of_request(years)
    records = data.parse(table.assign(score=table.index == 40), facts).records
    wanted = f"{table['ticker'][40]} {table['date'][40]:%Y-%m-%d}"
    assert records["id"][records["score"]].tolist() == [wanted]


@pytest.mark.parametrize(("row", "refusal"), [(79, True), (40, False)])
def test_a_request_for_a_row_without_a_price_is_refused_and_other_rows_are_left_out(years, row, refusal):
    table, facts = rows_of_request(years)
    table.loc[row, "high"] = np.nan
    if refusal:
        with pytest.raises(InputError, match="request, row 79, column 'high': expected a price above 0"):
            data.parse(table, facts)
    else:
        assert len(data.parse(table, facts)) == 79


def test_a_request_without_a_column_of_training_is_refused(years):
    table, facts = rows_of_request(years)
    with pytest.raises(InputError, match="request: expected the column 'open'"):
        data.parse(table.drop(columns="open"), facts)


@pytest.mark.real
def test_the_faults_of_real_prices_are_counted(real_data):
    prices = data.read(real_data / "stocks" / "djia_2006_2017", Settings())
    assert prices.records["ticker"].nunique() == 31
    assert len(prices) == 93_612 - 26
    assert note_with(prices, "a price is missing").startswith("25 rows")
    assert not any("taken as splits" in note for note in prices.notes)
