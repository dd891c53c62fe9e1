"""The middle of the line, build → fit → evaluate, without a record of it: what benches loop over."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np

from pipelines.core.contract import Pipeline, Settings
from pipelines.core.data.arrays import Encoded, Part, only
from pipelines.core.data.dataset import Dataset
from pipelines.core.data.splits import Splits, halves
from pipelines.core.evaluation.bootstrap import Bootstrap, bootstrap
from pipelines.core.evaluation.metrics import Measures
from pipelines.core.training import warm_start
from pipelines.core.training.batches import predict
from pipelines.core.training.device import Device
from pipelines.core.training.fit import Fitted, OnEpoch, fit
from pipelines.core.training.scoring import Scored, score, score_baseline
from pipelines.core.training.steps import step
from pipelines.core.training.warm_start import Start

NETWORK = "network"
"""What the network is called beside its baselines."""
ADAPT_ROWS, ADAPT_BYTES = 100_000, 1 << 28
"""Training rows that preprocessing layers are adapted to, at most, and their size in memory."""


@dataclass(frozen=True, eq=False)
class Outcome:
    """A finished trial.

    Attributes:
        pipeline, settings, device, splits: what the trial was made with.
        facts: what was learnt, the domain's own dataclass.
        parts: "train", "stopping", "calibration" and "test".
        network: the trained Keras model.
        fitted: the course of training; None for a version that was trained before, all parts of which but test are
            empty.
        models: what the network and each baseline make of test, by name, the network first.
        resampled: every metric of every model on the headline rows of test, with its intervals.
        cost: seconds of each step.
        start: the version that the network started from, if any.
        reused: what was taken over from it, in a sentence.
    """

    pipeline: Pipeline
    settings: Any
    device: Device
    splits: Splits
    facts: Any
    parts: Mapping[str, Part]
    network: Any
    fitted: Fitted | None
    models: Mapping[str, Scored]
    resampled: Bootstrap
    cost: Mapping[str, float]
    start: Start | None = None
    reused: str = ""

    @property
    def data(self) -> Dataset[Any]:
        """Every record, context included."""
        return self.parts["test"].data

    @property
    def counted(self) -> np.ndarray:
        """Which test rows the headline counts, bool (test,)."""
        return self.splits.counted

    @cached_property
    def headline(self) -> Part:
        """The headline rows of test."""
        return self.parts["test"].take(self.counted)

    @property
    def outputs(self) -> Any:
        """The network's outputs on test, before calibration."""
        return self.models[NETWORK].outputs

    @property
    def scores(self) -> np.ndarray:
        """The network's calibrated scores on test, (test, …)."""
        return _scores(self.models[NETWORK])

    @property
    def headline_scores(self) -> np.ndarray:
        """The network's calibrated scores of the headline rows."""
        return self.scores[self.counted]

    @property
    def baseline_names(self) -> list[str]:
        """Names of the baselines, from trivial to strong."""
        return [name for name in self.models if name != NETWORK]

    @property
    def baselines(self) -> dict[str, np.ndarray]:
        """The scores of each baseline on test, by name."""
        return {name: _scores(self.models[name]) for name in self.baseline_names}


def _scores(model: Scored) -> np.ndarray:
    if model.scores is None:
        raise ValueError("a task with a `batch` size keeps measures alone: report from these")
    return model.scores


def trial(
    pipeline: Pipeline,
    data: Dataset[Any],
    splits: Splits,
    settings: Settings,
    machine: Device,
    on_epoch: OnEpoch | None = None,
    encoded: Encoded | None = None,
    resamplings: int = 500,
    start: Start | None = None,
) -> Outcome:
    """Learn the facts, train the network, and score it and its baselines on test.

    With an empty validation side it trains all epochs, keeps the last weights and leaves the scores uncalibrated:
    so a bench runs a published protocol whose choices were made elsewhere.

    Args:
        pipeline: whose network it is.
        data: every record, context included.
        splits: the sides.
        settings: the pipeline's.
        machine: the device, as `device.setup` returned it.
        on_epoch: called with the number of each epoch, from 0, and its figures.
        encoded: what `encode` gave for the same data and facts, where a bench has it already.
        resamplings: for intervals; 0 where none are printed.
        start: the version whose weights and preprocessing the network begins with.
    """
    clock, task = Clock(), pipeline.task
    with step("build") as shown:
        facts = pipeline.data.learn(data.take(splits.train), settings)
        encoded = pipeline.data.encode(data, facts).materialised() if encoded is None else encoded
        stopping, calibration = halves(data, splits.validation)
        rows = {"train": splits.train, "stopping": stopping, "calibration": calibration, "test": splits.test}
        parts = {side: Part(data, at, encoded) for side, at in rows.items()}
        clock.lap("inputs")

        network, facts = build(pipeline, parts["train"], settings, facts, start)
        reused = warm_start.reuse(network, start) if start else ""
        shown.text = f"network of {network.count_params():,} parameters"
    print(reused, end="\n" * bool(reused))
    with step("fit", "first batches") as shown:
        augmentation = pipeline.data.CAPABILITIES.augmentation
        augment = augmentation(parts["train"], settings) if augmentation else None
        show, sides = partial(setattr, shown, "text"), (parts["train"], parts["stopping"])
        fitted = fit(network, pipeline.model.LOSS, *sides, settings, machine, augment, on_epoch, show)
        clock.lap("training")
        shown.text = f"{len(fitted.epochs)} epochs, weights of epoch {fitted.kept_epoch} kept"
    with step("evaluate", "calibration") as shown:
        if len(calibration):
            facts = task.calibrate(partial(predict, network), parts["calibration"], settings, facts)
            facts = task.tune(network, {side: parts[side] for side in ("stopping", "calibration")}, settings, facts)
        clock.lap("calibration")
        models = {NETWORK: score(partial(predict, network), parts["test"], task, facts)}
        clock.lap("scoring")

        for name, baseline in pipeline.report.baselines(facts, settings, parts["train"], parts["stopping"]):
            models[name] = score_baseline(baseline, parts["test"], task)
            shown.text = f"network and {len(models) - 1} baselines on {len(splits.test):,} test rows, latest: {name}"
        clock.lap("baselines")
        resampled = resample(pipeline, facts, parts["test"], splits, models, resamplings)
        clock.lap("intervals")
    return Outcome(
        pipeline, settings, machine, splits, facts, parts, network, fitted, models, resampled, clock.laps, start, reused
    )


def build(pipeline: Pipeline, train: Part, settings: Any, facts: Any, start: Start | None) -> tuple[Any, Any]:
    """The untrained network and the facts that it was built from, preprocessing adapted to some training records."""
    row = sum(math.prod(values.shape[1:]) * values.dtype.itemsize for values in train.inputs.values())
    sample = train.sample(min(ADAPT_ROWS, ADAPT_BYTES // row), settings.seed)
    x, y = sample.x(), only(sample.y())
    if adapt := getattr(pipeline.model, "adapt", None):
        adapted = adapt(facts, settings, x, y)
        facts = start.adapted(facts, adapted, train.inputs) if start else adapted
    return pipeline.model.build(facts, settings, x, y), facts


def resample(
    pipeline: Pipeline, facts: Any, test: Part, splits: Splits, models: Mapping[str, Scored], count: int = 500
) -> Bootstrap:
    """The metrics of all models on the headline rows of test, under `count` resamplings of the split's clusters."""
    counted, headline = splits.counted, test.take(splits.counted)
    measures: dict[str, Measures] = {
        name: {key: values[counted] for key, values in scored.measures.items()} for name, scored in models.items()
    }
    return bootstrap(pipeline.task.metrics(facts), measures, headline.weights, splits.clusters_of(headline), count)


class Clock:
    """Seconds spent on each step."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        """End the step `name`, which began where the one before it ended."""
        now = time.perf_counter()
        self.laps[name], self._last = now - self._last, now
