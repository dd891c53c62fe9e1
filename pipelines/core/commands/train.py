"""The line: data → split → build → fit → evaluate → record → promote."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.core.contract import Pipeline, Settings
from pipelines.core.reading import sources
from pipelines.core.training import device

if TYPE_CHECKING:
    from pipelines.core.training.trial import Outcome


def train(pipeline: Pipeline, settings: Settings) -> Outcome:
    """One trial, recorded and promoted. Bad input makes no run; Ctrl-C ends the run as KILLED.

    Raises:
        InputError: if the data cannot be used.
    """
    origin = sources.resolve(settings.data, pipeline, Path.cwd())
    if settings.examples == "auto":
        settings = replace(settings, examples="ids" if origin.kind == "own" else "full")
    records = None
    if not settings.append:
        records = pipeline.data.read(origin.path, settings)
        print(pipeline.data.describe(records))

    # Imported only now, so that a fault in the data is told at once and not after the seconds that these take.
    with device.quiet():
        from pipelines.core.commands.finalize import conclude
        from pipelines.core.commands.pending import Trained
        from pipelines.core.data import leakage
        from pipelines.core.review import record
        from pipelines.core.review.context import load_context
        from pipelines.core.store import tracking
        from pipelines.core.training.trial import trial

    tracking.connect()
    machine = device.setup(settings.seed, settings.device, settings.precision, settings.gpus)
    context, settings = load_context(pipeline, settings, origin, records)
    records = context.records
    splits = context.assign_sides(pipeline.data.split(records, settings))
    features = pipeline.data.learn(records.iloc[splits.train], settings)["features"]
    splits = leakage.refuse_leaks(pipeline, records, splits, settings.allow_column, features)

    with tracking.run(pipeline, origin.name) as run_id:
        record.begin(pipeline, settings, machine, context.origins, records, splits)
        epochs = tracking.Epochs()
        outcome = trial(pipeline, records, splits, settings, machine, epochs, start=context.start)
        trained = Trained(outcome, context.origins, context.name, run_id, epochs, context.drift)
        conclude(trained, context.champion)
    return outcome
