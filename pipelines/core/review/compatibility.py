"""Whether new data are like those that a version was trained on: their schema, and the drift of inputs and labels.

Drift is measured by the population stability index, the sum over bins of (a - e) ln(a / e), where e is a bin's share of
the training records and a that of the new ones (Siddiqi 2006, Credit Risk Scorecards). Bins are the deciles of the
training records, or the values of a text column; missing values have their own bin. Half a record is added to every
bin, so that an empty one keeps the sum finite. Without any drift the index is about (bins - 1)(1 / n + 1 / m) for n and
m records (Yurdakul 2018, Statistical properties of the population stability index): few records drift by chance alone.

P-values stand beside it and decide nothing: with many records every difference is significant, and records of one
person or one day are not independent. They are those of the chi-square test over the bins for texts, and of the
Kolmogorov-Smirnov test for numbers, whose statistic is taken at the deciles alone: they are upper bounds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from pandas.api import types
from rich.console import Console
from rich.table import Table

from pipelines.core.contract import InputError, Pipeline, Settings
from pipelines.core.data.dataset import Dataset
from pipelines.core.evaluation.drift import binned, contributions, counts, p_value, psi
from pipelines.core.report import captions, figures
from pipelines.core.report.items import Item
from pipelines.core.store import manifest
from pipelines.core.store.registry import Version

WARN = 0.2
"""From which on the index is taken to tell of another population (Siddiqi 2006: above 0.25, moderate from 0.1)."""
SAMPLE = 5_000  # records whose inputs are measured, at most, evenly spaced
FEWEST = 200  # new records, below which chance alone may reach WARN
LABEL = "label"
COLUMNS = ("column", "PSI", "p", "test", "training", "new")


@dataclass(frozen=True)
class Drift:
    """How data differ from those of a version.

    Attributes:
        version: the version that they are compared with.
        notes: sentences on the schema and the period.
        records: how many there are, and how many of them the version's run did not have.
        table: a row for each measured column and the label: `column`, `PSI`, `p`, `test`, `training`, `new`.
        shares: the bins of each by name, with their shares then and now.
    """

    version: Version
    notes: Sequence[str]
    records: tuple[int, int]
    table: pd.DataFrame
    shares: Mapping[str, tuple[list[str], np.ndarray, np.ndarray]]

    @property
    def warning(self) -> str:
        """What a drift of WARN or more may mean, "" where there is none."""
        high = self.table[self.table["PSI"] >= WARN].sort_values("PSI", ascending=False)
        if high.empty or self.records[1] < FEWEST:
            return ""
        named = ", ".join(f"{row.column} ({row.PSI:.2f})" for row in high.itertuples())
        means = []
        if (high["column"] != LABEL).any():
            means.append("the records may come from another device, place, season or kind of customer, or be faulty")
        if (high["column"] == LABEL).any():
            means.append("with other shares of the labels, thresholds and calibrated probabilities may be off")
        return (
            f"PSI of {WARN} or more: {named}. The new records differ from those that version {self.version.number} "
            f"learnt from: {'; '.join(means)}. Look at them before you trust figures on either."
        )

    def sentences(self) -> list[str]:
        """Sentences on new records and on the schema."""
        (every, new), version = self.records, f"version {self.version.number} of {self.version.name}"
        count = f"{new:,} of {every:,} records are new" if new else "None of the records is new"
        found = [f"Compared with the data of {version}: {count}.", *self.notes]
        if 0 < new < FEWEST:
            found.append(f"With fewer than {FEWEST} new records, much of the PSI is chance.")
        return found

    def items(self) -> list[Item]:
        """What the report shows: a figure and a table, where records are new."""
        if self.table.empty:
            return []
        psi = dict(zip(self.table["column"], self.table["PSI"], strict=True))
        drift = Item("drift", figures.drift(psi, self.shares, WARN), captions.DRIFT)
        return [drift, Item("drift in figures", self.table, captions.DRIFT_TABLE)]

    def show(self) -> None:
        """Print the sentences, the table and the warning."""
        console = Console(markup=False, highlight=False, soft_wrap=True)
        console.print("\n" + "\n".join(self.sentences()))
        if not self.table.empty:
            shown = Table("", "PSI", "p", "test", "training", "new", box=None, pad_edge=False)
            for row in self.table.itertuples():
                shown.add_row(row.column, f"{row.PSI:.3f}", f"{row.p:.2g}", row.test, row.training, row.new)
            console.print(shown)
        if self.warning:
            console.print(f"WARNING: {self.warning}")


def profile(pipeline: Pipeline, train: Dataset[Any], facts: Any) -> dict[str, Any]:
    """What later data are compared with, as JSON: the `schema` of the records and the bins of their `reference`."""
    measured = _measured(pipeline, train, facts)
    return {
        "schema": _schema(pipeline, facts),
        "reference": {name: binned(column) for name, column in measured.items()},
    }


def _schema(pipeline: Pipeline, facts: Any) -> dict[str, Any]:
    fixed = {name: getattr(facts, name) for name in pipeline.data.CAPABILITIES.fixed}
    classes = list(pipeline.task.classes(facts))
    return {"columns": dict(pipeline.data.columns(facts)), "fixed": fixed, "classes": classes}


def compare(pipeline: Pipeline, data: Dataset[Any], champion: Version, settings: Settings) -> Drift:
    """How the data differ from those of the champion's run.

    Raises:
        InputError: where they break its schema: a column is missing or of another type, or sizes or rates differ.
    """
    summary, table = manifest.load(champion)
    facts = pipeline.data.learn(data.take(data.labelled), settings)
    schema, reference = summary["schema"], summary["reference"]
    now = json.loads(json.dumps(_schema(pipeline, facts)))
    _refuse_breaks(schema, now, data, champion)

    notes = _differences(schema, now)
    fresh = data.take(~np.isin(manifest.identities_for(champion, data), table["identity"]))
    if not len(fresh):
        return Drift(champion, notes, (len(data), 0), pd.DataFrame(columns=COLUMNS), {})
    if "time" in data:
        here = _period(fresh.records["time"].min(), fresh.records["time"].max())
        there = _period(summary["train"]["time"][0], summary["test"]["time"][1])
        notes.append(f"New records are from {here}, those of version {champion.number} from {there}.")
    # What hardly varies any more is no feature of the new records, and just then has drifted.
    features = dict.fromkeys([*facts.features, *(name for name in reference if name in data and name != LABEL)])
    measured = _measured(pipeline, fresh, facts, list(features))
    rows, shares = [], {}
    for name in [name for name in reference if name in measured]:
        bins = reference[name]
        if types.is_numeric_dtype(measured[name]) != ("edges" in bins) and measured[name].notna().any():
            was, now_is = ("numbers", "text") if "edges" in bins else ("text", "numbers")
            notes.append(f"Column '{name}' held {was} in training and holds {now_is} now: its drift is not measured.")
            continue
        then, is_now = np.array(bins["counts"]), counts(measured[name], bins)
        test = p_value(then, is_now, "edges" in bins)
        rows.append((name, psi(then, is_now), *test, *_largest_change(bins, then, is_now)))
        shares[name] = (_names(bins), then / then.sum(), is_now / is_now.sum())
    return Drift(champion, notes, (len(data), len(fresh)), pd.DataFrame(rows, columns=COLUMNS), shares)


def _measured(pipeline: Pipeline, data: Dataset[Any], facts: Any, features: Sequence[str] = ()) -> dict[str, pd.Series]:
    """The columns that drift is measured on, of a sample of the records, and the labels of all, classes by name."""
    sample = data.take(np.unique(np.linspace(0, len(data) - 1, SAMPLE).astype(int)))
    summary = pipeline.data.CAPABILITIES.drift_summary
    found = summary(sample, facts) if summary else sample.records[list(features or facts.features)]
    found = dict(found.items()) | {name: sample.records[name] for name in features if name not in found}
    if LABEL not in data:
        return found
    label = data.records[LABEL]
    if pipeline.task.kind == "classes":
        names = pipeline.task.classes(facts)
        label = label.map(lambda code: names[code] if 0 <= code < len(names) else str(code))
    return found | {LABEL: label.where(data.labelled)}


def _names(bins: Mapping[str, Any]) -> list[str]:
    if "edges" not in bins:
        return [*bins["values"], "others", "missing"]
    edges = [f"{edge:.3g}" for edge in bins["edges"]]
    return [*(f"≤ {edge}" for edge in edges), f"> {edges[-1]}" if edges else "any", "missing"]


def _largest_change(bins: Mapping[str, Any], then: np.ndarray, now: np.ndarray) -> tuple[str, str]:
    """The share of the bin that adds most to the index, in training and now, as text."""
    shares = then / then.sum(), now / now.sum()
    at = int(contributions(then, now).argmax())
    before, after = (f"{_names(bins)[at]}: {share[at]:.1%}" for share in shares)
    return before, after


def _refuse_breaks(before: Mapping, now: Mapping, data: Dataset[Any], champion: Version) -> None:
    name = f"version {champion.number} of {champion.name}"
    way_out = "--name starts another model."
    for column, (kind, required) in before["columns"].items():
        if required and column not in now["columns"] and column not in data:
            raise InputError(f"These data lack the column '{column}', which {name} reads; {way_out}")
        if column in now["columns"] and now["columns"][column][0] != kind:
            raise InputError(
                f"Column '{column}': expected {kind}, as in {name}; {way_out} Received: {now['columns'][column][0]}."
            )
    for fact, value in before["fixed"].items():
        if now["fixed"][fact] != value:
            what = fact.replace("_", " ")
            raise InputError(f"Expected {what} {value}, as in {name}; {way_out} Received: {what} {now['fixed'][fact]}.")


def _differences(before: Mapping, now: Mapping) -> list[str]:
    """Sentences on what is extra or gone and breaks nothing."""
    lists = {
        "Extra columns": [column for column in now["columns"] if column not in before["columns"]],
        "New classes": [name for name in now["classes"] if name not in before["classes"]],
        "Classes without a record": [name for name in before["classes"] if name not in now["classes"]],
    }
    return [f"{what}: {', '.join(names)}." for what, names in lists.items() if names] or ["Schema: no difference."]


def _period(begin: Any, end: Any) -> str:
    return f"{pd.Timestamp(begin):%Y-%m-%d} to {pd.Timestamp(end):%Y-%m-%d}"
