"""A dataset: records and what was recognised about them; several reads as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Generic, TypeVar

import numpy as np
import pandas as pd
from pandas.api import types

from pipelines.core.contract import InputError
from pipelines.core.data.identity import identities

A = TypeVar("A")


@dataclass(frozen=True, eq=False)
class Dataset(Generic[A]):
    """Records with what was recognised about them.

    Attributes:
        records: one row a record. `id` names it; `labelled` (bool) says whether its target is known. Where they exist,
            `label` holds the code of its class (int, -1 for none) or a quantity (float of any sign, NaN for none),
            `group` what ties records to one side, `time` (datetime64[us]), `known_at` when the label is known,
            `weight`, and `score` which records a request wants answered. Other columns are the domain's.
        about: the domain's own frozen dataclass, `data.About`.
        key: columns that say which record a row is, see `identities`; never columns that depend on what else the file
            holds.
        notes: a sentence for each thing that was assumed, repaired or left out.
    """

    records: pd.DataFrame
    about: A
    key: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.records)

    def __contains__(self, column: str) -> bool:
        return column in self.records

    @property
    def labelled(self) -> np.ndarray:
        """Whether the target of each record is known, bool (n,)."""
        return self.records["labelled"].to_numpy(bool)

    @cached_property
    def identity(self) -> np.ndarray:
        """What each record is, uint64 (n,); equal in every file that holds the record."""
        return identities(self.records, self.key)

    def take(self, rows: np.ndarray) -> Dataset[A]:
        """The records at these positions, or of this mask, in their order."""
        return replace(self, records=self.records.iloc[rows])


def join(reads: Sequence[Dataset[Any]], key: str = "") -> Dataset[Any]:
    """The records of several reads as one, in order of time where they have one; a record of two reads is kept once.

    Columns that a read lacks are left out. `about` is that of the last read, notes are those of all.

    Args:
        reads: in order; of a record that two of them hold, the first is kept.
        key: the user's column that identifies records; without one, ids that occur twice get the number of their read.

    Raises:
        InputError: for a column of numbers in one read that holds none in another, and for a key of two records.
    """
    first, *later = (read.records for read in reads)
    common = [name for name in first if all(name in read for read in later)]
    for name in set(common) - {"id"}:
        filled = [read.records[name] for read in reads if read.records[name].notna().any()]
        if len({types.is_numeric_dtype(column) for column in filled}) > 1:
            raise InputError(f"Column '{name}': expected numbers in all files or in none. Received: both.")
    recognised = tuple(name for name in reads[0].key if name in common)
    seen, parts = np.empty(0, np.uint64), []
    for read in reads:
        identity = identities(read.records, recognised)
        parts.append(read.records[common][~np.isin(identity, seen)])
        seen = np.concatenate([seen, identity])
    records = pd.concat(parts, ignore_index=True)
    if key and (twice := records[key].duplicated()).any():
        raise InputError(
            f"Column '{key}': expected each identifier to name one record in all files. Received: "
            f"{records[key][twice.idxmax()]} for two that differ ({twice.sum():,} such)."
        )
    records["id"] = unique_ids(records["id"], np.repeat(np.arange(len(parts)), [len(part) for part in parts]))
    if "time" in records:
        records = records.sort_values("time", kind="stable", ignore_index=True)
    notes = [note for read in reads for note in read.notes]
    missing = dict.fromkeys(name for read in reads for name in read.records if name not in common)
    notes += [f"{name} is left out: not all of the joined files have it." for name in missing]
    return Dataset(records, reads[-1].about, recognised, tuple(dict.fromkeys(notes)))


def unique_ids(ids: pd.Series, part: np.ndarray) -> pd.Series:
    """The ids as they are if each occurs once; else as text, the second of two with the number of its part: 2:17."""
    twice = ids.duplicated()
    named = [f"{number + 1}:{name}" for number, name in zip(part, ids, strict=True)]
    return ids.astype(str).where(~twice, named) if twice.any() else ids


def recoded(labels: pd.Series, before: Sequence[str], after: Sequence[str]) -> np.ndarray:
    """Class codes that index `after` instead of `before`, int64 (n,); -1 stays. `after` holds all of `before`."""
    return np.array([*map(list(after).index, before), -1], np.int64)[labels]


def with_classes(data: Dataset[Any], classes: Sequence[str]) -> Dataset[Any]:
    """The data with `classes` instead of `about.classes`, all of which are among them."""
    label = recoded(data.records["label"], data.about.classes, classes)
    about = replace(data.about, classes=tuple(classes))
    return replace(data, records=data.records.assign(label=label), about=about)


def extended_classes(before: Sequence[str], now: Sequence[str]) -> list[str]:
    """The classes of a network that starts from another: those known `before` in their order, then the new ones.

    Raises:
        InputError: if a class that was known before has no record now.
    """
    if missing := [name for name in before if name not in now]:
        raise InputError(
            f"--from: expected records of every class that the version knows. Received: none of {', '.join(missing)}; "
            "--append brings back those it was trained on."
        )
    return [*before, *(name for name in now if name not in before)]
