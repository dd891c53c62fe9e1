"""What a payment is judged by: its own features, what its entities did before it, and their latest events.

An entity is a column whose values recur: a card, a customer, a terminal. Two entities also have a past together:
whether this customer has paid at this terminal before. Everything here is strictly causal. A payment sees the events
that are strictly earlier than itself, so payments with the same time do not see one another; and it sees the label of
an event only if `event time + delay <= payment time`, which is a property of the pair. Amounts are summed as
fixed-point integers: what a payment sees does not depend on other rows, not even in the last bit.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import chain, combinations
from typing import Literal

import numpy as np
import pandas as pd

WINDOWS = {"1 hour": 1 / 24, "1 day": 1, "7 days": 7, "30 days": 30, "90 days": 90}
"""Spans over which an entity's past is summed up, in days; the longest bounds the memory, so that no feature drifts."""
LONGEST = "90 days"
STEPS = 16
"""Latest events of each entity that a network reads."""
LATEST = 3
"""Of these, the very latest, which network and trees also read one by one, as columns."""
CHANNELS = ("event", "age", "amount", "ratio", "own ratio", "known", "fraud")
"""What a network reads of an event: whether there is one, its age in days, the logarithm of its amount, of its amount
over the current payment's, and of its amount over what was usual for the entity then, whether its label is known, and
whether it is a known fraud."""
PAYMENT, CATEGORIES = "payment", "categories"

BLOCK = 16  # columns that are put in order at once

_DAY = 86_400_000_000  # microseconds
_FIXED = 2.0**20  # steps in a unit of the fixed-point sums
_CENT = 0.01  # keeps the logarithm of an amount of zero finite


@dataclass(frozen=True)
class Timeline:
    """All events of one entity, sorted by entity and time; positions are places in that order.

    Attributes:
        order: int64 (n,), row number of each event.
        time: int64 (n,), microseconds.
        amount: float64 (n,), absolute amounts, 1 where the table has none.
        label: int8 (n,), -1 unknown.
        begin: int64 (n,), position of the entity's first event.
        end: int64 (n,), position behind the last strictly earlier event of the entity.
        known: int64 (n,), position behind the last event whose label may be known.
        starts: by window, int64 (n,), position of the first event in [time - window, time).
        known_starts: the same in [time - delay - window, time - delay].
    """

    order: np.ndarray
    time: np.ndarray
    amount: np.ndarray
    label: np.ndarray
    begin: np.ndarray
    end: np.ndarray
    known: np.ndarray
    starts: dict[str, np.ndarray]
    known_starts: dict[str, np.ndarray]

    def age(self, position: np.ndarray, exists: np.ndarray) -> np.ndarray:
        """Days from the event at `position` to each event, float64 (n,); NaN where it does not exist."""
        then = self.time[np.where(exists, position, 0)]
        return np.where(exists, (self.time - then) / _DAY, np.nan)

    def usual(self) -> np.ndarray:
        """Mean amount over the longest window before each event, known frauds apart, float64 (n,)."""
        start, end = self.starts[LONGEST], self.end
        known = np.maximum(self.known, start)
        fraud = self.label == 1
        spent, stolen, frauds = _sums(self.amount), _sums(self.amount * fraud), _counts(fraud)
        total = spent[end] - spent[start] - (stolen[known] - stolen[start])
        return _mean(total / _FIXED, end - start - (frauds[known] - frauds[start]))


class Latest:
    """The latest events of one entity before each payment, gathered when they are asked for."""

    dtype = np.dtype(np.float32)

    def __init__(self, events: Timeline) -> None:
        self.events = events
        self.shape = (len(events.order), STEPS, len(CHANNELS))
        self._place = np.empty(len(events.order), np.int64)
        self._place[events.order] = np.arange(len(events.order))
        self._log_amount = np.log(events.amount + _CENT).astype(np.float32)
        self._own_ratio = np.nan_to_num(_log_ratio(events.amount, events.usual())).astype(np.float32)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """The events before the payments `rows`, float32 (len(rows), STEPS, len(CHANNELS)); zero where none."""
        events, now = self.events, self._place[rows][:, None]
        at = events.end[now] + np.arange(-STEPS, 0)
        event = at >= events.begin[now]
        at = np.where(event, at, 0)
        known = (at < events.known[now]) & (events.label[at] >= 0)
        out = np.empty((*at.shape, len(CHANNELS)), np.float32)
        out[..., 0] = 1
        out[..., 1] = (events.time[now] - events.time[at]) / _DAY
        out[..., 2] = self._log_amount[at]
        out[..., 3] = out[..., 2] - self._log_amount[now]
        out[..., 4] = self._own_ratio[at]
        out[..., 5] = known
        out[..., 6] = known & (events.label[at] == 1)
        return out * event[..., None]


def inputs(records: pd.DataFrame, facts: dict) -> dict[str, np.ndarray | Latest]:
    """The network's inputs for every record, in the order of the records.

    Args:
        records: one row a payment, in any order; reads `time` (datetime64[us]), `label` (1 fraud, 0 legitimate, -1
            unknown) and the columns that the facts name.
        facts: `roles`, `numeric`, `categorical` and `delay_days`, as learnt from the training payments.

    Returns:
        `payment`, float32 (n, F): the columns of `names(facts)`, NaN where there is nothing to tell. `categories`,
        int32 (n, C), where there are categorical columns: 0 unseen or missing. For each entity, under its own name, a
        lazy float32 (n, STEPS, CHANNELS) of its latest events, the latest last, zero where there are fewer.
    """
    timelines, pairs = _timelines(records, facts)
    found = {PAYMENT: np.empty((len(records), len(names(facts))), np.float32)}
    # A block of columns at a time: values come in the order of entities, and to scatter each over all rows of a wide
    # matrix would take twice as long as to scatter it over a column and to copy that.
    block, width = np.empty((BLOCK, len(records)), np.float32), found[PAYMENT].shape[1]
    for column, (_, rows, values) in enumerate(_columns(records, facts, timelines, pairs)):
        block[column % BLOCK, rows] = values
        if column % BLOCK == BLOCK - 1 or column == width - 1:
            begin = column - column % BLOCK
            found[PAYMENT][:, begin : column + 1] = block[: column + 1 - begin].T
    if facts["categorical"]:
        found[CATEGORIES] = np.stack([_codes(records[c], seen) for c, seen in facts["categorical"].items()], axis=1)
    return found | {entity: Latest(events) for entity, events in timelines.items()}


def names(facts: dict) -> list[str]:
    """The columns of the `payment` input, in order: those of a table without rows."""
    columns = [*facts["numeric"], facts["roles"]["amount"], *facts["roles"]["entities"], "time", "label"]
    nothing = pd.DataFrame({column: np.empty(0) for column in columns})
    return [name for name, _, _ in _columns(nothing, facts, *_timelines(nothing, facts))]


def entities(facts: dict) -> list[str]:
    """The entities that have a history; none in a table without time."""
    return facts["roles"]["entities"] if facts["roles"]["time"] else []


def _columns(
    records: pd.DataFrame, facts: dict, timelines: dict[str, Timeline], pairs: dict[str, Timeline]
) -> Iterator[tuple[str, np.ndarray | slice, np.ndarray]]:
    """The columns of the `payment` input: (name, rows that the values are for, values)."""
    if facts["roles"]["amount"]:
        yield "amount", slice(None), records[facts["roles"]["amount"]].to_numpy(float)
    if facts["roles"]["time"]:
        days = _microseconds(records) % (7 * _DAY) / _DAY
        for name, turn in ("time of day", days), ("time of week", days / 7):
            yield f"{name}, sine", slice(None), np.sin(2 * np.pi * turn)
            yield f"{name}, cosine", slice(None), np.cos(2 * np.pi * turn)
    for column in facts["numeric"]:
        yield column, slice(None), records[column].to_numpy(float)
    for entity, events in timelines.items():
        kinds = [_visits(events), _frauds(events)] + [_amounts(events)] * bool(facts["roles"]["amount"])
        for name, values in chain(*kinds):
            yield f"{entity}: {name}", events.order, values
    for pair, events in pairs.items():
        for name, values in _visits(events):
            yield f"{pair}: {name}", events.order, values


# What an entity did before each of its events: (name, (n,) by position), NaN where there is nothing to tell.


def _visits(events: Timeline) -> Iterator[tuple[str, np.ndarray]]:
    end, start = events.end, events.starts[LONGEST]
    yield "is new", end == events.begin
    yield "days since first event", events.age(start, start < end)
    yield "days since latest event", events.age(end - 1, end > start)
    for span, start in events.starts.items():
        yield f"events in {span}", end - start


def _frauds(events: Timeline) -> Iterator[tuple[str, np.ndarray]]:
    known = events.known
    fraud, legitimate = events.label == 1, events.label == 0
    frauds, labels = _counts(fraud), _counts(fraud | legitimate)
    for span, start in events.known_starts.items():
        count = frauds[known] - frauds[start]
        yield f"known frauds in {span}", count
        yield f"known fraud rate in {span}", _mean(count, labels[known] - labels[start])

    # Frauds come in spells: how long the present one has lasted, and how long ago the last sign of an end was.
    start = events.known_starts[LONGEST]
    next_fraud, latest_fraud = _next(fraud), _latest(fraud)[known]
    latest_legitimate = np.maximum(_latest(legitimate)[known], start - 1)
    run = next_fraud[latest_legitimate + 1]
    yield "days since latest known fraud", events.age(latest_fraud, latest_fraud >= start)
    yield "days since latest known legitimate", events.age(latest_legitimate, latest_legitimate >= start)
    yield "frauds in the latest known run", frauds[known] - frauds[latest_legitimate + 1]
    yield "days since start of the latest known run", events.age(run, run < known)
    for span, start in events.known_starts.items():
        first = next_fraud[start]
        yield f"days since first known fraud in {span}", events.age(first, first < known)


def _amounts(events: Timeline) -> Iterator[tuple[str, np.ndarray]]:
    end, spent, usual = events.end, _sums(events.amount), events.usual()
    yield "amount to usual", _log_ratio(events.amount, usual)
    for span, start in events.starts.items():
        mean = _mean((spent[end] - spent[start]) / _FIXED, end - start)
        yield f"amount to mean of {span}", _log_ratio(events.amount, mean)
        yield f"mean of {span} to usual", _log_ratio(mean, usual)


def _timelines(records: pd.DataFrame, facts: dict) -> tuple[dict[str, Timeline], dict[str, Timeline]]:
    """The timelines of the entities, and those of each two entities together, for which one window will do."""
    if not entities(facts):
        return {}, {}
    times, rank = np.unique(_microseconds(records), return_inverse=True)
    label = records["label"].to_numpy(np.int8)
    amount = np.ones(len(records))
    if facts["roles"]["amount"]:
        amount = np.abs(np.nan_to_num(records[facts["roles"]["amount"]].to_numpy(float)))
    # Amount and label order only events of the same entity and time, so that the order of the rows cannot matter.
    in_time = np.lexsort((label, amount, rank))

    @cache
    def bound(days: float, side: Literal["left", "right"]) -> np.ndarray:
        return np.searchsorted(times, times - round(days * _DAY), side)

    def timeline(codes: np.ndarray, windows: Mapping[str, float]) -> Timeline:
        order = in_time[np.argsort(codes[in_time], kind="stable")]
        code, now = codes[order], rank[order]
        first = code * (len(times) + 1)
        keys = first + now

        def position(days: float, side: Literal["left", "right"] = "left") -> np.ndarray:
            return np.searchsorted(keys, first + bound(days, side)[now])

        delay, end = facts["delay_days"], position(0)
        begin = np.where(code < 0, end, np.searchsorted(keys, first))  # a missing entity has no past
        known = np.clip(position(delay, "right"), begin, end)
        return Timeline(
            order=order,
            time=times[now],
            amount=amount[order],
            label=label[order],
            begin=begin,
            end=end,
            known=known,
            starts={span: np.maximum(position(days), begin) for span, days in windows.items()},
            known_starts={span: np.clip(position(delay + days), begin, known) for span, days in windows.items()},
        )

    codes = {entity: pd.factorize(records[entity])[0].astype(np.int64) for entity in entities(facts)}
    pairs = {f"{a} and {b}": _together(codes[a], codes[b]) for a, b in combinations(codes, 2)}
    return (
        {entity: timeline(of_entity, WINDOWS) for entity, of_entity in codes.items()},
        {pair: timeline(of_pair, {LONGEST: WINDOWS[LONGEST]}) for pair, of_pair in pairs.items()},
    )


def _together(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """A number for each pair of codes, int64 (n,); -1 where one is missing."""
    codes = pd.factorize(a * (b.max(initial=0) + 1) + b)[0].astype(np.int64)
    return np.where((a < 0) | (b < 0), -1, codes)


def _microseconds(records: pd.DataFrame) -> np.ndarray:
    return records["time"].to_numpy("datetime64[us]").astype(np.int64)


def _codes(column: pd.Series, values: list) -> np.ndarray:
    """Each value's place in `values`, from 1, int32 (n,); 0 where it is not among them."""
    return (pd.Index(values).get_indexer(column) + 1).astype(np.int32)


def _counts(flags: np.ndarray) -> np.ndarray:
    """The number of flags before each position, int64 (n + 1,)."""
    return np.concatenate([[0], np.cumsum(flags)])


def _sums(amounts: np.ndarray) -> np.ndarray:
    """The sum of the amounts before each position, fixed-point int64 (n + 1,); differences are exact even past 2^63."""
    return np.concatenate([[0], np.cumsum(np.rint(amounts * _FIXED).astype(np.int64))])


def _mean(total: np.ndarray, count: np.ndarray) -> np.ndarray:
    return np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0)


def _log_ratio(amount: np.ndarray, reference: np.ndarray) -> np.ndarray:
    return np.log((amount + _CENT) / (reference + _CENT))


def _next(flags: np.ndarray) -> np.ndarray:
    """The first flagged position at or after each, int64 (n + 1,); n where there is none."""
    n = len(flags)
    found = np.append(np.where(flags, np.arange(n), n), n)
    return np.minimum.accumulate(found[::-1])[::-1]


def _latest(flags: np.ndarray) -> np.ndarray:
    """The last flagged position before each, int64 (n + 1,); -1 where there is none."""
    return np.concatenate([[-1], np.maximum.accumulate(np.where(flags, np.arange(len(flags)), -1))])
