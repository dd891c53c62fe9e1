"""Daily prices in, records out: columns recognised, faults repaired or left out by rule, targets, the split by time."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial, reduce
from pathlib import Path

import numpy as np
import pandas as pd
from pandas.api import types
from pandas.util import hash_pandas_object

from pipelines.core.contract import InputError
from pipelines.core.data.arrays import Part
from pipelines.core.data.requests import Request
from pipelines.core.data.splits import Splits
from pipelines.core.evaluation.bootstrap import blocks
from pipelines.core.reading import tables
from pipelines.stocks import Settings, demo, features
from pipelines.stocks.features import HORIZONS, MONTH, ahead, shifted

NAMES = {
    "date": ("date", "datetime", "timestamp", "time", "day"),
    "ticker": ("ticker", "symbol", "name"),
    "open": ("open",),
    "high": ("high",),
    "low": ("low",),
    "close": ("close",),
    "adj_close": ("adjclose", "adjustedclose", "closeadj", "closeadjusted"),
    "volume": ("volume", "vol"),
}
"""What columns are called, the likeliest first, in any case and without spaces, digits and punctuation."""
RANGE = ("open", "high", "low")
PRICES = (*RANGE, "close", "adj_close")
TARGETS = [f"variance_{h}d" for h in HORIZONS] + [f"return_{h}d" for h in HORIZONS]
"""Columns that hold the targets: for each horizon the mean variance of the days ahead, and the log return over them."""
EMBARGO = max(HORIZONS)
VALIDATION = 252  # trading days, a year
TEST = 0.2  # share of the days
SUFFIXES = (".csv", ".parquet", ".txt", ".tsv", ".csv.gz", ".csv.bz2", ".csv.xz", ".csv.zip", ".csv.zst")
FAR = 2.0
"""A high this many times open and close, or a low this small a part of them, is a slip or a trade that was annulled."""
MOST_TWICE = 0.05  # share of rows for a ticker and day that has another; more are no slips but another kind of data
LAST = "Each ticker's last day is scored."
EARLIEST, LATEST = 19000101, 21001231  # dates written as numbers


# --------------------------------------------------------------------------------------------------------------- read


def read(path: Path | None, settings: Settings) -> pd.DataFrame:
    """One row a ticker-day, in order of time and ticker, with all that is known of its past and its future.

    Columns: `id` (TICKER DATE), `time` (datetime64[us], midnight), `ticker`, the prices as they came (`close` and,
    where the data have them, `open`, `high`, `low`, `adj_close`, `volume`), `adjustment` (what makes prices of
    different days comparable), `return` (log, close to close, NaN on a ticker's first day), `variance`, `history`
    (earlier days of the ticker), the TARGETS, NaN where unknown, `label` (the next day's variance, -1 for a row that
    is context only), `known_at` (when the last target is known), `block` (of 21 days) and `digest`.

    Variance is Garman and Klass's from open to close, or the squared return where there are close prices alone.
    `attrs` holds `targets`, the names of the target columns, `features` and `notes`, a sentence for each thing that
    was repaired, left out or assumed.

    Raises:
        InputError: where the data cannot be used, with file, row, column and what was expected.
    """
    return read_all([(path, settings)])


def read_all(parts: Sequence[tuple[Path | None, Settings]]) -> pd.DataFrame:
    """The ticker-days of several reads as one, as if all files lay in one folder; see `read`."""
    path, settings = parts[-1]
    notes: list[str] = []
    if path is None:
        table = demo.random_walk(settings.seed) if settings.data == "random-walk" else demo.indices()
        raw = _standard(table, "", "demo data", settings, notes)
    else:
        files = [file for one, _ in parts for file in (_files(one, notes) if one.is_dir() else [one])]
        raw = _together(
            {f: _standard(tables.load(f), f.name.partition(".")[0], f.name, settings, notes) for f in files}, notes
        )
    notes = list(dict.fromkeys(notes))
    records = _records(_clean(raw, path.name if path else "demo data", notes))
    if "open" not in records:
        notes.append("Close prices alone: variance is the squared return; overnight gap and range are no inputs.")
    if "adj_close" not in records:
        notes.append("Returns hold dividends only if the prices are adjusted for them.")
    listed = [c for c in ("ticker", *PRICES, "volume") if c in records]
    records.attrs = {"targets": TARGETS, "features": listed, "notes": notes}
    return records


def parse(table: pd.DataFrame, facts: dict, origin: str = "request") -> pd.DataFrame:
    """Rows of price history as records, cleaned and in order as by `read`; the column `score` says which to answer.

    These are the rows whose `score` is true in the table, or without that column each ticker's last day. A forecast
    needs the ticker's `window` days and a month before, and the other tickers' for the market averages.

    Raises:
        InputError: for a missing column, a cell that cannot be read, or a row to answer that cannot be used.
    """
    raw = _standard(table, "", origin, Settings(), [])
    _refuse_lacking(raw, table, facts, origin)
    raw = raw[["time", *facts["features"]]]
    if "score" in table:
        wanted = table["score"].fillna(False).astype(bool)
    else:
        wanted = raw["time"] == raw.groupby("ticker")["time"].transform("max")
    for name in facts["features"]:
        if name in PRICES:
            tables.refuse(raw[name], wanted & ~(raw[name] > 0), "a price above 0 in a row to answer", origin)
    return _records(_clean(raw.assign(score=wanted), origin, []))


def named(table: pd.DataFrame, facts: dict) -> pd.Series:
    """What each raw row is called: ticker and day, as they are written."""
    given = {role: column for role, column in facts.get("named", {}).items() if column in table}
    found = _recognised(table, "request", given)
    told = [table[found[role]].astype("str").fillna("?") for role in ("ticker", "date") if role in found]
    return reduce(lambda a, b: a + " " + b, told) if told else table.index.to_series()


def age(records: pd.DataFrame, rows: np.ndarray, facts: dict) -> np.ndarray:
    """Days from each of the `rows` to the latest day of any ticker, float32 (n,): 0 where the prices are up to date."""
    time = records["time"]
    return ((time.max() - time.iloc[rows]) / pd.Timedelta(days=1)).to_numpy(np.float32)


def requests(path: Path | None, history: Path | None, facts: dict, settings: Settings) -> Iterator[Request]:
    """Each ticker's last day or, with a history, each day after its end; and the days that their forecasts read.

    Raises:
        InputError: for files that are no prices like those of training.
    """
    if path is None:
        records = read(None, settings)
        last = records["time"] == records.groupby("ticker")["time"].transform("max")
        yield Request(records, np.flatnonzero(last), notes=(LAST,))
        return
    settings = replace(settings, **facts.get("named", {}))
    raw, faults = _gathered(path, facts, settings)
    notes = (LAST,)
    if history:
        past, lost = _gathered(history, facts, settings)
        end = past["time"].max()
        raw = pd.concat([past, raw])
        raw = raw[(raw["time"] > end) | ~raw.duplicated(["ticker", "time"])]
        raw["score"] = raw["time"] > end
        told = [f"{len(lost):,} rows of {history.name} cannot be read: {lost['error'].iloc[0]}"] if len(lost) else []
        notes = (f"The days after {end:%Y-%m-%d}, where the history ends, are scored.", *told)
    table = _needed(raw, facts).rename(columns={"time": "date"})
    table.index = named(table, facts)  # rows of several files
    records, late = tables.salvaged(lambda rows: parse(rows, facts, path.name), table, table.index.to_series())
    faults = pd.concat([faults, late], ignore_index=True)
    yield Request(records, np.flatnonzero(records["score"]), faults, notes=notes)


def _gathered(path: Path, facts: dict, settings: Settings) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of one or more files with `time` and the features, about 70 bytes each, and the rows at fault."""
    parts, faults = [], []
    for file in _files(path, []) if path.is_dir() else [path]:
        ticker = file.name.partition(".")[0] if path.is_dir() else ""
        for table in tables.chunks(file):
            standard = partial(_standard, ticker=ticker, origin=file.name, settings=settings, notes=[])
            raw, bad = tables.salvaged(standard, table, named(table, facts))
            _refuse_lacking(raw, table, facts, file.name)
            parts.append(raw[["time", *facts["features"]]].astype({"ticker": "category"}))
            faults.append(bad)
    tickers = pd.api.types.union_categoricals([part.pop("ticker") for part in parts])
    return pd.concat(parts, ignore_index=True).assign(ticker=tickers), pd.concat(faults)


def _needed(raw: pd.DataFrame, facts: dict) -> pd.DataFrame:
    """The days that forecasts read: of each ticker up to its first row to score, of all tickers on these days."""
    prices = [name for name in PRICES if name in raw]
    usable = raw[(raw[prices] > 0).all(axis=1)]
    past = usable[~usable["score"]] if "score" in usable else usable
    days = facts["window"] + MONTH + 1  # and one before the first return
    back = past.groupby("ticker", observed=True)["time"].rank(method="dense", ascending=False)
    read = past["time"][back <= days].unique()
    return raw[raw["time"].isin(read) | raw.get("score", False)]


def describe(records: pd.DataFrame) -> str:
    """What was read, in a few lines: tickers, days, period, and what was repaired or left out."""
    first, last = records["time"].min(), records["time"].max()
    tickers, days = records["ticker"].nunique(), records["time"].nunique()
    return "\n".join(
        [
            f"{len(records):,} daily prices of {tickers:,} ticker{'s'[: tickers > 1]} on {days:,} days, "
            f"{first:%Y-%m-%d} to {last:%Y-%m-%d}, with {', '.join(records.attrs['features'][1:])}",
            *records.attrs["notes"],
        ]
    )


def _refuse_lacking(raw: pd.DataFrame, table: pd.DataFrame, facts: dict, origin: str) -> None:
    missing = [name for name in facts["features"] if name not in raw]
    if missing:
        raise InputError(f"{origin}: expected the column '{missing[0]}'. Received: {tables.listed(table)}.")


def _files(folder: Path, notes: list[str]) -> list[Path]:
    files = sorted(file for file in folder.rglob("*") if file.is_file() and not file.name.startswith("."))
    found = [file for file in files if file.name.lower().endswith(SUFFIXES)]
    if not found:
        raise InputError(
            f"{folder.name}: expected a CSV or Parquet file for each ticker. Received: {len(files)} others."
        )
    notes += [f"{file.name} is left out: it is no CSV or Parquet file." for file in files if file not in found]
    return found


def _together(parts: dict[Path, pd.DataFrame], notes: list[str]) -> pd.DataFrame:
    """The tables of all files, one below the other, with the columns that all have."""
    for column in (*PRICES, "volume"):
        lacking = [file.name for file, part in parts.items() if column not in part]
        if 0 < len(lacking) < len(parts):
            notes.append(f"The column '{column}' is left out: {lacking[0]} has none ({len(lacking)} such files).")
    return pd.concat(parts.values(), ignore_index=True, join="inner")


def _standard(table: pd.DataFrame, ticker: str, origin: str, settings: Settings, notes: list[str]) -> pd.DataFrame:
    """The columns under their standard names with checked cells: `time`, `ticker`, numbers; index as in the table.

    `ticker` stands for a column of that name where there is none. Raises InputError.
    """
    found = _recognised(table, origin, {"date": settings.date, "ticker": settings.ticker})
    if "close" not in found and "adj_close" in found:
        found["close"] = found.pop("adj_close")
    for role in ("date", "close"):
        if role not in found:
            flag = "; name it with --date" if role == "date" else ""
            raise InputError(f"{origin}: expected a column '{role}'{flag}. Received: {tables.listed(table, role)}.")
    if not set(RANGE) <= set(found):
        found = {role: column for role, column in found.items() if role not in RANGE}
    unused = [column for column in table if column not in found.values() and _plain(column) != "score"]
    notes += [f"The column '{column}' is not used." for column in unused]

    raw = pd.DataFrame({"time": _dates(table[found["date"]], origin), "ticker": ticker})
    if "ticker" in found:
        column = table[found["ticker"]]
        tables.refuse(column, column.isna(), "a ticker", origin)
        raw["ticker"] = column.astype("str").str.strip()
    return raw.assign(**{r: tables.numbers(table[found[r]], origin) for r in (*PRICES, "volume") if r in found})


def _plain(column: str) -> str:
    return re.sub("[^a-z]", "", column.lower())


def _recognised(table: pd.DataFrame, origin: str, named: dict[str, str]) -> dict[str, str]:
    """The column that plays each role, by the flags that name one or by what columns are usually called."""
    found = {}
    for role, names in NAMES.items():
        if flag := named.get(role, ""):
            if flag not in table:
                raise InputError(
                    f"{origin} has no column '{flag}', which --{role} names. Received: {tables.listed(table, flag)}."
                )
            found[role] = flag
            continue
        matches = sorted((names.index(_plain(column)), column) for column in table if _plain(column) in names)
        if len(matches) > 1 and matches[0][0] == matches[1][0]:
            raise InputError(f"{origin}: expected one column '{role}'. Received: {matches[0][1]} and {matches[1][1]}.")
        if matches:
            found[role] = matches[0][1]
    return found


def _dates(column: pd.Series, origin: str) -> pd.Series:
    """Days as datetime64[us] at midnight: the local ones where times have a zone; also of numbers such as 20240131."""
    if types.is_numeric_dtype(column) and column.between(EARLIEST, LATEST).all():
        column = column.astype("int64").astype("str").str.replace(r"(....)(..)(..)", r"\1-\2-\3", regex=True)
    elif isinstance(column.dtype, pd.DatetimeTZDtype):
        column = column.dt.tz_localize(None)
    elif not types.is_numeric_dtype(column) and not types.is_datetime64_any_dtype(column):
        column = column.astype("str").str.strip().str.slice(0, 10).where(column.notna())
    return tables.times(column, origin).dt.normalize()


# -------------------------------------------------------------------------------------------------------------- clean


def _clean(raw: pd.DataFrame, origin: str, notes: list[str]) -> pd.DataFrame:
    """The rows that can be used, by ticker and time, with `adjustment`; the notes tell how often each rule applied.

    Raises InputError where rows of the same ticker and day are so many that these are no daily prices of one each.
    """
    prices = [name for name in PRICES if name in raw]
    missing = raw[prices].isna().any(axis=1)
    worthless = ~missing & (raw[prices] <= 0).any(axis=1)
    _note(notes, missing, "{} left out: a price is missing.")
    _note(notes, worthless, "{} left out: a price is zero or negative.")
    frame = raw[~missing & ~worthless]
    backwards = frame["time"] < frame.groupby("ticker")["time"].shift()
    _note(notes, backwards, "{} earlier than the one before: they are put in order of time.")
    frame = frame.sort_values(["ticker", "time"], kind="stable", ignore_index=True)

    keys = ["ticker", "time"]
    if "score" in frame:
        frame["score"] = frame.groupby(keys)["score"].transform("max")
    copies = frame.duplicated()
    frame = frame[~copies]
    replaced = frame.duplicated(keys, keep="last")
    if replaced.sum() > MOST_TWICE * len(frame):
        row = frame[replaced].iloc[0]
        raise InputError(
            f"{origin}: expected one row for each ticker and day; if a column tells the tickers apart, name it with "
            f"--ticker. Received: {replaced.sum() + 1:,} or more rows too many, the first for "
            f"{row['ticker'] or 'the only ticker'} on {row['time']:%Y-%m-%d}."
        )
    _note(notes, copies, "{} left out: exact copies of another.")
    _note(notes, replaced, "{} left out: a later row has other prices for the same ticker and day.")
    frame = frame[~replaced].reset_index(drop=True)
    if frame.empty:
        raise InputError(
            f"{origin}: expected daily prices above 0. Received: {len(raw):,} rows, none of which has them."
        )

    if "open" in frame:
        upper, lower = frame[["open", "close"]].max(axis=1), frame[["open", "close"]].min(axis=1)
        narrow = (frame["high"] < upper) | (frame["low"] > lower)
        _note(notes, narrow, "{} repaired: high and low are widened until they hold open and close.")
        far = (frame["high"] > FAR * upper) | (frame["low"] < lower / FAR)
        _note(notes, far, f"{{}} repaired: a high or low over {FAR:g} times away from open and close becomes these.")
        frame["high"] = upper.where(frame["high"] > FAR * upper, np.maximum(frame["high"], upper))
        frame["low"] = lower.where(frame["low"] < lower / FAR, np.minimum(frame["low"], lower))
    if "volume" in frame:
        unknown = ~(frame["volume"] > 0)
        if unknown.all() and "score" not in frame:
            frame = frame.drop(columns="volume")
            notes.append("The volume is left out: it is never above 0.")
        else:
            _note(notes, unknown, "{} without a volume above 0, which is taken as unknown.")
            frame["volume"] = frame["volume"].where(~unknown)
    _note_calendar(frame, notes)
    adjustment, split = features.adjustment(frame)
    if split.any():
        told = [f"{row.ticker} {row.time:%Y-%m-%d}" for row in frame[split].head(5).itertuples()]
        more = ", ..." if split.sum() > len(told) else ""
        notes.append(f"Overnight moves taken as splits, and adjusted for: {split.sum():,} ({', '.join(told)}{more}).")
    return frame.assign(adjustment=adjustment)


def _note(notes: list[str], rows: pd.Series, sentence: str) -> None:
    if count := int(rows.sum()):
        notes.append(sentence.format("1 row is" if count == 1 else f"{count:,} rows are"))


def _note_calendar(frame: pd.DataFrame, notes: list[str]) -> None:
    """Tells of days without a price between a ticker's first and last, and of tickers that start late or end early."""
    days, day = np.unique(frame["time"], return_inverse=True)
    life = pd.Series(day).groupby(frame["ticker"].to_numpy()).agg(["min", "max", "size"])
    gaps = int((life["max"] - life["min"] + 1 - life["size"]).sum())
    if gaps:
        notes.append(f"{gaps:,} ticker-days have no price although other tickers traded: nothing is filled in.")
    partial = int(((life["min"] > 0) | (life["max"] < len(days) - 1)).sum())
    if partial:
        notes.append(f"{partial:,} of {len(life):,} tickers start later or end earlier than others: they are kept.")


def _records(frame: pd.DataFrame) -> pd.DataFrame:
    """Records of cleaned rows, which come in order of ticker and time; see `read`."""
    ticker = pd.factorize(frame["ticker"])[0]
    price = np.log(frame["close"] * frame["adjustment"]).to_numpy()
    returns = price - shifted(price, 1, ticker)
    squared = np.maximum(returns**2, features.FLOOR)
    variance = features.garman_klass(frame) if "open" in frame else squared
    history = frame.groupby("ticker").cumcount().to_numpy()
    targets = {f"variance_{h}d": ahead(variance, h, ticker) for h in HORIZONS}
    targets |= {f"return_{h}d": shifted(price, -h, ticker) - price for h in HORIZONS}
    known = np.isfinite(targets[f"variance_{EMBARGO}d"]) & (history >= MONTH)
    own = [name for name in ("ticker", "time", *PRICES, "volume") if name in frame]
    records = frame.assign(
        id=frame["ticker"] + " " + frame["time"].dt.strftime("%Y-%m-%d"),
        **{"return": returns},
        variance=variance,
        history=history,
        **targets,
        label=np.where(known, targets["variance_1d"], -1.0),
        known_at=frame.groupby("ticker")["time"].shift(-EMBARGO),
        block=blocks(frame["time"], EMBARGO),
        digest=hash_pandas_object(frame[own], index=False),
    )
    return records.sort_values(["time", "ticker"], kind="stable", ignore_index=True)


# -------------------------------------------------------------------------------------------------------------- split


def split(records: pd.DataFrame, settings: Settings) -> Splits:
    """Test from --test-start or the last fifth of the days; validation the 252 days before it; the rest is training.

    A row belongs to a side only if its last target, 21 days ahead, is known before the next side begins: an embargo of
    21 trading days at both boundaries. Intervals resample blocks of 21 days.

    Raises:
        InputError: for a --test-start that is no day of the data, or too short a period.
    """
    days = np.unique(records["time"].to_numpy())
    first = _first_test_day(days, settings.test_start)
    fewest = MONTH + features.OWN + EMBARGO + VALIDATION
    if first < fewest:
        raise InputError(
            f"expected at least {fewest} days before the test period: a month of history, a year to train, and "
            f"{VALIDATION} days to validate. Received: {first} days of {len(days)}."
        )
    validation, test = days[first - VALIDATION], days[first]
    time, known_at = records["time"].to_numpy(), records["known_at"].to_numpy()
    usable = (records["label"] >= 0).to_numpy()
    young = (records["history"] < MONTH).to_numpy()
    before, after = time < validation, time >= test
    into_validation, into_test = before & ~(known_at < validation), ~before & ~after & ~(known_at < test)
    sides = (before & ~into_validation, ~before & ~after & ~into_test, after)
    left_out = {
        f"within the first {MONTH} days of their ticker": young,
        f"without all of the next {EMBARGO} days": ~usable & ~young,
        "whose targets reach into validation": usable & into_validation,
        "whose targets reach into test": usable & into_test,
    }
    train, validation_rows, test_rows = (np.flatnonzero(side & usable) for side in sides)
    return replace(
        judged(records, test_rows),
        train=train,
        validation=validation_rows,
        rule=f"by time: validation from {validation:.10}, test from {test:.10}, before each {EMBARGO} days of embargo",
        left_out={reason: int(rows.sum()) for reason, rows in left_out.items() if rows.any()},
    )


def judged(records: pd.DataFrame, test: np.ndarray) -> Splits:
    """The split that has these rows for test and no others; days of a block of 21 are tied."""
    return Splits(test[:0], test[:0], test, clusters=("block",))


def _first_test_day(days: np.ndarray, wanted: str) -> int:
    """Number of the day that test begins with."""
    if not wanted:
        return len(days) - round(TEST * len(days))
    start = pd.to_datetime(wanted, errors="coerce", format="ISO8601")
    if pd.isna(start) or not days[0] < np.datetime64(start) <= days[-1]:
        raise InputError(
            f"--test-start: expected a day such as 2014-01-31, after {days[0]:.10} and up to {days[-1]:.10}. "
            f"Received: {wanted}."
        )
    return int(np.searchsorted(days, np.datetime64(start)))


# ---------------------------------------------------------------------------------------------------- learn and decode


def adopt(records: pd.DataFrame, facts: dict) -> pd.DataFrame:
    """The records for a network that starts from another: its tickers first, in its order."""
    adopted = records.copy(deep=False)
    adopted.attrs = records.attrs | {"known": facts["tickers"]}
    return adopted


def summary(records: pd.DataFrame, facts: dict) -> pd.DataFrame:
    """What drift is measured on, a row a ticker-day: log return, log variance and, where it is known, log volume."""
    found = pd.DataFrame({"return": records["return"], "log variance": np.log(records["variance"])})
    return found.assign(**{"log volume": np.log(records["volume"])}) if "volume" in records else found


def learn(train: pd.DataFrame, settings: Settings) -> dict:
    """What the training records teach, as JSON.

    Returns:
        `features`, the columns that feed the network; `tickers`; `window`, in days; `har`, the coefficients of the
        linear forecasts, see `features.fit_har`; `excess`, by how much, for each horizon, the logarithm of the
        variance to be expected is above the expected logarithm: half the variance of the pooled forecasts' errors;
        `named`, the columns that flags name; `notes`.
    """
    names = list(dict.fromkeys([*train.attrs.get("known", ()), *sorted(train["ticker"].unique())]))
    table = features.days(train, train.attrs["features"])
    frame = train.iloc[table.order]
    # The first month of each ticker's training rows lacks the days before them, which are context.
    full = frame.groupby("ticker").cumcount().to_numpy() >= MONTH
    targets, linear = frame[TARGETS[: len(HORIZONS)]].to_numpy()[full], table.linear[full]
    number = pd.Index(names).get_indexer(frame["ticker"][full]) + 1
    har = features.fit_har(linear, targets, number, len(names))
    pooled = features.har_forecast(linear, np.zeros(len(linear), int), har)[:, features.HAR_POOLED]
    return {
        "features": train.attrs["features"],
        "tickers": names,
        "window": settings.window,
        "har": har,
        "excess": (pooled - np.log(targets)).mean(axis=0).tolist(),
        "named": {"date": settings.date, "ticker": settings.ticker},
        "notes": train.attrs["notes"],
    }


def decode(records: pd.DataFrame, facts: dict) -> dict:
    """The network's inputs by name, for every record; see `features.inputs`."""
    return features.inputs(records, facts)


def columns(facts: dict) -> dict[str, tuple[str, bool]]:
    """What a request holds: the day, the ticker, and the prices that the network was trained with."""
    kinds = {name: ("string" if name == "ticker" else "double", True) for name in facts["features"]}
    return {"date": ("datetime", True)} | kinds


def request(records: pd.DataFrame, facts: dict) -> pd.DataFrame:
    """These records as a request holds them: day, ticker and prices."""
    return records[["time", *facts["features"]]].rename(columns={"time": "date"})


def context(part: Part, facts: dict) -> np.ndarray:
    """Row numbers of these records' tickers up to the last of them, as many days back as a forecast reads."""
    rows, times = np.arange(part.rows.max() + 1), part.records["time"]
    own = part.records["ticker"].iloc[rows].isin(part.frame["ticker"])
    last = part.records.iloc[rows[own & (times.iloc[rows] <= part.frame["time"].max())]]
    return np.sort(last.groupby("ticker").tail(facts["window"] + MONTH).index.to_numpy())
