"""Leakage checks, which refuse by name and example, and the manifest that says which record was on which side.

All work on whole columns at once: two million payments take a few seconds.
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from pandas.api import types
from pandas.util import hash_array, hash_pandas_object

from pipelines.core import sources
from pipelines.core.pipeline import InputError, Pipeline, Splits

CANONICAL = {"id", "label", "time", "known_at", "group", "weight", "digest", "score"}
MOST_AUC = 0.995  # a single column that ranks the labels better than this was hardly known before the label
FEWEST = 5  # records of either class among the validation rows, below which an AUC says nothing


def refuse_leaks(
    pipeline: Pipeline,
    records: pd.DataFrame,
    splits: Splits,
    allow_column: Sequence[str] = (),
    features: Sequence[str] = (),
) -> Splits:
    """The splits, free of leaks as far as can be checked; raises InputError with an example of what leaks.

    Training and validation records that are byte-identical to one on a later side are left out and counted where
    the pipeline's `duplicates` is "drop". Everything else is refused: an empty side or one that lacks a class, a
    group on two sides, sides that overlap in time, labels that were not known when the next side began, and a
    column of `features` (the user's own names) that gives the label away and is not in `allow_column`.
    """
    splits = _settle_duplicates(pipeline, records, splits)
    _refuse_thin_sides(records, splits)
    if "time" in records:
        _refuse_overlap(records, splits)
    if {"time", "known_at"} <= set(records):
        _refuse_future_labels(records, splits)
    if "group" in records:
        _refuse_shared_groups(records, splits)
    if _has_classes(records["label"]):
        _refuse_telling_columns(records, splits, [name for name in features if name not in allow_column])
    return splits


def record_hashes(records: pd.DataFrame) -> np.ndarray:
    """A uint64 hash of what each record says, shape (n,): of `digest` if there is one, else of the user's columns.

    The id and the canonical columns that a pipeline adds are left out. Column order, and whether whole numbers came
    as integers or floats, make no difference, so that hashes compare from one file to the next.
    """
    if "digest" in records:
        return _hashes(records["digest"])
    roles = records.attrs.get("roles", {})
    own = {value for value in roles.values() if isinstance(value, str)} | set(records) - CANONICAL
    names = sorted((own & set(records)) - {roles.get("id", "")})
    return hash_pandas_object(pd.DataFrame({name: _plain(records[name]) for name in names}), index=False).to_numpy()


def manifest(records: pd.DataFrame, splits: Splits, origin: sources.Origin) -> tuple[dict[str, Any], pd.DataFrame]:
    """What the data was, as (JSON summary, table of one row a record on a side).

    The summary holds the origin and its sha256 and, by side, rows, label balance, first and last time, and a sha256
    over the sorted hashes of records with their labels. The table has columns record_hash (uint64), group_hash
    (uint64, if there are groups) and side; `learnt_from` reads it.
    """
    sides = splits.sides()
    rows = np.concatenate(list(sides.values()))
    frame = records.iloc[rows]
    table = pd.DataFrame({"record_hash": record_hashes(frame)})
    if "group" in records:
        table["group_hash"] = _hashes(frame["group"])
    table["side"] = np.repeat(list(sides), [len(side) for side in sides.values()])
    summary: dict[str, Any] = {"origin": origin.kind, "name": origin.name, "rule": splits.rule}
    summary |= {"left_out": splits.left_out, "sha256": sources.sha256(origin.path) if origin.path else ""}
    for side in sides:
        here = (table["side"] == side).to_numpy()
        summary[side] = _summary(frame[here], table["record_hash"][here])
    return summary, table


def learnt_from(table: pd.DataFrame, records: pd.DataFrame) -> np.ndarray:
    """Whether the network with this manifest table was fitted, stopped or calibrated on a record or its group, (n,)."""
    used = table[table["side"] != "test"]
    known = np.isin(record_hashes(records), used["record_hash"])
    if "group_hash" in used and "group" in records:
        known |= np.isin(_hashes(records["group"]), used["group_hash"]) & records["group"].notna().to_numpy()
    return known


def auc(positive: np.ndarray, ranks: np.ndarray) -> float:
    """Area under the ROC curve from average ranks 1..n: the Mann-Whitney U of the positives over all pairs."""
    ones = np.count_nonzero(positive)
    return float((ranks[positive].sum() - ones * (ones + 1) / 2) / (ones * (len(positive) - ones)))


def _settle_duplicates(pipeline: Pipeline, records: pd.DataFrame, splits: Splits) -> Splits:
    hashes = record_hashes(records)
    kept, left_out = splits.sides(), dict(splits.left_out)
    for side, later in (("validation", ["test"]), ("train", ["validation", "test"])):
        rows, others = kept[side], np.concatenate([kept[name] for name in later])
        twins = np.isin(hashes[rows], hashes[others])
        if twins.any() and pipeline.duplicates == "refuse":
            row = rows[twins][0]
            twin = others[hashes[others] == hashes[row]][0]
            raise InputError(
                f"{_record(records, row)} of {side} is identical to {_record(records, twin)} of {' or '.join(later)}"
                f" ({twins.sum():,} such records): remove the copies or keep them on one side."
            )
        if twins.any():
            left_out[f"{side} records identical to one of {' or '.join(later)}"] = int(twins.sum())
        kept[side] = rows[~twins]
    return replace(splits, left_out=left_out, **kept)


def _refuse_thin_sides(records: pd.DataFrame, splits: Splits) -> None:
    left_out = "; ".join(f"{count:,} {reason}" for reason, count in splits.left_out.items()) or "nothing"
    labels = records["label"].to_numpy()
    for side, rows in splits.sides().items():
        if len(rows) == 0:
            raise InputError(f"No record is left for {side}: more data is needed. Left out: {left_out}")
    if not _has_classes(labels):
        return
    classes = np.unique(np.concatenate([labels[rows] for rows in splits.sides().values()]))
    if len(classes) < 2:
        raise InputError(f"Labels of at least two classes are needed. Received: only {classes[0]}")
    for side, rows in splits.sides().items():
        missing = np.setdiff1d(classes, labels[rows])
        if len(missing):
            raise InputError(f"No record of class {missing[0]} among the {len(rows):,} of {side}. Left out: {left_out}")


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


def _refuse_telling_columns(records: pd.DataFrame, splits: Splits, names: Sequence[str]) -> None:
    train, validation = (records["label"].to_numpy()[rows] for rows in (splits.train, splits.validation))
    classes = np.unique(train)
    for name in names:
        learnt, judged = records[name].iloc[splits.train], records[name].iloc[splits.validation]
        for one in classes[-1:] if len(classes) == 2 else classes:
            for positive, scores in _views(learnt, judged, train == one, validation == one):
                if min(positive.sum(), (~positive).sum()) < FEWEST:
                    continue
                area = auc(positive, pd.Series(scores).rank().to_numpy())
                if max(area, 1 - area) >= MOST_AUC:
                    raise InputError(
                        f"Column {name!r} alone tells class {one} of validation from the rest (AUC {area:.4f}), as if"
                        " written down after the fact: drop it or, if it is known in time, add"
                        f" --allow-column {shlex.quote(name)}"
                    )


def _views(
    learnt: pd.Series, judged: pd.Series, of_train: np.ndarray, of_judged: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(whether positive, score) of validation rows: by each value's rate of positives in train, and as a number.

    Values unseen in train get the prevalence; missing is a value, so that a column filled for one class alone is
    seen. As a number, only rows that have one are judged.
    """
    codes, _ = pd.factorize(pd.concat([learnt, judged], ignore_index=True), use_na_sentinel=False)
    seen, asked = np.split(codes, [len(learnt)])
    rates = pd.Series(of_train).groupby(seen).mean()
    yield of_judged, rates.reindex(asked, fill_value=of_train.mean()).to_numpy()
    if not types.is_numeric_dtype(judged) and not types.is_datetime64_any_dtype(judged):
        return
    present = judged.notna().to_numpy()
    yield of_judged[present], pd.to_numeric(judged[present]).to_numpy(float)


def _has_classes(labels: pd.Series | np.ndarray) -> bool:
    return not types.is_float_dtype(labels)  # a float label is a quantity, such as a volatility


def _summary(frame: pd.DataFrame, hashes: pd.Series) -> dict[str, Any]:
    label = frame["label"]
    both = hash_pandas_object(
        pd.DataFrame({"record": hashes.to_numpy(), "label": _plain(label).to_numpy()}), index=False
    )
    summary: dict[str, Any] = {"rows": len(frame), "sha256": hashlib.sha256(np.sort(both).astype("<u8")).hexdigest()}
    if _has_classes(label):
        summary["labels"] = {str(value): int(count) for value, count in label.value_counts().sort_index().items()}
    if "time" in frame:
        summary["time"] = [frame["time"].min().isoformat(), frame["time"].max().isoformat()]
    return summary


def _plain(column: pd.Series) -> pd.Series:
    if types.is_numeric_dtype(column):  # booleans too
        return column.astype(float)
    return column.astype("datetime64[us]") if types.is_datetime64_dtype(column) else column


def _hashes(column: pd.Series) -> np.ndarray:
    return hash_array(_plain(column).to_numpy())


def _record(records: pd.DataFrame, row: int) -> str:
    return f"record {records['id'].iloc[row]}"
