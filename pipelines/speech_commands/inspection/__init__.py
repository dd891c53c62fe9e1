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
from pipelines.core.data import leakage
from pipelines.core.data.arrays import Rows
from pipelines.core.data.splits import Splits
from pipelines.speech_commands import Settings, form
from pipelines.speech_commands.inspection.copies import near_copies, tied
from pipelines.speech_commands.listing import SILENCE

if TYPE_CHECKING:
    from pipelines.core.data.dataset import Dataset
    from pipelines.speech_commands.data import About, Facts

MOST_CONTRADICTING = 0.05
"""Share of clips that are also under another word: with more, labels are wrong more often than networks are."""
TELLING = {"form": 0.7, "spoken": 0.9}
"""AUC by facts of the file alone, and by length and peak too, from whose lower bound on there is a warning. Clean data
give .54 and .58 (Arabic commands), .57 and .63 (spoken digits)."""
SEPARATING = {"form": 0.97, "spoken": 0.995}
"""AUC from whose lower bound on the data are refused. Length and peak may separate short words from long ones."""
NAMED = 3  # examples in a sentence
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
    copies = _copies(data, pairs)
    warnings += _contradictions(data, copies, np.concatenate(spoken))
    inspected, dropped = _without_copies(data, splits, copies)
    warnings += dropped + _telling_form(data.records, inspected, data.about.classes, settings.allow_column)
    leakage.refuse_leaks(data, inspected, facts.classes)  # a side may have lost its last clips of a class
    return replace(inspected, copies=copies, warnings=(*splits.warnings, *warnings))


def _copies(data: Dataset[About], pairs: np.ndarray) -> np.ndarray:
    """Codes of all records, (n,), equal for copies, exact ones included."""
    first = pd.Series(np.arange(len(data))).groupby(data.identity).transform("first").to_numpy()
    return tied(len(data), np.concatenate([pairs, np.stack([np.arange(len(data)), first], axis=1)]))


def _contradictions(data: Dataset[About], copies: np.ndarray, rows: np.ndarray) -> list[str]:
    """A warning if copies among the rows have different classes; raises InputError if these are many."""
    frame = data.records.iloc[rows][["id", "label"]].assign(copy=copies[rows])
    frame = frame[frame.groupby("copy")["label"].transform("nunique") > 1]
    if frame.empty:
        return []
    classes, examples = data.about.classes, []
    for _, same in list(frame.groupby("copy"))[:NAMED]:
        one, other = same.drop_duplicates("label").head(2).itertuples()
        examples.append(f"{one.id} ({classes[one.label]}) and {other.id} ({classes[other.label]})")
    what = f"{len(frame):,} of {len(rows):,} clips are under two words, such as {'; '.join(examples)}"
    if len(frame) > MOST_CONTRADICTING * len(rows):
        raise InputError(f"{what}: expected at most {100 * MOST_CONTRADICTING:g} %. Keep each under its word alone.")
    return [f"{what}. One of the labels is wrong: correct or delete these files."]


def _without_copies(data: Dataset[About], splits: Splits, copies: np.ndarray) -> tuple[Splits, list[str]]:
    """The splits without the clips that copy one of a later side, and a warning with examples."""
    kept, left_out, warnings = splits.sides(), dict(splits.left_out), []
    names = data.records["id"].to_numpy()
    for side, later in (("validation", ["test"]), ("train", ["validation", "test"])):
        rows, others = kept[side], np.concatenate([kept[name] for name in later])
        twins = np.isin(copies[rows], copies[others])
        kept[side] = rows[~twins]
        if twins.any():
            one = rows[twins][0]
            other = others[copies[others] == copies[one]][0]
            left_out[f"{side} records that are near copies of one of {' or '.join(later)}"] = int(twins.sum())
            warnings.append(
                f"{twins.sum():,} of {len(rows):,} {side} clips were near copies of one of {' or '.join(later)} (such "
                f"as {names[one]} of {names[other]}) and are left out: keep a recording and what it became together."
            )
    return replace(splits.with_sides(kept), left_out=left_out), warnings


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
        told = form.shortcut(train, validation, used, classes)
        if told is None or told.auc.low < least:
            continue
        single = {name: alone.auc.low for name in used if (alone := form.shortcut(train, validation, [name], classes))}
        most = max(single.values())
        strong = [name for name, low in single.items() if low >= min(least, most)]
        whom = f"class '{told.name}'" if told.name else "the classes"
        what = f"The form of the files alone tells {whom} of validation, AUC {told.auc}, mostly by {', '.join(strong)}"
        if told.auc.low >= SEPARATING[kind]:
            flags = " ".join(f"--allow-column {shlex.quote(name)}" for name in strong)
            raise InputError(
                f"{what}: expected recordings of all words by one device and program. Bring them to one form, or, if "
                f"it will be the same in use, add {flags}"
            )
        return [f"{what}. Bring all files to one form, or check by recordings of another device what it is worth."]
    return []
