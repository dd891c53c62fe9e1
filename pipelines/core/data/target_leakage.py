"""Target leakage: columns, or what a model sees of them, that give the label away.

A model sees more of a column than its values: whether it is missing, what form its text has, how many decimals its
numbers have. Each is a `View`; a domain adds those that it derives, such as the time of day. What each value says is
learnt on training records and judged on validation records, never on test.

A strong predictor is no leak, so that limits are far from what clean data reach, and bounds rather than points must
reach them. The strongest clean columns measured are of the ULB cards, where 3 % of validation are frauds: V14, AUC .93
and AP .89 with a lower bound of .76; V3, AUC .96. A range of numbers, such as the amounts above a limit, is a predictor
however pure it is; single values that are repeated, missing cells and forms are what a label leaves behind.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from pandas.api import types
from scipy.special import betaincinv

from pipelines.core.contract import InputError
from pipelines.core.data.splits import Splits

MOST_AUC, LEAST_BOUND = 0.995, 0.85
"""AUC from which a view separates a class, if its lower bound says that this is not for want of records."""
REFUSED, WARNED = (0.9, 100.0), (0.8, 30.0)
"""Precision from which a view is nearly pure, and the ratio to the class's odds that it must also have, since pure
values are common where half of the records are of a class; and what the bounds must reach for a warning."""
MOST, FEW = 0.5, 0.02
"""Share of a class that nearly pure values must hold to be refused, and to be worth a warning."""
FEWEST = 5  # records of a class, below which nothing is judged
FEWEST_CONFIRMED = 3  # records of the class on validation by which a nearly pure value is confirmed
NEIGHBOURS = 20  # records on either side of a value by which it is seen to belong to a range
DECIMALS = 4  # so many and more are alike


@dataclass(frozen=True, eq=False)
class View:
    """What a model can see of a column.

    Attributes:
        name: the subject of a sentence, such as "Column 'shop'".
        column: the user's column, as --allow-column names it.
        values: of every record, (n,).
    """

    name: str
    column: str
    values: pd.Series


def columns_seen(records: pd.DataFrame, columns: Iterable[str]) -> Iterator[View]:
    """What a model can see of each of these columns: its values, and their form."""
    for name in columns:
        values = records[name]
        yield View(f"Column {name!r}", name, values)
        if values.hasnans:
            yield View(f"Whether column {name!r} is empty", name, values.isna())
        if types.is_bool_dtype(values):
            continue
        if types.is_numeric_dtype(values):
            yield View(f"The number of decimals of column {name!r}", name, decimals(values))
            commonest = values.mode()
            if len(commonest) and (values == commonest[0]).mean() > MOST:
                differs = (values != commonest[0]) & values.notna()
                yield View(f"Whether column {name!r} differs from {commonest[0]:g}", name, differs)
        elif not types.is_datetime64_any_dtype(values):
            yield View(f"The form of the text in column {name!r}", name, forms(values))


def decimals(values: pd.Series) -> pd.Series:
    """How many decimals each number has, at most `DECIMALS`; NaN where it is missing."""
    numbers = values.to_numpy(float, na_value=np.nan)
    places = np.where(np.isnan(numbers), np.nan, float(DECIMALS))
    for count in reversed(range(DECIMALS)):
        scaled = numbers * 10.0**count
        places[np.abs(scaled - np.rint(scaled)) <= 1e-9 * np.maximum(np.abs(scaled), 1)] = count
    return pd.Series(places, values.index)


def forms(values: pd.Series) -> pd.Series:
    """The kind of characters in each text, runs of one kind as one character, with its length; missing stays missing.

    Example:
        >>> forms(pd.Series(["C0042", "cash-out", None])).tolist()
        ['A9 in 5 characters', 'a-a in 8 characters', nan]
    """
    codes, uniques = pd.factorize(values)
    texts = pd.Series(uniques, dtype=object).astype(str)
    kinds = texts.str.replace(r"[A-Z]+", "A", regex=True).str.replace(r"[^\WA-Z\d_]+", "a", regex=True)
    kinds = kinds.str.replace(r"\d+", "9", regex=True) + " in " + texts.str.len().astype(str) + " characters"
    return pd.Series(np.append(kinds.to_numpy(object), np.nan)[codes], values.index)  # the last for the code -1


def refuse_views(
    views: Iterable[View],
    labels: np.ndarray,
    splits: Splits,
    classes: Sequence[str],
    allow_column: Sequence[str] = (),
) -> tuple[str, ...]:
    """Refuse views that separate a class, and warn of values that are nearly pure on a small share of one.

    Args:
        views: what the model sees.
        labels: class codes of every record, int (n,).
        splits: the sides.
        classes: names of the classes by code.
        allow_column: columns that may separate the classes.

    Returns:
        Warnings, at most one for each column.

    Raises:
        InputError: for a view that separates a class; it names the column and how to go on.
    """
    rows, cut = np.concatenate([splits.train, splits.validation]), len(splits.train)
    label = labels[rows]
    present, counts = np.unique(label[:cut], return_counts=True)
    judged = present if len(present) > 2 else present[[int(counts[-1] <= counts[0])]]  # of two classes the rarer one
    warnings: dict[str, str] = {}  # one a column: further views of it show the same
    for view in views:
        if view.column in allow_column:
            continue
        evidence = _Evidence.of(view.values.iloc[rows], cut)
        for one in judged:
            if warning := _judge(view, evidence, label == one, classes[one]):
                warnings.setdefault(view.column, warning)
    return tuple(warnings.values())


def lower_bound(successes: float, trials: float, error: float = 0.05) -> float:
    """One-sided Clopper-Pearson bound of a share; of a mean of values from 0 to 1 it is a conservative one."""
    return float(betaincinv(successes, trials - successes + 1, error)) if successes > 0 else 0.0


def auc(positive: np.ndarray, ranks: np.ndarray) -> float:
    """Area under the ROC curve from average ranks 1..n: the Mann-Whitney U of the positives over all pairs."""
    ones = np.count_nonzero(positive)
    return float((ranks[positive].sum() - ones * (ones + 1) / 2) / (ones * (len(positive) - ones)))


def average_precision(positive: np.ndarray, scores: np.ndarray) -> float:
    """The mean over positives, bool (n,), of the precision among the records that score as high or higher."""
    levels = np.unique(-scores, return_inverse=True)[1]
    hits, count = np.bincount(levels, positive), np.bincount(levels)
    return float(hits @ (hits.cumsum() / count.cumsum()) / hits.sum())


@dataclass(frozen=True, eq=False)
class _Evidence:
    """The values of training and validation records, the latter from `cut` on.

    `codes` number the `uniques`, ascending where these are numbers; the last code, beyond them, is a missing cell.
    """

    codes: np.ndarray
    uniques: np.ndarray | pd.Index
    numbers: np.ndarray | None
    cut: int

    @classmethod
    def of(cls, values: pd.Series, cut: int) -> _Evidence:
        numbers = None
        if types.is_datetime64_any_dtype(values):
            numbers = values.to_numpy("datetime64[us]").astype(float)
            numbers[values.isna()] = np.nan
        elif types.is_numeric_dtype(values) and not types.is_bool_dtype(values):
            numbers = values.to_numpy(float, na_value=np.nan)
        codes, uniques = pd.factorize(values if numbers is None else numbers, sort=numbers is not None)
        return cls(np.where(codes < 0, len(uniques), codes), uniques, numbers, cut)

    def named(self, code: int) -> str:
        if code == len(self.uniques):
            return "an empty cell"
        value = self.uniques[code]
        return f"{value:g}" if isinstance(value, float) else repr(value) if isinstance(value, str) else str(value)


def limit(prevalence: float, least: float, ratio: float) -> float:
    """The precision whose odds are `ratio` times those of the prevalence, at least `least`."""
    return max(least, ratio * prevalence / (1 - prevalence + ratio * prevalence))


def _judge(view: View, evidence: _Evidence, positive: np.ndarray, name: str) -> str:
    """A warning, or "" where there is nothing to say."""
    way_out = f"add --allow-column {shlex.quote(view.column)}"
    doubt, total = "", int(np.count_nonzero(positive[evidence.cut :]))
    for judged, scores in _rankings(evidence, positive):
        ones = int(np.count_nonzero(judged))
        few = min(ones, len(judged) - ones)
        if few < FEWEST:
            continue
        area, precision = auc(judged, pd.Series(scores).rank().to_numpy()), average_precision(judged, scores)
        area = max(area, 1 - area)
        pure = lower_bound(precision * ones, ones) >= limit(ones / len(judged), *REFUSED)
        if area < MOST_AUC and not pure:
            continue
        what = f"{view.name} alone separates class '{name}' of validation from the rest (AUC {area:.4f}, AP "
        what += f"{precision:.4f}), as if written down after the fact"
        if ones >= MOST * total and (pure or lower_bound(area * few, few) >= LEAST_BOUND):
            raise InputError(f"{what}: drop or correct the column or, if it is known in time, {way_out}")
        doubt = f"{what}, though judged on {ones:,} and {len(judged) - ones:,} records only: find out when it is "
        doubt += f"written, and drop or correct it or {way_out}."
    return doubt or _judge_values(view, evidence, positive, name, way_out)


def _rankings(evidence: _Evidence, positive: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(whether positive, score) of validation records: by the training rate of each value, and as a number.

    Values unseen in training get the prevalence, and missing is a value, so that a column filled for one class alone
    is seen. Then only records that have a value are judged, so that one that gives the label away where it is present
    is seen; as numbers, either way up.
    """
    codes, cut = evidence.codes, evidence.cut
    size, prevalence = len(evidence.uniques) + 1, positive[:cut].mean()
    count, hits = np.bincount(codes[:cut], minlength=size), np.bincount(codes[:cut], positive[:cut], size)
    rates = ((hits + prevalence) / (count + 1))[codes[cut:]]
    judged, present = positive[cut:], codes[cut:] < len(evidence.uniques)
    yield judged, rates
    if not present.all():
        yield judged[present], rates[present]
    if evidence.numbers is not None:
        numbers = evidence.numbers[cut:][present]
        yield judged[present], numbers
        yield judged[present], -numbers


def _judge_values(view: View, evidence: _Evidence, positive: np.ndarray, name: str, way_out: str) -> str:
    """Judge the values that are nearly pure among training records, if validation confirms them."""
    codes, cut, size = evidence.codes, evidence.cut, len(evidence.uniques) + 1
    count, hits = np.bincount(codes[:cut], minlength=size), np.bincount(codes[:cut], positive[:cut], size)
    prevalence = positive[:cut].mean()
    refused, warned = limit(prevalence, *REFUSED), limit(prevalence, *WARNED)
    pure = (hits >= FEWEST) & (hits >= refused * count)
    if evidence.numbers is not None:
        pure[:-1] &= ~_within_range(count[:-1], hits[:-1])
    of_pure = pure[codes]
    found, right = np.count_nonzero(of_pure[cut:]), np.count_nonzero(of_pure[cut:] & positive[cut:])
    if right < FEWEST_CONFIRMED:
        return ""
    precision, share = right / found, right / np.count_nonzero(positive[cut:])
    all_found, all_right, all_ones = (int(np.count_nonzero(rows)) for rows in (of_pure, of_pure & positive, positive))
    bound, share_bound = lower_bound(all_right, all_found), lower_bound(all_right, all_ones)
    first = int((hits * pure).argmax())
    more = f" and {pure.sum() - 1:,} more" if pure.sum() > 1 else ""
    what = f"{view.name}: {evidence.named(first)}{more} holds {share:.1%} of class '{name}' of validation, and"
    what += f" {precision:.1%} of the {found:,} records with it are of that class"
    if min(precision, bound) >= refused and min(share, share_bound) >= MOST:
        raise InputError(
            f"{what}, as if written down after the fact: drop or correct the column or, if it is known in time, "
            f"{way_out}"
        )
    if min(precision, bound) >= warned and share >= FEW:
        return f"{what}: find out whether it is known before the label, and drop or correct it or {way_out}."
    return ""


def _within_range(count: np.ndarray, hits: np.ndarray) -> np.ndarray:
    """Whether records next to each value, on one of its sides, are mostly of the class too, bool (values,).

    Args:
        count, hits: of training records by value, ascending: how many, and how many of the class.
    """
    ends, total = np.cumsum(count), np.append(0, np.cumsum(hits))
    begins, width = ends - count, np.maximum(count, NEIGHBOURS)

    def hits_before(place: np.ndarray) -> np.ndarray:
        return np.interp(place, np.append(0, ends), total)

    low, high = np.maximum(begins - width, 0), np.minimum(ends + width, count.sum())
    below = (hits_before(begins) - hits_before(low)) / np.maximum(begins - low, 1)
    above = (hits_before(high) - hits_before(ends)) / np.maximum(high - ends, 1)
    return np.maximum(below, above) >= MOST
