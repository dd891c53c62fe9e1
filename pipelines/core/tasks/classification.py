"""What pipelines that tell classes apart have in common: probabilities, baselines, whom to refer, what is reported.

Labels are places in a list of class names. Of two classes a score is the probability of the second, shape (n,); of more
it is the probability of each, (n, classes).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pipelines.core.data.arrays import Part

Predict = Callable[[Part], np.ndarray]


def as_scores(probability: np.ndarray) -> np.ndarray:
    """The scores of probabilities (n, classes)."""
    return probability[:, 1] if probability.shape[1] == 2 else probability


def distribution(scores: np.ndarray) -> np.ndarray:
    """The probabilities of every class, (n, classes), of scores."""
    return np.stack([1 - scores, scores], axis=1) if scores.ndim == 1 else scores


# ---------------------------------------------------------------------------------------------------------- baselines


def prevalence(train: Part, classes: int) -> Predict:
    """Predicts for every record the shares of the classes in training."""
    counts = np.bincount(train.labels, minlength=classes)
    shares = as_scores((counts / counts.sum())[None])
    return lambda part: np.repeat(shares, len(part), axis=0)


def boosted(rates: Sequence[float], most: int, leaves: int, patience: int, seed: int) -> list[Any]:
    """Boosted trees, a candidate for each learning rate: at most `most` rounds of trees of so many leaves.

    They stop after `patience` rounds without a lower loss.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier

    # 63 bins: half the time of 255 and as good. AUC .802 for .806 on the simulated radiographs, .962 for .962 on
    # PneumoniaMNIST; accuracy .812 for .817 on the synthetic voices, .819 for .815 on the Arabic commands.
    shape = {"max_iter": most, "max_leaf_nodes": leaves, "max_bins": 63, "l2_regularization": 1.0}
    stop = {"early_stopping": True, "n_iter_no_change": patience, "random_state": seed}
    return [HistGradientBoostingClassifier(learning_rate=rate, **shape, **stop) for rate in rates]


def chosen(candidates: Sequence[Any], inputs: Callable[[Part], np.ndarray], train: Part, validation: Part) -> Predict:
    """Fits scikit-learn's classifiers on train and takes the one with the lowest loss on the validation records.

    Boosted trees are told these records too, and stop where the loss on them does.
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


def sure_from(confidence: np.ndarray, wrong: np.ndarray, wanted: float) -> float:
    """The lowest confidence from which on the share of wrong decisions keeps to `wanted`; 2 if none does.

    One more error than was seen is counted, so that few records cannot promise much.
    """
    order = np.argsort(-confidence, kind="stable")
    risk = (np.cumsum(wrong[order]) + 1) / (np.arange(len(order)) + 2)
    ordered = confidence[order]
    # Equal ones are decided alike, so that only the last of them counts.
    kept = np.flatnonzero((risk <= wanted) & (np.append(ordered[1:], -1) < ordered))
    return float(ordered[kept[-1]]) if len(kept) else 2.0
