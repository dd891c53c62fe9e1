"""The end of the line, record → promote; and what becomes of a training that MLflow no longer takes."""

from __future__ import annotations

import os
import pickle
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipelines.core import device, promote, record, registry, tracking
from pipelines.core.pipeline import InputError, Pipeline, UnrecordedError
from pipelines.core.sources import Origin
from pipelines.core.trial import NETWORK, Outcome

KEPT = Path("mlruns", "pending")
"""Folder of the trainings that are still to be recorded."""


@dataclass(frozen=True, eq=False)
class Trained:
    """A finished training with all that its record is made from: `name` is the registered model that it joins."""

    outcome: Outcome
    origins: Sequence[Origin]
    name: str
    run_id: str
    epochs: tracking.Epochs

    @property
    def origin(self) -> Origin:
        """Where the data came from that were asked for; those before it are what they were appended to."""
        return self.origins[-1]


def conclude(trained: Trained, champion: registry.Version | None) -> None:
    """Records the training in its open run, registers the network, and crowns it if it is better than `champion`.

    Where another version has become champion meanwhile, the decision is made again. May be called again for a run
    that was recorded in part.

    Raises:
        UnrecordedError: if MLflow fails; the training is then kept in a file, which `send` records.
    """
    try:
        _conclude(trained, champion)
    except tracking.FAULTS as error:
        pipeline, headline = trained.outcome.pipeline, trained.outcome.pipeline.headline.name
        uri, figure = os.environ["MLFLOW_TRACKING_URI"], trained.outcome.bootstrap.interval(NETWORK, headline)
        raise UnrecordedError(
            f"MLflow at {uri} did not take the record of this training ({tracking.said(error)}). Its network"
            f" ({headline} {figure}) and all results are kept in {_keep(trained)}. Once MLflow answers again,"
            f" `pipelines send {pipeline.name}` records it and decides about it."
        ) from None


def _conclude(trained: Trained, champion: registry.Version | None) -> None:
    outcome, origin, run_id = trained.outcome, trained.origin, trained.run_id
    trained.epochs.flush()
    items = record.results(outcome)
    version = record.version(outcome, origin, trained.name, run_id)
    if champion is not None and champion.number == version.number:
        return  # an earlier attempt got as far as the crown
    report = tracking.report_at(run_id)
    while True:
        looks = tracking.looks(outcome.pipeline, version.tags["test_sha256"])
        decision = promote.decide(outcome, version, champion, looks)
        title = record.finish(outcome, decision, version, origin, looks, items, run_id)
        if registry.settle(version, champion, decision.kind == "champion"):
            record.announce(outcome, decision, version, title, report)
            return
        champion = registry.champion(trained.name)


def _keep(trained: Trained) -> Path:
    """Writes the training to a file, without the network's inputs, which `decode` makes again; returns its path."""
    outcome = trained.outcome
    parts = {side: replace(part, inputs={}) for side, part in outcome.parts.items()}
    path = KEPT / outcome.pipeline.name / f"{trained.run_id}.pickle"
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".part")
    start = outcome.start and replace(outcome.start, network=None)
    kept = replace(trained, outcome=replace(outcome, parts=parts, start=start))
    code = (tracking.code_sha256(outcome.pipeline), tracking.git_commit())
    draft.write_bytes(pickle.dumps((*code, kept)))
    return draft.replace(path)


def _kept(path: Path) -> Trained:
    """The training that `_keep` wrote; raises InputError if the code is no longer the one that it was made with."""
    code_sha256, commit, trained = pickle.loads(path.read_bytes())
    outcome = trained.outcome
    if code_sha256 != tracking.code_sha256(outcome.pipeline):
        raise InputError(f"{path} was made with other code: expected that of commit {commit}. Received: today's.")
    records = outcome.parts["test"].records
    inputs = outcome.pipeline.data.decode(records, outcome.facts)
    parts = {side: replace(part, inputs=inputs) for side, part in outcome.parts.items()}
    return replace(trained, outcome=replace(outcome, parts=parts))


def send(pipeline: Pipeline) -> None:
    """Records the trainings of the pipeline that were kept because MLflow did not take them, oldest first.

    Each goes on in the run that it began or, where this store has no such run, in a new one.
    """
    paths = sorted((KEPT / pipeline.name).glob("*.pickle"), key=lambda path: path.stat().st_mtime)
    if not paths:
        raise InputError(f"no training of {pipeline.name} waits to be sent. Received: nothing in {KEPT}.")
    tracking.connect()
    device.setup(0)
    for path in paths:
        _send(_kept(path))
        path.unlink()


def _send(trained: Trained) -> None:
    outcome, origin = trained.outcome, trained.origin
    begun = tracking.holds(trained.run_id)
    with tracking.run(outcome.pipeline, origin.name, trained.run_id if begun else None) as run_id:
        if not begun:
            records = outcome.parts["test"].records
            record.begin(outcome.pipeline, outcome.settings, outcome.device, trained.origins, records, outcome.splits)
            trained.epochs.waiting[:] = enumerate(outcome.fitted.epochs)
        conclude(replace(trained, run_id=run_id), registry.champion(trained.name))
