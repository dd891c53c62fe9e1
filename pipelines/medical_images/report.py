"""Figures, tables and numbers for a reviewer; the baselines are in `baselines`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.special import logit

from pipelines.core.data.arrays import Gathered, Rows
from pipelines.core.report import class_figures, figures, media_figures
from pipelines.core.tasks.classification import distribution
from pipelines.medical_images.baselines import baselines
from pipelines.medical_images.task import TASK, prediction_sets

if TYPE_CHECKING:
    from pipelines.core.training.trial import Outcome

__all__ = ["baselines", "report"]

SHOWN = 5  # images in each row of the figure of image regions
LOCATED = 30  # images with a known lesion whose maps are measured
NEAR = 2  # bits of 64 in which the hashes of near duplicates differ, at most; distances are even
LISTED = 50  # pairs of near duplicates
LEAST_CONTRAST = 2.0  # standard deviation, in grey levels, below which an image shows nothing to compare
BLOCK = 256  # rows handled at once; the comparisons of 256 × 256 hashes stay in the cache of a core


def report(outcome: Outcome) -> Iterator[tuple[str, Any]]:
    """Figures, tables and numbers in reading order."""
    facts, settings, part = outcome.facts, outcome.settings, outcome.parts["test"]
    labels, names = part.labels, facts.classes
    before = distribution(TASK.raw_scores(outcome.outputs))
    after = distribution(outcome.scores)
    decided = after.argmax(axis=1)

    yield "confusion", class_figures.confusion(class_figures.confusion_matrix(labels, after), names)
    inside = prediction_sets(after, facts)
    yield "table of classes", _by_class(labels, after, inside, names)
    if len(names) == 2:
        yield (
            "roc curve",
            class_figures.roc_curve(labels, {"network": outcome.scores, **outcome.baselines}, part.weights),
        )
        alert = outcome.scores >= facts.threshold
        at = f"specificity_{100 * settings.specificity:.0f}"
        yield f"sensitivity_at_{at}", float(alert[labels == 1].mean())
        yield f"specificity_at_{at}", float(1 - alert[labels == 0].mean())

    yield from class_figures.calibration(labels, before, after, part.weights)
    yield "accuracy_before_calibration", float((before.argmax(axis=1) == labels).mean())

    sure = after.max(axis=1) >= facts.sure
    yield "risk against coverage", _risk_coverage(after, labels)
    yield "share_referred", float(1 - sure.mean())
    if sure.any():
        yield "error_of_not_referred", float((decided != labels)[sure].mean())
    yield "prediction_set_coverage", float(inside[np.arange(len(labels)), labels].mean())
    yield "prediction_set_size", float(inside.sum(axis=1).mean())

    yield from TASK.promises(outcome)

    shown = settings.examples
    if shown != "none":
        yield "image regions that drive the decision", _regions(outcome, after, shown == "full")
    if "radius" in part.records:
        yield from _in_lesion(outcome, after)
    if shown != "none":
        yield "worst mistakes", class_figures.mistakes(part, after, names)
    pairs = _duplicates_across_sides(outcome)
    yield "near_duplicates_across_sides", len(pairs)
    if len(pairs) and shown != "none":
        yield "near duplicates across sides", pairs.head(LISTED)


def _by_class(labels: np.ndarray, probability: np.ndarray, inside: np.ndarray, names: Sequence[str]) -> pd.DataFrame:
    """Recall, precision, AUC and prediction sets of each class.

    A prediction set promises its coverage over all cases, not within a class, and not where classes are more or less
    frequent than in the calibration images.
    """
    table = class_figures.table(labels, probability, names, "images")
    table["coverage of sets"] = [inside[labels == label, label].mean() for label in range(len(names))]
    table["size of sets"] = [inside[labels == label].sum(axis=1).mean() for label in range(len(names))]
    return table


def _risk_coverage(probability: np.ndarray, labels: np.ndarray) -> Any:
    wrong = (probability.argmax(axis=1) != labels)[np.argsort(-probability.max(axis=1), kind="stable")]
    decided = np.arange(1, len(wrong) + 1)
    curve = pd.DataFrame({"network": np.cumsum(wrong) / decided}, index=pd.Index(decided / len(wrong)))
    curve.index.name = "share of cases decided, most confident first; the others are referred"
    return figures.lines(curve, "Errors among the decided cases", "share of errors")


# ---------------------------------------------------------------------------------------------------- near duplicates


def _duplicates_across_sides(outcome: Outcome) -> pd.DataFrame:
    """Near duplicates on different sides: (image, side, looks like, of)."""
    rows = np.concatenate(list(outcome.splits.sides().values()))
    sides = np.repeat(list(outcome.splits.sides()), [len(side) for side in outcome.splits.sides().values()])
    pairs = near_duplicates(Gathered([outcome.parts["test"].inputs["image"]], rows), NEAR)
    pairs = pairs[sides[pairs[:, 0]] != sides[pairs[:, 1]]]
    ids = outcome.data.records["id"].to_numpy()[rows]
    columns = {"image": ids[pairs[:, 0]], "side": sides[pairs[:, 0]]}
    return pd.DataFrame(columns | {"looks like": ids[pairs[:, 1]], "of": sides[pairs[:, 1]]})


def near_duplicates(thumbnails: Rows, most_distance: int) -> np.ndarray:
    """Pairs (i, j), i < j, of images whose perceptual hashes differ in at most so many bits: int64, shape (pairs, 2).

    The hash is pHash (C. Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions", 2010): which of
    64 low frequencies of the cosine transform are above their median. It survives scaling, brightness and compression,
    not turning or cropping. Half of its bits are set, so that distances are even. Images of almost a single shade are
    in no pair, since their hashes are noise. `thumbnails` is uint8, shape (n, size, size, channels).

    Every hash is compared with every other, some 20 seconds for 100,000. An index over parts of the hashes would spare
    most comparisons of random images, but images of one kind share their parts.
    """
    count = thumbnails.shape[0]
    parts = [_hashes(thumbnails[np.arange(start, min(start + BLOCK, count))]) for start in range(0, count, BLOCK)]
    hashes, contrasts = (np.concatenate(part) for part in zip(*parts, strict=True))
    rows = np.flatnonzero(contrasts >= LEAST_CONTRAST)
    return rows[_close(hashes[rows], most_distance)]


def _hashes(thumbnails: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Perceptual hash, uint64, and standard deviation, in grey levels, of each image; both of shape (n,)."""
    grey = thumbnails.mean(axis=3, dtype=np.float32)
    places = (np.arange(grey.shape[1]) + 0.5) / grey.shape[1]
    waves = np.cos(np.pi * np.arange(1, 9)[:, None] * places).astype(np.float32)
    strengths = (waves @ grey @ waves.T).reshape(-1, 64)
    bits = strengths > np.median(strengths, axis=1, keepdims=True)
    return np.packbits(bits, axis=1).view(np.uint64)[:, 0], grey.std(axis=(1, 2))


def _close(hashes: np.ndarray, most_distance: int) -> np.ndarray:
    """Pairs (i, j), i < j, of hashes that differ in at most so many bits: int64, shape (pairs, 2)."""
    near = [np.empty((0, 2), np.int64)]
    for top in range(0, len(hashes), BLOCK):
        for left in range(top, len(hashes), BLOCK):
            distances = np.bitwise_count(hashes[top : top + BLOCK, None] ^ hashes[left : left + BLOCK])
            near.append(np.argwhere(distances <= most_distance) + np.array([top, left]))
    pairs = np.concatenate(near)
    return pairs[pairs[:, 0] < pairs[:, 1]]


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
    seen = dict(zip(every, pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels, strict=True))
    rows = {
        name: [(seen[n] if full else None, maps[n], _caption(names, labels[n], decided[n], confidence[n])) for n in at]
        for name, at in chosen.items()
    }
    return media_figures.pictures(rows, "Image regions that drive the decision (outlined: over half of the maximum)")


def _caption(names: Sequence[str], label: int, decided: int, confidence: float) -> str:
    return f"{names[decided][:16]} {confidence:.2f}\ntrue: {names[label][:16]}"


def _in_lesion(outcome: Outcome, probability: np.ndarray) -> Iterator[tuple[str, float]]:
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
    yield "map_mass_in_lesion", float(mass.mean())
    yield "lesion_share_of_image", float(lesion.mean())
