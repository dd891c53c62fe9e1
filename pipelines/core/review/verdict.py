"""The verdict on a run in words, and the sections of its report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd

from pipelines.core.contract import Settings
from pipelines.core.reading.downloads import Origin
from pipelines.core.report import html
from pipelines.core.report.items import Item
from pipelines.core.review import promotion
from pipelines.core.review.compatibility import Drift
from pipelines.core.review.promotion import Decision
from pipelines.core.store import registry
from pipelines.core.training.trial import NETWORK, Outcome


def flags(settings: Settings) -> dict[str, Any]:
    """The settings under the names of their flags."""
    return {name.rstrip("_"): value for name, value in asdict(settings).items()}


def verdict(
    outcome: Outcome, decision: Decision, version: registry.Version, origin: Origin, looks: int, drift: Drift | None
) -> list[str]:
    """The verdict in Markdown paragraphs: the decision, what the figures rest on, and a better baseline if any."""
    best, deficit = promotion.strongest(outcome)
    left_out = "; ".join(f"{count:,} {reason}" for reason, count in outcome.splits.left_out.items())
    caution = f" {outcome.pipeline.demos[origin.name]}" if origin.kind == "demo" else ""
    paragraphs = [
        f"**{decision.kind.capitalize()}.** {decision.reason}",
        f"Data: {origin.name}.{caution} Split {outcome.splits.rule}." + (f" Excluded: {left_out}." if left_out else ""),
        f"Headline: {outcome.pipeline.headline.name} on {len(outcome.headline):,} test rows; 95 % intervals from"
        f" {outcome.resampled.unit}. {earlier_evaluations(looks)} Version {version.number} of `{version.name}`.",
    ]
    paragraphs += [" ".join([*drift.sentences(), drift.warning])] if drift else []
    paragraphs += [outcome.reused] if outcome.reused else []
    paragraphs[1:1] = outcome.pipeline.remarks(outcome)
    if deficit.low > 0:
        paragraphs.insert(1, f"**Use {best} instead:** it is better than the network by {deficit}.")
    return paragraphs


def earlier_evaluations(looks: int) -> str:
    """How often a network was evaluated on this test set before, in a sentence."""
    if not looks:
        return "First evaluation on this test set."
    return f"This test set was used in {looks} earlier run{'s'[: looks > 1]}."


def tables(outcome: Outcome, decision: Decision) -> list[str]:
    """The headline of every model and the gates in Markdown, for the description, where no figure can stand."""
    rows = [f"| {model} | {interval} |" for model, interval in headlines(outcome, decision).items()]
    ladder = "\n".join([f"| | {outcome.pipeline.headline.name} |", "|---|---|", *rows])
    return [ladder, "\n".join(f"- Check: {gate}" for gate in decision.gates)]


def headlines(outcome: Outcome, decision: Decision) -> dict[str, Any]:
    """The headline's interval of the network, of the champion where it was compared, and of each baseline."""
    name = outcome.pipeline.headline.name
    found = {NETWORK: outcome.resampled.interval(NETWORK, name)}
    if decision.comparison and decision.comparison.other:
        found[f"champion (version {decision.comparison.champion.number})"] = decision.comparison.other
    return found | {model: outcome.resampled.interval(model, name) for model in outcome.baseline_names}


def ladder(outcome: Outcome) -> str:
    """The headline figure of each baseline, in a line."""
    name = outcome.pipeline.headline.name
    return ", ".join(f"{model} {outcome.resampled.values[model, name]:.3f}" for model in outcome.baseline_names)


def sections(outcome: Outcome, items: Sequence[Item]) -> list[html.Section]:
    """The report in reading order: what was measured, then data and settings, folded."""
    shown = [
        html.Section(item.name.capitalize(), [item.content], caption=item.caption)
        for item in items
        if not isinstance(item.content, bytes)
    ]
    sides = {side: rows for side, rows in outcome.splits.sides().items() if len(rows)}
    data = pd.DataFrame({"side": list(sides), "rows": [len(rows) for rows in sides.values()]})
    for code, name in enumerate(outcome.pipeline.task.classes(outcome.facts)):
        labels = outcome.data.records["label"].to_numpy()
        data[name] = [int((labels[rows] == code).sum()) for rows in sides.values()]
    notes = dict.fromkeys([*outcome.data.notes, *outcome.facts.notes])
    settings = pd.DataFrame(flags(outcome.settings).items(), columns=["setting", "value"]).astype(str)
    cost = pd.DataFrame({"step": list(outcome.cost), "seconds": list(outcome.cost.values())})
    return [
        *shown,
        html.Section("Data", [data, *notes]),
        html.Section("Settings", [settings, cost], folded=True),
    ]
