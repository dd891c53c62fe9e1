"""Checks of images for leaks: near copies, two labels of an image, unknown patients, files whose form tells a class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from sklearn.ensemble import HistGradientBoostingClassifier

from pipelines.core.contract import InputError
from pipelines.core.data import leakage
from pipelines.core.data.arrays import Gathered, Rows
from pipelines.core.data.dataset import Dataset
from pipelines.core.data.splits import Splits, codes_of
from pipelines.core.evaluation.bootstrap import Interval, bootstrap
from pipelines.core.evaluation.metrics import of_scores, roc_auc
from pipelines.medical_images.decoding import FORM
from pipelines.medical_images.inspection.copies import near_copies

NAMED = 5  # ids in a sentence
MOST_CONTRADICTIONS = 0.05  # share of images under two labels beyond which labels are no truth to learn or judge by
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
    rows = np.sort(np.concatenate(list(splits.sides().values())))
    copies, near = _copies(data, rows, pixels)
    warnings = [*splits.warnings, *_contradictions(data, rows, copies)]
    splits, dropped = _drop_copies(splits, copies)
    if dropped:
        splits = leakage.refuse_leaks(data, splits, data.about.classes)
    if near:
        warnings.append(
            f"{near:,} pairs of images are near copies (shifted, mirrored, resized or saved again): {dropped:,} images "
            "that copy one of a later side are left out, copies in test are resampled together."
        )
    if "group" not in data:
        warnings.append(
            "No patient or source is known: if images of one patient are on two sides, the figures are too good, and "
            "intervals, which are by image, too narrow. --group-pattern finds it in the names of files, a column "
            "'group' of a table names it."
        )
    warnings += _shortcuts(data, splits, pixels, settings.allow_column)
    return replace(splits, copies=copies, warnings=tuple(warnings))


# ------------------------------------------------------------------------------------------------------------- copies


def _copies(data: Dataset[Any], rows: np.ndarray, pixels: Rows) -> tuple[np.ndarray, int]:
    """Codes equal for copies, int64 (n,), and the number of pairs of near ones in different groups.

    Views of one patient can be as close as copies; they are on one side and resampled together anyway.
    """
    _, first = np.unique(data.identity[rows], return_index=True)
    once = rows[np.sort(first)]
    pairs = once[near_copies(Gathered([pixels], once))]
    if "group" in data:
        group, label = codes_of(data.records["group"]), data.records["label"].to_numpy()
        one, other = pairs.T
        pairs = pairs[(group[one] != group[other]) | (label[one] != label[other])]
    exact, count = np.unique(data.identity, return_inverse=True)[1], len(data)
    links = coo_matrix((np.ones(len(pairs)), (exact[pairs[:, 0]], exact[pairs[:, 1]])), shape=(count, count))
    return connected_components(links, directed=False)[1][exact].astype(np.int64), len(pairs)


def _drop_copies(splits: Splits, copies: np.ndarray) -> tuple[Splits, int]:
    kept, left_out, dropped = splits.sides(), dict(splits.left_out), 0
    for side, later in (("validation", ["test"]), ("train", ["validation", "test"])):
        others = np.concatenate([kept[name] for name in later])
        twins = np.isin(copies[kept[side]], copies[others])
        if twins.any():
            left_out[f"{side} images that are near copies of one of {' or '.join(later)}"] = int(twins.sum())
        kept[side], dropped = kept[side][~twins], dropped + int(twins.sum())
    return replace(splits.with_sides(kept), left_out=left_out), dropped


def _contradictions(data: Dataset[Any], rows: np.ndarray, copies: np.ndarray) -> list[str]:
    """A warning that names images which, or whose copies, have two labels."""
    labels, ids = data.records["label"].to_numpy(), data.records["id"].to_numpy()
    codes = np.unique(copies[rows], return_inverse=True)[1]
    least, most = np.full(codes.max() + 1, labels.max()), np.zeros(codes.max() + 1, np.int64)
    np.minimum.at(least, codes, labels[rows])
    np.maximum.at(most, codes, labels[rows])
    found = codes[least[codes] < most[codes]]
    both = found[np.sort(np.unique(found, return_index=True)[1])]  # in the order of the records
    if not len(both):
        return []
    of_both = rows[np.isin(codes, both)]
    names = []
    for code in both[:NAMED]:
        same = rows[codes == code]
        pair = [same[labels[same] == label][0] for label in (least[code], most[code])]
        names.append(" and ".join(f"{ids[row]} ({data.about.classes[labels[row]]})" for row in pair))
    sentence = f"{len(of_both):,} images are under two labels, equal or as near copies: {'; '.join(names)}"
    sentence += f" and {len(both) - NAMED:,} more." if len(both) > NAMED else "."
    if len(of_both) > MOST_CONTRADICTIONS * len(rows):
        raise InputError(
            f"{sentence} Expected at most {100 * MOST_CONTRADICTIONS:g} % of the {len(rows):,} images: keep each under "
            "its right label alone."
        )
    return [f"{sentence} Keep each under its right label alone."]


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
