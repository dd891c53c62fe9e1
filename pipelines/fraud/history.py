"""What a payment is judged by: its own features, what its entities did before it, and their latest events.

An entity is a column whose values recur: a card, a customer, a terminal. Two entities also have a past together:
whether this customer has paid at this terminal before. What a payment may see of a past, see `timelines`. Nothing is
kept but the timelines, some fifty bytes a payment for each entity; inputs are computed from them as they are gathered.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from pipelines.core.data.arrays import Rows
from pipelines.core.data.dataset import Dataset
from pipelines.fraud.timelines import (
    BLOCK,
    DAY,
    FRAUD,
    LONGEST,
    UNKNOWN,
    Events,
    LabelledPast,
    Past,
    Timeline,
    log_ratio,
    mean,
    size,
    timelines,
    times,
)

if TYPE_CHECKING:
    from pipelines.fraud.data import Facts

STEPS = 16
"""Latest events of each entity that a network reads."""
LATEST = 3
"""Of these, the very latest, which network and trees also read one by one, as columns."""
CHANNELS = ("event", "age", "amount", "ratio", "own ratio", "known", "fraud")
"""What a network reads of an event: whether there is one, its age in days, the logarithm of its amount, of its amount
over the current payment's, and of its amount over what was usual for the entity then, whether its label is known, and
whether it is a known fraud."""
PAYMENT, CATEGORIES = "payment", "categories"
MOST_BYTES = 2 << 30
"""Bytes up to which the columns of all payments are kept in memory for training."""
LOOK_BACK = pd.Timedelta(days=10)
"""How long a customer counts as known once a fraud became known: the mean of the 7 to 13 days in the Handbook's test
weeks. Without a bound, only a quarter of the Handbook's payments would remain after five months."""


class Payments:
    """The columns by which payments are judged, computed as they are gathered; NaN where undefined.

    Attributes:
        names: of the columns.
    """

    dtype = np.dtype(np.float32)

    def __init__(
        self, records: pd.DataFrame, facts: Facts, entities: dict[str, Events], pairs: dict[str, Timeline]
    ) -> None:
        roles, self._entities, self._pairs = facts.roles, entities, pairs
        self._time = times(records) if roles.time else None
        self._amount = records[roles.amount].to_numpy(float) if roles.amount else None
        self._numbers = {column: records[column].to_numpy(float) for column in facts.numeric}
        self.names = [name for name, _ in self._columns(np.empty(0, np.int64))]
        self.shape = (len(records), len(self.names))

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """The columns of the payments `rows`, float32 (len(rows), columns)."""
        found = np.empty((len(rows), self.shape[1]), np.float32)
        for begin in range(0, len(rows), BLOCK):
            at = slice(begin, begin + BLOCK)
            for column, (_, values) in enumerate(self._columns(rows[at])):
                found[at, column] = values
        return found

    def materialised(self) -> np.ndarray | Payments:
        """The same in memory, for training, which gathers every row many times; as it is beyond MOST_BYTES."""
        return self[np.arange(self.shape[0])] if math.prod(self.shape) * self.dtype.itemsize <= MOST_BYTES else self

    def _columns(self, rows: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        """(name, values of the rows), each (k,)."""
        if self._amount is not None:
            yield "amount", self._amount[rows]
        if self._time is not None:
            days = self._time[rows] % (7 * DAY) / DAY
            for name, turn in ("time of day", days), ("time of week", days / 7):
                yield f"{name}, sine", np.sin(2 * np.pi * turn)
                yield f"{name}, cosine", np.cos(2 * np.pi * turn)
        for column, values in self._numbers.items():
            yield column, values[rows]
        for entity, events in self._entities.items():
            past = LabelledPast(events, events.place[rows])
            kinds = [_visits(past), _frauds(past)]
            if self._amount is not None:
                kinds.append(_amounts(past, size(self._amount[rows])))
            for name, values in chain(*kinds):
                yield f"{entity}: {name}", values
        for pair, timeline in self._pairs.items():
            for name, values in _visits(Past(timeline, timeline.place[rows], [LONGEST])):
                yield f"{pair}: {name}", values


class Latest:
    """The latest events of one entity before each payment, gathered when they are asked for."""

    dtype = np.dtype(np.float32)

    def __init__(self, events: Events) -> None:
        self._events, self.shape = events, (len(events.place), STEPS, len(CHANNELS))

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """The events before the payments `rows`, float32 (len(rows), STEPS, len(CHANNELS)); zero where none."""
        events, now = self._events, self._events.place[rows]
        past = Past(events, now)
        at = past.end[:, None] + np.arange(-STEPS, 0)

        def gathered(values: np.ndarray) -> np.ndarray:
            return values.take(at, mode="clip")  # also where there is no event, which is set to zero at the end

        elapsed, state = past.time[:, None] - gathered(events.time), gathered(events.state)
        known = (state != UNKNOWN) & (elapsed >= round(events.delay * DAY))
        found = np.empty((*at.shape, len(CHANNELS)), np.float32)
        found[..., 0] = 1
        found[..., 1] = elapsed / DAY
        found[..., 2] = gathered(events.log_amount)
        found[..., 3] = found[..., 2] - events.log_amount[now][:, None]
        found[..., 4] = gathered(events.own_ratio)
        found[..., 5] = known
        found[..., 6] = known & (state == FRAUD)
        found[at < past.begin[:, None]] = 0
        return found

    def earlier(self, rows: np.ndarray) -> np.ndarray:
        """How many events of the entity are strictly earlier than each of the payments `rows`, int64 (len(rows),)."""
        past = Past(self._events, self._events.place[rows])
        return past.end - past.begin


def inputs(records: pd.DataFrame, facts: Facts) -> dict[str, Rows]:
    """The network's inputs for every record, in the order of the records.

    Args:
        records: one row a payment, in any order; reads `time` (datetime64[us]), `labelled`, `label` (1 for fraud) and
            the columns that the facts name.
        facts: learnt from the training payments.

    Returns:
        `payment`, a lazy float32 (n, F), see `Payments`. `categories`, int32 (n, C), where there are categorical
        columns: 0 unseen or missing. For each entity, under its own name, a lazy float32 (n, STEPS, CHANNELS) of its
        latest events, the latest last, zero where there are fewer.
    """
    single, pairs = timelines(records, facts) if facts.roles.tracked else ({}, {})
    arrays: dict[str, Rows] = {PAYMENT: Payments(records, facts, single, pairs)}
    if facts.categorical:
        arrays[CATEGORIES] = np.stack([_codes(records[c], seen) for c, seen in facts.categorical.items()], axis=1)
    return arrays | {entity: Latest(events) for entity, events in single.items()}


def known_customers(records: pd.DataFrame, customer: str, rows: np.ndarray) -> np.ndarray:
    """Whether a fraud of the customer became known in the `LOOK_BACK` before each payment of `rows`, bool (n,).

    Args:
        records: every payment.
        customer: the column that names customers.
        rows: int64 (n,), those asked about.
    """
    frauds = records.loc[records["labelled"] & (records["label"] == 1), [customer, "known_at"]].dropna()
    asked = records.iloc[rows][["time", customer]].assign(place=np.arange(len(rows))).sort_values("time")
    matched = pd.merge_asof(
        asked,
        frauds.sort_values("known_at").assign(known=True),
        left_on="time",
        right_on="known_at",
        by=customer,
        tolerance=LOOK_BACK,
        allow_exact_matches=False,  # with a delay of zero, a fraud does not know itself
    )
    return matched.set_index("place")["known"].notna().sort_index().to_numpy()


def age(data: Dataset, rows: np.ndarray, facts: Facts) -> np.ndarray | None:
    """Days from the latest earlier payment that is not among `rows` to each that is, NaN where there is none.

    So old is the newest history that the payments are judged by, apart from one another.

    Returns:
        float32 (n,); None where no history is read.
    """
    if not facts.roles.tracked:
        return None
    time = data.records["time"].to_numpy("datetime64[us]")
    context = np.ones(len(data), bool)
    context[rows] = False
    past = np.sort(time[context])
    latest = np.searchsorted(past, time[rows]) - 1
    days = (time[rows] - np.append(past, np.datetime64("NaT"))[latest]) / np.timedelta64(1, "D")
    return days.astype(np.float32)


def _codes(column: pd.Series, values: Sequence[str]) -> np.ndarray:
    """Each value's place in `values`, from 1, int32 (n,); 0 where it is not among them."""
    code, seen = pd.factorize(column)
    place = np.append(pd.Index(values).get_indexer(seen) + 1, 0)  # the last for the code -1, a missing value
    return place.astype(np.int32)[code]


# What an entity did before each of some events: (name, (k,)), NaN where undefined.


def _visits(past: Past) -> Iterator[tuple[str, np.ndarray]]:
    end, start = past.end, past.starts[LONGEST]
    yield "is new", end == past.begin
    yield "days since first event", past.age(start, start < end)
    yield "days since latest event", past.age(end - 1, end > start)
    for span, start in past.starts.items():
        yield f"events in {span}", end - start


def _frauds(past: LabelledPast) -> Iterator[tuple[str, np.ndarray]]:
    known, frauds, legitimate = past.known, past.events.frauds, past.events.legitimate
    next_fraud, next_legitimate = frauds.count[known], legitimate.count[known]
    for span, start in past.known_starts.items():
        count, others = next_fraud - frauds.count[start], next_legitimate - legitimate.count[start]
        yield f"known frauds in {span}", count
        yield f"known fraud rate in {span}", mean(count, count + others)

    # Frauds come in spells: how long the present one has lasted, and how long ago the last sign of an end was.
    start = past.known_starts[LONGEST]
    latest_fraud = frauds.at[next_fraud - 1]
    latest_legitimate = np.maximum(legitimate.at[next_legitimate - 1], start - 1)
    first_of_run = frauds.count[latest_legitimate + 1]
    run = frauds.at[first_of_run]
    yield "days since latest known fraud", past.age(latest_fraud, latest_fraud >= start)
    yield "days since latest known legitimate", past.age(latest_legitimate, latest_legitimate >= start)
    yield "frauds in the latest known run", next_fraud - first_of_run
    yield "days since start of the latest known run", past.age(run, run < known)
    for span, start in past.known_starts.items():
        first = frauds.at[frauds.count[start]]
        yield f"days since first known fraud in {span}", past.age(first, first < known)


def _amounts(past: LabelledPast, amounts: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    yield "amount to usual", log_ratio(amounts, past.usual)
    for span, start in past.starts.items():
        in_window = mean(past.spent(start), past.end - start)
        yield f"amount to mean of {span}", log_ratio(amounts, in_window)
        yield f"mean of {span} to usual", log_ratio(in_window, past.usual)
