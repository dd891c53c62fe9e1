"""All background as a baseline; the pixels of each class."""

import numpy as np


def baselines(facts, settings, train, validation):
    yield "background", lambda part: np.zeros(part.labels.shape, int)


def report(outcome):
    yield "pixels_in_common", int(outcome.models["network"].measures["intersection"].sum())
