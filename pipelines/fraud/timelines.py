"""Timelines: the events of each entity in order, and the past of any of them.

Everything is kept by position in that order and found by bisection when it is asked for. What an event sees is strictly
causal: the events that are strictly earlier than itself, so that events of the same time do not see one another; and
the label of an event only if `event time + delay <= time`, which is a property of the pair. Amounts are summed as
fixed-point integers: what an event sees does not depend on other rows, not even in the last bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from pipelines.fraud.data import Facts

WINDOWS = {"1 hour": 1 / 24, "1 day": 1, "7 days": 7, "30 days": 30, "90 days": 90}
"""Spans over which an entity's past is summed up, in days, ascending; the longest bounds the memory, so that no feature
drifts."""
LONGEST = "90 days"
DAY = 86_400_000_000  # microseconds
UNKNOWN, LEGITIMATE, FRAUD = 0, 1, 2

BLOCK = 8_192
"""Rows for which something is computed at once, so that it stays in the processor's cache."""
_FIXED = 2.0**20  # steps in a unit of the fixed-point sums
_CENT = 0.01  # keeps the logarithm of an amount of zero finite


class Timeline:
    """The events of an entity, or of two together, in order of entity and time; a position is a place in that order.

    Attributes:
        place: int32 (n,), position of each row.
        time: int64 (n,), microseconds.
        begin: int32 (n,), position of the entity's first event; where an entity is missing, of the event itself.
    """

    def __init__(self, order: np.ndarray, time: np.ndarray, *codes: np.ndarray) -> None:
        """From the row of each event, int32 (n,), and by row the time and the entity's code or codes, -1 if missing."""
        positions = np.arange(len(order), dtype=np.int32)
        self.place = np.empty_like(positions)
        self.place[order] = positions
        self.time = time[order]
        first = np.zeros(len(order), bool)
        for code in codes:
            code = code[order]
            first[1:] |= code[1:] != code[:-1]
            first |= code < 0
        self.begin = np.maximum.accumulate(positions * first)

    def search(self, begin: np.ndarray, end: np.ndarray, time: np.ndarray) -> np.ndarray:
        """The first position from `begin` to `end` of an event not before `time`, int64 (k,); that at `end` is not.

        All bisect at once, each among its entity's few events: three times as fast as np.searchsorted among all.
        """
        before = begin - 1  # the last position that is known to be before `time`
        step = 1 << int((end - begin).max(initial=0)).bit_length()
        while step := step // 2:
            before += step * (self.time.take(np.minimum(before + step, end), mode="clip") < time)
        return before + 1


class Labels:
    """The labels of payments: views of the columns `labelled` and `label` of the records."""

    def __init__(self, records: pd.DataFrame) -> None:
        self.labelled, self.code = records["labelled"].to_numpy(bool), records["label"].to_numpy(np.int8)

    def state(self, rows: np.ndarray) -> np.ndarray:
        """UNKNOWN, LEGITIMATE or FRAUD for each of the rows, int8."""
        state = self.labelled[rows].astype(np.int8)
        state[(state == LEGITIMATE) & (self.code[rows] == 1)] = FRAUD
        return state


class Events(Timeline):
    """A timeline with labels and amounts.

    Attributes:
        delay: days until a label is known.
        state: int8 (n,), UNKNOWN, LEGITIMATE or FRAUD.
        frauds, legitimate: the events so labelled.
        spent, stolen: int64 (n + 1,) and (frauds + 1,), fixed-point sums of the first amounts, of all and of frauds.
            Differences are exact even past 2^63.
        log_amount: float32 (n,), logarithms of the amounts.
        own_ratio: float32 (n,), logarithms of the amounts over what was usual for the entity then, 0 where unknown.
    """

    def __init__(
        self, order: np.ndarray, time: np.ndarray, code: np.ndarray, labels: Labels, amount: np.ndarray, delay: float
    ) -> None:
        super().__init__(order, time, code)
        n, self.delay, self.state = len(order), delay, labels.state(order)
        self.frauds, self.legitimate = Flagged(self.state == FRAUD), Flagged(self.state == LEGITIMATE)
        self.stolen = np.append(0, np.cumsum(_fixed(size(amount[order[self.state == FRAUD]]))))
        self.spent = np.zeros(n + 1, np.int64)
        self.log_amount, self.own_ratio = np.empty(n, np.float32), np.empty(n, np.float32)
        for begin in range(0, n, BLOCK):
            at = np.arange(begin, min(begin + BLOCK, n))
            amounts = size(amount[order[at]])
            self.spent[at + 1] = self.spent[begin] + np.cumsum(_fixed(amounts))
            self.log_amount[at] = np.log(amounts + _CENT)
            self.own_ratio[at] = np.nan_to_num(log_ratio(amounts, LabelledPast(self, at, [LONGEST]).usual))


class Flagged:
    """The events that have a flag, numbered from 0.

    Attributes:
        count: int32 (n + 1,), how many come before each position: the number of the next one.
        at: int32 (flagged + 2,), their positions by number; n for the number behind the last, -1 for -1.
    """

    def __init__(self, flags: np.ndarray) -> None:
        self.count = np.zeros(len(flags) + 1, np.int32)
        np.cumsum(flags, out=self.count[1:])
        self.at = np.append(np.flatnonzero(flags), [len(flags), -1]).astype(np.int32)


class Past:
    """The past of the events at the positions `now` of a timeline; arrays are int64 (k,) unless stated otherwise.

    Attributes:
        time: microseconds.
        begin: position of the entity's first event.
        end: position behind the last strictly earlier event of the entity.
    """

    def __init__(self, events: Timeline, now: np.ndarray, windows: Sequence[str] = tuple(WINDOWS)) -> None:
        self.events, self.windows = events, windows
        self.time, self.begin = events.time[now], events.begin[now].astype(np.int64)
        self.end = events.search(self.begin, now, self.time)

    @cached_property
    def starts(self) -> dict[str, np.ndarray]:
        """By window, position of the first event in [time - window, time)."""
        return self._starts(self.end, 0)

    def _starts(self, end: np.ndarray, delay: float) -> dict[str, np.ndarray]:
        starts, begin = {}, self.begin
        for span in reversed(self.windows):  # each lies within the next longer one
            begin = starts[span] = self.events.search(begin, end, self.time - round((delay + WINDOWS[span]) * DAY))
        return {span: starts[span] for span in self.windows}

    def age(self, position: np.ndarray, exists: np.ndarray) -> np.ndarray:
        """Days from the event at `position` to each event, float64 (k,); NaN where it does not exist."""
        then = self.events.time.take(position, mode="clip")
        return np.where(exists, (self.time - then) / DAY, np.nan)


class LabelledPast(Past):
    """The same of a timeline with labels and amounts."""

    events: Events

    @cached_property
    def known(self) -> np.ndarray:
        """Position behind the last event whose label may be known: `end` at most, also without a delay."""
        return self.events.search(self.begin, self.end, self.time - max(round(self.events.delay * DAY) - 1, 0))

    @cached_property
    def known_starts(self) -> dict[str, np.ndarray]:
        """By window, position of the first event in [time - delay - window, time - delay]."""
        return self._starts(self.known, self.events.delay)

    @cached_property
    def usual(self) -> np.ndarray:
        """Mean amount over the longest window before each event, known frauds apart, float64 (k,); NaN where none."""
        events, start, end = self.events, self.starts[LONGEST], self.end
        first, last = events.frauds.count[start], events.frauds.count[np.maximum(self.known, start)]
        total = events.spent[end] - events.spent[start] - (events.stolen[last] - events.stolen[first])
        return mean(total / _FIXED, end - start - (last - first))

    def spent(self, start: np.ndarray) -> np.ndarray:
        """Sum of the amounts from `start` to each event, float64 (k,)."""
        return (self.events.spent[self.end] - self.events.spent[start]) / _FIXED


def timelines(records: pd.DataFrame, facts: Facts) -> tuple[dict[str, Events], dict[str, Timeline]]:
    """The timelines of the entities that the facts name, and those of each two of them together."""
    roles, time, labels, amount = facts.roles, times(records), Labels(records), np.ones(len(records))
    if roles.amount:
        amount = records[roles.amount].to_numpy(float)
    # Amount and label order only events of the same entity and time, so that the order of the rows cannot matter.
    in_time = np.lexsort((labels.code, size(amount), time)).astype(np.int32)
    codes = {entity: pd.factorize(records[entity])[0].astype(np.int32) for entity in roles.entities}
    pairs = {
        f"{a} and {b}": Timeline(_sorted(_sorted(in_time, codes[b]), codes[a]), time, codes[a], codes[b])
        for a, b in combinations(codes, 2)
    }
    single = {
        entity: Events(_sorted(in_time, code), time, code, labels, amount, facts.delay_days)
        for entity, code in codes.items()
    }
    return single, pairs


def _sorted(rows: np.ndarray, code: np.ndarray) -> np.ndarray:
    """The rows in order of their codes, those with the same code as they are, int32 (n,)."""
    key = code[rows].astype(np.int64) << 32  # with the place behind it: sorting is several times as fast as argsort
    key |= np.arange(len(rows), dtype=np.uint32)
    key.sort()
    key &= 0xFFFFFFFF
    return rows[key]


def times(records: pd.DataFrame) -> np.ndarray:
    """The times of the records since 1970, int64 (n,)."""
    return records["time"].to_numpy("datetime64[us]").view(np.int64)


def size(amounts: np.ndarray) -> np.ndarray:
    """Absolute amounts, 0 where one is missing."""
    return np.abs(np.nan_to_num(amounts))


def mean(total: np.ndarray, count: np.ndarray) -> np.ndarray:
    """NaN, the mean of nothing, where the count and with it the total are 0."""
    with np.errstate(invalid="ignore"):
        return total / count


def log_ratio(amount: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """The logarithm of an amount over another."""
    return np.log((amount + _CENT) / (reference + _CENT))


def _fixed(amounts: np.ndarray) -> np.ndarray:
    return np.rint(amounts * _FIXED).astype(np.int64)
