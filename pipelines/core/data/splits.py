"""Splits: which records train, validate and test, and the two halves of validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from pipelines.core.contract import InputError
from pipelines.core.data.dataset import Dataset

if TYPE_CHECKING:
    from pipelines.core.data.arrays import Part


@dataclass
class Splits:
    """Row numbers of the three sides, ascending, int64; only labelled records belong on a side.

    Attributes:
        train, validation, test: row numbers.
        rule: how the sides were assigned, in words.
        left_out: how many records were left out of all sides, by reason.
        headline: whether the headline metric counts each record of the dataset, bool (n,); all by default.
        clusters: columns of the records whose equal values belong together, by which intervals are resampled.
        copies: int64 (n,) of the dataset, equal for records that are copies of one another; None where none are known.
        warnings: sentences of checks that did not refuse the data, for the verdict: what was seen, in which column or
            records, and how to go on.
    """

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    rule: str = ""
    left_out: dict[str, int] = field(default_factory=dict)
    headline: np.ndarray | None = None
    clusters: tuple[str, ...] = ()
    copies: np.ndarray | None = None
    warnings: tuple[str, ...] = ()

    def sides(self) -> dict[str, np.ndarray]:
        """Row numbers by side."""
        return {"train": self.train, "validation": self.validation, "test": self.test}

    def with_sides(self, sides: Mapping[str, np.ndarray]) -> Splits:
        """The same split with other rows on its sides."""
        return replace(self, train=sides["train"], validation=sides["validation"], test=sides["test"])

    @property
    def counted(self) -> np.ndarray:
        """Which test rows the headline counts, bool, shape (test,)."""
        return self.test >= 0 if self.headline is None else self.headline[self.test]

    def clusters_of(self, part: Part) -> dict[str, np.ndarray]:
        """What belongs together in each way of clustering, int64 (len(part),), equal for rows that are drawn together.

        Copies of one another are drawn together in every way, and so is what they tie to one another.
        """
        ways = {name: codes_of(part.frame[name]) for name in self.clusters}
        if self.copies is None:
            return ways
        copies = np.unique(self.copies[part.rows], return_inverse=True)[1]
        return {name: joined(codes, copies) for name, codes in ways.items()} or {"copy": copies}


def joined(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Codes that are equal where those in `a` or those in `b` are, or where others link them; int64 (n,) each."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    size = int(a.max(initial=-1)) + 1, int(b.max(initial=-1)) + 1
    links = coo_matrix((np.ones(len(a), bool), (a, size[0] + b)), shape=(sum(size), sum(size)))
    return connected_components(links, directed=False)[1][a].astype(np.int64)


def codes_of(values: np.ndarray | pd.Series) -> np.ndarray:
    """(n,) int64 from 0 up, equal where the values are; a missing value equals none, not even another one."""
    codes, uniques = pd.factorize(values)
    missing = codes < 0
    codes[missing] = len(uniques) + np.arange(missing.sum())
    return codes


# ------------------------------------------------------------------------------------------------ validation's halves


def halves(data: Dataset[Any], rows: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Cut the validation `rows` in two: (for stopping and choices, for calibration and thresholds), ascending.

    Whole values of `group` where the records have them, alike in size and share of labels; else the earlier and the
    later half of `time`, equal times on one side; else at random, stratified by `label`. Without rows both are empty.

    Raises:
        InputError: if all rows share one group or one time.
    """
    if not len(rows):
        return rows, rows
    frame = data.records.iloc[rows]
    if "time" in frame and "group" not in frame:
        times, count = np.unique(frame["time"], return_counts=True)
        first = frame["time"].to_numpy() <= times[np.argmin(np.abs(count.cumsum() - len(frame) / 2))]
    else:
        unit = codes_of(frame["group"]) if "group" in frame else np.arange(len(frame))
        size = np.bincount(unit)
        label = np.bincount(unit, frame["label"]) / size if "label" in frame else np.zeros(len(size))
        order = np.lexsort([np.random.default_rng(seed).random(len(size)), size, label])
        # Dealt out 0, 1, 1, 0, so that neither side always gets the smaller of two neighbours.
        first = np.isin(np.argsort(order) % 4, (0, 3))[unit]
    if first.all():
        raise InputError(
            "validation cannot be cut in two, one half to stop training and one to calibrate: expected two values of "
            f"group or time or more. Received: one, in {len(frame)} records."
        )
    return rows[first], rows[~first]


# ---------------------------------------------------------------------------------------------------- drawing the sides

SHARES = {"test": 0.2, "validation": 0.15}
"""Shares of the records that are drawn where the data do not name the sides."""


def draw_by_class(
    side: np.ndarray, labels: np.ndarray, classes: Sequence[str], group: pd.Series | None, shares: Mapping[str, float]
) -> np.ndarray:
    """Move whole groups from train to other sides, of every class about these shares of its records.

    The draw is the same for every seed of a run, so that networks of several seeds are judged on the same records.

    Args:
        side: the side of each record, (n,) text; only records on "train" are moved.
        labels: class codes, (n,).
        classes: names by code.
        group: what belongs together, (n,); None where each record is a group.
        shares: of the records on "train", by the side that they move to.

    Returns:
        The new sides, (n,).

    Raises:
        InputError: if a class has too few groups on train to be on all sides.

    Example:
        >>> side, labels = np.full(200, "train", object), np.repeat([0, 1], 100)
        >>> drawn = draw_by_class(side, labels, ["clear", "lesion"], None, SHARES)
        >>> [int((drawn[labels == 1] == name).sum()) for name in ("train", "validation", "test")]
        [65, 15, 20]
    """
    # Of single records validation gets three, so that both of its halves get one however `halves` deals them.
    least = {name: (3 if group is None else 2) if name == "validation" else 1 for name in shares}
    fewest = 1 + sum(least.values())
    free = np.flatnonzero(side == "train")
    codes, names = pd.factorize(group.iloc[free]) if group is not None else (np.arange(len(free)), free)
    for label, name in enumerate(classes):
        count = len(np.unique(codes[labels[free] == label]))
        if count < fewest:
            unit = "records" if group is None else "groups"
            raise InputError(
                f"Class '{name}' is too small to be on all sides: expected {fewest} {unit} or more, better a "
                f"hundred. Received: {count}."
            )
    size = np.bincount(codes)
    counts = np.zeros((len(names), labels.max() + 1))
    np.add.at(counts, (codes, labels[free]), 1)
    of_group, rng, drawn = counts.argmax(axis=1), np.random.default_rng(0), side.copy()
    for label in np.unique(of_group):
        order = rng.permutation(np.flatnonzero(of_group == label))
        share = size[order].cumsum() / size[order].sum()
        begin, later = 0.0, fewest
        for name, wanted in shares.items():
            later -= least[name]  # groups that the further sides and train need, however large those drawn first are
            first, last = np.searchsorted(share, [begin + 1e-9, begin + wanted - 1e-9])
            last = min(max(last, first + least[name] - 1), len(order) - 1 - later)
            if last >= first:
                drawn[free[np.isin(codes, order[first : last + 1])]] = name
                begin = share[last]
    return drawn


def by_time(
    data: Dataset[Any], validation: Any, test: Any, reasons: tuple[str, str], known_on_boundary: bool = True
) -> Splits:
    """Labelled records before `validation`, from there to before `test`, and from `test` on.

    A label must be known before the next side begins; records whose label is not are left out.

    Args:
        data: records with `time` and `known_at`.
        validation, test: when these sides begin, of the type of `time`.
        reasons: for the records left out before validation, and before test.
        known_on_boundary: whether a label that becomes known in the moment in which the next side begins is known.
    """
    time, known_at = data.records["time"].to_numpy(), data.records["known_at"].to_numpy()
    validation, test = np.datetime64(validation), np.datetime64(test)
    before, between, after = time < validation, (validation <= time) & (time < test), time >= test
    if known_on_boundary:
        known_before, known_between = known_at <= validation, known_at <= test
    else:
        known_before, known_between = known_at < validation, known_at < test
    sides = (before & known_before, between & known_between, after)
    late = (before & ~known_before, between & ~known_between)
    train, valid, tested = (np.flatnonzero(side & data.labelled) for side in sides)
    counts = {reason: int((rows & data.labelled).sum()) for reason, rows in zip(reasons, late, strict=True)}
    return Splits(train, valid, tested, left_out={reason: count for reason, count in counts.items() if count})
