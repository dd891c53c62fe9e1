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
from pandas.api import types
from pandas.util import hash_pandas_object

from pipelines.core.contract import InputError, Pipeline, Settings
from pipelines.core.data.dataset import Dataset, join
from pipelines.core.data.identity import cell_hashes, identities
from pipelines.core.data.splits import Splits
from pipelines.core.reading import downloads
from pipelines.core.store import registry, tracking

TABLE, SUMMARY = "manifest.parquet", "manifest.json"


def describe(
    data: Dataset[Any], splits: Splits, origins: Sequence[downloads.Origin]
) -> tuple[dict[str, Any], pd.DataFrame]:
    """The data of a run, as a JSON summary and a table of one row a record.

    The summary holds the last origin and its sha256, all of them as `sources`, the columns `key` by which records are
    recognised, and by side rows, label balance, first and last time, and a sha256 over the sorted identities of the
    records with their labels. The table has columns identity (uint64), group (uint64 hash, if there are groups) and
    side, "none" for records on none; `learnt_from` reads it.
    """
    records = data.records
    side = np.full(len(records), "none", object)
    for name, rows in splits.sides().items():
        side[rows] = name
    table = pd.DataFrame({"identity": data.identity})
    if "group" in records:
        table["group"] = cell_hashes(records["group"])
    table["side"] = side
    origin, stored = origins[-1], [asdict(one) | {"sha256": _sha256(one)} for one in origins]
    stored = [one | {"path": str(one["path"].resolve()) if one["path"] else ""} for one in stored]
    summary: dict[str, Any] = {"origin": origin.kind, "name": origin.name, "rule": splits.rule, "key": list(data.key)}
    summary |= {"left_out": splits.left_out, "sha256": stored[-1]["sha256"], "sources": stored}
    for name, rows in splits.sides().items():
        summary[name] = _summary(records.iloc[rows], table["identity"].to_numpy()[rows])
    return summary, table


def chain(base: registry.Version | None, name: str, origin: downloads.Origin) -> list[downloads.Origin]:
    """The origins of the data of the version `base`, and then `origin`.

    Raises:
        InputError: where there is no champion, where one of its files is gone or has changed, and for demo data, which
            join no others.
    """
    if base is None:
        raise InputError(f"--append: expected a champion of {name}, to whose data these are added. Received: none.")
    origins = []
    for stored in load(base)[0]["sources"]:
        before = downloads.Origin(stored["kind"], stored["name"], Path(stored["path"]) if stored["path"] else None)
        if before.path and not before.path.exists():
            raise InputError(f"--append: {before.path}, which version {base.number} was trained on, is gone.")
        if _sha256(before) != stored["sha256"]:
            raise InputError(
                f"--append: {before.path} is no longer what version {base.number} was trained on: its sha256 was "
                f"{stored['sha256']}. Received: {_sha256(before)}."
            )
        if (stored["name"], stored["sha256"]) != (origin.name, _sha256(origin)):
            origins.append(before)
    if origins and not all(one.path for one in (*origins, origin)):
        raise InputError(f"--append: expected files. Received: the demo data of {name}, which join no others.")
    return [*origins, origin]


def read_all(pipeline: Pipeline, origins: Sequence[downloads.Origin], settings: Settings) -> Dataset[Any]:
    """The records of all origins as one, by the domain's own `append` if it has one."""
    data = pipeline.data
    parts = [(one.path, replace(settings, data=str(one.path) if one.kind == "own" else one.name)) for one in origins]
    if len(parts) == 1:
        return data.read(*parts[0])
    return data.CAPABILITIES.append(parts) if data.CAPABILITIES.append else join([data.read(*part) for part in parts])


def _sha256(origin: downloads.Origin) -> str:
    return downloads.sha256(origin.path) if origin.path else ""


def load(version: registry.Version) -> tuple[dict[str, Any], pd.DataFrame]:
    """The summary and the table that the version's run holds; not to be changed.

    Raises:
        InputError: for a version that was registered before records had an identity that later files share.
    """
    summary, table = _fetched(version.run_id)
    if "key" not in summary:
        raise InputError(
            f"Version {version.number} of {version.name} was registered by an earlier release of this project, which "
            "recognised records in another way: train a new model under another name, with --name."
        )
    return summary, table


def identities_for(version: registry.Version, data: Dataset[Any]) -> np.ndarray:
    """The identities of the records by the columns by which the version recognises them, uint64 (n,).

    Raises:
        InputError: if one of these columns is missing.
    """
    return identities(data.records, load(version)[0]["key"])


@lru_cache(maxsize=4)  # of champion, start and new version, each of which is asked several times, perhaps over HTTP
def _fetched(run_id: str) -> tuple[dict[str, Any], pd.DataFrame]:
    summary = json.loads(tracking.fetch(run_id, SUMMARY).read_text())
    return summary, pd.read_parquet(tracking.fetch(run_id, TABLE))


def trained_on(version: registry.Version, data: Dataset[Any]) -> np.ndarray:
    """Whether the version or an ancestor has learnt from each record, its group or its day, bool (n,).

    Learning includes stopping, calibration and thresholds. With a time axis everything before its test period counts as
    seen: what happened then is no longer news to it, and labels of those days may reach into its training. Ancestors
    are the versions whose weights it goes back to; the tag `ancestors` holds their numbers.

    Raises:
        InputError: if an ancestor has been deleted, since then nobody knows what it learnt from.
    """
    seen = np.zeros(len(data), bool)
    for ancestor in version.tags.get("ancestors", "").split():
        seen |= _trained_on(registry.find(version.name, ancestor), data)
    return seen | _trained_on(version, data)


def _trained_on(version: registry.Version, data: Dataset[Any]) -> np.ndarray:
    summary, table = load(version)
    seen = learnt_from(table, data, identities_for(version, data))
    if "time" in data and "time" in summary["test"]:
        seen |= (data.records["time"] < pd.Timestamp(summary["test"]["time"][0])).to_numpy()
    return seen


def keep_sides(splits: Splits, data: Dataset[Any], champion: registry.Version | None) -> Splits:
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
    records = data.records
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
    stored = _stored(table["identity"], table["side"], identities_for(champion, data))
    if "group" in records and "group" in table:
        of_group = _stored(table["group"], table["side"], cell_hashes(records["group"]))
        stored = stored.where(stored.notna() | records["group"].isna().to_numpy(), of_group)
    before = stored.map(sides.index, na_action="ignore").to_numpy(float)
    now = np.full(len(records), -1)
    for number, rows in enumerate(splits.sides().values()):
        now[rows] = number
    now = np.where((now >= 0) & ~np.isnan(before), before, now)
    return splits.with_sides({side: np.flatnonzero(now == number) for number, side in enumerate(sides)})


def _stored(identity: pd.Series, side: pd.Series, asked: np.ndarray) -> pd.Series:
    """The stored side of each of the `asked` identities, missing for one that has none."""
    known = pd.Series(side.to_numpy(), identity.to_numpy())
    return known[~known.index.duplicated()].reindex(asked).reset_index(drop=True)


def drop_seen_records(splits: Splits, data: Dataset[Any], start: registry.Version) -> Splits:
    """The splits without records that the version `start`, from whose weights training begins, has learnt from.

    Test loses all that this version or one that it goes back to has learnt from, validation what it was trained on.

    Raises:
        InputError: where no test record is left.
    """
    summary, table = load(start)
    trained = learnt_from(table[table["side"] == "train"], data, identities_for(start, data))
    if "time" in data and "time" in summary["train"]:
        trained |= (data.records["time"] <= pd.Timestamp(summary["train"]["time"][1])).to_numpy()
    valid = ~trained[splits.validation]
    if not valid.all():
        reason = f"validation records that version {start.number} was trained on"
        splits = replace(splits, validation=splits.validation[valid],
                         left_out=splits.left_out | {reason: int((~valid).sum())})  # fmt: skip
    reason = f"test records that version {start.number} or one before it learnt from"
    return _tested(splits, ~trained_on(start, data)[splits.test], reason, (
        f"--from: version {start.number} of {start.name} has learnt from all test records: expected some that are new."
    ))  # fmt: skip


def _tested(splits: Splits, kept: np.ndarray, reason: str, fault: str) -> Splits:
    """The splits with the `kept` test records alone, bool (test,), the others counted; raises if there are none."""
    if not kept.any():
        raise InputError(fault)
    left_out = splits.left_out | ({reason: int((~kept).sum())} if not kept.all() else {})
    return replace(splits, test=splits.test[kept], left_out=left_out)


def missing_columns(data: Dataset[Any], version: registry.Version) -> list[str]:
    """Columns that the version reads and the records do not have."""
    return sorted(set(version.tags.get("features", "").split("\n")) - {"", *data.records.columns})


def learnt_from(table: pd.DataFrame, data: Dataset[Any], identity: np.ndarray) -> np.ndarray:
    """Whether the network with this manifest was fitted, stopped or calibrated on each record or its group, bool (n,).

    Args:
        table: of the manifest.
        data: the records asked about.
        identity: theirs, by the key of the manifest.
    """
    used = table[table["side"].isin(["train", "validation"])]
    known = np.isin(identity, used["identity"])
    if "group" in used and "group" in data:
        group = data.records["group"]
        known |= np.isin(cell_hashes(group), used["group"]) & group.notna().to_numpy()
    return known


def _summary(frame: pd.DataFrame, identity: np.ndarray) -> dict[str, Any]:
    columns = {"record": identity}
    summary: dict[str, Any] = {"rows": len(frame)}
    if "label" in frame:
        label = frame["label"]
        columns["label"] = label.to_numpy(np.float64)
        if types.is_integer_dtype(label):
            summary["labels"] = {str(value): int(count) for value, count in label.value_counts().sort_index().items()}
    both = hash_pandas_object(pd.DataFrame(columns), index=False)
    summary["sha256"] = hashlib.sha256(np.sort(both).astype("<u8").tobytes()).hexdigest()
    if "time" in frame:
        summary["time"] = [frame["time"].min().isoformat(), frame["time"].max().isoformat()]
    return summary
