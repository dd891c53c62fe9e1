"""Records that are files: in a folder for each class, perhaps below a folder for each side."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pandas as pd

from pipelines.core.contract import InputError
from pipelines.core.data.requests import unlabelled
from pipelines.core.reading import tables

SIDES = ("train", "validation", "test")


def side(name: str) -> str:
    """The side that a folder or a word stands for: `TEST_SIMPLE` is test, `val` validation; "" if none."""
    named = re.fullmatch(r"(train|val|test)(?:ing|id|idation)?(?:[^a-z].*)?", name.lower())
    return {"train": "train", "val": "validation", "test": "test"}[named[1]] if named else ""


def in_folders(
    folder: Path, suffixes: Collection[str], what: str, notes: list[str], apart: Collection[str] = ()
) -> pd.DataFrame:
    """The files of some kinds in a folder, by name, and what their folders tell.

    Files of other kinds are ignored and counted in `notes`; hidden ones, and those below a folder named in `apart`, are
    not there.

    Returns:
        A table with `file`, `id` (its name within the folder), `side` ("" where none is named), `class` (the folder,
        below that of the side; "" for a file in none) and, where every file lies deeper, `group`, that folder.

    Raises:
        InputError: where there are no files of these kinds, or only some lie below a folder for a side.
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


def listed(
    path: Path, suffixes: Collection[str], what: str, label: str, apart: Collection[str] = ()
) -> tuple[pd.DataFrame, str]:
    """Files to score: those in a folder, however deep, or those that the column `file` of a table names.

    Of a table with the column `label` they are those without a label, or all if every one has one.

    Returns:
        A table with `file` and `id` (its name within the folder, or in the table), and a sentence that says which.

    Raises:
        InputError: where there are none.
    """
    if path.is_dir():
        files = [file for file in _shown(path, apart) if file.suffix.lower() in suffixes]
        if not files:
            raise InputError(f"{path} holds no {what}: expected some ({', '.join(sorted(suffixes - {''}))}).")
        listing = pd.DataFrame({"id": [file.relative_to(path).as_posix() for file in files], "file": map(str, files)})
        return listing, f"All {what} of the folder are scored; what their folders are called is not read."
    table = tables.load(path, names=("file", label))
    if "file" not in table:
        raise InputError(f"{path.name}: expected the column 'file'. Received: {tables.listed(table, 'file')}.")
    tables.refuse(table["file"], table["file"].isna(), "a file", path.name)
    unknown = table[label].isna() if label in table else pd.Series(True, table.index)
    rows, note = unlabelled(np.where(unknown, -1, 0))
    names = tables.identifiers(table, "file", path.name).astype(str).iloc[rows]
    return pd.DataFrame({"id": names.to_numpy(), "file": [str(path.parent / name) for name in names]}), note


def _shown(folder: Path, apart: Collection[str]) -> list[Path]:
    """Everything in a folder, however deep, but for folders, what is hidden, and what lies below one named `apart`."""
    shown = (file for file in sorted(folder.rglob("*")) if not _hidden(file.relative_to(folder), apart))
    return [file for file in shown if not file.is_dir()]


def _hidden(path: Path, apart: Collection[str]) -> bool:
    return any(part.startswith((".", "__")) or part in apart for part in path.parts) or path.name == "Thumbs.db"
