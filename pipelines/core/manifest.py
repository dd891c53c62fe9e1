"""Which record was on which side: kept with every version, so that what was test stays test."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from pipelines.core import checks, tracking
from pipelines.core.checks import learnt_from, record_hashes
from pipelines.core.pipeline import InputError, Splits

TABLE, SUMMARY = "manifest.parquet", "manifest.json"
describe = checks.manifest


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
    """The splits, with every record on the side where the champion's run had it.

    With a time axis sides are periods: then their boundaries only move forward.

    Raises:
        InputError: if test would begin earlier than it did for the champion.
    """
    if champion is None:
        return splits
    summary, table = load(champion)
    if "time" in records:
        begin, before = records["time"].iloc[splits.test].min(), pd.Timestamp(summary["test"]["time"][0])
        covered = records["time"].max() > before
        if covered and begin < before:
            raise InputError(
                f"test would begin on {begin}, but it began on {before} for version {champion.number} of "
                f"{champion.name}: boundaries only move forward. Keep the later payments, or start anew with --name."
            )
        return splits
    sides = list(splits.sides())
    now = np.full(len(records), -1)
    for number, rows in enumerate(splits.sides().values()):
        now[rows] = number
    stored = table.drop_duplicates("record_hash").set_index("record_hash")["side"].map(sides.index)
    before = stored.reindex(record_hashes(records)).to_numpy()
    now = np.where((now >= 0) & ~np.isnan(before), before, now)
    kept = {side: np.flatnonzero(now == number) for number, side in enumerate(sides)}
    return replace(splits, **kept) if splits.headline is None else splits
