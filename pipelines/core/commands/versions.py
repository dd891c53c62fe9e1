"""What a person does with the registered versions of a pipeline: look at them, promote one, go back."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from rich import box
from rich.console import Console
from rich.table import Column, Table

from pipelines.core.contract import InputError, Pipeline
from pipelines.core.store import champions, registry, tags, tracking

COLUMNS = ("version", "alias", "data", "headline", "decision")


def history(pipeline: Pipeline, *, name: str = "") -> None:
    """Show every version: its data, its headline figure with the interval, what was decided about it and when.

    Args:
        name: Registered model; by default the one named as the pipeline, or its only one.
    """
    tracking.connect()
    model = registry.model_name(pipeline, name)
    aliases = registry.aliases(model)
    table = Table(*COLUMNS, Column("date", no_wrap=True), title=model, box=box.SIMPLE)
    for version in registry.versions(model):
        known = version.tags
        made = datetime.fromtimestamp(version.created / 1000, UTC)
        alias = ", ".join(aliases.get(version.number, []))
        row = (str(version.number), alias, known.get(tags.DATA, ""), known.get(tags.HEADLINE, ""))
        table.add_row(*row, _decision(known), f"{made:%Y-%m-%d}")
    Console().print(table)


def promote(pipeline: Pipeline, *, version: int = 0, why: str = "", rollback: bool = False, name: str = "") -> None:
    """Make a version champion by your own decision, or go back to the previous champion.

    Args:
        version: Number of the version to make champion.
        why: Your reason, which is written on the version.
        rollback: Go back to the champion before today's.
        name: Registered model; by default the one named as the pipeline, or its only one.
    """
    if rollback == bool(version):
        raise InputError(f"promote takes --version N or --rollback. Received: {'both' if rollback else 'neither'}.")
    if version and not why.strip():
        raise InputError('promote --version takes your reason, --why "…". Received: none.')
    tracking.connect()
    model = registry.model_name(pipeline, name)
    with tracking.locked():
        if rollback:
            _roll_back(model, why)
        else:
            _promote(registry.find(model, str(version)), why)


def _promote(version: registry.Version, why: str) -> None:
    before = champions.current(version.name)
    if before and before.number == version.number:
        raise InputError(f"version {version.number} of {version.name} is the champion already.")
    champions.set_champion(version)
    registry.tag_version(version, _decided("champion", why))
    instead = f" instead of version {before.number}" if before else ""
    print(f"Version {version.number} of {version.name} is champion now{instead}, by your decision: {why}")


def _roll_back(model: str, why: str) -> None:
    left, back = champions.rollback(model)
    registry.tag_version(left, _decided("rolled back", why or f"Rolled back to version {back.number}."))
    registry.tag_version(back, _decided("champion", why or f"Rolled back from version {left.number}."))
    print(f"Version {back.number} of {model} is champion again instead of version {left.number}.")


def _decision(known: Mapping[str, str]) -> str:
    """What was decided about a version, by whom or against which champion."""
    decision = known.get(tags.DECISION, "undecided")
    if known.get(tags.DECIDED_BY) == "person":
        return f"{decision} by a person: {known[tags.REASON]}"
    if "verdict" not in known:
        return decision
    than = "than" if known["verdict"] in ("better", "worse") else "to"
    return f"{decision}: {known['verdict']} {than} version {known['compared_with']}"


def _decided(decision: str, why: str) -> dict[str, str]:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {tags.DECISION: decision, tags.DECIDED_BY: "person", tags.REASON: why, tags.DECIDED_AT: now}
