"""Metrics, calibration and decisions, and what a reviewer gets to see."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.special import logit

from pipelines.core.contract import Settings
from pipelines.core.data.arrays import Gathered, Part
from pipelines.core.evaluation import calibration
from pipelines.core.evaluation.metrics import Curried, accuracy, roc_auc
from pipelines.core.report import classes, figures
from pipelines.core.tasks import classification
from pipelines.medical_images import images
from pipelines.medical_images.baselines import baselines

if TYPE_CHECKING:
    from pipelines.core.training.trial import Outcome

__all__ = ["baselines", "calibrate", "decide", "metrics", "report", "scores"]

SHOWN = 5  # images in each row of the figure that shows where the network looks
LOCATED = 30  # images with a known lesion that are looked at
NEAR = 2  # bits of 64 in which the hashes of near duplicates differ, at most; distances are even
LISTED = 50  # pairs of near duplicates


def metrics(part: Part) -> dict[str, Curried]:
    """Area under the ROC curve (of each class against the rest, their mean, beyond two) and accuracy."""
    return {"roc_auc": roc_auc, "accuracy": accuracy}


def calibrate(outputs: np.ndarray, part: Part, settings: Settings) -> dict:
    """Learns, on the calibration images: the calibrating map, the conformal quantile and the thresholds.

    - `quantile`: a class is in the prediction set if its probability is at least 1 - quantile. The set then holds the
      true class in a share of at least 1 - alpha of cases that are drawn as these were (split conformal prediction,
      Sadinle, Lei and Wasserman 2019, Least ambiguous set-valued classifiers with bounded error levels).
    - `sure`: the lowest confidence from which on the share of errors keeps to the wanted one; 2 if none does.
    - `threshold`, for two classes: where the specificity is the asked one.
    """
    raw, labels = scores(outputs, {}), part.labels
    learnt: dict[str, Any] = {"calibration": calibration.learn(raw, labels, part.weights)}
    probability = _distribution(outputs, learnt)
    given = np.sort(1 - probability[np.arange(len(labels)), labels])
    rank = int(np.ceil((len(given) + 1) * (1 - settings.alpha)))
    learnt["quantile"] = float(given[rank - 1]) if rank <= len(given) else 1.0

    wrong = probability.argmax(axis=1) != labels
    learnt["sure"] = classification.sure_from(probability.max(axis=1), wrong, settings.wanted_error)
    if probability.shape[1] == 2:
        negatives = scores(outputs, learnt)[labels == 0]
        learnt["threshold"] = calibration.threshold_at_rate(negatives, 1 - settings.specificity)
    return learnt


def scores(outputs: np.ndarray, facts: dict) -> np.ndarray:
    """Probabilities, float64, (n,) of the second of two classes, else (n, classes); calibrated once that is learnt."""
    probability = classification.as_scores(outputs.astype(np.float64))
    return calibration.apply(facts["calibration"], probability) if "calibration" in facts else probability


def _distribution(outputs: np.ndarray, facts: dict) -> np.ndarray:
    """Probabilities of every class, float64 (n, classes)."""
    return classification.distribution(scores(outputs, facts))


def decide(outputs: np.ndarray, facts: dict, part: Part) -> pd.DataFrame:
    """What a user gets for each image of the part.

    Columns: `label`, the likeliest class; `probability` of it; `probability of …` of every class; `prediction_set`,
    the classes that cannot be excluded, joined by "or"; `refer`, whether a person should look.
    """
    names, probability = np.array(facts["classes"]), _distribution(outputs, facts)
    inside = _sets(probability, facts)
    table = {"label": names[probability.argmax(axis=1)], "probability": probability.max(axis=1)}
    table |= {f"probability of {name}": probability[:, at] for at, name in enumerate(names)}
    table["prediction_set"] = [" or ".join(names[row]) for row in inside]
    table["refer"] = probability.max(axis=1) < facts["sure"]
    return pd.DataFrame(table)


def _sets(probability: np.ndarray, facts: dict) -> np.ndarray:
    """Whether each class is in the prediction set, bool (n, classes); the likeliest always is."""
    best = probability == probability.max(axis=1, keepdims=True)
    return (1 - probability <= facts["quantile"]) | best


def report(outcome: "Outcome") -> Iterator[tuple[str, Any]]:
    """Figures, tables and numbers in reading order; see `Outcome`."""
    facts, settings, part = outcome.facts, outcome.settings, outcome.parts["test"]
    labels, names = part.labels, facts["classes"]
    before, after = _distribution(outcome.outputs, {}), _distribution(outcome.outputs, facts)
    decided = after.argmax(axis=1)

    yield "confusion", classes.confusion(classes.confusion_matrix(labels, after), names)
    inside = _sets(after, facts)
    yield "table of classes", _by_class(labels, after, inside, names)
    if len(names) == 2:
        yield (
            "roc curve",
            classes.roc_curve(labels, {"network": outcome.scores, **outcome.baselines}, part.weights),
        )
        alert = outcome.scores >= facts["threshold"]
        at = f"specificity_{100 * settings.specificity:.0f}"
        yield f"sensitivity_at_{at}", float(alert[labels == 1].mean())
        yield f"specificity_at_{at}", float(1 - alert[labels == 0].mean())

    yield from classes.calibration(labels, before, after, part.weights)
    yield "accuracy_before_calibration", float((before.argmax(axis=1) == labels).mean())

    sure = after.max(axis=1) >= facts["sure"]
    yield "risk against coverage", _risk_coverage(after, labels)
    yield "share_referred", float(1 - sure.mean())
    if sure.any():
        yield "error_of_not_referred", float((decided != labels)[sure].mean())
    yield "prediction_set_coverage", float(inside[np.arange(len(labels)), labels].mean())
    yield "prediction_set_size", float(inside.sum(axis=1).mean())

    shown = settings.examples
    if shown != "none":
        yield "where it looks", _where_it_looks(outcome, after, shown == "full")
    if "radius" in part.records:
        yield from _in_lesion(outcome, after)
    if shown != "none":
        yield "worst mistakes", classes.mistakes(part, after, names)
    pairs = _twins(outcome)
    yield "near_duplicates_across_sides", len(pairs)
    if len(pairs) and shown != "none":
        yield "near duplicates across sides", pairs.head(LISTED)


def _by_class(labels: np.ndarray, probability: np.ndarray, inside: np.ndarray, names: list[str]) -> pd.DataFrame:
    """What each class is worth.

    A prediction set promises its coverage over all cases, not within a class, and no longer once classes are more or
    less frequent than they were in the calibration images.
    """
    table = classes.table(labels, probability, names, "images")
    table["coverage of sets"] = [inside[labels == label, label].mean() for label in range(len(names))]
    table["size of sets"] = [inside[labels == label].sum(axis=1).mean() for label in range(len(names))]
    return table


def _risk_coverage(probability: np.ndarray, labels: np.ndarray) -> Any:
    wrong = (probability.argmax(axis=1) != labels)[np.argsort(-probability.max(axis=1), kind="stable")]
    decided = np.arange(1, len(wrong) + 1)
    curve = pd.DataFrame({"network": np.cumsum(wrong) / decided}, index=pd.Index(decided / len(wrong)))
    curve.index.name = "share of cases decided, the surest first; the others are referred"
    return figures.lines(curve, "Errors among the decided cases", "share of errors")


def _twins(outcome: "Outcome") -> pd.DataFrame:
    """Near duplicates on different sides: (one, side, other, its side)."""
    rows = np.concatenate(list(outcome.splits.sides().values()))
    sides = np.repeat(list(outcome.splits.sides()), [len(side) for side in outcome.splits.sides().values()])
    every = outcome.parts["test"]
    pairs = images.near_duplicates(Gathered([every.inputs["image"]], rows), NEAR)
    pairs = pairs[sides[pairs[:, 0]] != sides[pairs[:, 1]]]
    ids = every.records["id"].to_numpy()[rows]
    columns = {"image": ids[pairs[:, 0]], "side": sides[pairs[:, 0]]}
    return pd.DataFrame(columns | {"looks like": ids[pairs[:, 1]], "of": sides[pairs[:, 1]]})


# ------------------------------------------------------------------------------------------------------ where it looks


def occlusion(network: Any, pixels: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """How much each place speaks for a class: how far its log-odds fall when the place is covered.

    A square of a seventh of the image, in the image's mean colour, slides over it by three quarters of its side; a
    pixel gets the mean over the squares that cover it (Zeiler and Fergus 2014, Visualizing and understanding
    convolutional networks).

    Args:
        network: takes {"image": uint8 (m, size, size, channels)}, gives probabilities (m, classes).
        pixels: uint8 (n, size, size, channels).
        classes: (n,), whose log-odds are looked at.

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


def _where_it_looks(outcome: "Outcome", probability: np.ndarray, full: bool) -> Any:
    """The surest rights, the worst wrongs and the least certain, with what spoke for the decision."""
    part, names = outcome.parts["test"], outcome.facts["classes"]
    labels, decided, confidence = part.labels, probability.argmax(axis=1), probability.max(axis=1)
    right, wrong = np.flatnonzero(decided == labels), np.flatnonzero(decided != labels)
    chosen = {
        "Surest and right": right[np.argsort(-confidence[right], kind="stable")],
        "Surest and wrong": wrong[np.argsort(-confidence[wrong], kind="stable")],
        "Least certain": np.argsort(confidence, kind="stable"),
    }
    chosen = {name: at[:SHOWN] for name, at in chosen.items() if len(at)}
    every = np.concatenate(list(chosen.values()))
    pixels = part.x(every)["image"]
    maps = dict(zip(every, occlusion(outcome.network, pixels, decided[every]), strict=True))
    seen = dict(zip(every, pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels, strict=True))
    rows = {
        name: [(seen[n] if full else None, maps[n], _caption(names, labels[n], decided[n], confidence[n])) for n in at]
        for name, at in chosen.items()
    }
    return figures.pictures(rows, "What speaks for the decision (outlined: half of the strongest effect and more)")


def _caption(names: list[str], label: int, decided: int, confidence: float) -> str:
    return f"{names[decided][:16]} {confidence:.2f}\ntrue: {names[label][:16]}"


def _in_lesion(outcome: "Outcome", probability: np.ndarray) -> Iterator[tuple[str, float]]:
    """Of demo images that were rightly taken to show a lesion: the share of the map's mass on it, and its area."""
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
    yield "map_mass_in_lesion", float(mass.mean())
    yield "lesion_share_of_image", float(lesion.mean())
