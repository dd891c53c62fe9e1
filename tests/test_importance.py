"""Permutation importance names the input that carries a result, and shifted scores are said."""

from dataclasses import replace

import numpy as np
import pytest
from toys.blobs import PIPELINE

from pipelines.core.contract import Settings
from pipelines.core.review import importance, verdict
from pipelines.core.training import device
from pipelines.core.training.trial import trial

SETTINGS = Settings(epochs=4, learning_rate=0.05, batch_size=128)


def outcome_of(table):
    data = PIPELINE.data.parse(table, PIPELINE.data.Facts())
    splits = PIPELINE.data.split(data, SETTINGS)
    return trial(PIPELINE, data, splits, SETTINGS, device.setup(0, "cpu", "float32", 1), resamplings=20)


@pytest.fixture(scope="module")
def points():
    return PIPELINE.demo.make(0, subjects=800)


@pytest.mark.parametrize(("leak", "name"), [("a", "point 1"), ("b", "point 2")])
def test_the_column_that_gives_the_label_away_comes_first(points, leak, name):
    outcome = outcome_of(
        points.assign(**{leak: points["class"] + np.random.default_rng(0).normal(0, 0.05, len(points))})
    )
    first, *_ = importance.strongest(outcome)
    assert first.startswith(f"{name} (roc auc 0.")
    assert float(first.split("roc auc ")[1].split()[0]) < 0.9


def test_scores_of_test_that_are_unlike_those_that_set_the_thresholds_are_said(points):
    assert verdict.shift(outcome_of(points)) == ""
    moved = points.assign(a=points["a"] + np.where(points["subject"] % 5 == 0, 2.0, 0.0))  # the subjects of test
    outcome = outcome_of(moved)
    assert "population stability index" in verdict.shift(outcome)
    alone = replace(outcome, parts=outcome.parts | {"calibration": outcome.parts["calibration"].take(np.empty(0, int))})
    assert verdict.shift(alone) == ""
