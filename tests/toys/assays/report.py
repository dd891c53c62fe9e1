"""The mean of training as a baseline; the number of measured cells."""

import numpy as np


def baselines(facts, settings, train, validation):
    yield "mean", lambda part: np.tile(facts.means, (len(part), 1))


def report(outcome):
    yield "measured_cells", int(outcome.models["network"].measures["known"].sum())
