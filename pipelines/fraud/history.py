"""What a payment is judged by: its own features, what its entities did before it, and their latest events.

An entity is a column whose values recur: a card, a customer, a terminal. Two entities also have a past together:
whether this customer has paid at this terminal before. Everything here is strictly causal. A payment sees the events
that are strictly earlier than itself, so payments with the same time do not see one another; and it sees the label of
an event only if `event time + delay <= payment time`, which is a property of the pair. Amounts are summed as
fixed-point integers: what a payment sees does not depend on other rows, not even in the last bit.

Kept are timelines, some fifty bytes a payment for each entity; inputs are computed from them as they are gathered.
"""

import math
from collections.abc import Iterator
from functools import cached_property
from itertools import chain, combinations

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

ONLY_LONGEST = {LONGEST: WINDOWS[LONGEST]}
HELD = 2 << 30
"""Bytes up to which the columns of all payments are held in memory for training."""
BLOCK = 8_192  # payments whose columns are computed at once, so that they stay in the processor's cache

_DAY = 86_400_000_000  # microseconds
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


class Events(Timeline):
    """A timeline with labels and amounts.

    Attributes:
        delay: days until a label is known.
        label: int8 (n,), -1 unknown.
        frauds, legitimate: the events so labelled.
        spent, stolen: int64 (n + 1,) and (frauds + 1,), fixed-point sums of the first amounts, of all and of frauds.
            Differences are exact even past 2^63.
        log_amount: float32 (n,), logarithms of the amounts.
        own_ratio: float32 (n,), logarithms of the amounts over what was usual for the entity then, 0 where unknown.
    """

    def __init__(
        self, order: np.ndarray, time: np.ndarray, code: np.ndarray, label: np.ndarray, amount: np.ndarray, delay: float
    ) -> None:
        super().__init__(order, time, code)
        n, self.delay, self.label = len(order), delay, label[order]
        self.frauds, self.legitimate = Flagged(self.label == 1), Flagged(self.label == 0)
        self.stolen = np.append(0, np.cumsum(_fixed(_size(amount[order[self.label == 1]]))))
        self.spent = np.zeros(n + 1, np.int64)
        self.log_amount, self.own_ratio = np.empty(n, np.float32), np.empty(n, np.float32)
        for begin in range(0, n, BLOCK):
            at = np.arange(begin, min(begin + BLOCK, n))
            size = _size(amount[order[at]])
            self.spent[at + 1] = self.spent[begin] + np.cumsum(_fixed(size))
            self.log_amount[at] = np.log(size + _CENT)
            self.own_ratio[at] = np.nan_to_num(_log_ratio(size, Past(self, at, ONLY_LONGEST).usual))


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
    """What lies behind the events at the positions `now` of a timeline; arrays are int64 (k,) unless stated otherwise.

    Attributes:
        time: microseconds.
        begin: position of the entity's first event.
        end: position behind the last strictly earlier event of the entity.
    """

    def __init__(self, events: Timeline, now: np.ndarray, windows: dict[str, float] = WINDOWS) -> None:
        self.events, self.windows = events, windows
        self.time, self.begin = events.time[now], events.begin[now].astype(np.int64)
        self.end = events.search(self.begin, now, self.time)

    @cached_property
    def starts(self) -> dict[str, np.ndarray]:
        """By window, position of the first event in [time - window, time)."""
        return self._starts(self.end, 0)

    @cached_property
    def known(self) -> np.ndarray:
        """Position behind the last event whose label may be known."""
        return self.events.search(self.begin, self.end, self.time - round(self.events.delay * _DAY) + 1)

    @cached_property
    def known_starts(self) -> dict[str, np.ndarray]:
        """By window, position of the first event in [time - delay - window, time - delay]."""
        return self._starts(self.known, self.events.delay)

    def _starts(self, end: np.ndarray, delay: float) -> dict[str, np.ndarray]:
        found, begin = {}, self.begin
        for span, days in reversed(self.windows.items()):  # each window lies within the next longer one
            begin = found[span] = self.events.search(begin, end, self.time - round((delay + days) * _DAY))
        return {span: found[span] for span in self.windows}

    @cached_property
    def usual(self) -> np.ndarray:
        """Mean amount over the longest window before each event, known frauds apart, float64 (k,)."""
        events, start, end = self.events, self.starts[LONGEST], self.end
        first, last = events.frauds.count[start], events.frauds.count[np.maximum(self.known, start)]
        total = events.spent[end] - events.spent[start] - (events.stolen[last] - events.stolen[first])
        return _mean(total / _FIXED, end - start - (last - first))

    def age(self, position: np.ndarray, exists: np.ndarray) -> np.ndarray:
        """Days from the event at `position` to each event, float64 (k,); NaN where it does not exist."""
        then = self.events.time.take(position, mode="clip")
        return np.where(exists, (self.time - then) / _DAY, np.nan)


class Payments:
    """The columns by which payments are judged, computed as they are gathered; NaN where there is nothing to tell.

    Attributes:
        names: of the columns.
    """

    dtype = np.dtype(np.float32)

    def __init__(
        self, records: pd.DataFrame, facts: dict, timelines: dict[str, Events], pairs: dict[str, Timeline]
    ) -> None:
        roles, self.timelines, self.pairs = facts["roles"], timelines, pairs
        self.time = _microseconds(records) if roles["time"] else None
        self.amount = records[roles["amount"]].to_numpy(float) if roles["amount"] else None
        self.numbers = {column: records[column].to_numpy(float) for column in facts["numeric"]}
        self.names = [name for name, _ in self._columns(np.empty(0, np.int64))]
        self.shape = (len(records), len(self.names))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """The columns of the payments `rows`, float32 (len(rows), columns)."""
        found = np.empty((len(rows), self.shape[1]), np.float32)
        for begin in range(0, len(rows), BLOCK):
            at = slice(begin, begin + BLOCK)
            for column, (_, values) in enumerate(self._columns(rows[at])):
                found[at, column] = values
        return found

    def held(self) -> "np.ndarray | Payments":
        """The same in memory, for whoever gathers every row again and again; as it is, where it is larger than HELD."""
        return self[np.arange(len(self))] if math.prod(self.shape) * self.dtype.itemsize <= HELD else self

    def _columns(self, rows: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        """(name, values of the rows), each (k,)."""
        if self.amount is not None:
            yield "amount", self.amount[rows]
        if self.time is not None:
            days = self.time[rows] % (7 * _DAY) / _DAY
            for name, turn in ("time of day", days), ("time of week", days / 7):
                yield f"{name}, sine", np.sin(2 * np.pi * turn)
                yield f"{name}, cosine", np.cos(2 * np.pi * turn)
        for column, values in self.numbers.items():
            yield column, values[rows]
        for entity, events in self.timelines.items():
            past = Past(events, events.place[rows])
            kinds = [_visits(past), _frauds(past)]
            if self.amount is not None:
                kinds.append(_amounts(past, _size(self.amount[rows])))
            for name, values in chain(*kinds):
                yield f"{entity}: {name}", values
        for pair, events in self.pairs.items():
            for name, values in _visits(Past(events, events.place[rows], ONLY_LONGEST)):
                yield f"{pair}: {name}", values


class Latest:
    """The latest events of one entity before each payment, gathered when they are asked for."""

    dtype = np.dtype(np.float32)

    def __init__(self, events: Events) -> None:
        self.events, self.shape = events, (len(events.place), STEPS, len(CHANNELS))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """The events before the payments `rows`, float32 (len(rows), STEPS, len(CHANNELS)); zero where none."""
        events, now = self.events, self.events.place[rows]
        past = Past(events, now)
        at = past.end[:, None] + np.arange(-STEPS, 0)
        exists = at >= past.begin[:, None]
        at *= exists
        elapsed, label = past.time[:, None] - events.time[at], events.label[at]
        known = (label >= 0) & (elapsed >= round(events.delay * _DAY))
        found = np.empty((*at.shape, len(CHANNELS)), np.float32)
        found[..., 0] = 1
        found[..., 1] = elapsed / _DAY
        found[..., 2] = events.log_amount[at]
        found[..., 3] = found[..., 2] - events.log_amount[now][:, None]
        found[..., 4] = events.own_ratio[at]
        found[..., 5] = known
        found[..., 6] = known & (label == 1)
        found[~exists] = 0
        return found

    def earlier(self, rows: np.ndarray) -> np.ndarray:
        """How many events of the entity are strictly earlier than each of the payments `rows`, int64 (len(rows),)."""
        past = Past(self.events, self.events.place[rows])
        return past.end - past.begin


def inputs(records: pd.DataFrame, facts: dict) -> dict[str, np.ndarray | Payments | Latest]:
    """The network's inputs for every record, in the order of the records.

    Args:
        records: one row a payment, in any order; reads `time` (datetime64[us]), `label` (1 fraud, 0 legitimate, -1
            unknown) and the columns that the facts name.
        facts: `roles`, `numeric`, `categorical` and `delay_days`, as learnt from the training payments.

    Returns:
        `payment`, a lazy float32 (n, F), see `Payments`. `categories`, int32 (n, C), where there are categorical
        columns: 0 unseen or missing. For each entity, under its own name, a lazy float32 (n, STEPS, CHANNELS) of its
        latest events, the latest last, zero where there are fewer.
    """
    timelines, pairs = _timelines(records, facts)
    found = {PAYMENT: Payments(records, facts, timelines, pairs)}
    if facts["categorical"]:
        found[CATEGORIES] = np.stack([_codes(records[c], seen) for c, seen in facts["categorical"].items()], axis=1)
    return found | {entity: Latest(events) for entity, events in timelines.items()}


def entities(facts: dict) -> list[str]:
    """The entities that have a history; none in a table without time."""
    return facts["roles"]["entities"] if facts["roles"]["time"] else []


# What an entity did before each of its events: (name, (k,)), NaN where there is nothing to tell.


def _visits(past: Past) -> Iterator[tuple[str, np.ndarray]]:
    end, start = past.end, past.starts[LONGEST]
    yield "is new", end == past.begin
    yield "days since first event", past.age(start, start < end)
    yield "days since latest event", past.age(end - 1, end > start)
    for span, start in past.starts.items():
        yield f"events in {span}", end - start


def _frauds(past: Past) -> Iterator[tuple[str, np.ndarray]]:
    known, frauds, legitimate = past.known, past.events.frauds, past.events.legitimate
    next_fraud, next_legitimate = frauds.count[known], legitimate.count[known]
    for span, start in past.known_starts.items():
        count, others = next_fraud - frauds.count[start], next_legitimate - legitimate.count[start]
        yield f"known frauds in {span}", count
        yield f"known fraud rate in {span}", _mean(count, count + others)

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


def _amounts(past: Past, size: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    end, spent = past.end, past.events.spent
    yield "amount to usual", _log_ratio(size, past.usual)
    for span, start in past.starts.items():
        mean = _mean((spent[end] - spent[start]) / _FIXED, end - start)
        yield f"amount to mean of {span}", _log_ratio(size, mean)
        yield f"mean of {span} to usual", _log_ratio(mean, past.usual)


def _timelines(records: pd.DataFrame, facts: dict) -> tuple[dict[str, Events], dict[str, Timeline]]:
    """The timelines of the entities, and those of each two entities together."""
    if not entities(facts):
        return {}, {}
    time, label, amount = _microseconds(records), records["label"].to_numpy(np.int8), np.ones(len(records))
    if facts["roles"]["amount"]:
        amount = records[facts["roles"]["amount"]].to_numpy(float)
    # Amount and label order only events of the same entity and time, so that the order of the rows cannot matter.
    in_time = np.lexsort((label, _size(amount), time)).astype(np.int32)
    codes = {entity: pd.factorize(records[entity])[0].astype(np.int32) for entity in entities(facts)}
    pairs = {
        f"{a} and {b}": Timeline(_sorted(_sorted(in_time, codes[b]), codes[a]), time, codes[a], codes[b])
        for a, b in combinations(codes, 2)
    }
    timelines = {
        entity: Events(_sorted(in_time, code), time, code, label, amount, facts["delay_days"])
        for entity, code in codes.items()
    }
    return timelines, pairs


def _sorted(rows: np.ndarray, code: np.ndarray) -> np.ndarray:
    """The rows in order of their codes, those with the same code as they are, int32 (n,)."""
    key = code[rows].astype(np.int64) << 32  # with the place behind it: sorting is several times as fast as argsort
    key |= np.arange(len(rows), dtype=np.uint32)
    key.sort()
    return rows[key & 0xFFFFFFFF]


def _microseconds(records: pd.DataFrame) -> np.ndarray:
    return records["time"].to_numpy("datetime64[us]").view(np.int64)


def _codes(column: pd.Series, values: list) -> np.ndarray:
    """Each value's place in `values`, from 1, int32 (n,); 0 where it is not among them."""
    code, seen = pd.factorize(column)
    place = np.append(pd.Index(values).get_indexer(seen) + 1, 0)  # the last for the code -1, a missing value
    return place.astype(np.int32)[code]


def _size(amounts: np.ndarray) -> np.ndarray:
    return np.abs(np.nan_to_num(amounts))


def _fixed(amounts: np.ndarray) -> np.ndarray:
    return np.rint(amounts * _FIXED).astype(np.int64)


def _mean(total: np.ndarray, count: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):  # of nothing: 0 / 0
        return total / count


def _log_ratio(amount: np.ndarray, reference: np.ndarray) -> np.ndarray:
    return np.log((amount + _CENT) / (reference + _CENT))
