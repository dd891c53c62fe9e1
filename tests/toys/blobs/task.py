"""Scores, measures, metrics, decisions."""

import pandas as pd

from pipelines.core.evaluation.metrics import of_scores, roc_auc
from pipelines.core.tasks.classification import Classification


class Blobs(Classification):
    def metrics(self, facts):
        return {"roc_auc": of_scores(roc_auc)}

    def decide(self, outputs, facts, part):
        probability = self.scores(outputs, facts)
        return pd.DataFrame({"probability": probability, "decision": probability >= 0.5})


TASK = Blobs()
