"""The task of a domain: how a network's outputs become scores, measures, metrics and decisions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd

from pipelines.core.data.arrays import Part
from pipelines.core.evaluation.metrics import Metric

Outputs = Any
"""What a network gives for n records: float32 (n, …), or for several outputs arrays by name."""


class Task(ABC):
    """What the domains of one kind share, and one domain refines: `task.TASK`.

    Attributes:
        kind: whether the column `label` of the records holds "classes" (codes), a "quantity", or there is "none", as
            for targets that are images or several columns.
        batch: records that are scored at once, where outputs of a whole test set are too large to hold; only measures
            are then kept. None holds outputs and scores of the whole test set, for the report.
    """

    kind: ClassVar[Literal["classes", "quantity", "none"]] = "classes"
    batch: ClassVar[int | None] = None

    def classes(self, facts: Any) -> Sequence[str]:
        """Names of the classes by code; empty where the label is no class."""
        return ()

    @abstractmethod
    def scores(self, outputs: Outputs, facts: Any) -> np.ndarray:
        """What baselines predict too, float64 (n, …), of the network's outputs: calibrated once that is learnt."""

    @abstractmethod
    def measures(self, scores: np.ndarray, part: Part) -> dict[str, np.ndarray]:
        """What the metrics need to know of each record, by name, each (n, …).

        Called for the part at once or batch by batch; a row's measures depend on that row alone.

        Args:
            scores: of the part's rows, as `scores` gives them.
            part: the records and targets.
        """

    @abstractmethod
    def metrics(self, facts: Any) -> Mapping[str, Metric]:
        """The metrics by name, the headline among them; each is a function of measures, then of weights."""

    def calibrate(self, predict: Callable[[Part], Outputs], part: Part, settings: Any, facts: Any) -> Any:
        """The facts with what is learnt from the calibration half of validation: calibration, thresholds, quantiles.

        Args:
            predict: outputs of a part.
            part: the calibration half.
            settings: the pipeline's.
            facts: as learnt from the training records.
        """
        return facts

    def tune(self, network: Any, parts: Mapping[str, Part], settings: Any, facts: Any) -> Any:
        """The facts with what needs the network itself and both halves of validation, "stopping" and "calibration"."""
        return facts

    @abstractmethod
    def decide(self, outputs: Outputs, facts: Any, part: Part) -> pd.DataFrame:
        """What a user gets, one row a record; the optional column `error` says why there is no decision."""
