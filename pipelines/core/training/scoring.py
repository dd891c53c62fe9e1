"""Score a part with a network: outputs, calibrated scores, and the measures that metrics are computed from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipelines.core.data.arrays import Part
from pipelines.core.tasks.task import Outputs, Task


@dataclass(frozen=True, eq=False)
class Scored:
    """What a model makes of the n rows of a part.

    Attributes:
        measures: by name, each (n, …).
        scores: calibrated, float64 (n, …); None where the task keeps measures alone.
        outputs: of the network; None as well for a baseline.
    """

    measures: dict[str, np.ndarray]
    scores: np.ndarray | None = None
    outputs: Outputs | None = None


def score(predict: Callable[[Part], Outputs], part: Part, task: Task, facts: Any) -> Scored:
    """Outputs, scores and measures of the part; of a task with a `batch` size its measures alone, batch by batch."""
    if task.batch is None:
        outputs = predict(part)
        scores = task.scores(outputs, facts)
        return Scored(task.measures(scores, part), scores, outputs)
    return Scored(_in_batches(lambda some: task.scores(predict(some), facts), part, task))


def score_baseline(predict: Callable[[Part], np.ndarray], part: Part, task: Task) -> Scored:
    """The same for a baseline, whose predictions are scores already."""
    if task.batch is None:
        scores = predict(part)
        return Scored(task.measures(scores, part), scores)
    return Scored(_in_batches(predict, part, task))


def _in_batches(scores: Callable[[Part], np.ndarray], part: Part, task: Task) -> dict[str, np.ndarray]:
    assert task.batch is not None
    batches = [part.take(np.arange(part_begin, min(part_begin + task.batch, len(part))))
               for part_begin in range(0, len(part), task.batch)]  # fmt: skip
    found = [task.measures(scores(batch), batch) for batch in batches]
    return {name: np.concatenate([measures[name] for measures in found]) for name in found[0]}
