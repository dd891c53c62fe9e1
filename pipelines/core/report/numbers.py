"""The table of all numbers of a run."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pandas as pd

from pipelines.core.evaluation.bootstrap import Interval
from pipelines.core.report.names import words


def all_figures(values: Mapping[str, float], meanings: Mapping[str, str] | None = None) -> pd.DataFrame:
    """A row for each number: its name in words, what it is, its value, and its 95 % interval where there is one.

    Args:
        values: by the names in the run, such as `test/roc_auc`, `test/roc_auc_low` and `test/roc_auc_high`, which make
            one row, `baseline/trees/roc_auc` and `cost/training_seconds`. The network's on test come first.
        meanings: what a number is, by the last part of its name, as the caption of an `Item` says it.

    Example:
        >>> all_figures({"test/roc_auc": 0.912, "cost/training_seconds": 61.0})
                           figure  value
        0                 ROC AUC  0.912
        1  training seconds, cost   61.0
    """
    meanings, rows = meanings or {}, []
    for name in sorted(values, key=_group):
        ends = [values.get(name + end, math.nan) for end in ("_low", "_high")]
        if name.endswith(("_low", "_high")) and name.rpartition("_")[0] in values:
            continue
        *path, last = name.split("/")
        path = [part for part in path if part not in ("test", "baseline")]
        figure = ", ".join([words(last), *map(words, path)])
        rows.append((figure, meanings.get(last, ""), values[name], _interval(values[name], *ends)))
    table = pd.DataFrame(rows, columns=["figure", "what it is", "value", "95 % interval"])
    table["value"] = table["value"].astype(object)  # of all sizes: each is rounded by itself
    used = [column for column in table if column in ("figure", "value") or table[column].astype(bool).any()]
    return table[used]


def _group(name: str) -> int:
    """Test first, then the baselines, then the rest."""
    return 0 if name.startswith("test/") else 1 if name.startswith("baseline/") else 2


def _interval(value: float, low: float, high: float) -> str:
    if math.isnan(low) or math.isnan(high):
        return ""
    return "\u00a0to\u00a0".join(Interval(value, low, high).rounded()[1:])  # on one line
