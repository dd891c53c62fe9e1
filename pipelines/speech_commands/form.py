"""The form of recordings: facts of a file beside what is spoken, and how well they tell the class.

Where one word was recorded with another device or saved by another program, a network may learn the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import soundfile

from pipelines.core.evaluation.bootstrap import Interval, bootstrap
from pipelines.core.evaluation.metrics import Metric, OfWeights, of_scores, roc_auc

FACTS = [("seconds", "f8"), ("rate", "i8"), ("channels", "i8"), ("encoding", "U32"), ("offset", "f8"),
         ("lead", "f8"), ("peak", "f8")]  # fmt: skip
"""Of a recording: its length in s, rate in Hz, channels, format and subtype with the bits, mean sample and peak about
it as shares of full scale, and s of equal samples at its beginning, such as digital silence."""
NAMES = [name for name, _ in FACTS]
SPOKEN = ("seconds", "peak")
"""Facts that depend on the word too: long words last longer, and some are spoken louder."""
FEWEST = 10  # clips of a class and of the rest on validation, below which its AUC says nothing
MOST_TRAINED = 20_000
TREES, RESAMPLINGS = 30, 100


def facts(sound: soundfile.SoundFile, wave: np.ndarray) -> tuple:
    """The FACTS of an open recording with these samples, float32 (n,) from -1 to 1."""
    changes = np.flatnonzero(wave != wave[0])
    lead = (changes[0] if len(changes) else len(wave)) / sound.samplerate
    encoding = f"{sound.format} {sound.subtype}"
    # Rounded, since another rate or width changes a sample more or less at the end, and the last bit of an offset.
    seconds, offset = round(len(wave) / sound.samplerate, 3), round(float(wave.mean()), 4)
    peak = float(np.abs(wave - wave.mean()).max())
    return seconds, sound.samplerate, sound.channels, encoding, offset, round(lead, 3), peak


@dataclass(frozen=True)
class Shortcut:
    """How well facts tell a class: AUC of one class against the rest on validation, with its interval by speaker.

    `name` is the class that they tell best by the interval's lower bound, "" for the mean over classes.
    """

    name: str
    auc: Interval


def shortcut(
    train: pd.DataFrame, validation: pd.DataFrame, names: Sequence[str], classes: Sequence[str]
) -> Shortcut | None:
    """How well a forest on the facts `names`, fitted on train, tells the class of validation clips.

    Args:
        train, validation: records with `label`, the facts and perhaps `group`; all of files.
        names: of the facts.
        classes: names by label.

    Returns:
        The larger by lower bound of the macro AUC and the AUC of each class; None where the facts do not vary or no
        class has FEWEST clips.
    """
    from sklearn.ensemble import RandomForestClassifier

    names = [name for name in names if train[name].nunique() > 1]
    count = validation["label"].value_counts()
    judged = [label for label in sorted(set(train["label"])) if FEWEST <= count.get(label, 0) <= count.sum() - FEWEST]
    if not names or not judged:
        return None
    train = train.sample(min(len(train), MOST_TRAINED), random_state=0)
    forest = RandomForestClassifier(TREES, min_samples_leaf=10, random_state=0)
    forest.fit(_inputs(train, train, names), train["label"])
    scores = forest.predict_proba(_inputs(train, validation, names))
    scores = scores[:, np.searchsorted(forest.classes_, judged)]
    measures = {"label": validation["label"].to_numpy(), "score": scores}
    metrics = {classes[label]: _of_class(label, place) for place, label in enumerate(judged)}
    metrics[""] = lambda measures: _mean([metrics[classes[label]](measures) for label in judged])
    clusters = {"group": validation["group"]} if "group" in validation else {}
    drawn = bootstrap(metrics, {"form": measures}, clusters=clusters, count=RESAMPLINGS)
    intervals = {name: drawn.interval("form", name, 0.99 if name else 0.95) for name in metrics}
    best = max(intervals, key=lambda name: intervals[name].low)
    return Shortcut(best, intervals[best])


def _inputs(train: pd.DataFrame, records: pd.DataFrame, names: Sequence[str]) -> np.ndarray:
    """The facts as numbers; an encoding is the number of those that occur in train, -1 for others."""
    encodings = {one: n for n, one in enumerate(sorted(set(train["encoding"])))}
    return records.assign(encoding=records["encoding"].map(encodings).fillna(-1))[list(names)].to_numpy(np.float64)


def _of_class(label: int, place: int) -> Metric:
    score = of_scores(roc_auc)
    return lambda measures: score({"label": (measures["label"] == label) * 1, "score": measures["score"][:, place]})


def _mean(values: list[OfWeights]) -> OfWeights:
    return lambda weights: float(np.mean([value(weights) for value in values]))
