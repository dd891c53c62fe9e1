"""Figures, tables and numbers for a reviewer; the baselines are in `baselines`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.special import logit

from pipelines.core.data.arrays import Part
from pipelines.core.report import captions, class_figures, figures, media_figures
from pipelines.core.report.items import Item
from pipelines.core.tasks.classification import distribution
from pipelines.medical_images.baselines import baselines
from pipelines.medical_images.task import TASK, prediction_sets

if TYPE_CHECKING:
    from pipelines.core.training.trial import Outcome

__all__ = ["baselines", "remarks", "report"]

SHOWN = 5  # images in each row of the figure of image regions
LOCATED = 30  # images with a known lesion whose maps are measured
AVERAGED = 500  # training images of a class in its mean image, at most
FEWEST = 10  # and at least: a mean of fewer would show them

CLASSES = captions.CLASSES + (
    " A prediction set holds the classes that cannot be excluded: its coverage is how often the true one is in it."
)
RISK = (
    "How many decisions are wrong if only the most confident are taken and the others referred to a person; to the "
    "left few are decided. Look how far the line stays low: one that never does shows that confidence says nothing."
)
REGIONS = (
    "Covering the outlined region would change the decision most. Look whether it is where an expert would look: "
    "outlines on borders, text or labels mean that the network has learnt a shortcut."
)
BENEATH = " As single images may not be shown, the mean training image of the decided class is beneath."


def remarks(outcome: Outcome) -> list[str]:
    """How well the network does, in a clinic's words."""
    facts, labels = outcome.facts, outcome.parts["test"].labels
    probability = distribution(outcome.scores)
    wrong = probability.argmax(axis=1) != labels
    right = outcome.resampled.interval("network", "accuracy")
    value, low, high = (f"{100 * share:.0f}" for share in (right.value, right.low, right.high))
    said = [f"Of 100 images {value} are classified correctly ({low} to {high})."]
    if len(facts.classes) == 2:
        found, passed = _at_threshold(outcome)
        negative, positive = facts.classes
        at_threshold = f"{_of_100(found)} images of '{positive}' are found, {_of_100(passed)} of '{negative}' pass"
        said.append(f"At the threshold in use {at_threshold}.")
    else:
        shares = [1 - wrong[labels == label].mean() for label in range(len(facts.classes)) if (labels == label).any()]
        worst = int(np.argmin(shares))
        said.append(f"Least often found: {facts.classes[worst]}, {_of_100(shares[worst])}.")
    sure = probability.max(axis=1) >= facts.sure
    rest = f"; of the rest {wrong[sure].mean():.1%} are wrong".replace("%", " %") if sure.any() else ""
    said.append(f"{100 * (1 - sure.mean()):.0f} of 100 are referred to a person{rest}.")
    return [" ".join([*said, "In brackets: 95 % interval."])]


def report(outcome: Outcome) -> Iterator[Item]:
    """Figures, tables and numbers in reading order."""
    facts, part = outcome.facts, outcome.parts["test"]
    labels, names = part.labels, facts.classes
    before = distribution(TASK.raw_scores(outcome.outputs))
    after = distribution(outcome.scores)

    confused = class_figures.confusion_matrix(labels, after)
    yield Item("confusion", class_figures.confusion(confused, names), captions.CONFUSION)
    if len(names) == 2:
        yield from _two_classes(outcome)
    inside = prediction_sets(after, facts)
    yield Item("table of classes", _by_class(labels, after, inside, names), CLASSES)
    yield from class_figures.calibration(labels, before, after, part.weights, names)
    right = float((before.argmax(axis=1) == labels).mean())
    yield Item("accuracy_before_calibration", right, "calibration may change which class is likelier")
    yield from _referral(outcome, after)
    yield Item("prediction_set_coverage", float(inside[np.arange(len(labels)), labels].mean()), "hold the true class")
    yield Item("prediction_set_size", float(inside.sum(axis=1).mean()), "classes in a set, mean")
    yield from (Item(*promise) for promise in TASK.promises(outcome))
    yield from _examples(outcome, after)


def _two_classes(outcome: Outcome) -> Iterator[Item]:
    """The ROC curve, and what the threshold in use gives on test."""
    part, scores = outcome.parts["test"], {"network": outcome.scores, **outcome.baselines}
    curve = class_figures.roc_curve(part.labels, scores, part.weights, outcome.facts.threshold)
    yield Item("roc curve", curve, captions.ROC)
    found, passed = _at_threshold(outcome)
    at = f"specificity_{100 * outcome.settings.specificity:.0f}"
    yield Item(f"sensitivity_at_{at}", found, f"share of {outcome.facts.classes[1]} found, with the threshold in use")
    yield Item(f"specificity_at_{at}", passed, f"share of {outcome.facts.classes[0]} without an alarm")


def _at_threshold(outcome: Outcome) -> tuple[float, float]:
    """Sensitivity and specificity on test, with the threshold in use."""
    alert, labels = outcome.scores >= outcome.facts.threshold, outcome.parts["test"].labels
    return float(alert[labels == 1].mean()), float(1 - alert[labels == 0].mean())


def _referral(outcome: Outcome, probability: np.ndarray) -> Iterator[Item]:
    """What is referred to a person, and the errors among the rest."""
    labels = outcome.parts["test"].labels
    sure = probability.max(axis=1) >= outcome.facts.sure
    yield Item("risk against coverage", _risk_coverage(probability, labels), RISK)
    yield Item("share_referred", float(1 - sure.mean()), "share of the images that a person should look at")
    if sure.any():
        error = float((probability.argmax(axis=1) != labels)[sure].mean())
        yield Item("error_of_not_referred", error, "share of wrong decisions among the other images")


def _examples(outcome: Outcome, probability: np.ndarray) -> Iterator[Item]:
    """Single images, as far as these may be shown."""
    part, shown = outcome.parts["test"], outcome.settings.examples
    if shown != "none":
        caption = REGIONS if shown == "full" else REGIONS + BENEATH
        yield Item("image regions that drive the decision", _regions(outcome, probability, shown == "full"), caption)
    if "radius" in part.records:
        yield from _in_lesion(outcome, probability)
    if shown != "none":
        yield Item(
            "worst mistakes", class_figures.mistakes(part, probability, outcome.facts.classes), captions.MISTAKES
        )


def _by_class(labels: np.ndarray, probability: np.ndarray, inside: np.ndarray, names: Sequence[str]) -> pd.DataFrame:
    """Recall, precision, AUC and prediction sets of each class.

    A prediction set promises its coverage over all cases, not within a class, and not where classes are more or less
    frequent than in the calibration images.
    """
    table = class_figures.table(labels, probability, names, "images")
    table["coverage of sets"] = [inside[labels == label, label].mean() for label in range(len(names))]
    table["size of sets"] = [inside[labels == label].sum(axis=1).mean() for label in range(len(names))]
    return table


def _of_100(share: float) -> str:
    return f"{100 * share:.0f} of 100"


def _risk_coverage(probability: np.ndarray, labels: np.ndarray) -> Any:
    wrong = (probability.argmax(axis=1) != labels)[np.argsort(-probability.max(axis=1), kind="stable")]
    decided = np.arange(1, len(wrong) + 1)
    curve = pd.DataFrame({"network": np.cumsum(wrong) / decided}, index=pd.Index(decided / len(wrong)))
    curve.index.name = "share of cases decided, most confident first; the others are referred"
    return figures.lines(curve, "Errors among the decided cases", "share of errors")


# ------------------------------------------------------------------------------------------------------ image regions


def occlusion(network: Any, pixels: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """How much each pixel contributes to a class: how far its log-odds fall when the pixel is covered.

    A square of a seventh of the image, in the image's mean colour, slides over it by three quarters of its side; a
    pixel gets the mean over the squares that cover it (Zeiler and Fergus 2014, Visualizing and understanding
    convolutional networks).

    Args:
        network: takes {"image": uint8 (m, size, size, channels)}, gives probabilities (m, classes).
        pixels: uint8 (n, size, size, channels).
        classes: codes (n,), whose log-odds are measured.

    Returns:
        float64 (n, size, size).
    """
    size = pixels.shape[1]
    side = max(size // 7, 2)
    starts = np.unique(np.append(np.arange(0, size - side, max(3 * side // 4, 1)), size - side))
    covers = (np.arange(size) >= starts[:, None]) & (np.arange(size) < starts[:, None] + side)
    squares = (covers[:, None, :, None] & covers[None, :, None, :]).reshape(-1, size, size)
    squares = np.concatenate([np.zeros((1, size, size), bool), squares])  # first nothing is covered
    mean = pixels.mean(axis=(1, 2), keepdims=True).astype(np.uint8)
    covered = np.where(squares[None, ..., None], mean[:, None], pixels[:, None])
    given = network.predict({"image": covered.reshape(-1, *pixels.shape[1:])}, batch_size=1024, verbose=0)
    given = given[np.arange(len(given)), classes.repeat(len(squares))].reshape(len(pixels), -1).astype(np.float64)
    odds = logit(np.clip(given, 1e-7, 1 - 1e-7))
    return np.tensordot(odds[:, :1] - odds, squares, axes=1) / squares.sum(axis=0)


def _regions(outcome: Outcome, probability: np.ndarray, full: bool) -> Any:
    """The most confident decisions, right and wrong, and the least confident, with the regions that drive them."""
    part, names = outcome.parts["test"], outcome.facts.classes
    labels, decided, confidence = part.labels, probability.argmax(axis=1), probability.max(axis=1)
    right, wrong = np.flatnonzero(decided == labels), np.flatnonzero(decided != labels)
    chosen = {
        "Most confident, right": right[np.argsort(-confidence[right], kind="stable")],
        "Most confident, wrong": wrong[np.argsort(-confidence[wrong], kind="stable")],
        "Least confident": np.argsort(confidence, kind="stable"),
    }
    chosen = {name: at[:SHOWN] for name, at in chosen.items() if len(at)}
    every = np.concatenate(list(chosen.values()))
    pixels = part.x(every)["image"]
    maps = dict(zip(every, occlusion(outcome.network, pixels, decided[every]), strict=True))
    beneath: list = list(pixels) if full else [_mean_image(outcome.parts["train"], code) for code in decided[every]]
    seen = {n: image if image is None else image.squeeze() for n, image in zip(every, beneath, strict=True)}
    rows = {
        name: [(seen[n], maps[n], _caption(names, labels[n], decided[n], confidence[n])) for n in at]
        for name, at in chosen.items()
    }
    return media_figures.pictures(rows, "Image regions that drive the decision (outlined: over half of the maximum)")


def _mean_image(train: Part, code: int) -> np.ndarray | None:
    """The mean of the class's training images, uint8 (size, size, channels); None of so few that it would show them."""
    rows = np.flatnonzero(train.labels == code)
    if len(rows) < FEWEST:
        return None
    few = rows[np.linspace(0, len(rows) - 1, min(AVERAGED, len(rows))).astype(int)]
    return train.x(few)["image"].mean(axis=0).astype(np.uint8)


def _caption(names: Sequence[str], label: int, decided: int, confidence: float) -> str:
    return f"{names[decided][:16]} {confidence:.2f}\ntrue: {names[label][:16]}"


def _in_lesion(outcome: Outcome, probability: np.ndarray) -> Iterator[Item]:
    """The share of the map's mass on the lesion, and of its area, in demo images rightly decided to have one."""
    part = outcome.parts["test"]
    frame = part.frame.reset_index(drop=True)
    hits = np.flatnonzero(frame["radius"].notna() & (probability.argmax(axis=1) == part.labels))[:LOCATED]
    if not len(hits):
        return
    maps = np.clip(occlusion(outcome.network, part.x(hits)["image"], part.labels[hits]), 0, None)
    size = maps.shape[1]
    down, right = np.mgrid[:size, :size]
    at = frame.iloc[hits][["row", "column", "radius"]].to_numpy()[:, :, None, None]
    # A square that touches the lesion reaches half its side beyond it.
    lesion = np.hypot(down - at[:, 0], right - at[:, 1]) <= at[:, 2] + size // 14
    mass = (maps * lesion).sum(axis=(1, 2)) / np.maximum(maps.sum(axis=(1, 2)), 1e-12)
    yield Item("map_mass_in_lesion", float(mass.mean()), "share of the outlined importance that is on the lesion")
    yield Item("lesion_share_of_image", float(lesion.mean()), "what a map without knowledge would reach")
