"""Sealed test: whatever the labels of test records are, the same network, facts, thresholds and baselines come out."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from pipelines.core.data.arrays import Encoded, Part
from pipelines.core.data.dataset import Dataset
from pipelines.core.training import device
from pipelines.core.training import trial as trial_room
from pipelines.core.training.trial import NETWORK, Outcome, trial
from tests.small import PIPELINES, Small, small

READ_LABELS = {"fraud"}
"""Pipelines whose inputs hold the labels of earlier records, once these are known."""
MOST = {"fraud": 2_000, "speech_commands": 200, "medical_images": 96}
"""Training records where all of them would take longer."""
ROUNDS = 5
"""Rounds of boosted trees: what they learn from can be told from a few."""


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Networks that run without being compiled, which takes longer than to train them, and few trees; scores kept."""
    import tensorflow as tf

    for kind in (HistGradientBoostingClassifier, HistGradientBoostingRegressor):

        def few(self, *arguments, fit=kind.fit, **named):
            return fit(self.set_params(max_iter=ROUNDS), *arguments, **named)

        monkeypatch.setattr(kind, "fit", few)
    for pipeline in PIPELINES:
        monkeypatch.setattr(type(pipeline.task), "batch", None)
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


def flipped(case: Small) -> Small:
    """The same with every test label another one: the next class, or another quantity."""
    rows, frame = case.splits.test, case.data.records.iloc[case.splits.test][case.targets].copy()
    for name in case.targets:
        if frame[name].dtype == object:  # the pixels of a mask
            frame[name] = [(pixels + 1) % 3 for pixels in frame[name]]
        elif case.pipeline.task.kind == "classes":
            frame[name] = (frame[name] + 1) % (case.data.records[name].max() + 1)
        elif case.pipeline.name == "documents":
            frame[name] = 1 - frame[name]
        else:
            frame[name] = 2 * frame[name]
    return case.labelled_as(rows, frame)


def judged(case: Small) -> np.ndarray:
    """Which test rows have inputs that no label of test may change: those before the first of these is known."""
    frame = case.data.records.iloc[case.splits.test]
    if case.pipeline.name not in READ_LABELS:
        return np.ones(len(frame), bool)
    return (frame["time"] < frame["known_at"].min()).to_numpy()


def few(case: Small) -> Small:
    """The same with one epoch on fewer training records, of every class."""
    train, settings = case.splits.train, replace(case.settings, epochs=1)
    step = -(-len(train) // MOST.get(case.pipeline.name, len(train)))
    return replace(case, settings=settings, splits=replace(case.splits, train=train[::step]))


def outcome(case: Small) -> Outcome:
    machine = device.setup(case.settings.seed, "cpu")
    return trial(case.pipeline, case.data, case.splits, case.settings, machine, resamplings=0)


def differences(one: Small) -> list[str]:
    """What a trial makes otherwise of the same data once the labels of test are flipped."""
    other = flipped(one)
    first, second = outcome(one), outcome(other)
    before, after = (found.parts["test"].y() for found in (first, second))
    # Flipping has changed the target of every test row.
    for name, values in before.items():
        changed = (values != after[name]) & ~((values != values) & (after[name] != after[name]))
        assert changed.reshape(len(values), -1).any(axis=1).all()
    rows = judged(one)
    assert rows.any()
    found = [] if first.facts == second.facts else ["facts"]
    weights = zip(first.network.get_weights(), second.network.get_weights(), strict=True)
    found += [] if all(np.array_equal(a, b) for a, b in weights) else ["weights"]
    scores = {name: (model.scores[rows], second.models[name].scores[rows]) for name, model in first.models.items()}
    return found + [name for name, (a, b) in scores.items() if not np.array_equal(a, b)]


@pytest.mark.parametrize("name", [pipeline.name for pipeline in PIPELINES])
def test_labels_of_test_change_nothing(name):
    assert differences(few(small(name))) == []


# ---------------------------------------------------------------------------------------------- planted: test is read


def trained_on_test(case: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    fit = trial_room.fit

    def on_both(network, loss, train, *others):
        rows = np.concatenate([train.rows, case.splits.test])
        return fit(network, loss, Part(train.data, rows, train.encoded), *others)

    monkeypatch.setattr(trial_room, "fit", on_both)


def adapted_to_test(case: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shares of the classes in test as the network's prior."""
    build = trial_room.build

    def informed(pipeline, train, settings, facts, start):
        network, facts = build(pipeline, train, settings, facts, start)
        labels = train.data.records["label"].to_numpy()[case.splits.test]
        network.layers[-1].bias.assign([labels.mean()])
        return network, facts

    monkeypatch.setattr(trial_room, "build", informed)


def calibrated_on_test(case: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    task = type(case.pipeline.task)
    calibrate = task.calibrate

    def on_test(self, predict, part, settings, facts):
        return calibrate(self, predict, Part(part.data, case.splits.test, part.encoded), settings, facts)

    monkeypatch.setattr(task, "calibrate", on_test)


def stopped_by_test(case: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    def both(data, rows, seed=0):
        return case.splits.test, rows

    monkeypatch.setattr(trial_room, "halves", both)


def baseline_on_test(case: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    report = case.pipeline.report
    baselines = report.baselines

    def on_test(facts, settings, train, validation):
        return baselines(facts, settings, Part(train.data, case.splits.test, train.encoded), validation)

    monkeypatch.setattr(report, "baselines", on_test)


def learnt_from_all(case: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Dataset, "take", lambda self, rows: self)


def label_as_input(case: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    encode = case.pipeline.data.encode

    def leaking(data, facts):
        encoded = encode(data, facts)
        label = encoded.targets["class"][:, None]
        return Encoded({"point": encoded.inputs["point"] + label.astype(np.float32)}, encoded.targets)

    monkeypatch.setattr(case.pipeline.data, "encode", leaking)


def known_at_once(case: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels of payments feed later payments before their delay is over."""
    encode = case.pipeline.data.encode
    monkeypatch.setattr(case.pipeline.data, "encode", lambda data, facts: encode(data, replace(facts, delay_days=0.0)))


@pytest.mark.parametrize(
    ("name", "plant", "changed"),
    [
        ("blobs", trained_on_test, "weights"),
        ("blobs", adapted_to_test, "weights"),
        ("blobs", stopped_by_test, "weights"),
        ("blobs", calibrated_on_test, "facts"),
        ("documents", calibrated_on_test, "facts"),
        ("blobs", baseline_on_test, "prevalence"),
        ("assays", learnt_from_all, "facts"),
        ("blobs", label_as_input, NETWORK),
        ("fraud", known_at_once, "trees"),
    ],
)
def test_whatever_reads_labels_of_test_is_found(name, plant: Callable, changed, monkeypatch):
    case = small(name)
    if plant is stopped_by_test:  # the weights of another epoch are kept
        case = replace(case, settings=replace(case.settings, epochs=6, learning_rate=0.1))
    plant(case, monkeypatch)
    assert changed in differences(few(case) if name == "fraud" else case)
