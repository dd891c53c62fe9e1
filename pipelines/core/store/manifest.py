"""Which record was on which side: kept with every version, so that what was test stays test."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pandas.util import hash_pandas_object

from pipelines.core.contract import InputError, Pipeline, Settings
from pipelines.core.data.dataset import has_classes, hashes, joined, plain, record_hashes
from pipelines.core.data.splits import Splits
from pipelines.core.reading import sources
from pipelines.core.store import registry, tracking

TABLE, SUMMARY = "manifest.parquet", "manifest.json"


def describe(
    records: pd.DataFrame, splits: Splits, origins: Sequence[sources.Origin]
) -> tuple[dict[str, Any], pd.DataFrame]:
    """What the data was, as (JSON summary, table of one row a record).

    The summary holds the last origin and its sha256, all of them as `sources`, and by side rows, label balance, first
    and last time, and a sha256 over the sorted hashes of records with their labels. The table has columns record_hash
    (uint64), group_hash (uint64, if there are groups) and side, "none" for records on none; `learnt_from` reads it.
    """
    side = np.full(len(records), "none", object)
    for name, rows in splits.sides().items():
        side[rows] = name
    table = pd.DataFrame({"record_hash": record_hashes(records)})
    if "group" in records:
        table["group_hash"] = hashes(records["group"])
    table["side"] = side
    origin, held = origins[-1], [asdict(one) | {"sha256": _sha256(one)} for one in origins]
    held = [one | {"path": str(one["path"].resolve()) if one["path"] else ""} for one in held]
    summary: dict[str, Any] = {"origin": origin.kind, "name": origin.name, "rule": splits.rule}
    summary |= {"left_out": splits.left_out, "sha256": held[-1]["sha256"], "sources": held}
    for name, rows in splits.sides().items():
        summary[name] = _summary(records.iloc[rows], table["record_hash"].iloc[rows])
    return summary, table


def chain(base: registry.Version | None, name: str, origin: sources.Origin) -> list[sources.Origin]:
    """Where the data of the version `base` came from, and then `origin`.

    Raises:
        InputError: where there is no champion, where one of its files is gone or has changed, and for demo data, which
            join no others.
    """
    if base is None:
        raise InputError(f"--append: expected a champion of {name}, to whose data these are added. Received: none.")
    origins = []
    for held in load(base)[0]["sources"]:
        before = sources.Origin(held["kind"], held["name"], Path(held["path"]) if held["path"] else None)
        if before.path and not before.path.exists():
            raise InputError(f"--append: {before.path}, which version {base.number} was trained on, is gone.")
        if _sha256(before) != held["sha256"]:
            raise InputError(
                f"--append: {before.path} is no longer what version {base.number} was trained on: its sha256 was "
                f"{held['sha256']}. Received: {_sha256(before)}."
            )
        if (held["name"], held["sha256"]) != (origin.name, _sha256(origin)):
            origins.append(before)
    if origins and not all(one.path for one in (*origins, origin)):
        raise InputError(f"--append: expected files. Received: the demo data of {name}, which join no others.")
    return [*origins, origin]


def read_all(pipeline: Pipeline, origins: Sequence[sources.Origin], settings: Settings) -> pd.DataFrame:
    """The records of all origins as one; by the domain's own `read_all` if it has one."""
    data = pipeline.data
    parts = [(one.path, replace(settings, data=str(one.path) if one.kind == "own" else one.name)) for one in origins]
    if len(parts) == 1:
        return data.read(*parts[0])
    if hasattr(data, "read_all"):
        return data.read_all(parts)
    return joined([data.read(*part) for part in parts])


def _sha256(origin: sources.Origin) -> str:
    return sources.sha256(origin.path) if origin.path else ""


def load(version: registry.Version) -> tuple[dict[str, Any], pd.DataFrame]:
    """The summary and the table that the version's run holds; not to be changed."""
    return _fetched(version.run_id)


@lru_cache(maxsize=4)  # of champion, start and new version, each of which is asked several times, perhaps over HTTP
def _fetched(run_id: str) -> tuple[dict[str, Any], pd.DataFrame]:
    summary = json.loads(tracking.fetch(run_id, SUMMARY).read_text())
    return summary, pd.read_parquet(tracking.fetch(run_id, TABLE))


def trained_on(version: registry.Version, records: pd.DataFrame) -> np.ndarray:
    """Whether the version or an ancestor learnt from each record, from its group or from its day, bool (n,).

    Learning includes stopping, calibration and thresholds. With a time axis everything before its test period counts as
    seen: what happened then is no longer news to it, and labels of those days may reach into its training. Ancestors
    are the versions whose weights it goes back to; the tag `ancestors` holds their numbers.

    Raises:
        InputError: if an ancestor has been deleted, since then nobody knows what it learnt from.
    """
    seen = np.zeros(len(records), bool)
    for ancestor in version.tags.get("ancestors", "").split():
        seen |= _trained_on(registry.find(version.name, ancestor), records)
    return seen | _trained_on(version, records)


def _trained_on(version: registry.Version, records: pd.DataFrame) -> np.ndarray:
    summary, table = load(version)
    seen = learnt_from(table, records)
    if "time" in records and "time" in summary["test"]:
        seen |= (records["time"] < pd.Timestamp(summary["test"]["time"][0])).to_numpy()
    return seen


def keep_sides(splits: Splits, records: pd.DataFrame, champion: registry.Version | None) -> Splits:
    """The splits, with every record on the side where the champion's run had it, so that test stays test.

    A new record of a group that the run had joins the others of its group. With a time axis sides are periods, and
    their boundaries only move forward: records of a test period that would begin earlier than the champion's are left
    out of test, and counted.

    Raises:
        InputError: where no test record is left.
    """
    if champion is None:
        return splits
    summary, table = load(champion)
    if "time" in records and "time" in summary["test"]:
        begin = pd.Timestamp(summary["test"]["time"][0])
        kept = (records["time"].iloc[splits.test] >= begin).to_numpy()
        return _tested(splits, kept, f"test records from before the test period of version {champion.number}", (
            f"{len(kept):,} test records are all from before {begin}, where the test period of version "
            f"{champion.number} of {champion.name} begins, which has to stay test: expected newer records, or "
            "--name for a model of their own."
        ))  # fmt: skip
    sides = list(splits.sides())
    table = table[table["side"].isin(sides)]
    stored = _stored(table["record_hash"], table["side"], record_hashes(records))
    if "group" in records and "group_hash" in table:
        of_group = _stored(table["group_hash"], table["side"], hashes(records["group"]))
        stored = stored.where(stored.notna() | records["group"].isna().to_numpy(), of_group)
    before = stored.map(sides.index, na_action="ignore").to_numpy(float)
    now = np.full(len(records), -1)
    for number, rows in enumerate(splits.sides().values()):
        now[rows] = number
    now = np.where((now >= 0) & ~np.isnan(before), before, now)
    return replace(splits, **{side: np.flatnonzero(now == number) for number, side in enumerate(sides)})


def _stored(hashed: pd.Series, side: pd.Series, asked: np.ndarray) -> pd.Series:
    """The side on which each of the asked hashes was, missing for one that was on none."""
    known = pd.Series(side.to_numpy(), hashed.to_numpy())
    return known[~known.index.duplicated()].reindex(asked).reset_index(drop=True)


def drop_seen_records(splits: Splits, records: pd.DataFrame, start: registry.Version) -> Splits:
    """The splits without what the network has learnt already that training starts from.

    Test loses all that this version or one that it goes back to has learnt from, validation what it was trained on.

    Raises:
        InputError: where no test record is left.
    """
    summary, table = load(start)
    trained = learnt_from(table[table["side"] == "train"], records)
    if "time" in records and "time" in summary["train"]:
        trained |= (records["time"] <= pd.Timestamp(summary["train"]["time"][1])).to_numpy()
    valid = ~trained[splits.validation]
    if not valid.all():
        reason = f"validation records that version {start.number} was trained on"
        splits = replace(splits, validation=splits.validation[valid],
                         left_out=splits.left_out | {reason: int((~valid).sum())})  # fmt: skip
    reason = f"test records that version {start.number} or one before it learnt from"
    return _tested(splits, ~trained_on(start, records)[splits.test], reason, (
        f"--from: version {start.number} of {start.name} has learnt from all test records: expected some that are new."
    ))  # fmt: skip


def _tested(splits: Splits, kept: np.ndarray, reason: str, fault: str) -> Splits:
    """The splits with the `kept` test records alone, bool (test,), the others counted; raises if there are none."""
    if not kept.any():
        raise InputError(fault)
    left_out = splits.left_out | ({reason: int((~kept).sum())} if not kept.all() else {})
    return replace(splits, test=splits.test[kept], left_out=left_out)


def lacking(records: pd.DataFrame, champion: registry.Version) -> list[str]:
    """Columns that the champion reads and the records do not have."""
    return sorted(set(champion.tags.get("features", "").split("\n")) - {"", *records.columns})


def learnt_from(table: pd.DataFrame, records: pd.DataFrame) -> np.ndarray:
    """Whether the network with this manifest table was fitted, stopped or calibrated on a record or its group, (n,)."""
    used = table[table["side"].isin(["train", "validation"])]
    known = np.isin(record_hashes(records), used["record_hash"])
    if "group_hash" in used and "group" in records:
        known |= np.isin(hashes(records["group"]), used["group_hash"]) & records["group"].notna().to_numpy()
    return known


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
