"""Baselines on the same clips, from trivial to strong."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pipelines.core.data.arrays import Part
from pipelines.core.tasks import classification
from pipelines.core.tasks.classification import Predict
from pipelines.core.training.batches import predict
from pipelines.speech_commands import Settings, model
from pipelines.speech_commands.data import Facts

MOST = 20_000
"""Training clips that a baseline is fitted to."""
REGULARISATIONS = (1e-2, 1e-1, 1.0)  # inverse, of the logistic regression
RATES = (0.1, 0.2)  # learning rates of the trees


def baselines(facts: Facts, settings: Settings, train: Part, validation: Part) -> Iterator[tuple[str, Predict]]:
    """Shares of the commands; logistic regression and boosted trees on statistics of the network's log-mel features.

    The statistics are mean and deviation of each band, over the clip and over its halves. Hyperparameters are chosen on
    the validation clips.
    """
    train = train.sample(MOST, settings.seed)
    # Of commands alone, which the headline counts: the most frequent class may be silence, which is never right there.
    spoken = train.take(train.frame["command"].to_numpy(bool))
    yield "prevalence", classification.prevalence(spoken, len(facts.classes))
    extractor = model.features(facts)

    @cache
    def statistics(part: Part) -> np.ndarray:
        frames = predict(extractor, part)
        pieces = (frames, *np.array_split(frames, 2, axis=1))
        return np.concatenate([f(piece, axis=1) for piece in pieces for f in (np.mean, np.std)], axis=1)

    regressions = [
        make_pipeline(StandardScaler(), LogisticRegression(C=strength, tol=1e-3, max_iter=1000))
        for strength in REGULARISATIONS
    ]
    yield "logistic_regression", classification.best_on_validation(regressions, statistics, train, validation)
    trees = classification.boosted_trees(RATES, 200, 8, 10, settings.seed)
    yield "trees", classification.best_on_validation(trees, statistics, train, validation)
