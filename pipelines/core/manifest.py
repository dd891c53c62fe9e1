"""Which record was on which side: kept with every version, so that what was test stays test."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from pandas.api import types
from pandas.util import hash_pandas_object

from pipelines.core import sources, tracking
from pipelines.core.pipeline import InputError, Splits
from pipelines.core.records import hashes, plain, record_hashes

TABLE, SUMMARY = "manifest.parquet", "manifest.json"


def describe(records: pd.DataFrame, splits: Splits, origin: sources.Origin) -> tuple[dict[str, Any], pd.DataFrame]:
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
        table["group_hash"] = hashes(frame["group"])
    table["side"] = np.repeat(list(sides), [len(side) for side in sides.values()])
    summary: dict[str, Any] = {"origin": origin.kind, "name": origin.name, "rule": splits.rule}
    summary |= {"left_out": splits.left_out, "sha256": sources.sha256(origin.path) if origin.path else ""}
    for side in sides:
        here = (table["side"] == side).to_numpy()
        summary[side] = _summary(frame[here], table["record_hash"][here])
    return summary, table


def load(version: tracking.Version) -> tuple[dict[str, Any], pd.DataFrame]:
    """The summary and the table that the version's run holds."""
    summary = json.loads(tracking.fetch(version.run_id, SUMMARY).read_text())
    return summary, pd.read_parquet(tracking.fetch(version.run_id, TABLE))


def trained_on(version: tracking.Version, records: pd.DataFrame) -> np.ndarray:
    """Whether the version learnt from each record, from its group or from its day, bool (n,).

    Learning includes stopping, calibration and thresholds. With a time axis everything up to the last record that it
    learnt from counts as seen: what happened on those days is no longer news to it.
    """
    summary, table = load(version)
    seen = learnt_from(table, records)
    if "time" in records and "time" in summary["validation"]:
        seen |= (records["time"] <= pd.Timestamp(summary["validation"]["time"][1])).to_numpy()
    return seen


def keep_sides(splits: Splits, records: pd.DataFrame, champion: tracking.Version | None) -> Splits:
    """The splits, with every record on the side where the champion's run had it, so that test stays test.

    With a time axis sides are periods, and their boundaries only move forward: payments of a test period that would
    begin earlier than the champion's are left out of test, and counted. A champion that cannot score these records,
    because they are of another kind, binds nothing.

    Raises:
        InputError: where no test record is left.
    """
    if champion is None or lacking(records, champion):
        return splits
    summary, table = load(champion)
    if "time" in records and "time" in summary["test"]:
        begin = pd.Timestamp(summary["test"]["time"][0])
        kept = (records["time"].iloc[splits.test] >= begin).to_numpy()
        if not kept.any():
            raise InputError(
                f"{len(kept):,} test records are all from before {begin}, where the test period of version "
                f"{champion.number} of {champion.name} begins, which has to stay test: expected newer records, or "
                "--name for a model of their own."
            )
        reason = f"test records from before the test period of version {champion.number}"
        left_out = splits.left_out | ({reason: int((~kept).sum())} if not kept.all() else {})
        return replace(splits, test=splits.test[kept], left_out=left_out)
    sides = list(splits.sides())
    stored = table.drop_duplicates("record_hash").set_index("record_hash")["side"].map(sides.index)
    before = stored.reindex(record_hashes(records)).to_numpy()
    now = np.full(len(records), -1)
    for number, rows in enumerate(splits.sides().values()):
        now[rows] = number
    now = np.where((now >= 0) & ~np.isnan(before), before, now)
    return replace(splits, **{side: np.flatnonzero(now == number) for number, side in enumerate(sides)})


def lacking(records: pd.DataFrame, champion: tracking.Version) -> list[str]:
    """Columns that the champion reads and the records do not have."""
    return sorted(set(champion.tags.get("features", "").split("\n")) - {"", *records.columns})


def learnt_from(table: pd.DataFrame, records: pd.DataFrame) -> np.ndarray:
    """Whether the network with this manifest table was fitted, stopped or calibrated on a record or its group, (n,)."""
    used = table[table["side"] != "test"]
    known = np.isin(record_hashes(records), used["record_hash"])
    if "group_hash" in used and "group" in records:
        known |= np.isin(hashes(records["group"]), used["group_hash"]) & records["group"].notna().to_numpy()
    return known


def has_classes(labels: pd.Series | np.ndarray) -> bool:
    """Whether labels name classes; a float label is a quantity, such as a volatility."""
    return not types.is_float_dtype(labels)


def _summary(frame: pd.DataFrame, hashes: pd.Series) -> dict[str, Any]:
    label = frame["label"]
    both = hash_pandas_object(
        pd.DataFrame({"record": hashes.to_numpy(), "label": plain(label).to_numpy()}), index=False
    )
    summary: dict[str, Any] = {"rows": len(frame), "sha256": hashlib.sha256(np.sort(both).astype("<u8")).hexdigest()}
    if has_classes(label):
        summary["labels"] = {str(value): int(count) for value, count in label.value_counts().sort_index().items()}
    if "time" in frame:
        summary["time"] = [frame["time"].min().isoformat(), frame["time"].max().isoformat()]
    return summary
