"""The task: a word with its probability for each clip, and detections of commands in running speech.

In running speech a window of a clip's length slides over the recording. The probabilities of a few windows are
averaged; a command whose mean reaches the threshold is detected at the end of the last window, and no other for a
refractory time after it (Chen, Parada and Heigold 2014, Small-footprint keyword spotting using deep neural networks).
These three parameters are chosen on a stream of the validation voices and evaluated on one of the test voices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from pipelines.core.contract import InputError
from pipelines.core.data.arrays import Part
from pipelines.core.evaluation.metrics import Metric, accuracy, log_loss, of_scores
from pipelines.core.evaluation.promises import Promise, promised, share
from pipelines.core.tasks.classification import Classification, confidence_threshold, distribution
from pipelines.speech_commands import Settings, mixing
from pipelines.speech_commands.listing import SILENCE, UNKNOWN
from pipelines.speech_commands.mixing import TOLERANCE, Minutes, Spoken

if TYPE_CHECKING:
    from pipelines.core.training.trial import Outcome
    from pipelines.speech_commands.data import Facts

HOP = 0.1  # s, from a window to the next
SMOOTHINGS = (1, 2, 3, 5)  # windows averaged
REFRACTORY = (0.5, 1.0)  # s after a detection without another
THRESHOLDS = 200  # tried


class SpeechTask(Classification):
    """Words of clips; a command is accepted if it is sure enough, silence and unknown words never are."""

    def metrics(self, facts: Facts) -> dict[str, Metric]:
        return {"accuracy": of_scores(accuracy), "log_loss": of_scores(log_loss)}

    def thresholds(self, scores: np.ndarray, part: Part, settings: Settings, facts: Facts) -> Facts:
        """The facts with `sure`, from which on the share of wrong commands among accepted ones is as wanted.

        A command recognised in silence or in an unknown word is wrong.
        """
        probability = distribution(scores)
        decided = probability.argmax(axis=1)
        command = np.isin(decided, commands(facts.classes))
        wrong = decided != part.labels
        sure = confidence_threshold(probability.max(axis=1)[command], wrong[command], settings.wanted_error)
        return replace(facts, sure=sure)

    def tune(self, network: Any, parts: Mapping[str, Part], settings: Settings, facts: Facts) -> Facts:
        """The facts with the `detector` chosen on a stream of the validation voices, if one can be made."""
        stopping, calibration = parts["stopping"], parts["calibration"]
        rows = np.sort(np.concatenate([stopping.rows, calibration.rows]))
        minutes = mixing.running_speech(Part(stopping.data, rows, stopping.encoded), "validation", settings)
        if minutes is None:
            return facts
        return replace(facts, detector=choose(score(network, facts, minutes), settings.false_accepts))

    def promises(self, outcome: Outcome) -> Iterator[tuple[str, Promise]]:
        """Items of a report: errors among accepted clips of test, silence and unknown words included."""
        part, facts, wanted = outcome.parts["test"], outcome.facts, outcome.settings.wanted_error
        accepted = self.decide(outcome.outputs, facts, part)["accepted"].to_numpy(bool)
        wrong = distribution(outcome.scores).argmax(axis=1) != part.labels
        yield from promised(
            "errors among accepted clips",
            wanted,
            share(wrong, accepted, part.weights, outcome.splits.clusters_of(part)),
            tolerance=wanted / 2,
            remedy="Test speakers are harder than those that set the threshold: record more speakers, or ask again.",
        )
        yield from super().promises(outcome)

    def decide(self, outputs: np.ndarray, facts: Facts, part: Part) -> pd.DataFrame:
        """The likeliest `word` of each clip, its `probability`, and whether it is `accepted`."""
        probability = self.probabilities(outputs, facts)
        decided, surest = probability.argmax(axis=1), probability.max(axis=1)
        accepted = np.isin(decided, commands(facts.classes)) & (surest >= facts.sure)
        return pd.DataFrame({"word": np.array(facts.classes)[decided], "probability": surest, "accepted": accepted})


TASK = SpeechTask()


def commands(classes: Sequence[str]) -> list[int]:
    """The classes that are commands, neither silence nor unknown words."""
    return [n for n, name in enumerate(classes) if name not in (UNKNOWN, SILENCE)]


# ------------------------------------------------------------------------------------------------------ running speech


@dataclass(frozen=True)
class Detector:
    """How probabilities become detections.

    Attributes:
        smoothing: windows averaged.
        refractory: seconds after a detection without another.
        threshold: lowest mean probability that is a detection.
    """

    smoothing: int = 3
    refractory: float = 1.0
    threshold: float = 0.5

    def smoothed(self, probability: np.ndarray) -> np.ndarray:
        """The mean of each window's probabilities (n, classes) and those of the windows before it, (n, classes)."""
        padded = np.concatenate([np.zeros((self.smoothing, probability.shape[1])), probability])
        cumulative = np.cumsum(padded, axis=0)
        return (cumulative[self.smoothing :] - cumulative[: -self.smoothing]) / self.smoothing

    def detect(self, smoothed: np.ndarray, commands: Sequence[int]) -> list[tuple[int, int]]:
        """Each detection as (window, class), in order: of `commands` alone, and where no class is more probable."""
        best = smoothed.argmax(axis=1)
        likely = np.flatnonzero((smoothed.max(axis=1) >= self.threshold) & np.isin(best, commands))
        rest, until = round(self.refractory / HOP), -1
        detections: list[tuple[int, int]] = []
        for window in likely.tolist():
            if window > until:
                detections.append((window, int(best[window])))
                until = window + rest
        return detections


@dataclass(frozen=True)
class Matches:
    """Detections compared with the commands spoken: delays of the hits in seconds, missed commands, false accepts.

    The first detection between the start of a command and TOLERANCE after its end is a hit if it is of the same class;
    every other detection is a false accept.
    """

    delays: list[float]
    missed: int
    false_accepts: int

    @property
    def delay(self) -> float:
        """Median of the delays, NaN without a hit."""
        return float(np.median(self.delays)) if self.delays else np.nan


def match(detections: Sequence[tuple[float, int]], spoken: Sequence[Spoken]) -> Matches:
    """Compare detections (second, class) with the commands spoken, both in order of time."""
    times, delays = np.array([second for second, _ in detections]), []
    for word in spoken:
        first = int(np.searchsorted(times, word.begin))
        hit = first < len(times) and times[first] <= word.end + TOLERANCE and detections[first][1] == word.label
        if hit:
            delays.append(float(times[first] - word.end))
    return Matches(delays, len(spoken) - len(delays), len(detections) - len(delays))


def probabilities(
    predict: Callable[[np.ndarray], np.ndarray], blocks: Iterable[np.ndarray], samples: int, sample_rate: int
) -> Iterator[np.ndarray]:
    """Probabilities of all windows of a stream, block by block, (n, classes) each.

    Args:
        predict: from clips, int16 (n, samples), to probabilities (n, classes).
        blocks: the stream in pieces of any length, int16 (m,).
        samples: of a window.
        sample_rate: in Hz.
    """
    hop, waiting = round(HOP * sample_rate), np.zeros(0, np.int16)
    for block in blocks:
        waiting = np.concatenate([waiting, block])
        if len(waiting) >= samples:
            windows = np.lib.stride_tricks.sliding_window_view(waiting, samples)[::hop]
            yield predict(windows)
            waiting = waiting[hop * len(windows) :]


@dataclass(frozen=True)
class ScoredStream:
    """A stream scored by a network.

    Attributes:
        probability: of the classes in each window, (n, classes).
        spoken: the commands in the stream.
        commands: the classes that can be detected.
        length: of a window, in seconds.
    """

    probability: np.ndarray
    spoken: Sequence[Spoken]
    commands: Sequence[int]
    length: float

    def end(self, window: int) -> float:
        """When a window ends, in seconds from the start of the stream: the earliest that it can be scored."""
        return window * HOP + self.length

    @property
    def hours(self) -> float:
        """Hours of the stream without its commands, in which false accepts are counted."""
        within = sum(word.end + TOLERANCE - word.begin for word in self.spoken)
        return (self.end(len(self.probability) - 1) - within) / 3600

    def detections(self, detector: Detector, smoothed: np.ndarray | None = None) -> list[tuple[float, int]]:
        """Each detection as (second, class), in order; `smoothed` are the detector's smoothed probabilities."""
        smoothed = detector.smoothed(self.probability) if smoothed is None else smoothed
        return [(self.end(window), label) for window, label in detector.detect(smoothed, self.commands)]

    def curve(self, detector: Detector) -> pd.DataFrame:
        """The matches at many thresholds, descending: threshold, false_accepts, missed, delay (median, s).

        The detector's own threshold does not matter.
        """
        smoothed, rows = detector.smoothed(self.probability), []
        peaks = smoothed[:, self.commands].max(axis=1)
        # Few windows hold a word: thresholds below the median window need not be tried, those near 1 finely.
        thresholds = np.unique(1 - np.geomspace(1e-6, 1, THRESHOLDS))[::-1]
        for threshold in thresholds[thresholds >= np.quantile(peaks, 0.5)]:
            matches = match(self.detections(replace(detector, threshold=float(threshold)), smoothed), self.spoken)
            rows.append((threshold, matches.false_accepts, matches.missed, matches.delay))
        return pd.DataFrame(rows, columns=["threshold", "false_accepts", "missed", "delay"])


def score(network: Any, facts: Facts, minutes: Minutes) -> ScoredStream:
    """Score a stream with the calibrated network.

    Raises InputError for a stream that is shorter than a window.
    """
    spoken: list[Spoken] = []

    def predict(clips: np.ndarray) -> np.ndarray:
        return TASK.probabilities(network.predict_on_batch({"clip": clips}), facts)

    def blocks() -> Iterator[np.ndarray]:
        for minute, placed in minutes:
            spoken.extend(placed)
            yield minute

    windows, length = (
        list(probabilities(predict, blocks(), facts.samples, facts.sample_rate)),
        facts.samples / facts.sample_rate,
    )
    if not windows:
        raise InputError(f"Expected a recording of {length:g} s or more. Received: a shorter one.")
    return ScoredStream(np.concatenate(windows), spoken, commands(facts.classes), length)


def choose(stream: ScoredStream, per_hour: float) -> Detector:
    """The detector that misses the fewest commands of a validation stream at `per_hour` false accepts or fewer."""
    best, least = Detector(), np.inf
    for smoothing in SMOOTHINGS:
        for refractory in REFRACTORY:
            table = stream.curve(detector := Detector(smoothing, refractory))
            kept = table[table["false_accepts"] <= per_hour * stream.hours]
            if len(kept) and kept["missed"].min() < least:
                point = kept.loc[kept["missed"].idxmin()]  # the highest threshold among equals
                best, least = replace(detector, threshold=float(point["threshold"])), point["missed"]
    return best
