"""A version on other labelled data: scored as a test set is, and nothing is trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console

from pipelines.core.contract import InputError, Pipeline, Settings
from pipelines.core.data.arrays import Part
from pipelines.core.data.dataset import record_hashes
from pipelines.core.data.splits import Splits
from pipelines.core.evaluation.bootstrap import bootstrap as resample
from pipelines.core.reading import sources
from pipelines.core.reading.sources import Origin
from pipelines.core.review import record, verdict
from pipelines.core.serving import model
from pipelines.core.store import isolation, manifest, registry, tracking
from pipelines.core.training import device
from pipelines.core.training.batches import predict
from pipelines.core.training.trial import NETWORK, Clock, Outcome


def evaluate(pipeline: Pipeline, *, data: str, history: str = "", model: str = "champion", name: str = "") -> None:
    """Scores a registered version on labelled data and records metrics, intervals and figures; trains nothing.

    Records that the version learnt from are context and are not judged, and neither is their group or, where records
    have a time, the days before the end of its training: their number is told.

    Args:
        pipeline: whose version it is.
        data: Labelled data: demo, the name of a public set, or the path of your own.
        history: What came before, such as past payments with their labels: read beside the data, which are judged.
        model: Version to score: champion, or a number.
        name: Registered model; by default the pipeline's name on your own data, else PIPELINE-DATA.
    """
    origin = sources.resolve(data, pipeline, Path.cwd())
    tracking.connect()
    version = registry.find(name or registry.registered_name(pipeline, pipeline.settings(), origin), model)
    with device.quiet():
        scored = isolation.load(version.uri)
    stored = {k: tuple(v) if isinstance(v, list) else v for k, v in scored.facts["settings"].items()}
    settings = replace(pipeline.settings(**stored), data=data, name=version.name)
    settings = replace(settings, examples="ids" if origin.kind == "own" else settings.examples)
    origins = [*([sources.resolve(history, pipeline, Path.cwd())] if history else []), origin]
    records = manifest.read_all(pipeline, origins[-1:], settings)
    print(pipeline.data.describe(records))
    asked = record_hashes(records)
    if history:
        records = manifest.read_all(pipeline, origins, settings)
    asked = np.isin(record_hashes(records), asked)
    if hasattr(pipeline.data, "adopt"):
        records = pipeline.data.adopt(records, scored.facts)
    splits = judged(pipeline, records, version, asked)

    machine = device.setup(settings.seed, settings.device, settings.precision, settings.gpus)
    with tracking.run(pipeline, origin.name) as run_id:
        record.begin(pipeline, settings, machine, origins, records, splits)
        looks = tracking.looks(pipeline, tracking.fingerprints(run_id)["test_sha256"])
        tracking.set_tags({"kind": "evaluate", "model": version.name, "version": str(version.number)})
        outcome = outcome_of(pipeline, records, splits, settings, machine, version, scored)
        told = _told(outcome, version, origin, looks)
        own = outcome.bootstrap.interval(NETWORK, pipeline.headline.name)
        headline = pipeline.headline
        title = f"{origin.name} · {headline.short or headline.name} {own.value:.3f} · evaluated"
        record.publish(outcome, title, told, {f"version {version.number}": own}, record.results(outcome))
        tracking.rename(run_id, title, "\n\n".join(told))
    console = Console()
    console.print(f"\n[bold]{title}[/bold]\n" + "\n".join(told), highlight=False)
    console.print(tracking.report_at(run_id), soft_wrap=True, highlight=False)


def judged(pipeline: Pipeline, records: pd.DataFrame, version: registry.Version, asked: np.ndarray) -> Splits:
    """The split whose test side are those labelled records of the `asked` ones, a mask, that the version did not learn.

    Raises:
        InputError: where there is none, or where a column that the version reads is missing.
    """
    missing = manifest.lacking(records, version)
    if missing:
        raise InputError(f"Expected the column '{missing[0]}', which version {version.number} of {version.name} reads.")
    labelled = (records["label"] >= 0).to_numpy() & asked
    learnt = manifest.trained_on(version, records) & labelled
    if not (labelled & ~learnt).any():
        raise InputError(
            f"Expected labelled records that version {version.number} of {version.name} did not learn from. Received: "
            f"{len(records):,} records, {labelled.sum():,} with a label, of which it learnt from {learnt.sum():,}."
        )
    reason = f"that version {version.number} learnt from, their groups, and what is from before the end of its training"
    left_out = {reason: int(learnt.sum())} if learnt.any() else {}
    splits = pipeline.data.judged(records, np.flatnonzero(labelled & ~learnt))
    return replace(splits, rule="every labelled record is judged", left_out=left_out)


def outcome_of(
    pipeline: Pipeline,
    records: pd.DataFrame,
    splits: Splits,
    settings: Settings,
    machine: device.Device,
    version: registry.Version,
    scored: model.Scorer,
) -> Outcome:
    """The version's scores of the test side, by the code that it carries, and what today's metrics make of them."""
    clock, rows = Clock(), splits.test
    inputs = pipeline.data.decode(records, scored.facts)
    sides = {"train": rows[:0], "stopping": rows[:0], "calibration": rows[:0], "test": rows}
    parts = {side: Part(records, at, inputs) for side, at in sides.items()}
    clock.lap("inputs")
    if version.tags.get("code_sha256") == isolation.code_sha256(pipeline):
        outputs = predict(scored.network, parts["test"])
        scores = pipeline.report.scores(outputs, scored.facts)
    else:
        outputs, scores = isolation.score(version.uri, False, records, rows)
    clock.lap("scoring")
    part = parts["test"].take(splits.counted)
    clusters = {column: part.frame[column] for column in splits.clusters}
    models = {NETWORK: scores[splits.counted]}
    bootstrap = resample(pipeline.report.metrics(part), part.labels, models, part.weights, clusters)
    clock.lap("intervals")
    return Outcome(
        pipeline, settings, machine, splits, scored.facts, parts, scored.network, None, outputs, scores, {}, bootstrap,
        clock.laps,
    )  # fmt: skip


def _told(outcome: Outcome, version: registry.Version, origin: Origin, looks: int) -> list[str]:
    """The run's description: what was scored, and how."""
    headline = outcome.pipeline.headline.name
    left_out = "".join(f" Left out: {count:,} {reason}." for reason, count in outcome.splits.left_out.items())
    caution = f" {outcome.pipeline.demos[origin.name]}" if origin.kind == "demo" else ""
    return [
        f"**Version {version.number} of {version.name}, scored as it stands.** {headline}: "
        f"{outcome.bootstrap.interval(NETWORK, headline)} on {len(outcome.headline):,} rows; 95 % interval from"
        f" {outcome.bootstrap.unit}.",
        f"Data: {origin.name}.{caution}{left_out} {verdict.looked_at(looks)}",
    ]
