"""Leakage checks: refuse a split or a column that leaks, by name and with an example.

All work on whole columns at once: two million payments take a few seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from pipelines.core.contract import InputError
from pipelines.core.data import copies
from pipelines.core.data.dataset import Dataset
from pipelines.core.data.splits import Splits, halves
from pipelines.core.data.target_leakage import columns_seen, refuse_views


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

    Returns:
        The splits, with `copies` where test holds identical records, and with `warnings` of what is not refused:
        records under two labels, groups that differ in spelling alone, values that are nearly pure on a small share.

    Raises:
        InputError: with an example, for an empty side, a side or a half of validation that lacks a class, a group on
            two sides, sides that overlap in time, labels that were not known when the next side began, records of
            which many stand under two labels, and a feature that separates the classes by itself.
    """
    records, warnings = data.records, splits.warnings
    if classes:
        copied = copies.distinctive(records, data.key, data.identity, min(2, len(data.key)))
        warnings += copies.conflicts(records, np.flatnonzero(data.labelled), data.identity, copied)
    splits = copies.drop_earlier(splits, data.identity, "identical to")
    _refuse_thin_sides(records, splits, classes)
    if "time" in records:
        _refuse_overlap(records, splits)
    if {"time", "known_at"} <= set(records):
        _refuse_future_labels(records, splits)
    if "group" in records:
        _refuse_shared_groups(records, splits)
        warnings += _respelt_groups(records, splits)
    if classes:
        _refuse_thin_halves(data, splits, classes)
        views = columns_seen(records, features)
        warnings += refuse_views(views, records["label"].to_numpy(), splits, classes, allow_column)
    return replace(splits, warnings=warnings)


def refuse_thin(data: Dataset[Any], splits: Splits, classes: Sequence[str]) -> None:
    """Raise InputError for an empty side, and for a side or a half of validation that lacks a class."""
    _refuse_thin_sides(data.records, splits, classes)
    if classes:
        _refuse_thin_halves(data, splits, classes)


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


def _respelt_groups(records: pd.DataFrame, splits: Splits) -> tuple[str, ...]:
    """A warning of groups on two sides whose names differ only in case, separators or leading zeros."""
    sides = {side: records["group"].iloc[rows].dropna().unique() for side, rows in splits.sides().items()}
    named = pd.concat([pd.DataFrame({"name": names, "side": side}) for side, names in sides.items()], ignore_index=True)
    parts = named["name"].astype(str).str.lower().str.findall(r"[^\W\d_]+|\d+")
    spelling = parts.map(lambda words: "-".join(word.lstrip("0") or "0" if word.isdigit() else word for word in words))
    spread = named.groupby(spelling)["side"].nunique()
    shared = spread.index[(spread > 1) & (spread.index != "")]
    if not len(shared):
        return ()
    alike = named[spelling == shared[0]].drop_duplicates("side")
    examples = " and ".join(f"{name} of {side}" for name, side in alike.itertuples(index=False))
    return (
        f"Groups {examples} differ in spelling alone ({len(shared):,} such): if they are the same, write their names "
        "alike, so that they stay on one side.",
    )


def _record(records: pd.DataFrame, row: int) -> str:
    return f"record {records['id'].iloc[row]}"
