"""Records from one file or from several: what each of them says, as a hash, and several reads as one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from pandas.api import types
from pandas.util import hash_array, hash_pandas_object

from pipelines.core.contract import InputError

CANONICAL = {"id", "label", "time", "known_at", "group", "weight", "digest", "score"}


def record_hashes(records: pd.DataFrame) -> np.ndarray:
    """A uint64 hash of what each record says, shape (n,): of `digest` if there is one, else of the user's columns.

    The id and the canonical columns that a pipeline adds are left out. Column order, and whether whole numbers came
    as integers or floats, make no difference, so that hashes compare from one file to the next.
    """
    if "digest" in records:
        return hashes(records["digest"])
    roles = records.attrs.get("roles", {})
    own = {value for value in roles.values() if isinstance(value, str)} | set(records) - CANONICAL
    names = sorted((own & set(records)) - {roles.get("id", "")})
    return hash_pandas_object(pd.DataFrame({name: plain(records[name]) for name in names}), index=False).to_numpy()


def hashes(column: pd.Series) -> np.ndarray:
    """A uint64 hash of each cell, shape (n,)."""
    return hash_array(plain(column).to_numpy())


def plain(column: pd.Series) -> pd.Series:
    """The column in the one type that stands for all numbers, or for all times."""
    if types.is_numeric_dtype(column):  # booleans too
        return column.astype(float)
    return column.astype("datetime64[us]") if types.is_datetime64_dtype(column) else column


def joined(reads: Sequence[pd.DataFrame], key: str = "") -> pd.DataFrame:
    """The records of several reads as one, in order of time where they have one; what two reads share is kept once.

    Columns that a read lacks are left out. Attributes are those of the last read, `notes` those of all. `key` names the
    user's column that identifies records; without one, ids that stand twice are told apart.

    Raises:
        InputError: for a column of numbers in one read that holds none in another, and for a key of two records.
    """
    first, *later = reads
    held = [name for name in first if all(name in read for read in later)]
    for name in set(held) - {"id"}:
        if len({types.is_numeric_dtype(read[name]) for read in reads}) > 1:
            raise InputError(f"Column '{name}': expected numbers in all files or in none. Received: both.")
    seen, kept = np.empty(0, np.uint64), []
    for read in reads:
        found = record_hashes(read)
        kept.append(read[held][~np.isin(found, seen)])
        seen = np.concatenate([seen, found])
    records = pd.concat(kept, ignore_index=True)
    if key and (twice := records[key].duplicated()).any():
        raise InputError(
            f"Column '{key}': expected each identifier to stand for one record in all files. Received: "
            f"{records[key][twice.idxmax()]} for two that differ ({twice.sum():,} such)."
        )
    records["id"] = told_apart(records["id"], np.repeat(np.arange(len(kept)), [len(read) for read in kept]))
    if "time" in records:
        records = records.sort_values("time", kind="stable", ignore_index=True)
    notes = [note for read in reads for note in read.attrs.get("notes", ())]
    missing = dict.fromkeys(name for read in reads for name in read if name not in held)
    notes += [f"{name} is left out: not all of the files that are joined have it." for name in missing]
    records.attrs = reads[-1].attrs | {"notes": list(dict.fromkeys(notes))}
    return records


def told_apart(ids: pd.Series, part: np.ndarray) -> pd.Series:
    """The ids as they are if each stands once; else as text, the second of two with the number of its part: 2:17."""
    twice = ids.duplicated()
    named = [f"{number + 1}:{name}" for number, name in zip(part, ids, strict=True)]
    return ids.astype(str).where(~twice, named) if twice.any() else ids


def relabelled(records: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """The records with labels that are places in `classes`, which names all of theirs; -1 stays."""
    places = np.array([*map(list(classes).index, records.attrs["classes"]), -1])
    found = records.assign(label=places[records["label"]])
    found.attrs = records.attrs | {"classes": list(classes)}
    return found


def grown(records: pd.DataFrame, before: Sequence[str]) -> pd.DataFrame:
    """The records with labels that are places in a list of classes that begins with those known before.

    Raises:
        InputError: where there is no record of a class that was known before.
    """
    held = records.attrs["classes"]
    if missing := [name for name in before if name not in held]:
        raise InputError(
            f"--from: expected records of every class that the version knows. Received: none of {', '.join(missing)}; "
            "--append brings back those it was trained on."
        )
    return relabelled(records, [*before, *(name for name in held if name not in before)])


def has_classes(labels: pd.Series | np.ndarray) -> bool:
    """Whether labels name classes; a float label is a quantity, such as a volatility."""
    return not types.is_float_dtype(labels)
