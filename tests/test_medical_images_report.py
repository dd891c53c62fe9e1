"""What a reviewer gets: prediction sets that keep their promise, referrals, and maps that point at the cause."""

from dataclasses import replace

import keras
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from pipelines.core.data.arrays import Encoded, Part
from pipelines.core.data.dataset import Dataset
from pipelines.core.evaluation.calibration import Calibration
from pipelines.core.training import device
from pipelines.core.training.trial import trial
from pipelines.medical_images import PIPELINE, Settings, baselines, demo, model, report
from pipelines.medical_images.data import About, Facts
from pipelines.medical_images.task import TASK, prediction_sets
from tests.builders import contents, without_words

SETTINGS = Settings(alpha=0.1, wanted_error=0.05, specificity=0.9)


def part(labels: np.ndarray, **inputs: np.ndarray) -> Part:
    records = pd.DataFrame({"id": np.arange(len(labels)), "label": labels, "labelled": True})
    data = Dataset(records, About(("a", "b"), 24, 1), ("id",))
    return Part(data, np.arange(len(labels)), Encoded(inputs, {"label": labels}))


def calibrated(outputs: np.ndarray, labels: np.ndarray, settings: Settings = SETTINGS) -> Facts:
    """Facts learnt from outputs (n, classes) of calibration images."""
    facts = Facts(tuple("abcdefgh"[: outputs.shape[1]]), 24, 1)
    return TASK.calibrate(lambda part: outputs, part(labels), settings, facts)


def sets(outputs: np.ndarray, facts: Facts) -> np.ndarray:
    return prediction_sets(TASK.probabilities(outputs, facts), facts)


def drawn(n: int, classes: int, seed: int, sharpness: float = 1.0, spread: float = 2.5) -> tuple:
    """Outputs of a network, (n, classes), and labels drawn from them: it is calibrated if the sharpness is 1."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, spread, (n, classes))
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = (p.cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
    sharp = p**sharpness
    return (sharp / sharp.sum(axis=1, keepdims=True)).astype(np.float32), labels


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("alpha", [0.05, 0.2])
def test_prediction_sets_hold_the_truth_as_often_as_promised(classes, alpha):
    covered = []
    for seed in range(20):
        outputs, labels = drawn(2_000, classes, seed, sharpness=2.0, spread=1.2)
        facts = calibrated(outputs[:500], labels[:500], Settings(alpha=alpha))
        inside = sets(outputs[500:], facts)
        covered.append(inside[np.arange(1500), labels[500:]].mean())
    assert np.mean(covered) == pytest.approx(1 - alpha, abs=0.02)


def test_a_prediction_set_always_holds_the_decision():
    outputs, labels = drawn(400, 4, 0)
    facts = calibrated(outputs, labels, Settings(alpha=0.6))
    assert sets(outputs, facts)[np.arange(400), TASK.probabilities(outputs, facts).argmax(axis=1)].all()


def test_with_too_few_images_for_the_promise_every_class_is_in_the_set():
    outputs, labels = drawn(15, 3, 0)
    assert sets(outputs, calibrated(outputs, labels, Settings(alpha=0.01))).all()


def test_before_calibration_nothing_is_excluded_and_everything_is_referred():
    outputs, labels = drawn(50, 3, 0)
    facts = Facts(tuple("abc"), 24, 1)
    assert sets(outputs, facts).all()
    assert TASK.decide(outputs, facts, part(labels))["refer"].all()


@pytest.mark.parametrize("classes", [2, 4])
def test_what_is_not_referred_is_wrong_as_rarely_as_wanted(classes):
    errors = []
    for seed in range(20):
        outputs, labels = drawn(3_000, classes, seed)
        facts = calibrated(outputs[:1000], labels[:1000])
        decisions = TASK.decide(outputs[1000:], facts, part(labels[1000:]))
        names = np.array(list("abcd"))[labels[1000:]]
        kept = ~decisions["refer"].to_numpy()
        errors.append((decisions["label"].to_numpy() != names)[kept].mean())
        assert 0 < kept.mean() < 1
    assert np.mean(errors) == pytest.approx(SETTINGS.wanted_error, abs=0.015)


def test_a_network_that_knows_nothing_refers_everything():
    rng = np.random.default_rng(0)
    outputs = np.full((300, 2), 0.5, np.float32) + rng.normal(0, 1e-3, (300, 1)).astype(np.float32) * [1, -1]
    labels = rng.integers(0, 2, 300)
    assert TASK.decide(outputs, calibrated(outputs, labels), part(labels))["refer"].all()


def test_decisions_say_label_probability_and_set_in_the_users_words():
    facts = Facts(("clear", "lesion"), 24, 1, calibration=Calibration("temperature"), quantile=0.7, sure=0.8)
    decisions = TASK.decide(np.array([[0.9, 0.1], [0.4, 0.6]], np.float32), facts, part(np.zeros(2, int)))
    assert decisions["label"].tolist() == ["clear", "lesion"]
    assert decisions["probability"].tolist() == pytest.approx([0.9, 0.6], abs=1e-5)
    assert decisions["probability of lesion"].tolist() == pytest.approx([0.1, 0.6], abs=1e-5)
    assert decisions["prediction_set"].tolist() == ["clear", "clear or lesion"]
    assert decisions["refer"].tolist() == [False, True]


def test_the_threshold_keeps_to_the_asked_specificity():
    outputs, labels = drawn(4_000, 2, 1)
    facts = calibrated(outputs, labels)
    alert = TASK.scores(outputs, facts) >= facts.threshold
    assert 1 - alert[labels == 0].mean() == pytest.approx(0.9, abs=0.005)


def test_the_map_of_a_network_that_looks_at_one_corner_is_in_that_corner():
    image = keras.Input((14, 14, 1), dtype="uint8", name="image")
    corner = keras.layers.Rescaling(1 / 255)(image)[:, :4, 10:]
    mean = keras.layers.GlobalAveragePooling2D()(corner)
    chance = keras.layers.Dense(1, activation="sigmoid", kernel_initializer="ones")(mean)
    network = keras.Model({"image": image}, keras.ops.concatenate([1 - chance, chance], axis=1))
    pixels = np.zeros((2, 14, 14, 1), np.uint8)
    pixels[:, 1:3, 11:13] = 255
    pixels[:, 8:, :6] = 255
    maps = report.occlusion(network, pixels, np.array([1, 0]))
    outside = np.ones((14, 14), bool)
    outside[:5, 9:] = False  # a square reaches one pixel further
    assert np.abs(maps[0][outside]).max() < 1e-5
    assert maps[0, 1:3, 11:13].min() == pytest.approx(maps[0].max())
    assert maps[1] == pytest.approx(-maps[0], abs=1e-4), "what speaks for one class speaks against the other"


def test_features_of_trees_find_a_blob_wherever_it_is():
    rng = np.random.default_rng(0)
    pixels = rng.normal(100, 5, (400, 24, 24, 1))
    labels = np.arange(400) % 2
    for n in np.flatnonzero(labels):
        top, left = rng.integers(2, 18, 2)
        pixels[n, top : top + 4, left : left + 4] += 40
        pixels[n] -= 40 * 16 / 24**2  # as bright as the others
    every = part(labels, image=pixels.astype(np.uint8))
    train, validation, test = (every.take(np.arange(*rows)) for rows in ((250,), (250, 320), (320, 400)))
    fitted = dict(baselines.baselines(Facts(("a", "b"), 24, 1), SETTINGS, train, validation))
    right = {name: ((predict(test) >= 0.5) == test.labels).mean() for name, predict in fitted.items()}
    assert right["trees"] > 0.95
    assert right["trees"] > max(right["logistic_regression"], right["nearest_neighbours"])


@pytest.mark.parametrize(("size", "stem"), [(28, 28), (32, 32), (64, 32), (100, 25), (128, 32)])
def test_larger_images_are_halved_until_the_stages_fit(size, stem):
    facts = Facts(("a", "b", "c"), size, 3)
    network = model.build(facts, Settings(width=4), {"image": np.zeros((2, size, size, 3), np.uint8)}, np.zeros(2))
    first = next(layer for layer in network.layers if isinstance(layer, keras.layers.AveragePooling2D))
    assert first.input.shape[1:3] == (stem, stem)
    assert network.output.shape == (None, 3)


@pytest.fixture(scope="module")
def outcome():
    """A trial on a few of the demo's images, hardly trained."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "IMAGES", 320)
        settings = Settings(epochs=1, width=4, examples="full")
        data = PIPELINE.data.read(None, settings)
        return trial(PIPELINE, data, PIPELINE.data.split(data, settings), settings, device.setup(0), resamplings=20)


def test_the_report_has_what_a_reviewer_looks_for(outcome):
    items = contents(report.report(outcome))
    assert {name for name, item in items.items() if isinstance(item, Figure)} == {
        "confusion", "roc curve", "reliability", "risk against coverage", "image regions that drive the decision",
    }  # fmt: skip
    classes = items["table of classes"]
    assert classes["test images"].sum() == len(outcome.parts["test"])
    assert all(np.isfinite(item) for item in items.values() if isinstance(item, float))
    assert 0 <= items["share_referred"] <= 1
    assert items["prediction_set_coverage"] <= items["prediction_set_size"]
    wrong = items["worst mistakes"]
    assert (wrong["true"] != wrong["decided"]).all()


@pytest.mark.parametrize("examples", ["ids", "full"])
def test_every_item_says_what_it_is_and_how_to_read_it(outcome, examples):
    changed = replace(outcome, settings=replace(outcome.settings, examples=examples))
    assert without_words(report.report(changed)) == []


def test_the_verdict_begins_with_what_a_clinic_asks(outcome):
    items, said = contents(report.report(outcome)), report.remarks(outcome)[0]
    right = outcome.resampled.values["network", "accuracy"]
    assert said.startswith(f"Of 100 images {100 * right:.0f} are classified correctly (")
    found, passed = (items[f"{name}_at_specificity_90"] for name in ("sensitivity", "specificity"))
    assert f"{100 * found:.0f} of 100 images of '{outcome.facts.classes[1]}' are found, {100 * passed:.0f} of" in said
    assert f"{100 * items['share_referred']:.0f} of 100 are referred to a person" in said


def test_the_mean_image_of_a_class_shows_no_single_one(outcome):
    train = outcome.parts["train"]
    mean = report._mean_image(train, 1)
    own = train.x(np.flatnonzero(train.labels == 1))["image"].astype(float)
    assert mean == pytest.approx(own.mean(axis=0), abs=1)
    assert np.abs(own - mean).mean(axis=(1, 2, 3)).min() > 3, "near to one of the images"
    few = train.take(np.flatnonzero(train.labels == 1)[: report.FEWEST - 1])
    assert report._mean_image(few, 1) is None


@pytest.mark.parametrize(
    ("examples", "pictures", "tables"), [("none", False, False), ("ids", False, True), ("full", True, True)]
)
def test_records_are_stored_only_as_far_as_allowed(outcome, examples, pictures, tables):
    items = contents(report.report(replace(outcome, settings=replace(outcome.settings, examples=examples))))
    assert ("worst mistakes" in items) == tables
    shown = items.get("image regions that drive the decision")
    assert (shown is not None) == tables
    if shown:
        test = outcome.parts["test"].x()["image"][..., 0]
        beneath = [image.get_array() for axes in shown.axes for image in axes.get_images()]
        single = [any(np.array_equal(image, one) for one in test) for image in beneath]
        assert beneath
        assert all(single) if pictures else not any(single)
        assert all(image.get_cmap().name == "gray" for axes in shown.axes for image in axes.get_images())
