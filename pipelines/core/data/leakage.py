"""Leakage checks: refuse a split or a column that leaks, by name and with an example.

All work on whole columns at once: two million payments take a few seconds.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from pandas.api import types

from pipelines.core.contract import InputError
from pipelines.core.data.dataset import Dataset
from pipelines.core.data.splits import Splits, halves

MOST_AUC = 0.995  # a single column that ranks the labels better than this was hardly known before the label
FEWEST = 5  # records of either class among the validation rows, below which an AUC says nothing


def refuse_leaks(
    data: Dataset[Any],
    splits: Splits,
    classes: Sequence[str] = (),
    features: Sequence[str] = (),
    allow_column: Sequence[str] = (),
) -> Splits:
    """The splits without training and validation records that are identical to one on a later side, which are counted.

    Args:
        data: every record.
        splits: the sides.
        classes: names of the classes by code, where labels are classes.
        features: columns that feed the network.
        allow_column: features that may separate the classes by themselves.

    Raises:
        InputError: with an example, for an empty side, a side or a half of validation that lacks a class, a group on
            two sides, sides that overlap in time, labels that were not known when the next side began, and a feature
            that separates the classes by itself.
    """
    records, splits = data.records, _drop_duplicates(data, splits)
    _refuse_thin_sides(records, splits, classes)
    if "time" in records:
        _refuse_overlap(records, splits)
    if {"time", "known_at"} <= set(records):
        _refuse_future_labels(records, splits)
    if "group" in records:
        _refuse_shared_groups(records, splits)
    if classes:
        _refuse_thin_halves(data, splits, classes)
        _refuse_separating_columns(records, splits, classes, [name for name in features if name not in allow_column])
    return splits


def auc(positive: np.ndarray, ranks: np.ndarray) -> float:
    """Area under the ROC curve from average ranks 1..n: the Mann-Whitney U of the positives over all pairs."""
    ones = np.count_nonzero(positive)
    return float((ranks[positive].sum() - ones * (ones + 1) / 2) / (ones * (len(positive) - ones)))


def _drop_duplicates(data: Dataset[Any], splits: Splits) -> Splits:
    kept, left_out = splits.sides(), dict(splits.left_out)
    for side, later in (("validation", ["test"]), ("train", ["validation", "test"])):
        rows, others = kept[side], np.concatenate([kept[name] for name in later])
        twins = np.isin(data.identity[rows], data.identity[others])
        if twins.any():
            left_out[f"{side} records identical to one of {' or '.join(later)}"] = int(twins.sum())
        kept[side] = rows[~twins]
    return replace(splits.with_sides(kept), left_out=left_out)


def _refuse_thin_sides(records: pd.DataFrame, splits: Splits, classes: Sequence[str]) -> None:
    left_out = "; ".join(f"{count:,} {reason}" for reason, count in splits.left_out.items()) or "nothing"
    for side, rows in splits.sides().items():
        if len(rows) == 0:
            raise InputError(f"No record is left for {side}: more data is needed. Left out: {left_out}")
    if not classes:
        return
    labels = records["label"].to_numpy()
    present = np.unique(np.concatenate([labels[rows] for rows in splits.sides().values()]))
    if len(present) < 2:
        raise InputError(f"Labels of at least two classes are needed. Received: only {classes[present[0]]}")
    for side, rows in splits.sides().items():
        missing = np.setdiff1d(present, labels[rows])
        if len(missing):
            name = classes[missing[0]]
            raise InputError(f"No record of class '{name}' among the {len(rows):,} of {side}. Left out: {left_out}")


def _refuse_thin_halves(data: Dataset[Any], splits: Splits, classes: Sequence[str]) -> None:
    labels = data.records["label"].to_numpy()
    purposes = ("stops training", "calibrates")
    for purpose, rows in zip(purposes, halves(data, splits.validation), strict=True):
        missing = np.setdiff1d(labels[splits.validation], labels[rows])
        if len(missing):
            raise InputError(
                f"No record of class '{classes[missing[0]]}' among the {len(rows):,} of the half of validation that"
                f" {purpose}: more data is needed."
            )


def _refuse_overlap(records: pd.DataFrame, splits: Splits) -> None:
    time = records["time"].reset_index(drop=True)
    for (earlier, before), (later, after) in pairwise(splits.sides().items()):
        last, first = time[before].idxmax(), time[after].idxmin()
        if time[last] >= time[first]:
            raise InputError(
                f"{earlier.capitalize()} reaches {time[last]} ({_record(records, last)}), but {later} begins at"
                f" {time[first]} ({_record(records, first)}): sides must follow one another in time."
            )


def _refuse_future_labels(records: pd.DataFrame, splits: Splits) -> None:
    known_at = records["known_at"].reset_index(drop=True)
    for (side, rows), (later, after) in pairwise(splits.sides().items()):
        begin = records["time"].iloc[after].min()
        future = rows[~(known_at[rows] <= begin).to_numpy()]
        if len(future):
            raise InputError(
                f"The label of {_record(records, future[0])} of {side} was known at {known_at[future[0]]} only, after"
                f" {later} began at {begin} ({len(future):,} such records): leave them out of {side}."
            )


def _refuse_shared_groups(records: pd.DataFrame, splits: Splits) -> None:
    codes, groups = pd.factorize(records["group"])
    sides = splits.sides()
    present = np.zeros((len(sides), len(groups)), bool)
    for here, rows in zip(present, sides.values(), strict=True):
        here[codes[rows][codes[rows] >= 0]] = True
    shared = np.flatnonzero(present.sum(axis=0) > 1)
    if len(shared):
        examples = [
            f"{side} ({_record(records, rows[codes[rows] == shared[0]][0])})"
            for here, (side, rows) in zip(present, sides.items(), strict=True)
            if here[shared[0]]
        ]
        raise InputError(
            f"Group {groups[shared[0]]} is in {' and in '.join(examples)} ({len(shared):,} such groups):"
            " all records of a group belong on one side."
        )


def _refuse_separating_columns(
    records: pd.DataFrame, splits: Splits, classes: Sequence[str], names: Sequence[str]
) -> None:
    train, validation = (records["label"].to_numpy()[rows] for rows in (splits.train, splits.validation))
    present = np.unique(train)
    for name in names:
        learnt, judged = records[name].iloc[splits.train], records[name].iloc[splits.validation]
        for one in present[-1:] if len(present) == 2 else present:
            for positive, scores in _views(learnt, judged, train == one, validation == one):
                if min(positive.sum(), (~positive).sum()) < FEWEST:
                    continue
                area = auc(positive, pd.Series(scores).rank().to_numpy())
                if max(area, 1 - area) >= MOST_AUC:
                    raise InputError(
                        f"Column {name!r} alone separates class '{classes[one]}' of validation from the rest (AUC"
                        f" {area:.4f}), as if written down after the fact: drop it or, if it is known in time, add"
                        f" --allow-column {shlex.quote(name)}"
                    )


def _views(
    learnt: pd.Series, judged: pd.Series, of_train: np.ndarray, of_judged: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(whether positive, score) of validation rows: by each value's rate of positives in train, and as a number.

    Values unseen in train get the prevalence; missing is a value, so that a column filled for one class alone is
    seen. As a number, only rows that have one are judged.
    """
    codes, _ = pd.factorize(pd.concat([learnt, judged], ignore_index=True))  # missing is -1
    seen, asked = np.split(codes, [len(learnt)])
    rates = pd.Series(of_train).groupby(seen).mean()
    yield of_judged, rates.reindex(asked, fill_value=of_train.mean()).to_numpy()
    if not types.is_numeric_dtype(judged) and not types.is_datetime64_any_dtype(judged):
        return
    present = judged.notna().to_numpy()
    yield of_judged[present], pd.to_numeric(judged[present]).to_numpy(float)


def _record(records: pd.DataFrame, row: int) -> str:
    return f"record {records['id'].iloc[row]}"
