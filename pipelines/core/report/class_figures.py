"""Figures and tables about classes: curves, reliability, confusion, the worst mistakes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipelines.core.data.arrays import Part
from pipelines.core.evaluation.calibration import expected_calibration_error, reliability_table
from pipelines.core.evaluation.metrics import average_precision, brier, roc_auc
from pipelines.core.report import captions
from pipelines.core.report.items import Item
from pipelines.core.report.names import plain
from pipelines.core.report.style import CHAMPION, FAINT, INK, MUTED, NETWORK, in_style, new_axes, ranked


@in_style
def pr_curve(
    labels: np.ndarray, scores: Mapping[str, np.ndarray], weights: np.ndarray, threshold: float | None = None
) -> Figure:
    """Precision against recall for each model, best average precision first; chance is the share of positives.

    A ring marks the network's `threshold` in use.
    """
    from sklearn.metrics import precision_recall_curve

    figure, axes = new_axes("Precision against recall", "recall: share of positives found", "precision", (4.4, 4.2))
    value = {name: average_precision(labels, s)(weights) for name, s in scores.items()}
    for name, look in ranked(value):
        precision, recall, _ = precision_recall_curve(labels, scores[name], sample_weight=weights)
        axes.step(recall, precision, where="post", **look)
    share = np.average(labels, weights=weights)
    axes.axhline(share, color=FAINT, zorder=1, label=f"chance  {share:.3f}")
    if threshold is not None and (alert := scores["network"] >= threshold).any():
        right = weights[alert & (labels == 1)].sum()
        _ring(axes, right / weights[labels == 1].sum(), right / weights[alert].sum())
    axes.set(xlim=(0, 1), ylim=(0, 1.02))
    axes.legend(title="average precision", alignment="left", loc="best")
    return figure


def _ring(axes: Axes, x: float, y: float) -> None:
    """Mark where the network stands with the threshold in use."""
    axes.plot(x, y, "o", markersize=10, markerfacecolor="none", markeredgecolor=CHAMPION, markeredgewidth=2.2,
              zorder=6, clip_on=False, label="threshold in use")  # fmt: skip


@in_style
def roc_curve(
    labels: np.ndarray, scores: Mapping[str, np.ndarray], weights: np.ndarray, threshold: float | None = None
) -> Figure:
    """True against false positive rate for each model, best area first; a ring marks the network's `threshold`."""
    from sklearn import metrics

    figure, axes = new_axes(
        "ROC curve", "false positive rate", "true positive rate: share of positives found", (4.4, 4.2)
    )
    value = {name: roc_auc(labels, s)(weights) for name, s in scores.items()}
    for name, look in ranked(value):
        false, true, _ = metrics.roc_curve(labels, scores[name], sample_weight=weights)
        axes.plot(false, true, **look)
    axes.plot([0, 1], [0, 1], color=FAINT, zorder=1)
    if threshold is not None:
        alert = scores["network"] >= threshold
        _ring(axes, *(np.average(alert[labels == label], weights=weights[labels == label]) for label in (0, 1)))
    axes.set(xlim=(0, 1), ylim=(0, 1.02))
    axes.legend(title="area under the curve", alignment="left", loc="lower right")
    return figure


@in_style
def reliability(
    labels: np.ndarray, before: np.ndarray, after: np.ndarray, weights: np.ndarray, what: str = "positives"
) -> Figure:
    """Predicted against observed share of label 1 before and after calibration, over a histogram of the predictions.

    `what` names those of label 1, such as frauds. Bins of equal weight with Wilson's 95 % intervals; logarithmic axes
    where label 1 is rarer than one in ten (a bin without label 1 then lies on the lower edge).
    """
    figure = Figure(figsize=(4.4, 5.1))
    axes, below = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    rare = np.average(labels, weights=weights) < 0.1
    tables = {"before calibration": reliability_table(labels, before, weights)}
    tables["calibrated"] = reliability_table(labels, after, weights)
    floor = max(1e-5, min(float(table["predicted"].min()) for table in tables.values()) / 2) if rare else 0.0
    axes.plot([floor, 1], [floor, 1], color="#bbbbbb", zorder=1)
    for (name, table), color, marker in zip(tables.items(), ("#9a9a9a", NETWORK), ("s", "o"), strict=True):
        observed = table["observed"].clip(lower=floor)
        error = [observed - table["low"].clip(lower=floor), table["high"] - observed]
        axes.errorbar(table["predicted"], observed, np.maximum(error, 0), color=color, elinewidth=1, marker=marker,
                      markersize=5, linestyle="none", label=name)  # fmt: skip
    edges = np.geomspace(floor, 1, 41) if rare else np.linspace(0, 1, 41)
    below.hist(np.clip(after, floor, 1), bins=edges, weights=weights, color=NETWORK, alpha=0.75)
    axes.set(title="Predicted against observed share", ylabel=f"observed share of {plain(what, 24)}", xlim=(floor, 1))
    axes.set_ylim(floor, 1)
    below.set(xlabel="predicted probability", ylabel="records")
    if rare:
        axes.set(xscale="log", yscale="log")
    axes.legend(loc="upper left")
    return figure


@in_style
def confusion(matrix: np.ndarray, classes: Sequence[str]) -> Figure:
    """Counts (C, C), truth in rows and decision in columns, shaded by the share of the true class."""
    side = np.clip(1.6 + 0.62 * len(classes), 4.4, 9)
    figure, axes = new_axes("Confusion matrix", "decided", "true", (side, side))
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    names = [plain(name, 18) for name in classes]
    slanted = len(names) > 3
    axes.set_xticks(range(len(names)), names, rotation=35 if slanted else 0, ha="right" if slanted else "center")
    axes.set_yticks(range(len(names)), names)
    axes.grid(visible=False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    for row, column in np.argwhere(matrix > 0):
        text = f"{matrix[row, column]:,.0f}"
        if len(names) <= 8:
            text += f"\n{share[row, column]:.0%}"
        color = "white" if share[row, column] > 0.55 else INK
        axes.text(column, row, text, ha="center", va="center", color=color, fontsize=9)
    return figure


@in_style
def cost_against_threshold(curve: pd.DataFrame, chosen: float, unit: str = "cost") -> Figure:
    """Total cost at each threshold, from `calibration.cost_curve`; `chosen` is the threshold in use."""
    figure, axes = new_axes("What each threshold costs", "threshold on the probability", unit, (4.4, 3.6))
    # No screen shows more than two thousand steps.
    shown = curve.iloc[np.unique(np.linspace(0, len(curve) - 1, 2000).astype(int))]
    axes.plot(shown["threshold"], shown["cost"], color=NETWORK, linewidth=2)
    best = curve.loc[curve["cost"].idxmin()]
    at = curve.loc[(curve["threshold"] - chosen).abs().idxmin()]
    axes.axhline(curve["cost"].iloc[0], color="#bbbbbb", linestyle="--", linewidth=1.2, label="no alerts at all")
    axes.plot(best["threshold"], best["cost"], "D", color=MUTED, label=f"cheapest: {best['cost']:,.0f}")
    axes.plot(at["threshold"], at["cost"], "o", color=CHAMPION, markersize=8, label=f"in use: {at['cost']:,.0f}")
    low = max(float(curve["threshold"].quantile(0.05)), 1e-6)
    if low < 0.01:
        axes.set(xscale="log", xlim=(low, 1))
    axes.set_ylim(0, curve["cost"].iloc[0] * 1.6)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.legend(loc="best")
    return figure


MISTAKES = 20  # listed


# ------------------------------------------------------------------------------------------------------------- report


def confusion_matrix(labels: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """How many records of each class (rows) were decided to be of each (columns), by the highest probability."""
    counts = np.zeros((probability.shape[1],) * 2, int)
    np.add.at(counts, (labels, probability.argmax(axis=1)), 1)
    return counts


def table(labels: np.ndarray, probability: np.ndarray, names: Sequence[str], what: str) -> pd.DataFrame:
    """Each class by name: the number of test records (`what`), recall, precision, AUC against the rest."""
    counts = confusion_matrix(labels, probability)
    areas = [
        roc_auc((labels == label).astype(int), probability[:, label])(np.ones(len(labels)))
        for label in range(len(names))
    ]
    hits, of_class, decided = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
    figures = {"recall": hits / np.maximum(of_class, 1), "precision": hits / np.maximum(decided, 1), "AUC": areas}
    return pd.DataFrame({"class": list(names), f"test {what}": of_class} | figures)


def calibration(
    labels: np.ndarray, before: np.ndarray, after: np.ndarray, weights: np.ndarray, names: Sequence[str]
) -> Iterator[Item]:
    """Items of a report on the probabilities (n, classes) before and after calibration.

    Of two classes the probability of the second is compared with the labels, of more the confidence of each decision
    with whether it was right.
    """
    two = after.shape[1] == 2
    what = names[1] if two else "right decisions"
    observed = labels if two else (after.argmax(axis=1) == labels).astype(int)
    raw, calibrated = (p[:, 1] if two else p[np.arange(len(p)), after.argmax(axis=1)] for p in (before, after))
    yield Item("reliability", reliability(observed, raw, calibrated, weights, what), captions.RELIABILITY)
    for stage, p in (("before_calibration", raw), ("calibrated", calibrated)):
        error = expected_calibration_error(observed, p, weights)
        yield Item(f"expected_calibration_error_{stage}", error, "mean distance of predicted and observed share")
        yield Item(f"brier_{stage}", brier(observed, p)(weights), "mean squared error of the probabilities")


def mistakes(part: Part, probability: np.ndarray, names: Sequence[str]) -> pd.DataFrame:
    """The wrong decisions that were surest: (id, true, decided, probability)."""
    labels, decided = part.labels, probability.argmax(axis=1)
    wrong = np.flatnonzero(decided != labels)
    worst = wrong[np.argsort(-probability[wrong, decided[wrong]], kind="stable")][:MISTAKES]
    columns = {
        "id": part.frame["id"].to_numpy()[worst],
        "true": np.array(names)[labels[worst]],
        "decided": np.array(names)[decided[worst]],
        "probability": probability[worst, decided[worst]],
    }
    return pd.DataFrame(columns)
