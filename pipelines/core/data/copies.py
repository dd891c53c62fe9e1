"""Copies: records that are the same one, kept off earlier sides, drawn together in intervals, under one label.

It does not know what makes two records of a domain the same: it gets codes that are equal where they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from pipelines.core.contract import InputError
from pipelines.core.data.identity import cell_hashes
from pipelines.core.data.splits import Splits, joined

RARE = 0.001
"""Share of the records, up to which a value says little of the others that have it."""
MOST_CONFLICTS = 0.1  # share of the records from which labels that contradict one another are refused


def linked(identity: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Codes of records, int64 (n,), equal for those of one identity and those that pairs link, perhaps through others.

    Args:
        identity: uint64 (n,), see `Dataset.identity`.
        pairs: int64 (p, 2), positions of near copies.
    """
    exact = np.unique(identity, return_inverse=True)[1]
    ends = exact[pairs]
    links = coo_matrix((np.ones(len(pairs), bool), (ends[:, 0], ends[:, 1])), shape=(len(exact), len(exact)))
    return connected_components(links, directed=False)[1][exact].astype(np.int64)


def drop_earlier(splits: Splits, codes: np.ndarray, kind: str) -> Splits:
    """The splits without training and validation records whose copy stands on a later side; the rest are tied.

    Args:
        splits: the sides.
        codes: int64 or uint64 (n,) of the dataset, equal for records that are copies of one another.
        kind: how copies are called where they are counted, such as "identical to".
    """
    kept, left_out = splits.sides(), dict(splits.left_out)
    for side, later in (("validation", ["test"]), ("train", ["validation", "test"])):
        rows, others = kept[side], np.concatenate([kept[name] for name in later])
        twins = np.isin(codes[rows], codes[others])
        if twins.any():
            left_out[f"{side} records {kind} one of {' or '.join(later)}"] = int(twins.sum())
        kept[side] = rows[~twins]
    splits = replace(splits.with_sides(kept), left_out=left_out)
    if len(np.unique(codes[splits.test])) == len(splits.test):
        return splits
    tied = np.unique(codes, return_inverse=True)[1].astype(np.int64)
    return replace(splits, copies=tied if splits.copies is None else joined(splits.copies, tied))


def distinctive(records: pd.DataFrame, columns: Sequence[str], codes: np.ndarray, least: int) -> np.ndarray:
    """Whether each record shares rare values with its copies, so that they are hardly equal by chance, bool (n,).

    A value is rare if no others have it, or at most one record in a thousand. In a table of few coarse columns, equal
    records are common and no copies.

    Args:
        records: the records.
        columns: columns in which copies are equal, and which do not follow from one another.
        codes: (n,), equal for records that may be copies of one another.
        least: in how many of the columns their value must be rare.
    """
    rare = np.zeros(len(records), np.int64)
    if len(columns) < least or len(np.unique(codes)) == len(codes):
        return rare > 0
    alike = pd.Series(codes).map(pd.Series(codes).value_counts()).to_numpy()
    places = np.flatnonzero(alike > 1)
    for name in columns:
        hashes = pd.Series(cell_hashes(records[name]))
        count = hashes.iloc[places].map(hashes.value_counts()).to_numpy()
        rare[places] += count <= np.maximum(alike[places], RARE * len(records))
    return rare >= least


def conflicts(
    records: pd.DataFrame,
    rows: np.ndarray,
    codes: np.ndarray,
    copied: np.ndarray,
    classes: Sequence[str] = (),
    kind: str = "equal to another in all but their label",
    most: float = MOST_CONFLICTS,
) -> tuple[str, ...]:
    """A warning of copies whose labels contradict one another, if there are any.

    Args:
        records: with `id` and `label`, the code of its class.
        rows: int64 positions of the labelled records.
        codes: (n,), equal for copies.
        copied: which records are copies beyond doubt, bool (n,).
        classes: names by code, to be given with the examples.
        kind: what such records are, in the sentence.
        most: share of the records from which on they are refused.

    Raises:
        InputError: if a large share of the records are.
    """
    table = records.iloc[rows[copied[rows]]][["id", "label"]].assign(code=codes[rows[copied[rows]]])
    table = table[table.groupby("code")["label"].transform("nunique") > 1]
    if table.empty:
        return ()
    one, other = table[table["code"] == table["code"].iloc[0]].drop_duplicates("label").head(2).itertuples()
    names = " and ".join(f"{row.id} ({classes[row.label]})" if classes else str(row.id) for row in (one, other))
    what = (
        f"{len(table):,} records are {kind}, such as {names} ({table['code'].nunique():,} contradictions): find out "
        "which label is right, and correct or drop the others"
    )
    if len(table) >= most * len(records):
        raise InputError(f"Labels contradict one another: {what}.")
    return (f"{what}.",)
