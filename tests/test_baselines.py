"""Honest baselines: each is measurably better than the trivial one on demo data, a crippled one is not."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from threadpoolctl import threadpool_limits

from pipelines.core.data.arrays import Part
from pipelines.core.data.splits import halves
from pipelines.core.evaluation.bootstrap import bootstrap
from tests.small import Small, small

RANDOM = "in random order"
TRIVIAL = {"fraud": "prevalence", "medical_images": "prevalence", "speech_commands": "prevalence", "stocks": "constant"}
"""The baseline of each pipeline that learns no more than how frequent or how large the targets are."""
LEAD = {"fraud": 0.005, "medical_images": 0.02, "speech_commands": 0.1, "stocks": 0.05}
"""By how much at least a baseline must measurably be better than each of its floors, in units of the headline metric.
An interval above 0 is not enough: what learnt from shuffled labels can be better by a hair, and reliably so."""
OTHERS = {
    "fraud": ("amount_rule", "logistic_regression", "trees"),
    "medical_images": ("logistic_regression", "nearest_neighbours", "trees"),
    "speech_commands": ("logistic_regression", "trees"),
    "stocks": ("last_value", "month_mean", "ewma", "har", "har_market", "har_pooled", "garch", "trees"),
}
"""Each of these must be measurably better than the trivial one, and than its own scores in random order: a trivial one
that never names a command has an accuracy of 0, which guessing beats."""
NOISY = {"last_value"}
"""Follows the variance, but with too much noise to beat its mean: only the second floor is asked of it."""
SIZES = {
    "fraud": {"customers": 200},
    "medical_images": {"images": 400},
    "speech_commands": {"count": 12},
    "stocks": {"days": 1_300},
}
"""Of the demo data, as few as show the floors."""
QUICK = ["fraud", "medical_images", "stocks", pytest.param("speech_commands", marks=pytest.mark.slow)]
FITTED = {
    "fraud": ("logistic_regression",),
    "medical_images": ("logistic_regression", "nearest_neighbours", "trees"),
    "speech_commands": ("logistic_regression", "trees"),
    "stocks": ("har", "har_market", "trees"),
}
"""Baselines that learn from labels, and so are no better than their floor where these were shuffled."""


def scored(case: Small) -> tuple[Part, dict[str, np.ndarray], object]:
    """The test part, the scores of every baseline on it, and the facts."""
    pipeline, settings, splits = case.pipeline, case.settings, case.splits
    facts = pipeline.data.learn(case.data.take(splits.train), settings)
    encoded = pipeline.data.encode(case.data, facts).materialised()
    stopping, _ = halves(case.data, splits.validation)
    train, validation, test = (Part(case.data, rows, encoded) for rows in (splits.train, stopping, splits.test))
    with threadpool_limits(1, "openmp"):  # on few records threads only wait for one another
        baselines = pipeline.report.baselines(facts, settings, train, validation)
        return test, {name: predict(test) for name, predict in baselines}, facts


def below_floor(case: Small, test: Part, scores: dict[str, np.ndarray], facts: object) -> list[str]:
    """Baselines that are not measurably better than their floors by LEAD."""
    pipeline, rng, headline = case.pipeline, np.random.default_rng(0), case.pipeline.headline
    random = {f"{name} {RANDOM}": rng.permutation(values) for name, values in scores.items()}
    counted, metric = case.splits.counted, {headline.name: pipeline.task.metrics(facts)[headline.name]}
    measures = {
        name: {key: column[counted] for key, column in pipeline.task.measures(values, test).items()}
        for name, values in (scores | random).items()
    }
    part = test.take(counted)
    resampled = bootstrap(metric, measures, part.weights, case.splits.clusters_of(part), 200)
    found = []
    for name in OTHERS[pipeline.name]:
        floors = [f"{name} {RANDOM}"] + [TRIVIAL[pipeline.name]] * (name not in NOISY)
        deficits = [resampled.deficit(name, floor, headline.name, headline.higher) for floor in floors]
        if max(deficit.high for deficit in deficits) >= -LEAD[pipeline.name]:
            found.append(name)
    return found


def demo(name: str) -> Small:
    """Some of the demo data; radiographs with a mark on those of one class, at one place.

    Without it nothing in their pixels one by one, which regression and neighbours read, tells the classes apart: on the
    whole demo both are at chance, .53 and .47.
    """
    case = small(name, **SIZES[name])
    if name != "medical_images":
        return case
    records, rng = case.data.records.copy(), np.random.default_rng(0)
    marked = []
    for pixels, label in zip(records["image"], records["label"], strict=True):
        image = pixels.reshape(case.data.about.size, -1).copy()
        image[4:10, 4:10] = np.clip(image[4:10, 4:10] + 60 * label + rng.normal(0, 20), 0, 255)
        marked.append(image.ravel())
    records["image"] = pd.Series(marked, dtype=object)
    return replace(case, data=replace(case.data, records=records))


@pytest.fixture(scope="module")
def fitted():
    """The baselines of a pipeline, fitted once for all tests of it."""
    known = {}

    def of(name: str) -> tuple:
        if name not in known:
            case = demo(name)
            known[name] = (case, *scored(case))
        return known[name]

    return of


@pytest.mark.parametrize("name", QUICK)
def test_each_baseline_is_measurably_better_than_its_floor(name, fitted):
    case, test, scores, facts = fitted(name)
    assert set(scores) == {*OTHERS[name], TRIVIAL[name]}
    assert {gate.than for gate in case.pipeline.gates} <= set(scores)
    assert below_floor(case, test, scores, facts) == []


@pytest.mark.parametrize("name", QUICK)
def test_scores_in_random_order_are_below_the_floor(name, fitted):
    case, test, scores, facts = fitted(name)
    rng = np.random.default_rng(1)
    shuffled = {one: rng.permutation(values) for one, values in scores.items()}
    assert below_floor(case, test, shuffled, facts) == list(OTHERS[name])


@pytest.mark.parametrize("name", QUICK)
def test_a_baseline_that_was_fitted_to_shuffled_labels_is_below_its_floor(name):
    case = demo(name)
    rows = np.concatenate([case.splits.train, case.splits.validation])
    order = np.random.default_rng(0).permutation(rows)
    spoilt = case.labelled_as(rows, case.data.records.iloc[order][case.targets])
    assert set(FITTED[name]) <= set(below_floor(replace(spoilt, splits=case.splits), *scored(spoilt)))


@pytest.mark.slow
def test_trees_find_the_lesions_of_the_whole_demo():
    case = small("medical_images", images=2_000)
    test, scores, facts = scored(case)
    assert "trees" not in below_floor(case, test, scores, facts)
