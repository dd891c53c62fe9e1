"""Records that are files: in a folder for each class, perhaps below a folder for each side."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection
from pathlib import Path

import pandas as pd

from pipelines.core.pipeline import InputError

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
    shown = (file for file in sorted(folder.rglob("*")) if not _hidden(file.relative_to(folder), apart))
    files = [file for file in shown if not file.is_dir()]
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


def _hidden(path: Path, apart: Collection[str]) -> bool:
    return any(part.startswith((".", "__")) or part in apart for part in path.parts) or path.name == "Thumbs.db"
