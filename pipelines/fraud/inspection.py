"""Checks of payments: what their inputs give away beside the features, copies up to a new id and time, and the delay.

It does not know how views and copies are judged: see `core.data.target_leakage` and `core.data.copies`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from pipelines.core.data import copies
from pipelines.core.data.dataset import Dataset
from pipelines.core.data.identity import cell_hashes, identities
from pipelines.core.data.splits import Splits
from pipelines.core.data.target_leakage import MOST, View, forms, lower_bound, refuse_views
from pipelines.fraud import Settings
from pipelines.fraud.reading import CLASSES, About

if TYPE_CHECKING:
    from pipelines.fraud.data import Facts

REPEATED = 2.0
"""How much more often than within training payments must equal later ones to be copies. By chance and by habit the two
rates are alike: measured .00016 and .00017 of the pairs of a customer at a terminal on the demo data, .00017 and .00019
on the Handbook's."""
CHANCE = 0.001  # error probability of that judgement


def inspect(data: Dataset[About], splits: Splits, facts: Facts, settings: Settings) -> Splits:
    """The splits without copies of later payments, and with warnings.

    Raises:
        InputError: where the time, an entity or the coding of a text separates the frauds.
    """
    labels = data.records["label"].to_numpy()
    warnings = refuse_views(views(data.records, facts, splits), labels, splits, CLASSES, settings.allow_column)
    warnings += _warn_of_delay(facts, settings)
    splits = replace(splits, warnings=(*splits.warnings, *warnings))
    return _without_copies(data, splits, facts) if facts.roles.time else splits


def _warn_of_delay(facts: Facts, settings: Settings) -> tuple[str, ...]:
    if facts.delay_days or not facts.roles.time or not (facts.roles.tracked or settings.label_delay_days == 0):
        return ()
    history_too = ", and a payment sees the label of the one before it" if facts.roles.tracked else ""
    return (
        f"The label delay is 0: labels count as known at once{history_too}. If frauds are reported later, name the "
        "days with --label-delay-days, else figures are too good.",
    )


# -------------------------------------------------------------------------------------------------- what inputs reveal


def views(records: pd.DataFrame, facts: Facts, splits: Splits) -> Iterator[View]:
    """What the network sees besides its features: parts of the time, entities, and texts that are too rare to learn."""
    if facts.roles.time:
        yield from _times(records["time"], facts.roles.time)
    for entity in facts.roles.entities if facts.roles.tracked else ():
        yield from _entity(records, entity, splits.train)
    for column, known in facts.categorical.items():
        rare = ~records[column].isin(known) & records[column].notna()
        yield View(f"Whether the text in column {column!r} is rare or unseen", column, rare)


def _times(time: pd.Series, column: str) -> Iterator[View]:
    seconds = (time - time.dt.normalize()) // pd.Timedelta(seconds=1)
    yield View(f"The second of the day in column {column!r}", column, seconds)
    yield View(f"The second of the hour in column {column!r}", column, seconds % 3600)
    yield View(f"The second of the minute in column {column!r}", column, seconds % 60)
    yield View(f"The fraction of a second in column {column!r}", column, time.dt.microsecond)
    yield View(f"The day of the week in column {column!r}", column, time.dt.dayofweek)


def _entity(records: pd.DataFrame, entity: str, train: np.ndarray) -> Iterator[View]:
    """Whether an entity is missing, what its names look like, whether it is new, and one that most frauds share.

    An entity whose payments are all frauds is no leak: the network knows entities by their past alone.
    """
    names = records[entity]
    yield View(f"Whether column {entity!r} is empty", entity, names.isna())
    yield View(f"The form of the names in column {entity!r}", entity, forms(names))
    # Payments are in order of time.
    yield View(f"Whether the name in column {entity!r} is new", entity, ~names.duplicated() & names.notna())
    frauds = names.iloc[train][records["label"].iloc[train].to_numpy() == 1]
    share = frauds.value_counts(normalize=True)
    if len(share) and share.iloc[0] >= MOST:
        yield View(f"Whether column {entity!r} is {share.index[0]}", entity, names == share.index[0])


# -------------------------------------------------------------------------------------------------------------- copies


def _without_copies(data: Dataset[About], splits: Splits, facts: Facts) -> Splits:
    """The splits without earlier payments that are a later one under a new id and time.

    Payments that share rare values in two columns besides the amount are copies beyond doubt. Others, such as a
    customer's payments of the same amount at the same terminal, may be a habit: they are copies if there are measurably
    more of them across the sides than habits explain.
    """
    records, roles = data.records, facts.roles
    signature = identities(records, [*roles.entities, *facts.features])
    together = [list(columns) for columns in (roles.entities, [roles.amount] * bool(roles.amount)) if columns]
    free = _varying(records, facts.is_number, [identities(records, columns) for columns in together], signature)
    certain = copied = copies.distinctive(records, free, signature, least=2)
    times_more = _excess(signature, identities(records, roles.entities), splits) if roles.tracked else 0.0
    if times_more:
        copied = certain | records[list(roles.entities)].notna().all(axis=1).to_numpy()
    codes = np.unique(signature, return_inverse=True)[1].astype(np.int64)
    codes[~copied] = len(codes) + np.flatnonzero(~copied)
    other_time = ~pd.Series(data.identity).duplicated(keep=False).to_numpy()  # else core has seen the contradiction
    warnings = copies.conflicts(records, np.flatnonzero(data.labelled), codes, certain & other_time)
    kept = copies.drop_earlier(splits, codes, "equal in all but id and time to")
    if times_more:
        dropped = len(splits.train) + len(splits.validation) - len(kept.train) - len(kept.validation)
        warnings += (
            f"{dropped:,} payments of training and validation equal a later one in all but id and time, "
            f"{times_more:.1f} times as often as payments within training do: they are left out as copies. Find out "
            "whether the file holds payments twice.",
        )
    return replace(kept, warnings=(*kept.warnings, *warnings))


def _varying(
    records: pd.DataFrame, columns: Iterable[str], groupings: Iterable[np.ndarray], signature: np.ndarray
) -> list[str]:
    """Those of the columns that differ among most payments of a group: others, such as a place, follow from it.

    Args:
        records: the payments.
        columns: features other than the amount.
        groupings: codes (n,) each, such as of payments of one customer at one terminal, or of one amount.
        signature: (n,), equal for payments that may be copies, which are not compared.
    """
    neighbours = []
    for codes in groupings:
        order = np.argsort(codes, kind="stable")
        one, next_one = order[:-1], order[1:]
        differ = (codes[one] == codes[next_one]) & (signature[one] != signature[next_one])
        neighbours.append((one[differ], next_one[differ]))
    varying = []
    for column in columns:
        cells = cell_hashes(records[column])
        if all((cells[one] == cells[next_one]).mean() < MOST for one, next_one in neighbours if len(one)):
            varying.append(column)
    return varying


def _excess(signature: np.ndarray, entities: np.ndarray, splits: Splits) -> float:
    """How many times as often payments equal one of a later side as of their own, 0 if that may be habit or chance.

    Counted are pairs of training payments, and pairs of one with a later payment, of the same entities that have both.
    """
    later = np.concatenate([splits.validation, splits.test])
    codes, count = np.unique(entities[splits.train], return_counts=True)
    both = np.isin(codes[count > 1], entities[later])
    shared = codes[count > 1][both]
    train, after = (rows[np.isin(entities[rows], shared)] for rows in (splits.train, later))
    (within, across), (equal_within, equal_across) = _pairs(entities, train, after), _pairs(signature, train, after)
    if not equal_across:
        return 0.0
    # If payments equal one another as often across as within, the equal pairs are shared out as all pairs are.
    explained = REPEATED * across / (REPEATED * across + within)
    if lower_bound(equal_across, equal_across + equal_within, CHANCE) <= explained:
        return 0.0
    return equal_across / across / (max(equal_within, 1) / within)


def _pairs(codes: np.ndarray, rows: np.ndarray, others: np.ndarray) -> tuple[float, float]:
    """How many pairs of `rows`, and of one of them with one of the `others`, have equal codes."""
    values, count = np.unique(codes[rows], return_counts=True)
    place = np.searchsorted(values, codes[others])
    known = np.append(values, 0)[place] == codes[others]
    return float((count * (count - 1) / 2).sum()), float(np.append(count, 0)[place][known].sum())
