"""Decisions on images: calibrated probabilities, prediction sets, and referral to a person."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from pipelines.core.data.arrays import Part
from pipelines.core.evaluation import calibration
from pipelines.core.evaluation.metrics import Metric, accuracy, of_scores, roc_auc
from pipelines.core.evaluation.promises import Promise, promised, share
from pipelines.core.tasks.classification import Classification, confidence_threshold, distribution
from pipelines.medical_images import Settings
from pipelines.medical_images.data import Facts

if TYPE_CHECKING:
    from pipelines.core.training.trial import Outcome


TOLERANCE = 0.02  # by which shares of many cases may miss what is wanted
ELSEWHERE = (
    "Test images differ from those that set the thresholds: set them on labelled images of the place of use, and until "
    "then have a person look at every case."
)


class MedicalTask(Classification):
    """One class an image."""

    def metrics(self, facts: Facts) -> Mapping[str, Metric]:
        """Area under the ROC curve (beyond two classes the mean of each against the rest) and accuracy."""
        return {"roc_auc": of_scores(roc_auc), "accuracy": of_scores(accuracy)}

    def thresholds(self, scores: np.ndarray, part: Part, settings: Settings, facts: Facts) -> Facts:
        """The facts with the conformal quantile and the thresholds, learnt from the calibration images.

        - `quantile`: a class is in the prediction set if its probability is at least 1 - quantile. The set then holds
          the true class in a share of at least 1 - alpha of cases that are drawn as these were (split conformal
          prediction, Sadinle, Lei and Wasserman 2019, Least ambiguous set-valued classifiers with bounded error
          levels).
        - `sure`: the lowest confidence from which on the share of errors keeps to the wanted one; 2 if none does.
        - `threshold`, for two classes: the lowest that keeps to the asked specificity.
        """
        probability, labels = distribution(scores), part.labels
        nonconformity = np.sort(1 - probability[np.arange(len(labels)), labels])
        rank = int(np.ceil((len(labels) + 1) * (1 - settings.alpha)))
        quantile = float(nonconformity[rank - 1]) if rank <= len(labels) else 1.0
        wrong = probability.argmax(axis=1) != labels
        sure = confidence_threshold(probability.max(axis=1), wrong, settings.wanted_error)
        facts = replace(facts, quantile=quantile, sure=sure)
        if scores.ndim > 1:
            return facts
        rate = 1 - settings.specificity
        return replace(facts, threshold=calibration.threshold_at_rate(scores[labels == 0], rate))

    def promises(self, outcome: Outcome) -> Iterator[tuple[str, Promise]]:
        """Items of a report: specificity, errors among cases that are not referred, coverage of prediction sets."""
        part, facts, settings = outcome.headline, outcome.facts, outcome.settings
        labels, weights, clusters = part.labels, part.weights, outcome.splits.clusters_of(part)
        probability = distribution(outcome.headline_scores)
        every = np.ones(len(part), bool)
        if len(facts.classes) == 2:
            quiet = outcome.headline_scores < facts.threshold
            yield from promised(
                f"specificity of {facts.classes[1]}",
                settings.specificity,
                share(quiet, labels == 0, weights, clusters),
                at_most=False,
                tolerance=TOLERANCE,
                remedy=ELSEWHERE,
            )
        sure, wrong = probability.max(axis=1) >= facts.sure, probability.argmax(axis=1) != labels
        yield from promised(
            "errors among cases that are not referred",
            settings.wanted_error,
            share(wrong, sure, weights, clusters),
            tolerance=settings.wanted_error / 2,
            remedy=ELSEWHERE,
        )
        inside = prediction_sets(probability, facts)[np.arange(len(labels)), labels]
        yield from promised(
            "prediction sets that hold the true class",
            1 - settings.alpha,
            share(inside, every, weights, clusters),
            at_most=False,
            tolerance=TOLERANCE,
            remedy=ELSEWHERE,
        )
        yield from super().promises(outcome)

    def decide(self, outputs: np.ndarray, facts: Facts, part: Part) -> pd.DataFrame:
        """What a user gets for each image of the part.

        Columns: `label`, the likeliest class; `probability` of it; `probability of …` of every class;
        `prediction_set`, the classes that cannot be excluded, joined by "or"; `refer`, whether a person should look.
        """
        names, probability = np.array(facts.classes), self.probabilities(outputs, facts)
        table = {"label": names[probability.argmax(axis=1)], "probability": probability.max(axis=1)}
        table |= {f"probability of {name}": probability[:, code] for code, name in enumerate(names)}
        table["prediction_set"] = [" or ".join(names[row]) for row in prediction_sets(probability, facts)]
        table["refer"] = probability.max(axis=1) < facts.sure
        return pd.DataFrame(table)


def prediction_sets(probability: np.ndarray, facts: Facts) -> np.ndarray:
    """Whether each class is in the prediction set, bool (n, classes); the likeliest always is."""
    best = probability == probability.max(axis=1, keepdims=True)
    return (1 - probability <= facts.quantile) | best


TASK = MedicalTask()
