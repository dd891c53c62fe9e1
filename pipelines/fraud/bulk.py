"""Payments by the million: read some at a time, kept in few bytes, scored with their history before them."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from pipelines.core import tables
from pipelines.core.rows import Request, no_faults, unlabelled
from pipelines.fraud import Settings, data


def requests(path: Path | None, history: Path | None, facts: dict, settings: Settings) -> Iterator[Request]:
    """All payments of a file as one request, in its order, with those of `history` as context.

    Scored are the payments without a label, or all if every one has one; a label counts as known after its delay. A
    payment at fault is left out: of what is scored, and of what others see of the past.

    Raises:
        InputError: for a file that is no table of payments like those of training.
    """
    if path is None:
        records = data.read(None, settings)
        rows, note = unlabelled(records["label"].to_numpy())
        yield Request(records, rows, notes=(note,))
        return
    payments, faults = compact(path, facts)
    rows, note = unlabelled(payments["label"].to_numpy())
    notes, identified = (note,), payments.attrs["identified"]
    if history:
        past, lost = compact(history, facts)
        identified &= past.attrs["identified"]
        payments, rows = joined([past, payments]), rows + len(past)
        if len(lost):
            told = f"{len(lost):,} payments of {history.name} cannot be read and are left out. {lost['error'].iloc[0]}"
            notes += (told,)
    if identified:
        payments, rows, twice = _once(payments, rows, path.name)
        faults = pd.concat([faults, twice]).sort_index()
    yield Request(payments, rows, faults, notes=notes)


def compact(path: Path, facts: dict) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The payments of a file with the columns that scoring reads, about 50 bytes each, and the rows at fault.

    Entities and other texts become categories. The index counts rows as the file does.
    """
    roles = facts["roles"]
    texts = [*roles["entities"], *facts["categorical"]]
    columns = {name: needed for name, (_, needed) in data.columns(facts).items()}
    parse = partial(data.parse, facts=facts, origin=path.name)
    parts, faults = [], [no_faults()]
    for table in tables.chunks(path, columns, [name for name in (roles["id"], *texts) if name]):
        records, bad = tables.salvaged(parse, table, data.named(table, facts))
        kinds = dict.fromkeys(facts["numeric"], np.float32)  # as the network reads them
        keys = ["id", "label", *(name for name in ("time", roles["amount"]) if name in records)]
        slim = records[[*keys, *kinds]].astype(kinds)
        parts.append(slim.assign(**{name: _category(records[name]) for name in texts}))
        faults.append(bad)
    payments = joined(parts)
    payments.attrs["identified"] = roles["id"] in table
    return payments, pd.concat(faults)


def _category(column: pd.Series) -> pd.Series:
    """Names as categories of text, also those that the file holds as numbers."""
    found = column.astype("category")
    return found.cat.rename_categories(found.cat.categories.astype("str"))


def joined(parts: list[pd.DataFrame]) -> pd.DataFrame:
    """The tables one below the other, with categories in common."""
    columns = {}
    for name in parts[0]:
        of_parts = [part[name] for part in parts]
        if len({column.dtype.kind for column in of_parts}) > 1:  # identifiers, numbers in one part and text in another
            of_parts = [column.astype("str") for column in of_parts]
        if isinstance(of_parts[0].dtype, pd.CategoricalDtype):
            columns[name] = pd.api.types.union_categoricals(of_parts)
        else:
            columns[name] = pd.concat(of_parts, ignore_index=True)
    index = np.concatenate([part.index.to_numpy(np.int32) for part in parts])
    return pd.DataFrame(columns, copy=False).set_axis(index)


def _once(payments: pd.DataFrame, rows: np.ndarray, origin: str) -> tuple[pd.DataFrame, np.ndarray, pd.DataFrame]:
    """The payments and the rows to score without those whose identifier stood before, and of these the ones to score.

    The same payment twice would see itself, or be seen twice.
    """
    twice = payments["id"].duplicated().to_numpy()
    if not twice.any():
        return payments, rows, no_faults()
    asked = np.zeros(len(payments), bool)
    asked[rows] = True
    again = payments["id"][twice & asked]
    told = {
        row: f"{origin}, row {row}: expected an identifier that no earlier row has, nor the history. Received: {name}."
        for row, name in again.items()
    }
    return payments[~twice], np.flatnonzero(asked[~twice]), tables.faulty(told, again)
