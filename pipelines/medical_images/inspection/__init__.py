"""Checks of images for leaks: near copies, two labels of an image, unknown patients, files whose form tells a class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier

from pipelines.core.contract import InputError
from pipelines.core.data import copies, leakage
from pipelines.core.data.arrays import Gathered, Rows
from pipelines.core.data.dataset import Dataset
from pipelines.core.data.splits import Splits, codes_of
from pipelines.core.evaluation.bootstrap import Interval, bootstrap
from pipelines.core.evaluation.metrics import of_scores, roc_auc
from pipelines.medical_images.decoding import FORM
from pipelines.medical_images.inspection.near_copies import near_copies

NEAR_CONFLICT = "near copies of one another under two labels"
MOST_CONFLICTS = 0.05  # share of images under two labels from which on labels are no truth to learn or judge by
FORM_WARNS, FORM_REFUSES, BORDER_WARNS = 0.75, 0.98, 0.97  # AUC; for a warning the interval must be above
"""On PneumoniaMNIST, which is clean, the outermost pixels alone have an AUC of .931 [.906, .951]; on the demo .50."""
FEWEST = 5  # validation images of a class, below which an AUC says nothing


def inspect(data: Dataset[Any], splits: Splits, pixels: Rows, settings: Any) -> Splits:
    """The splits without training and validation images that copy one of a later side, with copies and warnings.

    Args:
        data: every record.
        splits: the sides.
        pixels: uint8 (n, size, size, channels) over every record.
        settings: with `allow_column`.

    Raises:
        InputError: if many images have two labels, or the files' form separates the classes.
    """
    rows, classes = np.sort(np.concatenate(list(splits.sides().values()))), data.about.classes
    pairs = _near_pairs(data, rows, pixels)
    codes = copies.linked(data.identity, pairs)
    once = ~pd.Series(data.identity).duplicated(keep=False).to_numpy()  # core has seen those of equal ones
    contradictions = copies.conflicts(data.records, rows, codes, once, classes, NEAR_CONFLICT, MOST_CONFLICTS)
    warnings = [*splits.warnings, *contradictions]
    kept = copies.drop_earlier(splits, codes, "that are near copies of")
    dropped = len(splits.train) + len(splits.validation) - len(kept.train) - len(kept.validation)
    splits = kept
    leakage.refuse_thin(data, splits, classes)
    if len(pairs):
        warnings.append(
            f"{len(pairs):,} pairs of images are near copies (shifted, mirrored, resized or saved again): {dropped:,} "
            "images that copy one of a later side are left out, copies in test are resampled together."
        )
    if "group" not in data:
        warnings.append(
            "No patient or source is known: if images of one patient are on two sides, the figures are too good, and "
            "intervals, which are by image, too narrow. --group-pattern finds it in the names of files, a column "
            "'group' of a table names it."
        )
    warnings += _shortcuts(data, splits, pixels, settings.allow_column)
    return replace(splits, warnings=tuple(warnings))


# ------------------------------------------------------------------------------------------------------------- copies


def _near_pairs(data: Dataset[Any], rows: np.ndarray, pixels: Rows) -> np.ndarray:
    """Pairs of positions of near copies, int64 (p, 2), but for those within a group and class.

    Views of one patient can be as close as copies; they are on one side and resampled together anyway.
    """
    _, first = np.unique(data.identity[rows], return_index=True)
    once = rows[np.sort(first)]
    pairs = once[near_copies(Gathered([pixels], once))]
    if "group" in data:
        group, label = codes_of(data.records["group"]), data.records["label"].to_numpy()
        one, other = pairs.T
        pairs = pairs[(group[one] != group[other]) | (label[one] != label[other])]
    return pairs


# ---------------------------------------------------------------------------------------------------------- shortcuts


def _shortcuts(data: Dataset[Any], splits: Splits, pixels: Rows, allowed: tuple[str, ...]) -> list[str]:
    """Warnings of what tells the class without a look at what the image shows; raises for a separating form."""
    labels = data.records["label"].to_numpy()[splits.validation]
    if np.bincount(labels, minlength=len(data.about.classes)).min() < FEWEST:
        return []
    form = {
        name: codes_of(data.records[name]) if name in ("file_format", "file_mode") else data.records[name].to_numpy()
        for name in FORM
        if name in data and name not in allowed and data.records[name].nunique() > 1
    }
    warnings = []
    if form and (area := _area(form, data, splits)).low > FORM_WARNS:
        single = {name: _area({name: values}, data, splits).value for name, values in form.items()}
        carrier = max(single, key=lambda name: single[name])
        found = f"The file's form alone tells the class, AUC {area}, most of it by {carrier} ({single[carrier]:.3f})"
        if area.value >= FORM_REFUSES:
            raise InputError(
                f"{found}: a network would learn how files were made. Expected files of all classes made alike, or"
                f" --allow-column {carrier} once you know why they differ."
            )
        warnings.append(f"{found}: files of all classes should be made alike (saved by one program, in one size).")
    border = _borders(pixels, np.concatenate([splits.train, splits.validation]), len(data))
    if "border" not in allowed and (area := _area(border, data, splits)).low > BORDER_WARNS:
        warnings.append(
            f"The outermost pixels alone tell the class, AUC {area}: look at frames, marks and margins of the images."
        )
    return warnings


def _area(columns: Mapping[str, np.ndarray], data: Dataset[Any], splits: Splits) -> Interval:
    """The AUC on validation of boosted trees on these columns, fitted on train; resampled by group where known."""
    table, labels = np.stack([*columns.values()], axis=1).astype(np.float64), data.records["label"].to_numpy()
    trees = HistGradientBoostingClassifier(max_iter=50, max_leaf_nodes=8, min_samples_leaf=10, random_state=0)
    trees.fit(table[splits.train], labels[splits.train])
    scores = trees.predict_proba(table[splits.validation])
    scores = scores[:, 1] if scores.shape[1] == 2 else scores
    measures = {"label": labels[splits.validation], "score": scores}
    group = {"group": data.records["group"].iloc[splits.validation]} if "group" in data else {}
    drawn = bootstrap({"AUC": of_scores(roc_auc)}, {"form": measures}, clusters=group, count=200)
    return drawn.interval("form", "AUC")


def _borders(pixels: Rows, rows: np.ndarray, count: int) -> dict[str, np.ndarray]:
    """Mean and deviation of the outermost pixels on each side of an image, float64 (count,), by name."""
    found = np.zeros((count, 8))
    for block in np.array_split(rows, len(rows) // 1024 + 1):
        images = pixels[block].astype(np.float32).mean(axis=3)
        for side, line in enumerate((images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1])):
            found[block, 2 * side], found[block, 2 * side + 1] = line.mean(axis=1), line.std(axis=1)
    return {f"border {number}": values for number, values in enumerate(found.T)}
