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
        from pipelines.core import checks, drift, manifest, record, registry, tracking, warm
        from pipelines.core.conclude import Trained, conclude
        from pipelines.core.trial import trial

    tracking.connect()
    name = record.registered_name(pipeline, settings, origin)
    champion, origins = registry.champion(name), [origin]
    base = registry.find(name, settings.from_) if settings.from_ else champion
    if records is None:
        origins = manifest.chain(base, name, origin)
        print(f"Together: {', '.join(one.name for one in origins)}.")
        records = manifest.read_all(pipeline, origins, settings)
        print(pipeline.data.describe(records))
    changed = drift.compare(pipeline, records, champion, settings) if champion else None
    if changed:
        changed.show()
    machine, start = device.setup(settings.seed, settings.device, settings.precision, settings.gpus), None
    if settings.from_:
        start = warm.load(base)
        settings = replace(settings, from_=str(start.version.number))
        records = pipeline.data.adopt(records, start.facts) if hasattr(pipeline.data, "adopt") else records

    splits = manifest.keep_sides(pipeline.data.split(records, settings), records, champion)
    if start:
        splits = manifest.unlearnt(splits, records, start.version)
    features = pipeline.data.learn(records.iloc[splits.train], settings)["features"]
    splits = checks.refuse_leaks(pipeline, records, splits, settings.allow_column, features)

    with tracking.run(pipeline, origin.name) as run_id:
        record.begin(pipeline, settings, machine, origins, records, splits)
        epochs = tracking.Epochs()
        outcome = trial(pipeline, records, splits, settings, machine, epochs, start=start)
        conclude(Trained(replace(outcome, drift=changed), origins, name, run_id, epochs), champion)
    return outcome
