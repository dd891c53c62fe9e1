"""The record of a run: parameters, datasets, metrics, figures, tables, the verdict and the model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console

from pipelines.core.contract import Pipeline, Settings
from pipelines.core.data.dataset import Dataset
from pipelines.core.data.splits import Splits
from pipelines.core.evaluation import drift
from pipelines.core.evaluation.bootstrap import Interval
from pipelines.core.evaluation.promises import Promise
from pipelines.core.reading.downloads import Origin
from pipelines.core.report import captions, figures, html, numbers
from pipelines.core.report.items import Item
from pipelines.core.review import compatibility
from pipelines.core.review.compatibility import Drift
from pipelines.core.review.gates import best_baseline
from pipelines.core.review.promotion import Decision
from pipelines.core.review.verdict import checks, flags, headlines, ladder, next_step, sections, tables, verdict
from pipelines.core.serving.model import learnt
from pipelines.core.store import isolation, manifest, registry, tags, tracking
from pipelines.core.training import device
from pipelines.core.training.cost import multiply_adds
from pipelines.core.training.trial import NETWORK, Outcome

PREDICTIONS = "test_predictions.parquet"
EXAMPLES = 5
"""Records that the logged model's input example asks for."""
INCIDENTAL = {"seed", "data", "name", "examples"}
"""Settings that may differ between two networks of the same data, code and settings."""


def begin(
    pipeline: Pipeline,
    settings: Settings,
    machine: device.Device,
    origins: Sequence[Origin],
    data: Dataset[Any],
    splits: Splits,
) -> None:
    """Log what is known before training: settings, device, versions, data and which record is on which side.

    The last of the origins is the one that was asked for; before it come those that it is appended to.
    """
    origin = origins[-1]
    summary, table = manifest.describe(data, splits, origins)
    if len(splits.train):
        train = data.take(splits.train)
        summary |= compatibility.profile(pipeline, train, pipeline.data.learn(train, settings))
    sides = {side: summary[side]["sha256"] for side in splits.sides()}
    data_sha256 = hashlib.sha256("".join(sides.values()).encode()).hexdigest()
    tracking.set_tags(
        {
            tags.PIPELINE: pipeline.name,
            tags.DATA: origin.name,
            tags.ORIGIN: origin.kind,
            tags.MODEL: registry.registered_name(pipeline, settings, origin),
            "test_sha256": sides["test"],
            "data_sha256": data_sha256,
            "settings_sha256": settings_sha256(settings),
            "code_sha256": isolation.code_sha256(pipeline),
        }
    )
    tracking.log_params(flags(settings) | asdict(machine) | device.versions())
    tracking.log_params({"data_sha256": data_sha256, "split": splits.rule, "git_commit": tracking.git_commit()})
    for side, sha256 in sides.items():
        tracking.log_dataset(origin.name, side, sha256, str(origin.path or "demo"))
    tracking.log_json(manifest.SUMMARY, summary)
    tracking.log_parquet(manifest.TABLE, table)


def settings_sha256(settings: Settings) -> str:
    """Digest of the settings that make a network what it is, its seed aside."""
    kept = {name: value for name, value in asdict(settings).items() if name not in INCIDENTAL}
    return hashlib.sha256(json.dumps(kept, sort_keys=True, default=str).encode()).hexdigest()


def version(outcome: Outcome, origin: Origin, name: str, run_id: str) -> registry.Version:
    """Register the evaluated network as a new version of the model `name`; once for a run."""
    pipeline, headline = outcome.pipeline, outcome.pipeline.headline
    scores = outcome.models[NETWORK].scores
    bins = [] if scores is None else [drift.binned(column) for column in drift.columns(scores)]
    registered = registry.of_run(name, run_id) or registry.register(
        pipeline,
        name,
        outcome.network,
        learnt(pipeline, outcome.settings, outcome.facts, bins),
        pipeline.data.columns(outcome.facts),
        _example(outcome),
    )
    written = {
        "features": "\n".join(outcome.facts.features),
        tags.DATA: origin.name,
        tags.HEADLINE: f"{headline.short or headline.name} {outcome.resampled.interval(NETWORK, headline.name)}",
    }
    written |= {"ancestors": outcome.start.ancestors} if outcome.start else {}
    return registry.tag_version(registered, written)


@dataclass(frozen=True)
class Results:
    """What a run yields: figures, tables and files, and promises, as they are on test."""

    items: Sequence[Item]
    promises: Sequence[Promise]


def results(outcome: Outcome, changed: Drift | None = None) -> Results:
    """Log metrics, figures, tables and predictions; return what the report shows."""
    values, meanings = metrics(outcome), {}
    items = [Item(*item) for item in changed.items()] if changed else []
    promises = []
    for item in (Item(*item) for item in outcome.pipeline.report.report(outcome)):
        if isinstance(item.content, int | float | np.number):
            values[f"test/{item.name}"], meanings[item.name] = float(item.content), item.caption
        elif isinstance(item.content, Promise):
            promises.append(item.content)
        else:
            items.append(item)
    if fitted := outcome.fitted:
        curves = figures.learning_curves(fitted.epochs, fitted.kept_epoch)
        items.append(Item("learning curves", curves, captions.learning_curves(len(fitted.epochs))))
    items.append(Item("all figures", numbers.all_figures(values, meanings), captions.ALL_FIGURES))
    tracking.log_metrics(values)
    _log(items)
    if outcome.settings.examples != "none":
        tracking.log_parquet(PREDICTIONS, predictions(outcome))
    return Results(items, promises)


def finish(
    outcome: Outcome,
    decision: Decision,
    version: registry.Version,
    origin: Origin,
    looks: int,
    found: Results,
    run_id: str,
    changed: Drift | None = None,
) -> str:
    """Write the decision on the run and on the version, with the report of what was found; return the run's name."""
    headline, resampled = outcome.pipeline.headline, outcome.resampled
    paragraphs = verdict(outcome, decision, version, origin, looks, changed)
    own, best = resampled.interval(NETWORK, headline.name), best_baseline(outcome)
    title = f"{decision.kind} · {headline.short or headline.words} {own.value:.3f} · {origin.name}"
    items = checks(decision)
    _log(items)
    publish(outcome, title, paragraphs, headlines(outcome, decision), [*items, *found.items])
    written = {tags.DECISION: decision.kind, tags.REASON: decision.reason, tags.DECIDED_BY: "rule"}
    written |= decision.comparison.tags() if decision.comparison else {}
    of_run = {
        tags.HEADLINE: str(own),
        tags.BEST_BASELINE: f"{best} {resampled.interval(best, headline.name)}",
        tags.BETTER_BASELINE: decision.better_baseline,
    }
    tracking.set_tags(written | of_run)
    description = "\n\n".join([*paragraphs, *tables(outcome, decision)])
    registry.tag_version(version, written, description)
    tracking.rename(run_id, title, description)
    return title


def publish(
    outcome: Outcome,
    title: str,
    paragraphs: Sequence[str],
    headlines: Mapping[str, Interval],
    items: Sequence[Item],
) -> None:
    """Log the figure of the headlines, each model's interval, and the page that shows it above the `items`."""
    metric = outcome.pipeline.headline
    bars = Item("headline", figures.headline_bars(headlines, metric.name, metric.higher), captions.HEADLINE)
    _log([bars])
    tracking.log_text("report.html", html.render(title, "\n\n".join(paragraphs), sections(outcome, [bars, *items])))


def _log(items: Sequence[Item]) -> None:
    for item in items:
        tracking.log_item(item.name.replace(" ", "_"), item.content)


def announce(outcome: Outcome, decision: Decision, version: registry.Version, title: str, report: str) -> None:
    """Print the verdict, and where to read on."""
    headline = outcome.pipeline.headline
    own = outcome.resampled.interval(NETWORK, headline.name)
    lines = [
        "",
        title,
        f"{decision.reason} {decision.warning}".strip(),
        *outcome.pipeline.remarks(outcome)[:1],
        f"{headline.words}: network {own}; {ladder(outcome)}",
        f"Registered as version {version.number} of {version.name}. {report}",
        f"Next: {next_step(outcome, decision, version)}".replace("`", ""),
    ]
    Console().print("\n".join(lines), soft_wrap=True, highlight=False, markup=False)


def metrics(outcome: Outcome) -> dict[str, float]:
    """Every metric of the network with its interval, of each baseline, and what the run cost."""
    logged: dict[str, float] = {}
    for (model, metric), value in outcome.resampled.values.items():
        if model == NETWORK:
            interval = outcome.resampled.interval(model, metric)
            logged |= {
                f"test/{metric}": value,
                f"test/{metric}_low": interval.low,
                f"test/{metric}_high": interval.high,
            }
        else:
            logged[f"baseline/{model}/{metric}"] = value
    logged |= {f"cost/{step}_seconds": seconds for step, seconds in outcome.cost.items()}
    logged |= {"cost/parameters": outcome.network.count_params(), "cost/multiply_adds": multiply_adds(outcome.network)}
    if outcome.fitted:
        logged["cost/examples_per_second"] = outcome.fitted.examples_per_second
        logged["cost/kept_epoch"] = outcome.fitted.kept_epoch
    return logged


def _example(outcome: Outcome) -> pd.DataFrame | None:
    """A few test records as a request holds them, if they may be stored and the domain says how."""
    capabilities = outcome.pipeline.data.CAPABILITIES
    if capabilities.example is None or outcome.settings.examples != "full":
        return None
    part = outcome.parts["test"].take(np.arange(max(len(outcome.splits.test) - EXAMPLES, 0), len(outcome.splits.test)))
    rows = capabilities.history.context(part, outcome.facts) if capabilities.history else part.rows
    return capabilities.example(part.data.take(rows), outcome.facts).reset_index(drop=True)


def predictions(outcome: Outcome) -> pd.DataFrame:
    """Each test record's id, targets, whether the headline counts it, and the scores of network and baselines.

    Targets and scores of more than two dimensions, such as masks, are left out.
    """
    part = outcome.parts["test"]
    table = part.frame[["id"]].reset_index(drop=True).assign(headline=outcome.counted)
    columns = {name: rows[part.rows] for name, rows in part.encoded.targets.items() if len(rows.shape) <= 2}
    scored = {name: model.scores for name, model in outcome.models.items() if model.scores is not None}
    for name, values in (columns | scored).items():
        for number, column in enumerate(np.atleast_2d(values.T)):
            label = name if values.ndim == 1 else f"{name}_{number}"
            table[label] = column.astype(np.float32) if name in scored else column
    return table
