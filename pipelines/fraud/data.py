"""Payments: the split by time, what training payments teach, the network's inputs, and requests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from pandas.api import types

from pipelines.core.contract import Capabilities, History, InputError
from pipelines.core.data.arrays import Encoded
from pipelines.core.data.dataset import Dataset
from pipelines.core.data.requests import Request, rows_to_score
from pipelines.core.data.splits import SHARES, Splits, by_time, draw_by_class
from pipelines.core.evaluation.calibration import Calibration
from pipelines.core.reading import chunks, tables
from pipelines.fraud import Settings, history, inspection, reading
from pipelines.fraud.reading import CLASSES, DAY, About, Roles, Vocabulary, append, others, read

WHOLE_DAYS = 20  # from this many days on, sides begin at midnight
RARE = 10  # training rows below which a category is not learnt


@dataclass(frozen=True)
class Encoding:
    """What `model.adapt` learns about the columns of numbers, those of the latest events behind those of the payment.

    `columns` are the places of those that have an edge, `edges` the ascending edges of each, `missing` the places among
    `columns` of those that are ever missing, and `sizes` those of the embeddings of the categorical columns.
    """

    columns: tuple[int, ...]
    edges: tuple[tuple[float, ...], ...]
    missing: tuple[int, ...]
    sizes: tuple[int, ...]


@dataclass(frozen=True)
class Facts:
    """What is learnt.

    Attributes:
        roles, delay_days: those of the payments.
        numeric: columns of numbers that feed the network, besides the amount.
        categorical: columns of text that feed it, each with the values that are distinguished.
        features: all columns that feed it.
        columns: of a request, see the function `columns`.
        notes: a sentence for each column that was not chosen.
        encoding, calibration: None until learnt.
        threshold: calibrated probability from which on a payment is an alert.
    """

    roles: Roles
    delay_days: float
    numeric: tuple[str, ...]
    categorical: dict[str, tuple[str, ...]]
    features: tuple[str, ...]
    columns: dict[str, tuple[str, bool]]
    notes: tuple[str, ...] = ()
    encoding: Encoding | None = None
    calibration: Calibration | None = None
    threshold: float = 1.0

    @property
    def is_number(self) -> dict[str, bool]:
        """Whether each column that feeds the network, besides the amount, is one of numbers."""
        return dict.fromkeys(self.numeric, True) | dict.fromkeys(self.categorical, False)


def parse(table: pd.DataFrame, facts: Facts, origin: str = "request") -> Dataset[About]:
    """Parse the columns of raw payments that a version reads; see `reading.parse`."""
    return reading.parse(table, About(facts.roles, facts.delay_days), facts.is_number, origin)


def describe(data: Dataset[About]) -> str:
    """What was read, in a few lines: size, balance, period, the role of each column, and what was left out."""
    about, labels = data.about, data.records["label"][data.labelled]
    size = f"{len(data):,} payments with {labels.sum():,} frauds ({labels.mean():.3%})"
    if about.roles.time:
        first, last = data.records["time"].min(), data.records["time"].max()
        size += f" in {(last - first) / DAY:.1f} days, {_moment(first, data)} to {_moment(last, data)}"
    size += f", recognised as {about.layout}" if about.layout else ""
    named = {role: getattr(about.roles, role) for role in ("id", "label", "time", "amount")}
    named["entities"] = ", ".join(about.roles.entities)
    roles = [f"{role} {column}" for role, column in named.items() if column]
    return "\n".join([size, f"{'; '.join(roles)}; labels known after {about.delay_days:g} days", *data.notes])


def _moment(time: pd.Timestamp, data: Dataset[About]) -> str:
    """A time as the user's column has it: a date, or seconds."""
    if types.is_numeric_dtype(data.records[data.about.roles.time]):
        return f"second {(time - tables.EPOCH).total_seconds():.0f}"
    return f"{time:%Y-%m-%d %H:%M}"


# -------------------------------------------------------------------------------------------------------------- split


def split(data: Dataset[About], settings: Settings) -> Splits:
    """Cut by time: the last `test_days` or fifth of it test, 15 % of it before them validation, the rest train.

    A label must be known before the next side begins: younger payments are left out there. Without time, payments are
    drawn at random, frauds and others alike.

    Raises:
        InputError: where the period is too short for the label delay, or a class has too few payments.
    """
    if not data.about.roles.time:
        free = np.where(data.labelled, "train", "none").astype(object)
        side = draw_by_class(free, data.records["label"].to_numpy(), CLASSES, None, SHARES)
        train, validation = (np.flatnonzero(side == name) for name in ("train", "validation"))
        drawn = select_test(data, np.flatnonzero(side == "test"))
        return replace(drawn, train=train, validation=validation, rule="at random, stratified by label")
    time, delay = data.records["time"], data.about.delay_days * DAY
    first, last = time.min(), time.max()
    if last.normalize() - first.normalize() >= (WHOLE_DAYS - 1) * DAY:
        end = last.normalize() + DAY
        days = (end - first.normalize()) / DAY
        test = end - (settings.test_days or round(SHARES["test"] * days)) * DAY
        length = round(SHARES["validation"] * days) * DAY
    else:
        span = last - first
        test, length = last - (settings.test_days * DAY or SHARES["test"] * span), SHARES["validation"] * span
    validation = test - delay - length
    if validation - delay <= first:
        raise InputError(
            f"the payments span {(last - first) / DAY:.1f} days, too few for train, validation and test with a label "
            f"delay of {delay / DAY:g} days between them: expected more payments, or a shorter --label-delay-days."
        )
    unknown = ("payments whose label arrived after validation began", "payments whose label arrived after test began")
    cut = by_time(data, validation, test, unknown)
    judged = select_test(data, cut.test)
    rule = f"by time: validation from {_moment(validation, data)}, test from {_moment(test, data)}"
    rule += f"; labels known after {delay / DAY:g} days"
    return replace(cut, rule=rule, headline=judged.headline, clusters=judged.clusters)


def select_test(data: Dataset[About], test: np.ndarray) -> Splits:
    """The split that has these rows for test and no others.

    Its headline counts payments of customers, the first entity, without a fraud that became known shortly before.
    """
    entities, headline = data.about.roles.tracked, np.ones(len(data), bool)
    if entities:
        headline[test] = ~history.known_customers(data.records, entities[0], test)
    return Splits(test[:0], test[:0], test, headline=headline, clusters=entities)


# -------------------------------------------------------------------------------------------------------------- learn


def learn(train: Dataset[About], settings: Settings) -> Facts:
    """Choose the features among the user's columns, and learn the categories, from training payments alone.

    A network that starts from a version keeps that one's features, and its categories first.

    Raises:
        InputError: where such a feature is missing.
    """
    records, roles, start = train.records, train.about.roles, train.about.start
    if start:
        if absent := [column for column in start.features if column not in train]:
            raise InputError(f"--from: expected the column '{absent[0]}', which the version reads. Received: none.")
        left_out, chosen = {}, [column for column in start.features if column != roles.amount]
    else:
        left_out = dict(tables.useless(records, others(records, roles)))
        chosen = [column for column in others(records, roles) if column not in left_out]
    numeric, categorical = [], {}
    for column in chosen:
        if types.is_numeric_dtype(records[column]):
            numeric.append(column)
            continue
        counts = records[column].value_counts()
        known = start.categories.get(column, ()) if start else ()
        values = tuple(dict.fromkeys([*known, *sorted(counts.index[counts >= RARE])]))
        if values or start:
            categorical[column] = values
        else:
            left_out[column] = f"none of its texts stands in {RARE} training payments"
    features = (*filter(None, [roles.amount]), *numeric, *categorical)
    notes = tuple(f"{column} is left out: {reason}." for column, reason in left_out.items())
    columns = _columns(records, roles, features)
    return Facts(roles, train.about.delay_days, tuple(numeric), categorical, features, columns, notes)


def _columns(train: pd.DataFrame, roles: Roles, features: tuple[str, ...]) -> dict[str, tuple[str, bool]]:
    names = [roles.id, *roles.entities]  # names are text, so that no digit is lost
    columns = {}
    for column in filter(None, dict.fromkeys([*names, roles.time, roles.label, *features])):
        number, date = types.is_numeric_dtype(train[column]), types.is_datetime64_any_dtype(train[column])
        kind = "string" if column in names or not (number or date) else "double" if number else "datetime"
        columns[column] = (kind, column not in (roles.id, roles.label))
    return columns


def adopt(data: Dataset[About], facts: Facts) -> Dataset[About]:
    """The payments for a network that starts from a version: it reads that one's columns alone, as what they were.

    No column is taken away, since others may be part of a key.
    """
    records = data.records.copy(deep=False)
    for column, is_number in facts.is_number.items():
        if column in data and types.is_numeric_dtype(records[column]) != is_number:
            records[column] = tables.numbers(records[column], "data") if is_number else tables.texts(records[column])
    extra = [column for column in others(records, data.about.roles) if column not in facts.features]
    notes = [f"{name} is left out: the version that this one starts from does not know it." for name in extra]
    about = replace(data.about, start=Vocabulary(facts.features, facts.categorical))
    return replace(data, records=records, about=about, notes=(*data.notes, *notes))


def drift_summary(data: Dataset[About], facts: Facts) -> pd.DataFrame:
    """What drift is measured on, a row a payment: the columns that feed the network, and the hour of the day."""
    table = data.records[list(facts.features)]
    return table.assign(**{"hour of the day": data.records["time"].dt.hour}) if "time" in data else table


# ----------------------------------------------------------------------------------------------------------- requests


def encode(data: Dataset[About], facts: Facts) -> Encoded:
    """The network's inputs, see `history.inputs`, and the label, int8, for every record."""
    return Encoded(history.inputs(data.records, facts), {"label": data.records["label"].to_numpy()})


def columns(facts: Facts) -> dict[str, tuple[str, bool]]:
    """What a request holds: for each column double, datetime or string, and whether it must be there."""
    return facts.columns


def example(data: Dataset[About], facts: Facts) -> pd.DataFrame:
    """These records as a request holds them: the columns that must be there."""
    needed = {column: kind for column, (kind, required) in facts.columns.items() if required}
    return data.records[list(needed)].astype({column: str for column, kind in needed.items() if kind == "string"})


def names(table: pd.DataFrame, facts: Facts) -> pd.Series:
    """What each raw payment is called: its identifier, or its row."""
    return table[facts.roles.id] if facts.roles.id in table else table.index.to_series()


def requests(path: Path | None, earlier: Path | None, facts: Facts, settings: Settings) -> Iterator[Request]:
    """All payments of a file as one request, in its order, with those of `earlier` as context.

    Scored are the payments without a label, or all if every one has one; a label counts as known after its delay. A
    payment at fault is left out: of what is scored, and of what others see of the past.

    Raises:
        InputError: for a file that is no table of payments like those of training.
    """
    if path is None:
        data = read(None, settings)
        rows, note = rows_to_score(data.labelled)
        yield Request(data, rows, notes=(note,))
        return
    parts, faults, present = _compact(path, facts)
    before, named, notes = 0, facts.roles.id in present, []
    if earlier:
        past, lost, of_past = _compact(earlier, facts)
        before, parts, named = sum(len(part["id"]) for part in past), past + parts, named and facts.roles.id in of_past
        if len(lost):
            unread = f"{len(lost):,} payments of {earlier.name} cannot be read and are left out"
            notes = [f"{unread}: {lost['error'].iloc[0]}"]
    records = chunks.concatenate(parts)
    rows, note = rows_to_score(records["labelled"].to_numpy()[before:])
    rows += before
    if named:
        records, rows, twice = chunks.drop_repeated_ids(records, rows, path.name)
        faults = pd.concat([faults, twice]).sort_index()
    data = Dataset(records.drop(columns="hash"), About(facts.roles, facts.delay_days), facts.roles.key(facts.is_number))
    yield Request(data, rows, faults, notes=(note, *notes))


def _compact(path: Path, facts: Facts) -> tuple[chunks.Parts, pd.DataFrame, list[str]]:
    """The payments of a file with what scoring reads of them, about 50 bytes each; see `chunks.read`."""
    roles, texts = facts.roles, [*facts.roles.entities, *facts.categorical]
    kinds = dict.fromkeys(["id", "label", "labelled", *["time"] * bool(roles.time), *filter(None, [roles.amount])])
    kinds |= dict.fromkeys(facts.numeric, np.float32) | dict.fromkeys(texts, "category")
    needed = {column: required for column, (_, required) in facts.columns.items()}
    as_written = [name for name in (roles.id, *texts) if name]
    parser = partial(parse, facts=facts, origin=path.name)
    return chunks.read(path, needed, as_written, parser, partial(names, facts=facts), kinds)


CAPABILITIES = Capabilities(
    # A request's example is answered without its past, which may be months long.
    history=History(history.age, context=lambda part, facts: part.rows),
    example=example,
    requests=requests,
    names=names,
    append=append,
    adopt=adopt,
    drift_summary=drift_summary,
    inspect=inspection.inspect,
)
