"""`evaluate`: score a registered version on other labelled data; nothing is trained."""

from __future__ import annotations

from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console

from pipelines.core.contract import InputError, Pipeline
from pipelines.core.data.arrays import Part
from pipelines.core.data.dataset import Dataset
from pipelines.core.data.identity import identities
from pipelines.core.data.splits import Splits
from pipelines.core.reading import downloads
from pipelines.core.reading.downloads import Origin
from pipelines.core.store import isolation, manifest, registry, tags, tracking
from pipelines.core.store.looks import looks as count_looks
from pipelines.core.store.model_names import check_name
from pipelines.core.training import device
from pipelines.core.training.steps import step

if TYPE_CHECKING:
    from pipelines.core.serving.model import Scorer
    from pipelines.core.training.trial import Outcome

EXAMPLES = ("none", "ids", "full")
"""Values of `--examples`, the strictest first."""


def evaluate(pipeline: Pipeline, *, data: str, history: str = "", version: str = "champion", name: str = "") -> None:
    """Score a registered version on labelled data and record metrics, intervals and figures; train nothing.

    Records that the version has learnt from are context only, as are their groups and, where records have a time,
    records from before the version's test period; their number is reported.

    Args:
        pipeline: whose version it is.
        data: Labelled data: demo, the name of a public set, or the path of your own.
        history: Earlier records, such as past payments with their labels: read beside the data, but not scored.
        version: The version to score: champion, or its number.
        name: Registered model; by default the pipeline's name on your own data, else PIPELINE-DATA.
    """
    check_name(name)
    origin = downloads.resolve(data, pipeline, Path.cwd())
    earlier = [downloads.resolve(history, pipeline, Path.cwd())] if history else []
    tracking.connect()
    model = registry.find_version(pipeline, version, name, origin)
    # Imported only now, so that a version that does not exist is reported at once.
    with step("device") as shown, device.quiet():
        from pipelines.core.review import record

        scorer = isolation.load(model.uri)
        settings = settings_of(pipeline, scorer, data, model.name, origin)
        machine = device.setup(settings.seed, settings.device, settings.precision, settings.gpus)
        shown.text = f"{machine.device}, {machine.precision}"
    with step("data", origin.name, live=False):
        asked = manifest.read_all(pipeline, [origin], settings)
        every = manifest.read_all(pipeline, [*earlier, origin], settings) if history else asked
    print(pipeline.data.describe(asked))
    wanted = np.isin(every.identity, identities(asked.records, every.key))
    if adopt := pipeline.data.CAPABILITIES.adopt:
        every = adopt(every, scorer.facts)
    splits = select_unseen(pipeline, every, model, wanted)

    with tracking.run(pipeline, origin.name) as run_id:
        with step("open run", run_id):
            record.begin(pipeline, settings, machine, [*earlier, origin], every, splits)
        looks = count_looks(pipeline, run_id)
        tracking.set_tags({"kind": "evaluate", "model": model.name, "version": str(model.number)})
        with step("evaluate", f"{len(splits.test):,} rows"):
            outcome = score_version(pipeline, every, splits, settings, machine, model, scorer)
        with step("record", run_id):
            title, description = _record(outcome, model, origin, looks, run_id)
    lines = ["", title, *(paragraph.replace("**", "") for paragraph in description), tracking.report_at(run_id)]
    Console().print("\n".join(lines), soft_wrap=True, highlight=False, markup=False)


def _record(
    outcome: Outcome, version: registry.Version, origin: Origin, looks: int, run_id: str
) -> tuple[str, list[str]]:
    """Log the results and the report; return the run's name and the paragraphs of its description."""
    from pipelines.core.review import record
    from pipelines.core.training.trial import NETWORK

    headline, description = outcome.pipeline.headline, _description(outcome, version, origin, looks)
    own = outcome.resampled.interval(NETWORK, headline.name)
    title = f"evaluated · {headline.short or headline.words} {own.value:.3f} · {origin.name}"
    record.publish(outcome, title, description, {f"version {version.number}": own}, record.results(outcome).items)
    tracking.set_tags({tags.HEADLINE: str(own), tags.DECISION: f"evaluated version {version.number}"})
    tracking.rename(run_id, title, "\n\n".join(description))
    return title, description


def settings_of(pipeline: Pipeline, scorer: Scorer, data: str, name: str, origin: Origin) -> Any:
    """The settings that the version was trained with, for these data; prints those that no longer exist.

    What may be stored is the stricter of what the training allowed and of what is usual for the data.
    """
    known = {one.name for one in fields(pipeline.settings)}
    stored = {key: tuple(value) if isinstance(value, list) else value for key, value in scorer.settings.items()}
    if dropped := sorted(set(stored) - known):
        print(f"Settings of the version that no longer exist are ignored: {', '.join(dropped)}.")
    kept: dict[str, Any] = {key: value for key, value in stored.items() if key in known}
    settings: Any = pipeline.settings(**kept)
    usual = "ids" if origin.kind == "own" else "full"
    allowed = settings.examples if settings.examples in EXAMPLES else usual
    return replace(settings, data=data, name=name, examples=min(allowed, usual, key=EXAMPLES.index))


def select_unseen(pipeline: Pipeline, data: Dataset[Any], version: registry.Version, wanted: np.ndarray) -> Splits:
    """The split whose test side are the wanted labelled records that the version has not learnt from.

    Args:
        pipeline: whose version it is.
        data: every record.
        version: the registered version.
        wanted: bool (n,), records to score.

    Raises:
        InputError: where there is none, or where a column that the version reads is missing.
    """
    missing = manifest.missing_columns(data, version)
    if missing:
        raise InputError(f"Expected the column '{missing[0]}', which version {version.number} of {version.name} reads.")
    labelled = data.labelled & wanted
    seen = manifest.trained_on(version, data) & labelled
    if not (labelled & ~seen).any():
        raise InputError(
            f"Expected labelled records that version {version.number} of {version.name} has not learnt from. Received: "
            f"{len(data):,} records, {labelled.sum():,} with a label, of which it has learnt from {seen.sum():,}."
        )
    reason = (
        f"records that version {version.number} has learnt from, their groups, and records from before its test period"
    )
    left_out = {reason: int(seen.sum())} if seen.any() else {}
    splits = pipeline.data.select_test(data, np.flatnonzero(labelled & ~seen))
    return replace(splits, rule="every labelled record is scored", left_out=left_out)


def score_version(
    pipeline: Pipeline,
    data: Dataset[Any],
    splits: Splits,
    settings: Any,
    machine: device.Device,
    version: registry.Version,
    scorer: Scorer,
) -> Outcome:
    """The version's scores of the test side, by the code that it carries, with today's metrics."""
    from pipelines.core.training.batches import predict
    from pipelines.core.training.scoring import score
    from pipelines.core.training.trial import NETWORK, Clock, Outcome, resample

    clock, rows, facts = Clock(), splits.test, scorer.facts
    encoded = pipeline.data.encode(data, facts)
    sides = {"train": rows[:0], "stopping": rows[:0], "calibration": rows[:0], "test": rows}
    parts = {side: Part(data, at, encoded) for side, at in sides.items()}
    clock.lap("inputs")
    if version.same_code(pipeline):
        scored = score(partial(predict, scorer.network), parts["test"], pipeline.task, facts)
    else:
        scored = isolation.score(version.uri, False, data, rows)
    clock.lap("scoring")
    models = {NETWORK: scored}
    resampled = resample(pipeline, facts, parts["test"], splits, models)
    clock.lap("intervals")
    return Outcome(
        pipeline, settings, machine, splits, facts, parts, scorer.network, None, models, resampled, clock.laps
    )


def _description(outcome: Outcome, version: registry.Version, origin: Origin, looks: int) -> list[str]:
    """The run's description: what was scored, and how."""
    from pipelines.core.review import verdict
    from pipelines.core.training.trial import NETWORK

    headline = outcome.pipeline.headline
    left_out = "".join(f" Excluded: {count:,} {reason}." for reason, count in outcome.splits.left_out.items())
    caution = f" {outcome.pipeline.demos[origin.name]}" if origin.kind == "demo" else ""
    return [
        f"**Version {version.number} of {version.name}, scored without training.** {headline.words}: "
        f"{outcome.resampled.interval(NETWORK, headline.name)} on {len(outcome.headline):,} rows; 95 % interval from"
        f" {outcome.resampled.unit}.",
        f"Data: {origin.name}.{caution}{left_out} {verdict.earlier_evaluations(looks)}",
    ]
