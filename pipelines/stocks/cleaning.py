"""Tables of daily prices: recognise their columns, repair faults or leave rows out by rule, and count what was done."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial, reduce
from pathlib import Path

import numpy as np
import pandas as pd
from pandas.api import types

from pipelines.core.contract import InputError
from pipelines.core.reading import tables
from pipelines.stocks.features import shifted

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
"""Usual names of each column, the likeliest first, in any case and without spaces, digits and punctuation."""
RANGE = ("open", "high", "low")
PRICES = (*RANGE, "close", "adj_close")
SUFFIXES = (".csv", ".parquet", ".txt", ".tsv", ".csv.gz", ".csv.bz2", ".csv.xz", ".csv.zip", ".csv.zst")
EARLIEST, LATEST = 19000101, 21001231  # dates written as numbers
FAR = 2.0
"""A high this many times open and close, or a low this small a part of them, is a slip or a trade that was annulled."""
MOST_REPEATED = 0.05  # share of rows that repeat a ticker and day; more are no slips but another kind of data
SPLITS = np.log([3 / 2, 2, 5 / 2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 20, 25, 30, 50, 100])
NEAR, CALM = 0.03, 1 / 6
"""An overnight move this near to a split's, in logarithms, is one if the day's range is less than this share of it.
Most other moves of that size are news, on which the day's range is wide too."""


# ------------------------------------------------------------------------------------------------------ files, columns


def load(paths: Sequence[Path], named: Mapping[str, str], notes: list[str]) -> pd.DataFrame:
    """The standardised rows of files and folders, one below the other, with the columns that all files have.

    Raises:
        InputError: for a folder without price files, or a file that `standardise` refuses.
    """
    parts = {}
    for file in [file for path in paths for file in find_files(path, notes)]:
        parts[file] = standardise(tables.load(file), file_ticker(file), file.name, named, notes)
    notes[:] = dict.fromkeys(notes)  # what holds of all files is said once
    for column in (*PRICES, "volume"):
        missing = [file.name for file, part in parts.items() if column not in part]
        if 0 < len(missing) < len(parts):
            notes.append(f"The column '{column}' is left out: {missing[0]} has none ({len(missing)} such files).")
    return pd.concat(parts.values(), ignore_index=True, join="inner")


def load_valid_rows(
    path: Path, features: Sequence[str], named: Mapping[str, str], ticker: str
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of one or more files with `time` and the features, about 70 bytes each, and the rows at fault.

    Args:
        path: a file, or a folder with a file for each ticker.
        features: columns to keep.
        named: columns by role, as flags name them.
        ticker: of a single file without a column for it.

    Raises:
        InputError: for a column that is missing.
    """
    parts, faults = [], []
    for file in find_files(path, []):
        of_file = file_ticker(file) if path.is_dir() else ticker
        for table in tables.chunks(file):
            parse = partial(standardise, ticker=of_file, origin=file.name, named=named, notes=[])
            raw, bad = tables.parse_valid_rows(parse, table, row_names(table, named))
            refuse_missing(raw, table, features, file.name)
            parts.append(raw[["time", *features]].astype({"ticker": "category"}))
            faults.append(bad)
    tickers = pd.api.types.union_categoricals([part.pop("ticker") for part in parts])
    return pd.concat(parts, ignore_index=True).assign(ticker=tickers), pd.concat(faults)


def file_ticker(file: Path) -> str:
    """The ticker of a file without a column for it: the file's name up to the first dot."""
    return file.name.partition(".")[0]


def find_files(path: Path, notes: list[str]) -> list[Path]:
    """The file itself, or the price files below a folder, by name; a note for each other file.

    Raises:
        InputError: if there is none.
    """
    if not path.is_dir():
        return [path]
    files = sorted(file for file in path.rglob("*") if file.is_file() and not file.name.startswith("."))
    readable = [file for file in files if file.name.lower().endswith(SUFFIXES)]
    if not readable:
        raise InputError(f"{path.name}: expected a CSV or Parquet file for each ticker. Received: {len(files)} others.")
    notes += [f"{file.name} is left out: it is no CSV or Parquet file." for file in files if file not in readable]
    return readable


def row_names(table: pd.DataFrame, named: Mapping[str, str]) -> pd.Series:
    """Name of each raw row: ticker and day, as they are written; its index where the table has neither."""
    column_of = recognise(table, "request", {role: column for role, column in named.items() if column in table})
    parts = [table[column_of[role]].astype("str").fillna("?") for role in ("ticker", "date") if role in column_of]
    return reduce(lambda a, b: a + " " + b, parts) if parts else table.index.to_series()


def standardise(
    table: pd.DataFrame, ticker: str, origin: str, named: Mapping[str, str], notes: list[str]
) -> pd.DataFrame:
    """Rename the columns to `time`, `ticker`, PRICES and `volume`, and check their cells.

    Args:
        table: as read from a file or a request; its index is kept.
        ticker: stands for the column of that name where there is none.
        origin: what the table is called in messages.
        named: columns by role, as flags name them.
        notes: where a note on each unused column is added.

    Raises:
        InputError: for a missing column, or with `faults` for rows with cells that cannot be read.
    """
    column_of = recognise(table, origin, named)
    if "close" not in column_of and "adj_close" in column_of:
        column_of["close"] = column_of.pop("adj_close")
    for role in ("date", "close"):
        if role not in column_of:
            flag = "; name it with --date" if role == "date" else ""
            raise InputError(f"{origin}: expected a column '{role}'{flag}. Received: {tables.listed(table, role)}.")
    if not set(RANGE) <= set(column_of):
        column_of = {role: column for role, column in column_of.items() if role not in RANGE}
    unused = [column for column in table if column not in column_of.values() and _plain(column) != "score"]
    notes += [f"The column '{column}' is not used." for column in unused]

    raw = pd.DataFrame({"time": _dates(table[column_of["date"]], origin), "ticker": ticker})
    if "ticker" in column_of:
        column = table[column_of["ticker"]]
        tables.refuse(column, column.isna(), "a ticker", origin)
        raw["ticker"] = column.astype("str").str.strip()
    numeric = [role for role in (*PRICES, "volume") if role in column_of]
    return raw.assign(**{role: tables.numbers(table[column_of[role]], origin) for role in numeric})


def recognise(table: pd.DataFrame, origin: str, named: Mapping[str, str]) -> dict[str, str]:
    """The column in each role of NAMES, as `named` by flags or else by its usual names.

    Raises:
        InputError: if a named column is missing, or two columns fit a role equally well.
    """
    column_of = {}
    for role, names in NAMES.items():
        if flag := named.get(role, ""):
            if flag not in table:
                raise InputError(
                    f"{origin} has no column '{flag}', which --{role} names. Received: {tables.listed(table, flag)}."
                )
            column_of[role] = flag
            continue
        matches = sorted((names.index(_plain(column)), column) for column in table if _plain(column) in names)
        if len(matches) > 1 and matches[0][0] == matches[1][0]:
            raise InputError(f"{origin}: expected one column '{role}'. Received: {matches[0][1]} and {matches[1][1]}.")
        if matches:
            column_of[role] = matches[0][1]
    return column_of


def refuse_missing(raw: pd.DataFrame, table: pd.DataFrame, names: Sequence[str], origin: str) -> None:
    """Raise InputError if the standardised table lacks one of these columns, with the columns of the original table."""
    if missing := [name for name in names if name not in raw]:
        raise InputError(f"{origin}: expected the column '{missing[0]}'. Received: {tables.listed(table)}.")


def _plain(column: str) -> str:
    return re.sub("[^a-z]", "", column.lower())


def _dates(column: pd.Series, origin: str) -> pd.Series:
    """Days as datetime64[us] at midnight: the local ones where times have a zone; also of numbers such as 20240131."""
    if types.is_numeric_dtype(column) and column.between(EARLIEST, LATEST).all():
        column = column.astype("int64").astype("str").str.replace(r"(....)(..)(..)", r"\1-\2-\3", regex=True)
    elif isinstance(column.dtype, pd.DatetimeTZDtype):
        column = column.dt.tz_localize(None)
    elif not types.is_numeric_dtype(column) and not types.is_datetime64_any_dtype(column):
        column = column.astype("str").str.strip().str.slice(0, 10).where(column.notna())
    return tables.times(column, origin).dt.normalize()


# --------------------------------------------------------------------------------------------------------------- rows


def clean(raw: pd.DataFrame, origin: str, notes: list[str]) -> pd.DataFrame:
    """The usable rows by ticker and time; the notes say how often each rule applied.

    Added are `adjustment`, `repaired` (whether the row's high or low was repaired) and `left_out` (rows of the ticker,
    between its first and its last usable one, that were left out).

    Raises:
        InputError: if no row is usable, or so many repeat a ticker and day that they are not its daily prices.
    """
    prices = [name for name in PRICES if name in raw]
    missing = raw[prices].isna().any(axis=1)
    worthless = ~missing & (raw[prices] <= 0).any(axis=1)
    _note(notes, missing, "{} left out: a price is missing.")
    _note(notes, worthless, "{} left out: a price is zero or negative.")
    frame = raw[~missing & ~worthless]
    if lost := sorted(set(raw["ticker"]) - set(frame["ticker"])):
        notes.append(f"Tickers left out, since none of their rows has prices above 0: {', '.join(map(str, lost))}.")
    left_out = _count_left_out(raw, missing | worthless)
    backwards = frame["time"] < frame.groupby("ticker")["time"].shift()
    _note(notes, backwards, "{} earlier than the one before: they are put in order of time.")
    frame = frame.sort_values(["ticker", "time"], kind="stable", ignore_index=True)
    frame = _without_repeated_days(frame, origin, notes)
    if frame.empty:
        raise InputError(
            f"{origin}: expected daily prices above 0. Received: {len(raw):,} rows, none of which has them."
        )
    frame["repaired"] = _repair_range(frame, notes) if "open" in frame else False
    frame["left_out"] = frame["ticker"].map(left_out).fillna(0).astype("int64")
    if "volume" in frame:
        unknown = ~(frame["volume"] > 0)
        _note(notes, unknown, "{} without a volume above 0, which is taken as unknown.")
        frame["volume"] = frame["volume"].where(~unknown)
    _note_calendar(frame, notes)
    factors, split = adjustment(frame)
    if split.any():
        examples = [f"{row.ticker} {row.time:%Y-%m-%d}" for row in frame[split].head(5).itertuples()]
        more = ", ..." if split.sum() > len(examples) else ""
        listed = ", ".join(examples) + more
        notes.append(f"Overnight moves taken as splits, and adjusted for: {split.sum():,} ({listed}).")
    if "open" not in frame:
        notes.append("Close prices alone: variance is the squared return; overnight gap and range are no inputs.")
    if "adj_close" not in frame:
        notes.append("Returns hold dividends only if the prices are adjusted for them.")
    return frame.assign(adjustment=factors)


def _without_repeated_days(frame: pd.DataFrame, origin: str, notes: list[str]) -> pd.DataFrame:
    """The last row of each ticker and day."""
    keys = ["ticker", "time"]
    if "score" in frame:
        frame["score"] = frame.groupby(keys)["score"].transform("max")
    copies = frame.duplicated()
    frame = frame[~copies]
    replaced = frame.duplicated(keys, keep="last")
    if replaced.sum() > MOST_REPEATED * len(frame):
        row = frame[replaced].iloc[0]
        raise InputError(
            f"{origin}: expected one row for each ticker and day; if a column names the tickers, give it with "
            "--ticker, and make days of rows that are hours or minutes. Received: "
            f"{replaced.sum() + 1:,} or more rows too many, the first for {row['ticker'] or 'the only ticker'} on "
            f"{row['time']:%Y-%m-%d}."
        )
    _note(notes, copies, "{} left out: exact copies of another.")
    _note(notes, replaced, "{} left out: a later row has other prices for the same ticker and day.")
    return frame[~replaced].reset_index(drop=True)


def _count_left_out(raw: pd.DataFrame, unusable: pd.Series) -> pd.Series:
    """Unusable rows between the first and the last usable one, by ticker: before and after, it was not traded."""
    life = raw[~unusable].groupby("ticker", observed=True)["time"].agg(["min", "max"])
    rows = raw.loc[unusable, ["ticker", "time"]].join(life, on="ticker")
    return rows[rows["time"].between(rows["min"], rows["max"])].groupby("ticker", observed=True).size()


def _repair_range(frame: pd.DataFrame, notes: list[str]) -> pd.Series:
    """Make high and low of each row, in place, hold its open and close, and be near to them; the rows changed."""
    upper, lower = frame[["open", "close"]].max(axis=1), frame[["open", "close"]].min(axis=1)
    narrow = (frame["high"] < upper) | (frame["low"] > lower)
    _note(notes, narrow, "{} repaired: high and low are widened until they hold open and close.")
    far = (frame["high"] > FAR * upper) | (frame["low"] < lower / FAR)
    _note(notes, far, f"{{}} repaired: a high or low over {FAR:g} times away from open and close becomes these.")
    frame["high"] = upper.where(frame["high"] > FAR * upper, np.maximum(frame["high"], upper))
    frame["low"] = lower.where(frame["low"] < lower / FAR, np.minimum(frame["low"], lower))
    return narrow | far


def adjustment(prices: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Factors that make prices of different days comparable, and the days taken as splits; rows by ticker and time.

    Returns:
        Factors to multiply prices by, float64 (n,): from `adj_close` where there is one, and from splits that the
        prices still show; those of earlier days do not depend on later ones. And whether it is a split, bool (n,).
    """
    ticker = pd.factorize(prices["ticker"])[0]
    given = (prices["adj_close"] / prices["close"]).to_numpy() if "adj_close" in prices else np.ones(len(prices))
    close = np.log(prices["close"].to_numpy() * given)
    first, spread = close, np.zeros(len(prices))
    if "open" in prices:
        first, spread = np.log(prices["open"].to_numpy() * given), np.log(prices["high"] / prices["low"]).to_numpy()
    night = first - shifted(close, 1, ticker)
    nearest = SPLITS[np.abs(np.abs(night)[:, None] - SPLITS).argmin(axis=1)]
    split = (np.abs(np.abs(night) - nearest) < NEAR) & (spread < CALM * nearest)
    factor = np.exp(np.where(split, -np.sign(night) * nearest, 0))
    return given * pd.Series(factor).groupby(ticker).cumprod().to_numpy(), split


def _note(notes: list[str], rows: pd.Series, sentence: str) -> None:
    if count := int(rows.sum()):
        notes.append(sentence.format("1 row is" if count == 1 else f"{count:,} rows are"))


def _note_calendar(frame: pd.DataFrame, notes: list[str]) -> None:
    """Note days without a price between a ticker's first and last, and tickers that start late or end early."""
    days, day = np.unique(frame["time"], return_inverse=True)
    life = pd.Series(day).groupby(frame["ticker"].to_numpy()).agg(["min", "max", "size"])
    gaps = int((life["max"] - life["min"] + 1 - life["size"]).sum())
    if gaps:
        notes.append(f"{gaps:,} ticker-days have no price although other tickers traded: nothing is filled in.")
    partial = int(((life["min"] > 0) | (life["max"] < len(days) - 1)).sum())
    if partial:
        notes.append(f"{partial:,} of {len(life):,} tickers start later or end earlier than others: they are kept.")
