"""The comparison of two versions: on which rows, how strict, and what is said about it."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtri
from toys.blobs import PIPELINE

from pipelines.core.contract import Gate, InputError, Metric
from pipelines.core.data.splits import Splits
from pipelines.core.evaluation.bootstrap import Interval, bootstrap
from pipelines.core.evaluation.metrics import of_scores, roc_auc
from pipelines.core.evaluation.promises import Promise
from pipelines.core.review import comparison, gates, promotion
from pipelines.core.store import isolation, manifest, registry, tracking
from pipelines.core.training.scoring import Scored
from tests.builders import dataset, part

MADE = {"data_sha256": "d", "code_sha256": "c", "settings_sha256": "s"}
CHAMPION = registry.Version("blobs", 1, "run1", {})
NEW = registry.Version("blobs", 2, "run2", MADE)
ROWS = 1000


def measured(label: np.ndarray, scores: np.ndarray) -> Scored:
    return Scored({"label": label, "score": scores}, scores)


@pytest.fixture(autouse=True)
def no_store(monkeypatch):
    """No run is looked up: MLflow would make a store in the working directory."""
    monkeypatch.setattr(tracking, "holds", lambda run_id: False)


@pytest.fixture
def scored(monkeypatch):
    """An outcome whose network ranks well, and a function that sets what the champion gives and has seen."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, ROWS)
    good, poor = label + rng.normal(0, 0.8, ROWS), label + rng.normal(0, 2.0, ROWS)
    models = {"network": measured(label, good), "prevalence": measured(label, label * 0.0)}
    measures = {name: model.measures for name, model in models.items()}
    outcome = SimpleNamespace(
        pipeline=PIPELINE,
        facts=PIPELINE.data.Facts(),
        headline=part({"x": np.zeros(ROWS)}, {"class": label}),
        counted=np.ones(ROWS, bool),
        models=models,
        baseline_names=["prevalence"],
        splits=Splits(*[np.arange(0)] * 3),
        resampled=bootstrap({"roc_auc": of_scores(roc_auc)}, measures),
    )
    monkeypatch.setattr(isolation, "code_sha256", lambda pipeline: "c")

    def champion(scores=poor, seen=None):
        monkeypatch.setattr(isolation, "score", lambda uri, same_code, data, rows: measured(label[rows], scores[rows]))
        seen = seen or {}
        monkeypatch.setattr(
            manifest, "trained_on", lambda version, data: np.isin(data.records["id"], seen.get(version.number, []))
        )

    champion()
    return outcome, champion, good, poor


def test_a_measurably_better_version_becomes_champion_and_a_worse_one_does_not(scored):
    outcome, champion, good, poor = scored
    assert promotion.decide(outcome, NEW, CHAMPION).kind == "champion"
    assert promotion.decide(outcome, NEW, CHAMPION).reason.startswith(
        "Use the new version: it is better than version 1 by"
    )
    champion(good)
    outcome.models["network"] = measured(outcome.headline.labels, poor)
    worse = promotion.decide(outcome, NEW, CHAMPION)
    assert (worse.kind, worse.comparison.verdict) == ("challenger", "worse")
    assert worse.reason.startswith("Keep version 1: the new version is worse by")


def test_without_a_measurable_difference_the_two_are_equal_and_the_champion_stays(scored):
    outcome, champion, good, _ = scored
    champion(good + np.random.default_rng(1).normal(0, 0.01, ROWS))
    decision = promotion.decide(outcome, NEW, CHAMPION)
    assert (decision.kind, decision.comparison.verdict) == ("challenger", "equal")
    assert decision.reason.startswith("Keep version 1: the new version is not measurably different")


def test_another_seed_of_the_same_is_equal_however_much_better_it_looks(scored):
    outcome, *_ = scored
    twin = promotion.decide(outcome, NEW, registry.Version("blobs", 1, "run1", MADE))
    assert twin.comparison.difference.low > 0
    assert (twin.kind, twin.comparison.verdict) == ("challenger", "equal")
    assert twin.reason.startswith("Keep version 1: the same data, code and settings made it with another seed")


@pytest.mark.parametrize("changed", [*MADE, "ancestors"])
def test_what_differs_in_more_than_the_seed_is_no_twin(scored, changed):
    outcome, *_ = scored
    other = registry.Version("blobs", 1, "run1", MADE | {changed: "9"})
    assert promotion.decide(outcome, NEW, other).kind == "champion"


def test_rows_that_either_version_learnt_from_are_left_out_and_counted(scored):
    outcome, champion, good, poor = scored
    champion(poor, seen={1: range(100), 2: range(50, 150)})
    found = comparison.compare(outcome, NEW, CHAMPION, 0)
    assert (found.rows, found.left_out) == (ROWS - 150, 150)
    assert "850 test rows, 150 left out" in str(found)
    assert found.own.value == pytest.approx(roc_auc(outcome.headline.labels[150:], good[150:])(np.ones(850)))


def test_where_the_headline_counts_some_test_rows_only_these_are_compared(scored):
    outcome, champion, good, poor = scored
    counted = np.arange(ROWS) % 2 == 0
    outcome.headline, outcome.counted = outcome.headline.take(counted), counted
    champion(poor)
    found = comparison.compare(outcome, NEW, CHAMPION, 0)
    labels = outcome.headline.labels
    assert found.rows == ROWS // 2
    assert found.own.value == pytest.approx(roc_auc(labels, good[counted])(np.ones(ROWS // 2)))
    assert found.other.value == pytest.approx(roc_auc(labels, poor[counted])(np.ones(ROWS // 2)))


def test_a_version_that_keeps_measures_alone_is_compared_by_these(scored, monkeypatch):
    outcome, _, _good, poor = scored
    labels = outcome.headline.labels
    outcome.models["network"] = Scored(outcome.models["network"].measures)
    monkeypatch.setattr(
        isolation, "score", lambda uri, same_code, data, rows: Scored({"label": labels[rows], "score": poor[rows]})
    )
    assert comparison.compare(outcome, NEW, CHAMPION, 0).verdict == "better"


def test_a_version_of_an_earlier_release_is_not_comparable_and_the_reason_is_a_sentence(scored, monkeypatch):
    """Its manifest says nothing of the columns by which records are recognised."""
    monkeypatch.undo()
    monkeypatch.setattr(tracking, "holds", lambda run_id: False)
    monkeypatch.setattr(manifest, "_fetched", lambda run_id: ({"test": {}}, pd.DataFrame()))
    decision = promotion.decide(scored[0], NEW, CHAMPION)
    assert (decision.kind, decision.comparison.verdict) == ("challenger", "not comparable")
    assert "Version 1 of blobs was registered by an earlier release of this project" in decision.reason
    assert "train a new model under another name, with --name" in decision.reason


def test_too_few_rows_that_are_new_to_both_are_not_comparable(scored):
    outcome, champion, _, poor = scored
    champion(poor, seen={1: range(ROWS - comparison.FEWEST_ROWS + 1)})
    decision = promotion.decide(outcome, NEW, CHAMPION)
    assert (decision.kind, decision.comparison.verdict) == ("challenger", "not comparable")
    assert "only 199 of 1000 test rows are new to both, 200 are needed" in decision.reason
    champion(poor, seen={1: range(ROWS - comparison.FEWEST_ROWS)})
    assert promotion.decide(outcome, NEW, CHAMPION).comparison.verdict != "not comparable"


def test_an_ancestor_that_nobody_can_ask_any_more_makes_two_versions_not_comparable(scored, monkeypatch):
    def gone(*_):
        raise InputError("There is no version 7")

    monkeypatch.setattr(manifest, "trained_on", gone)
    assert promotion.decide(scored[0], NEW, CHAMPION).comparison.verdict == "not comparable"


def test_what_an_ancestor_learnt_from_counts_as_seen(monkeypatch):
    data = dataset({"a": np.arange(6.0)}, ("a",))
    learnt = {"1": [0], "3": [2, 3], "4": [3]}
    tables = {n: pd.DataFrame({"identity": data.identity[rows], "side": "train"}) for n, rows in learnt.items()}
    summary = {"key": ["a"], "test": {}}
    monkeypatch.setattr(manifest, "load", lambda version: (summary, tables[str(version.number)]))
    monkeypatch.setattr(registry, "find", lambda name, which: registry.Version(name, int(which), "", {}))
    version = registry.Version("blobs", 4, "", {"ancestors": "1 3"})
    assert np.flatnonzero(manifest.trained_on(version, data)).tolist() == [0, 2, 3]


@given(st.integers(0, 200))
def test_the_level_after_looks_is_bonferronis_whatever_the_resamplings_support(looks):
    """With an exact normal distribution as the bootstrap, extrapolated ends are exact as well."""
    asked = []

    def interval(level):
        asked.append(level)
        return Interval(0.0, ndtri((1 - level) / 2), ndtri((1 + level) / 2), level)

    found = comparison.stricter(interval, looks)
    assert found.level == pytest.approx(1 - 0.05 / (looks + 1))
    assert found.high == pytest.approx(ndtri(1 - 0.025 / (looks + 1)))
    (level,) = asked
    # At least as many resamplings lie beyond each end as with 500 at 95 %.
    count = min(comparison.RESAMPLINGS * (looks + 1), comparison.MOST_RESAMPLINGS)
    assert count * (1 - level) / 2 >= 12.5 - 1e-6


def test_many_looks_at_a_test_set_ask_for_more_than_one_does_and_say_so(scored):
    outcome, champion, good, _ = scored
    champion(good + np.random.default_rng(2).normal(0, 0.25, ROWS))
    first, tenth = (comparison.compare(outcome, NEW, CHAMPION, looks) for looks in (0, 9))
    assert tenth.difference.low < first.difference.low < first.difference.high < tenth.difference.high
    assert "looks" not in str(first)
    assert "at 99.5 %" in str(tenth)
    assert "9 earlier evaluations on this test set" in str(tenth)


def test_a_version_keeps_both_figures_and_both_fingerprints(scored):
    champion = registry.Version("blobs", 1, "run1", {"data_sha256": "old"})
    tags = comparison.compare(scored[0], NEW, champion, 3).tags()
    assert tags["verdict"] == "better"
    assert (tags["compared_with"], tags["champion_data_sha256"], tags["earlier_looks"]) == ("1", "old", "3")
    assert float(tags["figure"].split()[0]) > float(tags["champion_figure"].split()[0])


# ------------------------------------------------------------------------------------------------------- one decision


GATES = (Gate("prevalence", shown=True), Gate("trees", margin=0.02, of_lead_over="prevalence"))


def judged(**scores: np.ndarray) -> SimpleNamespace:
    """An outcome of these scores on 1,000 rows, with the gates above."""
    label = np.random.default_rng(0).integers(0, 2, ROWS)
    models = {name: measured(label, values) for name, values in scores.items()}
    return SimpleNamespace(
        pipeline=replace(PIPELINE, gates=GATES, headline=Metric("roc_auc", implausible=0.995)),
        models=models,
        headline=label,
        baseline_names=[name for name in models if name != "network"],
        resampled=bootstrap({"roc_auc": of_scores(roc_auc)}, {name: model.measures for name, model in models.items()}),
    )


def ranking(noise: float, seed: int = 1) -> np.ndarray:
    """Scores of the rows of `judged`, the better the less noise."""
    label = np.random.default_rng(0).integers(0, 2, ROWS)
    return label + np.random.default_rng(seed).normal(0, noise, ROWS)


def test_a_network_that_a_baseline_beats_is_no_champion_and_the_baseline_is_named():
    worse = judged(network=ranking(1.2), trees=ranking(0.8, 2), prevalence=np.zeros(ROWS))
    decision = promotion.decide(worse, NEW, None)
    assert decision.kind != "champion"
    assert decision.better_baseline == "trees"
    assert decision.reason.startswith("Use trees instead of the network: its roc auc is higher by 0.")
    better = judged(network=ranking(0.8, 2), trees=ranking(1.2), prevalence=np.zeros(ROWS))
    assert promotion.decide(better, NEW, None).kind == "champion"
    assert promotion.decide(better, NEW, None).reason.startswith("Use the network:")


def test_a_baseline_within_the_allowed_margin_still_makes_no_champion_where_it_is_measurably_better():
    label = np.random.default_rng(0).integers(0, 2, ROWS)
    near = ranking(0.8, 2)
    behind = judged(network=near - 0.08 * label, trees=near, prevalence=np.zeros(ROWS))
    generous = replace(behind.pipeline, gates=(Gate("prevalence", shown=True), Gate("trees", margin=0.5)))
    behind.pipeline = generous
    assert all(result.state == "passed" for result in gates.gates(behind))
    assert promotion.decide(behind, NEW, None).kind == "challenger"


def test_where_nothing_was_learnt_the_version_is_refused_and_no_trivial_baseline_is_recommended():
    decision = promotion.decide(
        judged(network=ranking(1e6), trees=ranking(1e6, 2), prevalence=np.zeros(ROWS)), NEW, None
    )
    assert decision.kind == "refused"
    assert decision.reason.startswith("Nothing was learnt:")
    useless = judged(network=-ranking(1.0), trees=-ranking(4.0, 2), prevalence=np.zeros(ROWS))
    assert promotion.decide(useless, NEW, None).reason.startswith("Nothing was learnt:"), "trees are no better either"
    reversed_ = judged(network=-ranking(1.0), trees=ranking(1e6, 2), prevalence=np.zeros(ROWS))
    assert "prevalence instead" not in promotion.decide(reversed_, NEW, None).reason


@pytest.mark.parametrize("name", ["network", "trees"])
def test_what_is_too_good_to_be_true_is_refused_with_the_inputs_that_carry_it(name):
    scores = {"network": ranking(0.8), "trees": ranking(0.9, 2), "prevalence": np.zeros(ROWS)} | {name: ranking(0.1)}
    decision = promotion.decide(judged(**scores), NEW, None, evidence=["time of day (roc auc 0.61)"])
    assert decision.kind == "refused"
    assert decision.reason.startswith("Nearly perfect: look for a leak")
    assert "time of day" in decision.reason


def test_a_margin_that_is_a_share_of_a_lead_shrinks_with_what_there_is_to_be_learnt():
    strong = judged(network=ranking(0.8), trees=ranking(0.8, 2), prevalence=np.zeros(ROWS))
    weak = judged(network=ranking(8.0), trees=ranking(8.0, 2), prevalence=np.zeros(ROWS))
    none = judged(network=ranking(1e6), trees=-ranking(4.0, 2), prevalence=np.zeros(ROWS))
    margins = [gates.gates(outcome)[1].margin for outcome in (strong, weak, none)]
    assert margins[0] == pytest.approx(0.02 * (strong.resampled.values["trees", "roc_auc"] - 0.5))
    assert margins[0] > 3 * margins[1]
    assert margins[2] == 0


def test_looks_make_gates_stricter_too():
    outcome = judged(network=ranking(6.0), trees=ranking(9.0, 2), prevalence=np.zeros(ROWS))
    first, tenth = (gates.gates(outcome, looks)[0].deficit for looks in (0, 9))
    assert tenth.level == pytest.approx(1 - (1 - gates.SHOWN) / 10)
    assert tenth.low < first.low < first.high < tenth.high


def test_broken_promises_are_said_after_the_decision_and_kept_ones_are_not():
    better = judged(network=ranking(0.8, 2), trees=ranking(1.2), prevalence=np.zeros(ROWS))
    kept = Promise("alerts a day", 10.0, Interval(9.0, 8.0, 9.9), percent=False)
    broken = Promise("errors among accepted", 0.02, Interval(0.114, 0.08, 0.15), remedy="Have a person look.")
    warning = promotion.decide(better, NEW, None, promises=[kept, broken]).warning
    assert warning.startswith("Not kept on test: errors among accepted: 11.4 [8.0, 15.0] %, wanted at most 2 %.")
    assert warning.endswith("Have a person look.")
    assert "alerts" not in warning
    assert promotion.decide(better, NEW, None, promises=[kept]).warning == ""
