"""Micro-averaged F1: counts summed over documents, then one ratio."""

from dataclasses import replace

import numpy as np
import pandas as pd
from sklearn.metrics import f1_score

from pipelines.core.tasks.task import Task
from toys.documents.data import TAGS


def micro_f1(measures):
    hits, predicted, true = (measures[name].astype(float) for name in ("hits", "predicted", "true"))
    return lambda weights: float(2 * weights @ hits / max(weights @ (predicted + true), 1e-9))


class Documents(Task):
    kind = "none"

    def scores(self, outputs, facts):
        return (outputs >= facts.threshold).astype(float)

    def measures(self, scores, part):
        hits = (scores * part.labels).sum(axis=1)
        return {"hits": hits, "predicted": scores.sum(axis=1), "true": part.labels.sum(axis=1)}

    def metrics(self, facts):
        return {"micro_f1": micro_f1}

    def calibrate(self, predict, part, settings, facts):
        outputs, grid = predict(part), np.linspace(0.1, 0.9, 17)
        values = [f1_score(part.labels, outputs >= at, average="micro", zero_division=0) for at in grid]
        return replace(facts, threshold=float(grid[np.argmax(values)]))

    def decide(self, outputs, facts, part):
        return pd.DataFrame(self.scores(outputs, facts).astype(bool), columns=TAGS)


TASK = Documents()
