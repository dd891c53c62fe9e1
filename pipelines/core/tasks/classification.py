"""Classification: probabilities, their calibration, baselines, and which cases to refer to a person.

Labels are places in a list of class names. Of two classes a score is the probability of the second, shape (n,); of more
it is the probability of each, (n, classes).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from pipelines.core.data.arrays import Part
from pipelines.core.evaluation import calibration
from pipelines.core.evaluation.promises import Promise, mean_difference, promised
from pipelines.core.tasks.task import Outputs, Task

Predict = Callable[[Part], np.ndarray]


class Classification(Task):
    """One label a record; the network's outputs are probabilities, (n, classes), or (n, 1) of the second of two.

    The facts have `classes`, the names, and `calibration`, None until it is learnt.
    """

    def classes(self, facts: Any) -> Sequence[str]:
        return facts.classes

    def scores(self, outputs: Outputs, facts: Any) -> np.ndarray:
        """Probabilities, float64, (n,) of the second of two classes, else (n, classes); calibrated once learnt."""
        raw = self.raw_scores(outputs)
        return calibration.apply(facts.calibration, raw) if facts.calibration else raw

    def raw_scores(self, outputs: Outputs) -> np.ndarray:
        """The scores before calibration, float64."""
        return as_scores(outputs.astype(np.float64))

    def probabilities(self, outputs: Outputs, facts: Any) -> np.ndarray:
        """Probabilities of every class, float64 (n, classes)."""
        return distribution(self.scores(outputs, facts))

    def measures(self, scores: np.ndarray, part: Part) -> dict[str, np.ndarray]:
        """The measures `label` and `score` of each record."""
        return {"label": part.labels, "score": scores}

    def calibrate(self, predict: Callable[[Part], Outputs], part: Part, settings: Any, facts: Any) -> Any:
        """The facts with `calibration`, and with what `thresholds` sets."""
        outputs = predict(part)
        learnt = calibration.learn(self.raw_scores(outputs), part.labels, part.weights)
        facts = replace(facts, calibration=learnt)
        return self.thresholds(self.scores(outputs, facts), part, settings, facts)

    def promises(self, outcome: Any) -> Iterator[tuple[str, Promise]]:
        """Items of a report: what calibration and thresholds promise, as it is on the headline rows of test.

        Here that calibrated probabilities have a lower Brier score than those before.
        """
        if outcome.facts.calibration is None:
            return
        part = outcome.headline
        truth = np.eye(len(self.classes(outcome.facts)))[part.labels]
        raw = self.raw_scores(outcome.outputs)[outcome.counted]
        before, after = (((distribution(p) - truth) ** 2).sum(axis=1) for p in (raw, outcome.headline_scores))
        clusters = outcome.splits.clusters_of(part)
        yield from promised(
            "change of the Brier score by calibration",
            0.0,
            mean_difference(after, before, part.weights, clusters),
            percent=False,
            remedy="Calibrate on labelled records of the place and time of use: probabilities are off until then.",
        )

    def thresholds(self, scores: np.ndarray, part: Part, settings: Any, facts: Any) -> Any:
        """The facts with thresholds and quantiles, learnt from calibrated scores of the calibration records."""
        return facts


def as_scores(probability: np.ndarray) -> np.ndarray:
    """The scores of probabilities (n, classes), or (n, 1) of the second of two."""
    return probability[:, -1] if probability.shape[1] <= 2 else probability


def distribution(scores: np.ndarray) -> np.ndarray:
    """The probabilities of every class, (n, classes), of scores."""
    return np.stack([1 - scores, scores], axis=1) if scores.ndim == 1 else scores


# ---------------------------------------------------------------------------------------------------------- baselines


def prevalence(train: Part, classes: int) -> Predict:
    """Predict for every record the weighted shares of the classes in training."""
    counts = np.bincount(train.labels, train.weights, minlength=classes)
    shares = as_scores((counts / counts.sum())[None])
    return lambda part: np.repeat(shares, len(part), axis=0)


def boosted_trees(rates: Sequence[float], most: int, leaves: int, patience: int, seed: int) -> list[Any]:
    """Boosted trees, a candidate for each learning rate: at most `most` rounds of trees of so many leaves.

    They stop after `patience` rounds without a lower loss.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier

    # 63 bins: half the time of 255 and as good. AUC .802 for .806 on the simulated radiographs, .962 for .962 on
    # PneumoniaMNIST; accuracy .812 for .817 on the synthetic voices, .819 for .815 on the Arabic commands.
    shape = {"max_iter": most, "max_leaf_nodes": leaves, "max_bins": 63, "l2_regularization": 1.0}
    stop = {"early_stopping": True, "n_iter_no_change": patience, "random_state": seed}
    return [HistGradientBoostingClassifier(learning_rate=rate, **shape, **stop) for rate in rates]


def best_on_validation(
    candidates: Sequence[Any], inputs: Callable[[Part], np.ndarray], train: Part, validation: Part
) -> Predict:
    """Fit scikit-learn's classifiers on train and take the one with the lowest loss on the validation records.

    Boosted trees get these records too, and stop when the loss on them no longer falls.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.metrics import log_loss

    fitted, judged = inputs(train), inputs(validation)
    losses = []
    for model in candidates:
        boosted = isinstance(model, HistGradientBoostingClassifier)
        model.fit(fitted, train.labels, **({"X_val": judged, "y_val": validation.labels} if boosted else {}))
        losses.append(log_loss(validation.labels, model.predict_proba(judged), labels=model.classes_))
    best = candidates[int(np.argmin(losses))]
    return lambda part: as_scores(best.predict_proba(inputs(part)))


# ---------------------------------------------------------------------------------------------------------- decisions


def confidence_threshold(confidence: np.ndarray, wrong: np.ndarray, wanted: float) -> float:
    """The lowest confidence from which on the share of wrong decisions keeps to `wanted`; 2 if none does.

    One more error than was seen is counted, so that few records cannot promise much.
    """
    order = np.argsort(-confidence, kind="stable")
    risk = (np.cumsum(wrong[order]) + 1) / (np.arange(len(order)) + 2)
    ordered = confidence[order]
    # Equal ones are decided alike, so that only the last of them counts.
    kept = np.flatnonzero((risk <= wanted) & (np.append(ordered[1:], -1) < ordered))
    return float(ordered[kept[-1]]) if len(kept) else 2.0
