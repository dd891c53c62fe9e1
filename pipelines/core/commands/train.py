"""The line: data → split → build → fit → evaluate → record → promote."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.core.contract import Pipeline, Settings
from pipelines.core.reading import downloads
from pipelines.core.training import device
from pipelines.core.training.steps import step

if TYPE_CHECKING:
    from pipelines.core.training.trial import Outcome


def train(pipeline: Pipeline, settings: Settings) -> Outcome:
    """One trial, recorded and promoted. Bad input makes no run; Ctrl-C ends the run as KILLED.

    Raises:
        InputError: if the data cannot be used.
    """
    origin = downloads.resolve(settings.data, pipeline, Path.cwd())
    if settings.examples == "auto":
        settings = replace(settings, examples="ids" if origin.kind == "own" else "full")
    if settings.append or settings.from_:
        from pipelines.core.store import registry

        registry.require_base(pipeline, settings, origin)
    data = None
    if not settings.append:
        with step("data", origin.name, live=False):
            data = pipeline.data.read(origin.path, settings)
        print(pipeline.data.describe(data))

    # Imported only now, so that a fault in the data is reported at once and not seconds later.
    with step("device") as shown, device.quiet():
        from pipelines.core.commands.finalize import conclude
        from pipelines.core.commands.pending import Trained
        from pipelines.core.data import leakage
        from pipelines.core.review import record
        from pipelines.core.review.run_context import load_context
        from pipelines.core.store import tracking
        from pipelines.core.training.trial import trial

        tracking.connect()
        machine = device.setup(settings.seed, settings.device, settings.precision, settings.gpus)
        shown.text = f"{machine.device}, {machine.precision}"
    with step("context", live=False) as shown:
        context, settings = load_context(pipeline, settings, origin, data)
        champion = f"version {context.champion.number}" if context.champion else "none yet"
        shown.text = f"registered model {context.name}, champion: {champion}"
    with step("split") as shown:
        data = context.data
        splits = context.assign_sides(pipeline.data.split(data, settings))
        facts = pipeline.data.learn(data.take(splits.train), settings)
        classes = pipeline.task.classes(facts)
        splits = leakage.refuse_leaks(data, splits, classes, facts.features, settings.allow_column)
        if inspect := pipeline.data.CAPABILITIES.inspect:
            splits = inspect(data, splits, facts, settings)
        sizes = ", ".join(f"{len(rows):,} {side}" for side, rows in splits.sides().items())
        shown.text = f"{sizes}, {splits.rule}"
    for warning in splits.warnings:
        print(f"WARNING: {warning}")

    with tracking.run(pipeline, origin.name) as run_id:
        with step("open run", run_id):
            record.begin(pipeline, settings, machine, context.origins, data, splits)
        epochs = tracking.Epochs()
        outcome = trial(pipeline, data, splits, settings, machine, epochs, start=context.start)
        trained = Trained(outcome, context.origins, context.name, run_id, epochs, context.drift)
        conclude(trained, context.champion)
    return outcome
