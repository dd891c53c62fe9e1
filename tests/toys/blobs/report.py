"""Baselines, metrics, decisions, figures."""

import numpy as np
import pandas as pd

from pipelines.core import evaluate


def baselines(facts, settings, train, validation):
    yield "prevalence", lambda part: np.full(len(part), train.labels.mean())
    yield "first_number", lambda part: part.x()["point"][:, 0]


def metrics(part):
    return {"roc_auc": evaluate.roc_auc}


def calibrate(outputs, part, settings):
    return {"calibration": evaluate.temperature(outputs[:, 0], part.labels, part.weights)}


def scores(outputs, facts):
    return evaluate.calibrate(facts["calibration"], outputs[:, 0]) if "calibration" in facts else outputs[:, 0]


def decide(outputs, facts, part):
    probability = scores(outputs, facts)
    return pd.DataFrame({"probability": probability, "decision": probability >= 0.5})


def report(outcome):
    yield "positives", float(outcome.headline.labels.sum())
