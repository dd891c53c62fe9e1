"""The verdict on a run in words, and the sections of its report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from pipelines.core.contract import Settings
from pipelines.core.evaluation import drift, promises
from pipelines.core.reading.downloads import Origin
from pipelines.core.report import captions, html
from pipelines.core.report.items import Item
from pipelines.core.report.names import minus
from pipelines.core.report.sections import sections as as_sections
from pipelines.core.review import gates
from pipelines.core.review.compatibility import FEWEST, WARN, Drift
from pipelines.core.review.promotion import Decision
from pipelines.core.store import registry
from pipelines.core.training.batches import predict
from pipelines.core.training.trial import NETWORK, Outcome

KINDS = {
    "champion": "Champion, the version in use",
    "challenger": "Challenger, a version that is kept but not in use",
    "refused": "Refused, a version that is kept but should not be used",
}


def flags(settings: Settings) -> dict[str, Any]:
    """The settings under the names of their flags."""
    return {name.rstrip("_"): value for name, value in asdict(settings).items()}


def verdict(
    outcome: Outcome, decision: Decision, version: registry.Version, origin: Origin, looks: int, changed: Drift | None
) -> list[str]:
    """The verdict in Markdown paragraphs, the most important first.

    Which model to use and which promises are broken; how good it is in the user's words; warnings; what to do next;
    what was predicted on which data, and what the figures rest on.
    """
    pipeline, splits = outcome.pipeline, outcome.splits
    left_out = "; ".join(f"{count:,} {reason}" for reason, count in splits.left_out.items())
    left_out = f" Excluded: {left_out}." if left_out else ""
    caution = f" {pipeline.demos[origin.name]}" if origin.kind == "demo" else ""
    known = " ".join([*changed.sentences(), changed.warning]) if changed else ""
    comparison = str(decision.comparison) if decision.comparison else ""
    paragraphs = [
        f"{decision.reason} {decision.warning}".strip(),
        f"**Predicted:** {pipeline.title}. Data: {origin.name}, {len(outcome.headline):,} test rows.{caution}",
        *pipeline.remarks(outcome),
        *(f"**Warning:** {warning}" for warning in [*splits.warnings, shift(outcome)] if warning),
        f"**Next:** {next_step(outcome, decision, version)}",
        f"{KINDS[decision.kind]}: version {version.number} of `{version.name}`. Split {splits.rule}; 95 % "
        f"intervals from {outcome.resampled.unit}. {earlier_evaluations(looks)}{left_out}",
        comparison if comparison not in ("", decision.reason) else "",
        known.strip(),
        outcome.reused,
    ]
    return [paragraph for paragraph in paragraphs if paragraph]


def shift(outcome: Outcome) -> str:
    """What it means where scores of test records are not like those that set calibration and thresholds, or "".

    Judged by the population stability index beyond what chance alone gives, see `compatibility`.
    """
    calibration, now = outcome.parts["calibration"], outcome.models[NETWORK].scores
    if outcome.pipeline.task.kind != "classes" or now is None or min(len(calibration), len(now)) < FEWEST:
        return ""
    then = outcome.pipeline.task.scores(predict(outcome.network, calibration), outcome.facts)
    index = 0.0
    for before, after in zip(drift.columns(then), drift.columns(now), strict=True):
        bins = drift.binned(before)
        chance = (len(bins["counts"]) - 2) * (1 / len(before) + 1 / len(after))
        index = max(index, drift.psi(np.array(bins["counts"]), drift.counts(after, bins)) - chance)
    if index < WARN:
        return ""
    return (
        "The network's scores of test records differ from those of the validation records that set calibration and "
        f"thresholds (population stability index {index:.2f} beyond chance, from {WARN:g} on it matters): "
        "probabilities and thresholds may be off. Set them again on labelled records of the place and time of use."
    )


def next_step(outcome: Outcome, decision: Decision, version: registry.Version) -> str:
    """What to do now, with the command to type."""
    name = outcome.pipeline.name
    own = f' --name "{version.name}"' if version.name != name else ""
    if decision.kind == "champion":
        return f"score new data with `make predict NAME={name} DATA=FILE ARGS='--out decisions.csv{own}'`."
    if decision.better_baseline:
        place = outcome.pipeline.module.replace(".", "/")
        return (
            f"take {decision.better_baseline} from the baselines in `{place}/`, or train the network on more data; to "
            f"use it all the same, by your own decision: `{registry.promotion_command(version, name)}`."
        )
    if decision.kind == "challenger":
        promote = registry.promotion_command(version, name)
        return f"read the checks below; to use this version all the same, by your own decision: `{promote}`."
    return (
        "read the checks below, look at the data and the settings, and train again with more or better labelled "
        f"records: `make {name} DATA=FILE`."
    )


def earlier_evaluations(looks: int) -> str:
    """How often a network was evaluated on these test records before, in a sentence."""
    if not looks:
        return "First evaluation on this test set."
    times = "once" if looks == 1 else f"{looks} times"
    return f"Some of these test records were used {times} before, which makes the checks stricter."


def tables(outcome: Outcome, decision: Decision) -> list[str]:
    """Headline, gates and promises in Markdown, for the description, where no figure can stand."""
    rows = [f"| {model} | {interval} |" for model, interval in headlines(outcome, decision).items()]
    ladder = "\n".join([f"| | {outcome.pipeline.headline.words} |", "|---|---|", *rows])
    checks = [f"- Check: {gate}" for gate in decision.gates]
    checks += [f"- Promise: {promise}: {promise.state}" for promise in decision.promises]
    return [ladder, "\n".join(checks)]


def checks(decision: Decision) -> list[Item]:
    """The gates and the promises as tables."""
    items = [Item("checks against baselines", gates.frame(decision.gates), captions.CHECKS)]
    if decision.promises:
        table = promises.frame(decision.promises)
        table["measured on test"] = table["measured on test"].map(minus)
        items.append(Item("promises", table, captions.PROMISES))
    return items


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
    sides = {side: rows for side, rows in outcome.splits.sides().items() if len(rows)}
    data = pd.DataFrame({"side": list(sides), "rows": [len(rows) for rows in sides.values()]})
    for code, name in enumerate(outcome.pipeline.task.classes(outcome.facts)):
        labels = outcome.data.records["label"].to_numpy()
        data[name] = [int((labels[rows] == code).sum()) for rows in sides.values()]
    notes = dict.fromkeys([*outcome.data.notes, *outcome.facts.notes])
    settings = pd.DataFrame(flags(outcome.settings).items(), columns=["setting", "value"]).astype(str)
    cost = pd.DataFrame({"step": list(outcome.cost), "seconds": list(outcome.cost.values())})
    return [
        *as_sections(items),
        html.Section("Data", [data, *notes], caption=captions.DATA),
        html.Section("Settings", [settings, cost], folded=True, caption=captions.SETTINGS),
    ]
