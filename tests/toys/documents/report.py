"""Every tag for every document as a baseline; the tags found."""

import numpy as np


def baselines(facts, settings, train, validation):
    yield "every_tag", lambda part: np.ones((len(part), 3))


def report(outcome):
    yield "tags_found", int(outcome.models["network"].measures["hits"].sum())
