"""Files as records: from folders of one class each, from tables that name files, by schemes of file names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence, Set
from pathlib import Path

import pandas as pd

from pipelines.core.contract import InputError
from pipelines.core.data.requests import rows_to_score
from pipelines.core.reading import tables

SIDES = ("train", "validation", "test")
MATCHED = 0.95
"""Share of the files whose names must fit a naming scheme before it is taken for theirs."""


def side(name: str) -> str:
    """The side that a name stands for: `TEST_SIMPLE` is test, `val` validation; "" if none."""
    named = re.fullmatch(r"(train|val|test)(?:ing|id|idation)?(?:[^a-z].*)?", name.lower())
    return {"train": "train", "val": "validation", "test": "test"}[named[1]] if named else ""


def in_folders(
    folder: Path, suffixes: Collection[str], what: str, notes: list[str], apart: Collection[str] = ()
) -> pd.DataFrame:
    """List the files below a folder by name, with the class and the side that their folders stand for.

    Args:
        folder: with a folder for each class, perhaps below one for each side.
        suffixes: of the files to list, in lower case; others are counted in `notes`.
        what: the files in sentences, such as "images".
        notes: gets a sentence for what was ignored or assumed.
        apart: names of folders to skip, as hidden files and folders are.

    Returns:
        A table with `file`, `id` (its path within the folder), `side` ("" where none is named), `class` (the folder,
        below that of the side; "" for a file in none) and, where every file is in a folder below its class, `group`,
        that folder.

    Raises:
        InputError: if there is no such file, or if only some are below a folder for a side.
    """
    files = _shown(folder, apart)
    others = Counter(file.suffix for file in files if file.suffix.lower() not in suffixes)
    if others:
        notes.append(f"{others.total():,} other files are ignored ({', '.join(sorted(others))}).")
    rows = []
    for file in files:
        *folders, name = file.relative_to(folder).parts
        if file.suffix.lower() in suffixes:
            named = side(folders[0]) if len(folders) > 1 else ""
            label, *below = (folders[1:] if named else folders) or [""]
            rows.append((str(file), "/".join([*folders, name]), named, label, "/".join(below)))
    if not rows:
        raise InputError(f"{folder} holds no {what}: expected one folder for each class.")
    listing = pd.DataFrame(rows, columns=["file", "id", "side", "class", "group"])
    if (listing["side"] == "").any() and (listing["side"] != "").any():
        stray = listing.loc[listing["side"] == "", "id"].iloc[0]
        raise InputError(f"{folder}: expected all {what} below a folder for their side. Received: {stray}.")
    deeper = listing["group"][listing["class"] != ""]
    if deeper.empty or (deeper == "").any():
        return listing.drop(columns="group")
    notes.append(f"Folders below a class are groups: {listing['id'][deeper.index[0]]} is of {deeper.iloc[0]}.")
    return listing


def table_of_files(path: Path, label: str, group: str, split: str = "split") -> pd.DataFrame:
    """The files that a table names, each with its class.

    Args:
        path: a CSV or Parquet file with a column `file`, whose entries are relative to the table's folder.
        label: column of the class.
        group: optional column of what keeps files on one side, such as the patient or the speaker.
        split: optional column of the side.

    Returns:
        A table with `file`, `id` (the entry as written), `class`, and, where the table has them, `group` and `side`.

    Raises:
        InputError: for a missing column, an empty cell, a file named twice, and a side that is none.
    """
    table = tables.load(path, names=("file", label, group))
    for column, kind in (("file", "a file"), (label, "a class"), (group, f"a {group}")):
        if column in table:
            tables.refuse(table[column], table[column].isna(), kind, path.name)
        elif column != group:
            received = tables.listed(table, column)
            raise InputError(f"{path.name}: expected the column '{column}'. Received: {received}.")
    names = tables.identifiers(table, "file", path.name).astype(str).to_numpy()
    listing = pd.DataFrame({"file": [str(path.parent / name) for name in names], "id": names})
    listing["class"] = table[label].astype(str).to_numpy()
    if group in table:
        listing["group"] = table[group].astype(str).to_numpy()
    if split in table:
        sides = table[split].astype("str").map(side)
        tables.refuse(table[split], sides == "", "train, val or test", path.name)
        listing["side"] = sides.to_numpy()
    return listing


def group_name(name: str) -> str:
    """One name for a group however it is written; numbers alone, of which 7 and 007 may differ, stay as they are.

    Example:
        >>> [group_name(name) for name in ("patient_7", "patient-007", "Patient 7", "P7", "007")]
        ['patient-7', 'patient-7', 'patient-7', 'p-7', '007']
    """
    named = re.fullmatch(r"([^\W\d_]+)[-_ .#]*0*(\d+)", name.strip())
    return f"{named[1].lower()}-{named[2]}" if named else name.strip()


def with_groups(listing: pd.DataFrame, what: str, notes: list[str]) -> pd.DataFrame:
    """The listing with its groups by one name each, or without any if each has one record only.

    Args:
        listing: perhaps with `group`.
        what: what its groups are, in a sentence, such as "patient or source".
        notes: gets a sentence if they are dropped.
    """
    if "group" not in listing:
        return listing
    listing = listing.assign(group=[group_name(name) for name in listing["group"]])
    if listing["group"].nunique() < len(listing):
        return listing
    notes.append(f"Each {what} has one record only: groups are ignored, as if none were known.")
    return listing.drop(columns="group")


def matches(files: Sequence[str], pattern: str, flag: str) -> list[re.Match[str]]:
    """Where the user's `pattern` fits the name of each file, without folder and suffix.

    Raises:
        InputError: naming the `flag`, if the pattern is no regular expression or does not fit a file's name.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise InputError(f"{flag}: expected a regular expression. Received: {pattern!r} ({error}).") from None
    found = [compiled.search(Path(file).stem) for file in files]
    if None in found:
        example = files[found.index(None)]
        raise InputError(f"{flag} {pattern!r} does not fit {example} ({found.count(None):,} such files).")
    return [match for match in found if match]


def likely_matches(files: Sequence[str], pattern: str) -> list[re.Match[str] | None] | None:
    """Where a known naming scheme fits the name of each file; None if it fits fewer than MATCHED of them."""
    found = [re.search(pattern, Path(file).stem) for file in files]
    return found if 1 - found.count(None) / len(found) >= MATCHED - 1e-12 else None


def listed(
    path: Path, suffixes: Set[str], what: str, label: str, apart: Collection[str] = ()
) -> tuple[pd.DataFrame, str]:
    """List files to score: those in a folder, however deep, or those in the column `file` of a table.

    Of a table with the column `label` they are those without a label, or all if every one has one.

    Returns:
        A table with `file` and `id` (its path within the folder, or as the table has it), and a sentence that says
        which files they are.

    Raises:
        InputError: if there are none.
    """
    if path.is_dir():
        files = [file for file in _shown(path, apart) if file.suffix.lower() in suffixes]
        if not files:
            raise InputError(f"{path} holds no {what}: expected some ({', '.join(sorted(suffixes - {''}))}).")
        listing = pd.DataFrame({"id": [file.relative_to(path).as_posix() for file in files], "file": map(str, files)})
        return listing, f"All {what} in the folder are scored, whatever the names of their folders."
    table = tables.load(path, names=("file", label))
    if "file" not in table:
        raise InputError(f"{path.name}: expected the column 'file'. Received: {tables.listed(table, 'file')}.")
    tables.refuse(table["file"], table["file"].isna(), "a file", path.name)
    labelled = table[label].notna() if label in table else pd.Series(False, table.index)
    rows, note = rows_to_score(labelled.to_numpy())
    names = tables.identifiers(table, "file", path.name).astype(str).iloc[rows]
    return pd.DataFrame({"id": names.to_numpy(), "file": [str(path.parent / name) for name in names]}), note


def _shown(folder: Path, apart: Collection[str]) -> list[Path]:
    """The files below a folder, without hidden ones and those below a folder named in `apart`."""
    shown = (file for file in sorted(folder.rglob("*")) if not _hidden(file.relative_to(folder), apart))
    return [file for file in shown if not file.is_dir()]


def _hidden(path: Path, apart: Collection[str]) -> bool:
    return any(part.startswith((".", "__")) or part in apart for part in path.parts) or path.name == "Thumbs.db"
