"""Tables of any size as records of a few bytes each: read some rows at a time, joined with those of their history."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pandas.util import hash_array

from pipelines.core.data.dataset import Dataset
from pipelines.core.data.requests import no_faults
from pipelines.core.reading import tables

Parts = list[dict[str, pd.Series]]
"""Records by column, some at a time; `index` counts rows as the file does, and `hash` stands for the id."""


def read(
    path: Path,
    columns: Mapping[str, bool],
    names: Sequence[str],
    parse: Callable[[pd.DataFrame], Dataset[Any]],
    named: Callable[[pd.DataFrame], pd.Series],
    kinds: Mapping[str, Any],
) -> tuple[Parts, pd.DataFrame, list[str]]:
    """The records of a table, its rows at fault, and the columns that were read.

    Args:
        path: of a CSV or Parquet file.
        columns: those to read of it; True for one that it must have.
        names: those of them that name things, and are read as they are written.
        parse: makes records of raw rows, by their index.
        named: what raw rows are called.
        kinds: the columns to keep of the records, each with its dtype, None for the one that it has, or "category" for
            texts that recur.
    """
    parts, faults = [], [no_faults()]
    for table in tables.chunks(path, columns, names):
        data, bad = tables.parse_valid_rows(parse, table, named(table))
        records = data.records
        part = {name: _as(records[name], kind) for name, kind in kinds.items()}
        hashes = hash_array(records["id"].astype("str").to_numpy(object))
        part |= {"index": pd.Series(records.index, dtype=np.int32), "hash": pd.Series(hashes)}
        parts.append({name: column.reset_index(drop=True) for name, column in part.items()})
        faults.append(bad)
    return parts, pd.concat(faults), list(table)


def _as(column: pd.Series, kind: Any) -> pd.Series:
    if kind != "category":
        return column.astype(kind or column.dtype)
    found = column.astype("category")  # of text, also where the file holds numbers
    return found.cat.rename_categories(found.cat.categories.astype("str"))


def concatenate(parts: Parts) -> pd.DataFrame:
    """The parts one below the other, with categories in common; they are emptied, or all would be there twice."""
    columns = {}
    for name in list(parts[0]):
        of_parts = [part.pop(name) for part in parts]
        if isinstance(of_parts[0].dtype, pd.CategoricalDtype):
            columns[name] = pd.Series(pd.api.types.union_categoricals(of_parts))
            continue
        if len({column.dtype.kind for column in of_parts}) > 1:  # identifiers, numbers in one part and text in another
            of_parts = [column.astype("str") for column in of_parts]
        columns[name] = pd.concat(of_parts, ignore_index=True)
    index = columns.pop("index")
    return pd.DataFrame(columns, copy=False).set_axis(pd.Index(index))


def drop_repeated_ids(
    records: pd.DataFrame, rows: np.ndarray, origin: str
) -> tuple[pd.DataFrame, np.ndarray, pd.DataFrame]:
    """Records and rows to score without those whose id an earlier record has, and which of the rows these were."""
    twice = records["hash"].duplicated().to_numpy()
    if not twice.any():
        return records, rows, no_faults()
    asked = np.zeros(len(records), bool)
    asked[rows] = True
    again = records["id"][twice & asked]
    errors = {
        row: f"{origin}, row {row}: expected an identifier that no earlier row has, nor the history. Received: {name}."
        for row, name in again.items()
    }
    return records[~twice], np.flatnonzero(asked[~twice]), tables.faulty(errors, again)
