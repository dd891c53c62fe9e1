"""Trainings that MLflow did not take: written to a file, and restored from it."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipelines.core.contract import InputError
from pipelines.core.data.arrays import Encoded
from pipelines.core.reading.downloads import Origin
from pipelines.core.review.compatibility import Drift
from pipelines.core.store import isolation, tracking
from pipelines.core.training.trial import Outcome

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
    drift: Drift | None = None

    @property
    def origin(self) -> Origin:
        """Where the data came from that were asked for; those before it are what they were appended to."""
        return self.origins[-1]


def keep(trained: Trained) -> Path:
    """Write the training to a file, without inputs and targets, which `encode` makes again; return its path."""
    outcome = trained.outcome
    parts = {side: replace(part, encoded=Encoded({})) for side, part in outcome.parts.items()}
    path = KEPT / outcome.pipeline.name / f"{trained.run_id}.pickle"
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".part")
    start = outcome.start and replace(outcome.start, network=None)
    kept = replace(trained, outcome=replace(outcome, parts=parts, start=start))
    code = (isolation.code_sha256(outcome.pipeline), tracking.git_commit())
    draft.write_bytes(pickle.dumps((*code, kept)))
    return draft.replace(path)


def restore(path: Path) -> Trained:
    """The training that `keep` wrote; raises InputError if the code is no longer the one that it was made with."""
    code_sha256, commit, trained = pickle.loads(path.read_bytes())
    outcome = trained.outcome
    if code_sha256 != isolation.code_sha256(outcome.pipeline):
        raise InputError(f"{path} was made with other code: expected that of commit {commit}. Received: today's.")
    encoded = outcome.pipeline.data.encode(outcome.data, outcome.facts)
    parts = {side: replace(part, encoded=encoded) for side, part in outcome.parts.items()}
    return replace(trained, outcome=replace(outcome, parts=parts))
