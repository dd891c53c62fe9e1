"""Baselines, metrics, decisions, figures."""

import numpy as np
import pandas as pd

from pipelines.core.evaluation import calibration
from pipelines.core.evaluation.metrics import roc_auc


def baselines(facts, settings, train, validation):
    yield "prevalence", lambda part: np.full(len(part), train.labels.mean())


def metrics(part):
    return {"roc_auc": roc_auc}


def calibrate(outputs, part, settings):
    return {"calibration": calibration.temperature(outputs[:, 0], part.labels, part.weights)}


def scores(outputs, facts):
    return calibration.apply(facts["calibration"], outputs[:, 0])


def decide(outputs, facts, part):
    return pd.DataFrame({"probability": scores(outputs, facts), "decision": scores(outputs, facts) >= 0.5})


def report(outcome):
    yield "positives", int(outcome.headline.labels.sum())
