"""Checks of recordings for leaks: near copies, one recording under two words, unknown speakers, the files' form.

A leak that makes figures worthless is refused; what a reader must know becomes a warning.
"""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from pipelines.core.contract import InputError
from pipelines.core.data import copies, leakage
from pipelines.core.data.arrays import Rows
from pipelines.core.data.splits import Splits
from pipelines.speech_commands import Settings, form
from pipelines.speech_commands.inspection.near_copies import near_copies
from pipelines.speech_commands.listing import SILENCE

if TYPE_CHECKING:
    from pipelines.core.data.dataset import Dataset
    from pipelines.speech_commands.data import About, Facts

NEAR_CONFLICT = "near copies of one another under two labels"
MOST_CONFLICTS = 0.05
"""Share of clips that are also under another word: from it on, labels are wrong more often than networks are."""
TELLING = {"form": 0.7, "spoken": 0.9}
"""AUC by facts of the file alone, and by length and peak too, from whose lower bound on there is a warning. Clean data
give .54 and .58 (Arabic commands), .57 and .63 (spoken digits)."""
SEPARATING = {"form": 0.97, "spoken": 0.995}
"""AUC from whose lower bound on the data are refused. Length and peak may separate short words from long ones."""
NO_SPEAKER = (
    "No speaker is known, so that intervals are by clip; if a person's clips are on two sides, figures are too "
    "good for other people. Name the speakers by --name-pattern '(?P<speaker>…)' or in a column 'speaker'."
)


def inspect(data: Dataset[About], splits: Splits, clips: Rows, facts: Facts, settings: Settings) -> Splits:
    """The splits without training and validation clips that copy one of a later side, with `copies` and `warnings`.

    Args:
        data: every record.
        splits: the sides.
        clips: int16 (n, samples), of every record.
        facts: what was learnt from the training records.
        settings: of the run.

    Raises:
        InputError: if many recordings are under two words, the form of the files alone tells a word, or a side lacks a
            class without the copies.
    """
    warnings = [] if "group" in data else [NO_SPEAKER]
    spoken = [rows[(data.records["word"].iloc[rows] != SILENCE).to_numpy()] for rows in splits.sides().values()]
    pairs, skipped = near_copies(clips, np.concatenate(spoken[::-1]), data.about.sample_rate)
    if skipped:
        warnings.append(
            f"{skipped:,} clips of train were searched for near copies of validation and test clips, but not of one "
            "another: there are too many."
        )
    codes = copies.linked(data.identity, pairs)
    once = ~pd.Series(data.identity).duplicated(keep=False).to_numpy()  # core has seen those of equal ones
    rows, classes = np.concatenate(spoken), data.about.classes
    warnings += copies.conflicts(data.records, rows, codes, once, classes, NEAR_CONFLICT, MOST_CONFLICTS)
    inspected = copies.drop_earlier(splits, codes, "that are near copies of")
    warnings += _warn_of_copies(data, splits, inspected, codes)
    warnings += _telling_form(data.records, inspected, classes, settings.allow_column)
    leakage.refuse_thin(data, inspected, facts.classes)
    return replace(inspected, warnings=(*splits.warnings, *warnings))


def _warn_of_copies(data: Dataset[About], before: Splits, after: Splits, codes: np.ndarray) -> list[str]:
    """A warning for each side that lost clips, with an example."""
    warnings, names = [], data.records["id"].to_numpy()
    for side, later in (("validation", ["test"]), ("train", ["validation", "test"])):
        rows, others = before.sides()[side], np.concatenate([after.sides()[name] for name in later])
        gone = rows[~np.isin(rows, after.sides()[side])]
        if len(gone):
            other = others[codes[others] == codes[gone[0]]][0]
            warnings.append(
                f"{len(gone):,} of {len(rows):,} {side} clips were near copies of one of {' or '.join(later)} (such "
                f"as {names[gone[0]]} of {names[other]}) and are left out: keep a recording and what it became on one "
                "side."
            )
    return warnings


def _telling_form(
    records: pd.DataFrame, splits: Splits, classes: tuple[str, ...], allowed: tuple[str, ...]
) -> list[str]:
    """A warning if the form of the files tells the class; raises InputError if it does so almost perfectly."""
    if "seconds" not in records:
        return []
    train, validation = (records.iloc[rows].dropna(subset=["seconds"]) for rows in (splits.train, splits.validation))
    names = [name for name in form.NAMES if name not in allowed]
    for kind, least in TELLING.items():
        used = [name for name in names if kind == "spoken" or name not in form.SPOKEN]
        found = form.shortcut(train, validation, used, classes)
        if found is None or found.auc.low < least:
            continue
        single = {name: alone.auc.low for name in used if (alone := form.shortcut(train, validation, [name], classes))}
        most = max(single.values())
        strong = [name for name, low in single.items() if low >= min(least, most)]
        whom = f"class '{found.name}'" if found.name else "the classes"
        what = f"The form of the files alone tells {whom} of validation, AUC {found.auc}, mostly by {', '.join(strong)}"
        if found.auc.low >= SEPARATING[kind]:
            flags = " ".join(f"--allow-column {shlex.quote(name)}" for name in strong)
            raise InputError(
                f"{what}: expected recordings of all words by one device and program. Bring them to one form, or, if "
                f"it will be the same in use, add {flags}"
            )
        return [f"{what}. Bring all files to one form, or judge the network by recordings of another device."]
    return []
