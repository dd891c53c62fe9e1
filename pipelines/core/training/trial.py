"""The middle of the line, build → fit → evaluate, without a record of it: what benches loop over."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from pipelines.core.contract import Pipeline, Settings
from pipelines.core.data.arrays import Part, Rows, held
from pipelines.core.data.splits import Splits, halves
from pipelines.core.evaluation.bootstrap import Bootstrap
from pipelines.core.evaluation.bootstrap import bootstrap as resample
from pipelines.core.training import warm_start
from pipelines.core.training.batches import predict
from pipelines.core.training.device import Device
from pipelines.core.training.fit import Fitted, OnEpoch, fit
from pipelines.core.training.warm_start import Start

NETWORK = "network"
"""What the network is called beside its baselines."""
ADAPT_ROWS, ADAPT_BYTES = 100_000, 1 << 28
"""Training rows that preprocessing layers are adapted to, at most, and their size in memory."""


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a trial leaves behind.

    `parts` holds "train", "stopping", "calibration" and "test". `outputs` and `scores` are the network's raw outputs
    and its calibrated scores on test, `baselines` the scores of each baseline there; `bootstrap` holds every metric
    of the network and the baselines on the headline rows of test. `cost` is in seconds, where not said otherwise;
    `reused` says what was taken over from the version to `start` from.
    `fitted` is None and all parts but test are empty where a version was scored that had been trained before.
    """

    pipeline: Pipeline
    settings: Settings
    device: Device
    splits: Splits
    facts: dict[str, Any]
    parts: Mapping[str, Part]
    network: Any
    fitted: Fitted | None
    outputs: np.ndarray
    scores: np.ndarray
    baselines: Mapping[str, np.ndarray]
    bootstrap: Bootstrap
    cost: Mapping[str, float]
    start: Start | None = None
    reused: str = ""

    @property
    def counted(self) -> np.ndarray:
        """Which test rows the headline counts, bool, shape (test,)."""
        return self.splits.counted

    @cached_property
    def headline(self) -> Part:
        """The headline rows of test."""
        return self.parts["test"].take(self.counted)

    @property
    def headline_scores(self) -> np.ndarray:
        """The network's calibrated scores of the headline rows."""
        return self.scores[self.counted]


def trial(
    pipeline: Pipeline,
    records: pd.DataFrame,
    splits: Splits,
    settings: Settings,
    machine: Device,
    on_epoch: OnEpoch | None = None,
    inputs: Mapping[str, Rows] | None = None,
    resamplings: int = 500,
    start: Start | None = None,
) -> Outcome:
    """Learns the facts, trains the network, and scores it and its baselines on test.

    With an empty validation side it trains all epochs, keeps the last weights and leaves the scores uncalibrated:
    that is how a bench runs a published protocol whose choices were made elsewhere. It may also hand in the `inputs`
    that `decode` gave for the same records and facts, and ask for no `resamplings` where it prints no intervals. With a
    version to `start` from, the network begins with its weights and keeps its preprocessing.
    """
    clock = Clock()
    domain = pipeline.report
    facts = {"module": pipeline.module, "settings": asdict(settings)}
    facts |= pipeline.data.learn(records.iloc[splits.train], settings)
    inputs = held(pipeline.data.decode(records, facts)) if inputs is None else inputs
    stopping, calibration = halves(records, splits.validation)
    rows = {"train": splits.train, "stopping": stopping, "calibration": calibration, "test": splits.test}
    parts = {side: Part(records, at, inputs) for side, at in rows.items()}
    clock.lap("inputs")

    row = sum(math.prod(values.shape[1:]) * values.dtype.itemsize for values in inputs.values())
    sample = parts["train"].sample(min(ADAPT_ROWS, ADAPT_BYTES // row), settings.seed)
    if adapt := getattr(pipeline.model, "adapt", None):
        adapted = adapt(facts, settings, sample.x(), sample.labels)
        facts |= start.adapted(adapted, inputs) if start else adapted
    network = pipeline.model.build(facts, settings, sample.x(), sample.labels)
    reused = warm_start.reuse(network, start) if start else ""
    print(reused, end="\n" * bool(reused))
    augmentation = getattr(pipeline.data, "augmentation", None)
    augment = augmentation(parts["train"], settings) if augmentation else None
    fitted = fit(network, pipeline.model.LOSS, parts["train"], parts["stopping"], settings, machine, augment, on_epoch)
    clock.lap("training")

    if len(calibration):
        facts |= domain.calibrate(predict(network, parts["calibration"]), parts["calibration"], settings)
        if tune := getattr(domain, "tune", None):
            facts |= tune(network, facts, parts, settings)
    clock.lap("calibration")
    outputs = predict(network, parts["test"])
    scores = domain.scores(outputs, facts)
    clock.lap("scoring")

    ladder = domain.baselines(facts, settings, parts["train"], parts["stopping"])
    baselines = {name: score(parts["test"]) for name, score in ladder}
    clock.lap("baselines")

    part = parts["test"].take(splits.counted)
    models = {name: values[splits.counted] for name, values in {NETWORK: scores, **baselines}.items()}
    clusters = {name: part.frame[name] for name in splits.clusters}
    bootstrap = resample(domain.metrics(part), part.labels, models, part.weights, clusters, resamplings)
    clock.lap("intervals")
    return Outcome(
        pipeline, settings, machine, splits, facts, parts, network, fitted, outputs, scores, baselines, bootstrap,
        clock.laps, start, reused,
    )  # fmt: skip


class Clock:
    """Seconds spent on each step."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        """Ends the step `name`, which began where the one before it ended."""
        now = time.perf_counter()
        self.laps[name], self._last = now - self._last, now
