"""`send`: record the trainings that MLflow did not take when they ended."""

from __future__ import annotations

from dataclasses import replace

from pipelines.core.commands.finalize import conclude
from pipelines.core.commands.pending import KEPT, Trained, restore
from pipelines.core.contract import InputError, Pipeline
from pipelines.core.review import record
from pipelines.core.store import champions, tracking
from pipelines.core.training import device


def send(pipeline: Pipeline) -> None:
    """Record the trainings of the pipeline that were kept because MLflow did not take them, oldest first.

    Each goes on in the run that it began or, where this store has no such run, in a new one.
    """
    paths = sorted((KEPT / pipeline.name).glob("*.pickle"), key=lambda path: path.stat().st_mtime)
    if not paths:
        raise InputError(f"no training of {pipeline.name} waits to be sent. Received: nothing in {KEPT}.")
    tracking.connect()
    device.setup(0)
    for path in paths:
        _send(restore(path))
        path.unlink()


def _send(trained: Trained) -> None:
    outcome, origin = trained.outcome, trained.origin
    begun = tracking.holds(trained.run_id)
    with tracking.run(outcome.pipeline, origin.name, trained.run_id if begun else None) as run_id:
        if not begun:
            record.begin(
                outcome.pipeline, outcome.settings, outcome.device, trained.origins, outcome.data, outcome.splits
            )
            trained.epochs.waiting[:] = enumerate(outcome.fitted.epochs if outcome.fitted else [])
        conclude(replace(trained, run_id=run_id), champions.current(trained.name))
