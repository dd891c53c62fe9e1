"""Daily prices of tickers: records with targets, the split by time, what is learnt, and requests for forecasts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from pipelines.core.contract import Capabilities, History, InputError
from pipelines.core.data.arrays import Encoded, Part
from pipelines.core.data.dataset import Dataset
from pipelines.core.data.requests import Request
from pipelines.core.data.splits import SHARES, Splits, by_time
from pipelines.core.evaluation.bootstrap import blocks
from pipelines.core.reading import tables
from pipelines.stocks import Settings, cleaning, demo, features
from pipelines.stocks.cleaning import PRICES
from pipelines.stocks.features import MONTH, TARGETS, Coefficients
from pipelines.stocks.inspection import inspect

EMBARGO = max(features.HORIZONS)
VALIDATION = features.YEAR
LAST = "Each ticker's last day is scored."


@dataclass(frozen=True)
class About:
    """What was recognised in price tables.

    Attributes:
        columns: `ticker`, the prices and `volume`, as far as the data have them.
        tickers: known to the version that training starts from, in its order.
    """

    columns: tuple[str, ...]
    tickers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Facts:
    """What a network and its baselines learn.

    Attributes:
        features: columns that feed the network, `ticker` first.
        tickers: with training records; the network numbers them from 1.
        window: past days that the network reads.
        har, excess: of the linear forecasts, see `features.fit_linear`.
        named: the columns that the flags `date` and `ticker` name, "" for none.
        widening: factors (3, 7) for the distances of return quantiles from their median; None until calibrated.
        notes: sentences on the data.
    """

    features: tuple[str, ...]
    tickers: tuple[str, ...]
    window: int
    har: Coefficients
    excess: tuple[float, ...]
    named: dict[str, str]
    widening: tuple[tuple[float, ...], ...] | None = None
    notes: tuple[str, ...] = ()


# --------------------------------------------------------------------------------------------------------------- read


def read(path: Path | None, settings: Settings) -> Dataset[About]:
    """Read a price table, a folder of them or the demo as one record a ticker-day, in order of time and ticker.

    Columns: `id` (TICKER DATE), `time` (datetime64[us], midnight), `ticker`, the prices as they came (`close` and,
    where the data have them, `open`, `high`, `low`, `adj_close`, `volume`), `adjustment` (factor that makes prices of
    different days comparable), `return` (log, close to close, NaN on a ticker's first day), `variance`, `history`
    (number of earlier days of the ticker), the TARGETS, NaN where unknown, `labelled` (whether all targets and a month
    of history are known), `label` (the next day's variance, else NaN), `known_at` (when the last target is known) and
    `block` (of 21 days).

    Raises:
        InputError: where the data cannot be used, with file, row, column and what was expected.
    """
    return append([(path, settings)])


def append(parts: Sequence[tuple[Path | None, Settings]]) -> Dataset[About]:
    """The ticker-days of several files or folders as one, as if all files were in one folder; see `read`."""
    path, settings = parts[-1]
    notes: list[str] = []
    if path is None:
        table = demo.random_walk(settings.seed) if settings.data == "random-walk" else demo.indices()
        raw = cleaning.standardise(table, "", "demo data", settings.named, notes)
    else:
        raw = cleaning.load([one for one, _ in parts if one], settings.named, notes)
    return _dataset(cleaning.clean(raw, path.name if path else "demo data", notes), notes)


def parse(table: pd.DataFrame, facts: Facts, origin: str = "request") -> Dataset[About]:
    """Turn rows of price history into records, cleaned and in order as by `read`; `score` says which to answer.

    These are the rows whose `score` is true in the table, or without that column each ticker's last day. A forecast
    needs the ticker's `window` days and a month before, and the other tickers' for the market averages.

    Raises:
        InputError: for a missing column, a cell that cannot be read, or a row to answer that cannot be used.
    """
    raw = cleaning.standardise(table, "", origin, {}, [])
    cleaning.refuse_missing(raw, table, facts.features, origin)
    raw = raw[["time", *facts.features]]
    last = raw["time"] == raw.groupby("ticker")["time"].transform("max")
    wanted = table["score"].fillna(False).astype(bool) if "score" in table else last
    for name in [name for name in facts.features if name in PRICES]:
        tables.refuse(raw[name], wanted & ~(raw[name] > 0), "a price above 0 in a row to answer", origin)
    return _dataset(cleaning.clean(raw.assign(score=wanted), origin, []))


def _dataset(frame: pd.DataFrame, notes: Sequence[str] = ()) -> Dataset[About]:
    """The records of cleaned rows, which come in order of ticker and time; see `read`."""
    derived, history = features.derive(frame), frame.groupby("ticker").cumcount().to_numpy()
    labelled = np.isfinite(derived[f"variance_{EMBARGO}d"]) & (history >= MONTH)
    records = frame.assign(
        id=frame["ticker"] + " " + frame["time"].dt.strftime("%Y-%m-%d"),
        **derived,
        history=history,
        labelled=labelled,
        label=np.where(labelled, derived["variance_1d"], np.nan),
        known_at=frame.groupby("ticker")["time"].shift(-EMBARGO),
        block=blocks(frame["time"], EMBARGO),
    )
    records = records.sort_values(["time", "ticker"], kind="stable", ignore_index=True)
    columns = tuple(name for name in ("ticker", *PRICES, "volume") if name in records)
    return Dataset(records, About(columns), key=("ticker", "time"), notes=tuple(notes))


def describe(data: Dataset[About]) -> str:
    """What was read, in a few lines: tickers, days, period, and what was repaired or left out."""
    time, tickers = data.records["time"], data.records["ticker"].nunique()
    size = f"{len(data):,} daily prices of {tickers:,} ticker{'s'[: tickers > 1]} on {time.nunique():,} days"
    period = f"{time.min():%Y-%m-%d} to {time.max():%Y-%m-%d}"
    return "\n".join([f"{size}, {period}, with {', '.join(data.about.columns[1:])}", *data.notes])


# ------------------------------------------------------------------------------------------------ split, learn, encode


def split(data: Dataset[About], settings: Settings) -> Splits:
    """Test from --test-start or the last fifth of the days; validation the 252 days before it; the rest is training.

    A record belongs to a side only if its last target, 21 days ahead, is known before the next side begins: an embargo
    of 21 trading days at both boundaries. Intervals resample blocks of 21 days.

    Raises:
        InputError: for a --test-start that is no day of the data, or too short a period.
    """
    days = np.unique(data.records["time"].to_numpy())
    first = _first_test_day(days, settings.test_start)
    fewest = MONTH + features.OWN + EMBARGO + VALIDATION
    if first < fewest:
        raise InputError(
            f"expected at least {fewest} days before the test period: a month of history, a year to train, and "
            f"{VALIDATION} days to validate. Received: {first} days of {len(days)}."
        )
    validation, test = days[first - VALIDATION], days[first]
    reasons = ("ticker-days whose targets reach into validation", "ticker-days whose targets reach into test")
    sides = by_time(data, validation, test, reasons, known_on_boundary=False)
    young = (data.records["history"] < MONTH).to_numpy()
    left_out = {
        f"ticker-days within the first {MONTH} days of their ticker": int(young.sum()),
        f"ticker-days without all of the next {EMBARGO} days": int((~data.labelled & ~young).sum()),
    }
    rule = f"by time: validation from {validation:.10}, test from {test:.10}, before each {EMBARGO} days of embargo"
    return replace(sides, rule=rule, left_out=left_out | sides.left_out, clusters=("block",))


def select_test(data: Dataset[About], test: np.ndarray) -> Splits:
    """The split whose test side are these rows alone; intervals resample blocks of 21 days."""
    return Splits(test[:0], test[:0], test, clusters=("block",))


def _first_test_day(days: np.ndarray, test_start: str) -> int:
    """Number of the day that test begins with."""
    if not test_start:
        return len(days) - round(SHARES["test"] * len(days))
    start = pd.to_datetime(test_start, errors="coerce", format="ISO8601")
    if pd.isna(start) or not days[0] < np.datetime64(start) <= days[-1]:
        raise InputError(
            f"--test-start: expected a day such as 2014-01-31, after {days[0]:.10} and up to {days[-1]:.10}. "
            f"Received: {test_start}."
        )
    return int(np.searchsorted(days, np.datetime64(start)))


def learn(train: Dataset[About], settings: Settings) -> Facts:
    """Learn the features, the tickers and the linear forecasts from the training records."""
    records, columns, notes = train.records, train.about.columns, train.notes
    if "volume" in columns and not (records["volume"] > 0).any():
        columns = tuple(name for name in columns if name != "volume")
        notes = (*notes, "The volume is no input: it is never above 0 in the training records.")
    tickers = tuple(dict.fromkeys([*train.about.tickers, *sorted(records["ticker"].unique())]))
    har, excess = features.fit_linear(records, columns, tickers)
    return Facts(columns, tickers, settings.window, har, excess, settings.named, notes=notes)


def adopt(data: Dataset[About], facts: Facts) -> Dataset[About]:
    """The data for a network that starts from another, whose tickers come first, in its order."""
    return replace(data, about=replace(data.about, tickers=facts.tickers))


def encode(data: Dataset[About], facts: Facts) -> Encoded:
    """The network's inputs, see `features.inputs`, and `targets`, float64 (n, 6), the TARGETS."""
    return Encoded(features.inputs(data.records, facts), {"targets": data.records[TARGETS].to_numpy()})


def drift_summary(data: Dataset[About], facts: Facts) -> pd.DataFrame:
    """Log return, log variance and, if the network reads the volume, log volume of each ticker-day."""
    records = data.records
    summary = pd.DataFrame({"return": records["return"], "log variance": np.log(records["variance"])})
    return summary.assign(**{"log volume": np.log(records["volume"])}) if "volume" in facts.features else summary


# ----------------------------------------------------------------------------------------------------------- requests


def columns(facts: Facts) -> dict[str, tuple[str, bool]]:
    """Columns of a request: the day, the ticker, and the prices that the network was trained with."""
    return {"date": ("datetime", True)} | {n: ("string" if n == "ticker" else "double", True) for n in facts.features}


def example(data: Dataset[About], facts: Facts) -> pd.DataFrame:
    """These records as rows of a request: day, ticker and prices."""
    return data.records[["time", *facts.features]].rename(columns={"time": "date"})


def names(table: pd.DataFrame, facts: Facts) -> pd.Series:
    """Name of each raw row: ticker and day, as they are written."""
    return cleaning.row_names(table, facts.named)


def history_age(data: Dataset[About], rows: np.ndarray, facts: Facts) -> np.ndarray:
    """Days from each of the `rows` to the latest day of any ticker, float32 (n,): 0 where the prices are up to date."""
    time = data.records["time"]
    return ((time.max() - time.iloc[rows]) / pd.Timedelta(days=1)).to_numpy(np.float32)


def context(part: Part, facts: Facts) -> np.ndarray:
    """Row numbers of the part's tickers up to its last day, as many days back as a forecast reads."""
    records, own = part.records, part.frame
    rows = np.flatnonzero(records["ticker"].isin(own["ticker"]) & (records["time"] <= own["time"].max()))
    back = records.iloc[rows].groupby("ticker").cumcount(ascending=False).to_numpy()
    return rows[back < facts.window + MONTH]


def requests(path: Path | None, history: Path | None, facts: Facts, settings: Settings) -> Iterator[Request]:
    """Each ticker's last day or, with a history, each day after its end; and the days that their forecasts read.

    Raises:
        InputError: for files that are no prices like those of training.
    """
    if path is None:
        data = read(None, settings)
        yield Request(data, np.flatnonzero(~data.records["ticker"].duplicated(keep="last")), notes=(LAST,))
        return
    # A file of any other name, such as june.csv, is of a ticker that the network does not know; so is its history.
    ticker = name if (name := cleaning.file_ticker(path)) in facts.tickers else ""
    raw, faults = cleaning.load_valid_rows(path, facts.features, facts.named, ticker)
    notes: tuple[str, ...] = (LAST,)
    if history:
        past, unreadable = cleaning.load_valid_rows(history, facts.features, facts.named, ticker)
        end = past["time"].max()
        raw = pd.concat([past, raw])
        raw = raw[(raw["time"] > end) | ~raw.duplicated(["ticker", "time"])]
        raw["score"] = raw["time"] > end
        notes = (f"The days after {end:%Y-%m-%d}, where the history ends, are scored.",)
        if len(unreadable):
            notes += (f"{len(unreadable):,} rows of {history.name} cannot be read: {unreadable['error'].iloc[0]}",)
    table = _days_read(raw, facts).rename(columns={"time": "date"}).reset_index(drop=True)
    ids = names(table, facts)
    number = ids.groupby(ids).cumcount() + 1
    # Rows of several files share no numbering, so names label them; a second row of a ticker and day adds its number.
    table.index = ids.where(number == 1, ids + " (" + number.astype("str") + ")")
    data, late = tables.parse_valid_rows(lambda rows: parse(rows, facts, path.name), table, ids.set_axis(table.index))
    faults = pd.concat([faults, late], ignore_index=True)
    yield Request(data, np.flatnonzero(data.records["score"]), faults, notes=notes)


def _days_read(raw: pd.DataFrame, facts: Facts) -> pd.DataFrame:
    """The days that forecasts read: of each ticker up to its first row to score, of all tickers on these days."""
    usable = raw[(raw[[name for name in PRICES if name in raw]] > 0).all(axis=1)]
    past = usable[~usable["score"]] if "score" in usable else usable
    back = past.groupby("ticker", observed=True)["time"].rank(method="dense", ascending=False)
    read = past["time"][back <= facts.window + MONTH + 1].unique()  # 1 is the day before the first return
    return raw[raw["time"].isin(read) | raw.get("score", False)]


CAPABILITIES = Capabilities(
    history=History(history_age, context),
    example=example,
    requests=requests,
    names=names,
    append=append,
    adopt=adopt,
    drift_summary=drift_summary,
    inspect=inspect,
)
