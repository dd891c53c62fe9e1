"""What pipelines with classes share, on scores whose figures are known."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from toys.blobs.task import Blobs

from pipelines.core.contract import Settings
from pipelines.core.data.arrays import Part
from pipelines.core.evaluation import calibration
from pipelines.core.report import class_figures
from pipelines.core.tasks import classification
from tests import builders

LABELS = np.array([0, 0, 1, 2])
PROBABILITY = np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.1, 0.8, 0.1], [0.1, 0.5, 0.4]])
NAMES = ["a", "b", "c"]


def part(x: np.ndarray, labels: np.ndarray) -> Part:
    return builders.part({"x": x}, labels, records={"id": [f"r{n}" for n in range(len(x))], "label": labels})


def inputs(part: Part) -> np.ndarray:
    return part.x()["x"]


def test_scores_of_two_classes_are_the_probability_of_the_second():
    two = np.array([[0.9, 0.1], [0.3, 0.7]])
    assert classification.as_scores(two).tolist() == [0.1, 0.7]
    assert classification.distribution(classification.as_scores(two)) == pytest.approx(two)
    assert classification.as_scores(PROBABILITY) is PROBABILITY
    assert classification.distribution(PROBABILITY) is PROBABILITY


def test_prevalence_predicts_the_shares_of_training():
    train, test = part(np.zeros((4, 1)), np.array([0, 0, 0, 2])), part(np.zeros((2, 1)), np.array([1, 1]))
    assert classification.prevalence(train, 3)(test).tolist() == [[0.75, 0, 0.25]] * 2
    assert classification.prevalence(part(np.zeros((4, 1)), np.array([0, 0, 0, 1])), 2)(test).tolist() == [0.25] * 2


def test_the_candidate_with_the_lowest_loss_on_validation_is_chosen():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 2))
    held = part(x, (x[:, 0] > 0).astype(int))
    train, validation, test = (held.take(np.arange(*span)) for span in ((0, 200), (200, 300), (300, 400)))
    dull = DummyClassifier(strategy="prior")
    for candidates in ([dull, LogisticRegression()], [HistGradientBoostingClassifier(early_stopping=True), dull]):
        predict = classification.best_on_validation(candidates, inputs, train, validation)
        assert ((predict(test) > 0.5) == test.labels).mean() > 0.9


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60), st.floats(0.01, 0.5))
def test_decisions_that_are_sure_enough_were_wrong_as_seldom_as_wanted(cases, wanted):
    confidence, wrong = np.array([c for c, _ in cases]), np.array([w for _, w in cases])
    limit = classification.confidence_threshold(confidence, wrong, wanted)
    assert limit == 2 or limit in confidence
    if limit < 2:
        sure = confidence >= limit
        assert (wrong[sure].sum() + 1) / (sure.sum() + 2) <= wanted


def test_one_decision_promises_nothing():
    assert classification.confidence_threshold(np.array([0.99]), np.array([False]), 0.02) == 2.0


@dataclass(frozen=True)
class Facts:
    classes: tuple[str, ...] = tuple(NAMES)
    calibration: calibration.Calibration | None = None
    threshold: float | None = None


class Task(Blobs):
    """Three classes, or two, and a threshold that is the mean of the calibrated scores."""

    def thresholds(self, scores, part, settings, facts):
        return replace(facts, threshold=float(scores.mean()))


@pytest.mark.parametrize("columns", [1, 2, 3])
def test_a_task_learns_calibration_first_and_thresholds_from_calibrated_scores(columns):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(600, max(columns, 2)))
    probability = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = (rng.random((600, 1)) > probability.cumsum(axis=1)).sum(axis=1).clip(max=max(columns, 2) - 1)
    outputs = probability[:, -columns:].astype(np.float32) ** 2  # distorted
    task, held = Task(), part(np.zeros((600, 1)), labels)
    facts = task.calibrate(lambda part: outputs[part.rows], held, Settings(), Facts())
    raw = task.scores(outputs, Facts())
    assert raw.dtype == np.float64
    assert raw.shape == ((600, 3) if columns == 3 else (600,))
    assert facts.calibration == calibration.learn(raw, labels, np.ones(600))
    scores = task.scores(outputs, facts)
    np.testing.assert_array_equal(scores, calibration.apply(facts.calibration, raw))
    assert facts.threshold == scores.mean()
    assert task.probabilities(outputs, facts).shape == (600, max(columns, 2))
    measures = task.measures(scores, held)
    np.testing.assert_array_equal(measures["label"], labels)
    np.testing.assert_array_equal(measures["score"], scores)


def test_the_table_counts_recall_and_precision_by_class():
    table = class_figures.table(LABELS, PROBABILITY, NAMES, "rows").set_index("class")
    assert table["test rows"].tolist() == [2, 1, 1]
    assert table["recall"].tolist() == [0.5, 1, 0]
    assert table["precision"].tolist() == [1, pytest.approx(1 / 3), 0]
    assert table.loc["c", "AUC"] == 1.0
    assert class_figures.confusion_matrix(LABELS, PROBABILITY).tolist() == [[1, 1, 0], [0, 1, 0], [0, 1, 0]]


def test_mistakes_are_listed_by_how_sure_they_were():
    table = class_figures.mistakes(part(np.zeros((4, 1)), LABELS), PROBABILITY, NAMES)
    assert table.to_dict(orient="list") == {
        "id": ["r1", "r3"], "true": ["a", "c"], "decided": ["b", "b"], "probability": [0.7, 0.5],
    }  # fmt: skip


def test_calibration_of_several_classes_is_that_of_the_confidence():
    perfect = np.tile([0.5, 0.25, 0.25], (4, 1))  # decides the first class, which half of them are of
    before = np.eye(3)[[0, 0, 0, 0]]
    items = builders.contents(class_figures.calibration(np.array([0, 0, 1, 2]), before, perfect, np.ones(4), NAMES))
    assert items["expected_calibration_error_calibrated"] == pytest.approx(0)
    assert items["expected_calibration_error_before_calibration"] == pytest.approx(0.5)
    assert items["brier_calibrated"] == pytest.approx(0.25)
