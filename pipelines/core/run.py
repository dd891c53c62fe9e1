"""The line: data → split → build → fit → evaluate → record → promote."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.core import device, sources
from pipelines.core.pipeline import Pipeline, Settings

if TYPE_CHECKING:
    from pipelines.core.trial import Outcome


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
        from pipelines.core import checks, record, rerun, tracking
        from pipelines.core.conclude import Trained, conclude
        from pipelines.core.trial import trial

    tracking.connect()
    machine = device.setup(settings.seed, settings.device, settings.precision, settings.gpus)
    past, settings = rerun.gather(pipeline, settings, origin, records)
    records = past.records
    splits = past.kept(pipeline.data.split(records, settings))
    features = pipeline.data.learn(records.iloc[splits.train], settings)["features"]
    splits = checks.refuse_leaks(pipeline, records, splits, settings.allow_column, features)

    with tracking.run(pipeline, origin.name) as run_id:
        record.begin(pipeline, settings, machine, past.origins, records, splits)
        epochs = tracking.Epochs()
        outcome = trial(pipeline, records, splits, settings, machine, epochs, start=past.start)
        conclude(Trained(replace(outcome, drift=past.drift), past.origins, past.name, run_id, epochs), past.champion)
    return outcome
