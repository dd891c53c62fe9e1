"""The recogniser on a running stream: windows, detections, and how often it is wrong in an hour.

A window of a clip's length slides over the recording. The probabilities of a few windows are averaged, a word whose
mean reaches the threshold is detected at the end of the last of them, and for a while after that nothing is (Chen,
Parada and Heigold 2014, Small-footprint keyword spotting using deep neural networks).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import binomtest, chi2

HOP = 0.1  # s, from a window to the next
TOLERANCE = 0.75  # s after a word's end, within which its detection counts
SMOOTHINGS = (1, 2, 3, 5)  # windows that are averaged
REFRACTORY = (0.5, 1.0)  # s after a detection without another
PER_HOUR = (0.5, 1.0, 10.0)  # false accepts at which false rejections are told
FEWEST = 3  # false accepts in all that a rate must amount to, below which it cannot be measured
THRESHOLDS = 200  # tried


@dataclass(frozen=True)
class Detector:
    """How probabilities become detections: windows averaged, seconds of rest after a detection."""

    smoothing: int = 3
    refractory: float = 1.0

    def smoothed(self, probability: np.ndarray) -> np.ndarray:
        """The mean of each window's probabilities (n, classes) and those of the windows before it, alike in shape."""
        until = np.cumsum(np.concatenate([np.zeros((self.smoothing, probability.shape[1])), probability]), axis=0)
        return (until[self.smoothing :] - until[: -self.smoothing]) / self.smoothing

    def detect(self, smoothed: np.ndarray, commands: Sequence[int], threshold: float) -> list[tuple[int, int]]:
        """Each detection as (window, class), in order; only of `commands`, and where no class is more probable."""
        best = smoothed.argmax(axis=1)
        likely = np.flatnonzero((smoothed.max(axis=1) >= threshold) & np.isin(best, commands))
        rest, until, found = round(self.refractory / HOP), -1, []
        for window in likely:
            if window > until:
                found.append((int(window), int(best[window])))
                until = window + rest
        return found


@dataclass(frozen=True)
class Spoken:
    """A command in a stream: its class, and when it begins and ends, in seconds."""

    label: int
    begin: float
    end: float


@dataclass(frozen=True)
class Judged:
    """What came of detections: delays of the hits in seconds, how many words were missed, how many accepts were false.

    The first detection between a word's begin and TOLERANCE after its end hits it, if it is of the same class; every
    other detection is a false accept.
    """

    delays: list[float]
    missed: int
    false_accepts: int


def probabilities(
    predict: Callable[[np.ndarray], np.ndarray], blocks: Iterable[np.ndarray], samples: int, sample_rate: int
) -> Iterator[np.ndarray]:
    """Probabilities of all windows of a stream, block by block, (n, classes) each.

    Args:
        predict: takes clips, int16 (n, samples), gives probabilities (n, classes).
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


def seconds(window: int, samples: int, sample_rate: int) -> float:
    """When a window ends, in seconds from the stream's begin: only then can it be judged."""
    return window * HOP + samples / sample_rate


def judge(found: Sequence[tuple[float, int]], spoken: Sequence[Spoken]) -> Judged:
    """Holds detections (second, class) against the words that were spoken, both in order of time."""
    times, hit, delays = np.array([second for second, _ in found]), 0, []
    for word in spoken:
        first = int(np.searchsorted(times, word.begin))
        if first < len(found) and times[first] <= word.end + TOLERANCE and found[first][1] == word.label:
            delays.append(float(times[first] - word.end))
            hit += 1
    return Judged(delays, len(spoken) - hit, len(found) - hit)


def curve(
    probability: np.ndarray,
    spoken: Sequence[Spoken],
    commands: Sequence[int],
    detector: Detector,
    samples: int,
    rate: int,
) -> pd.DataFrame:
    """What each of many thresholds gives: columns threshold, false_accepts, missed, delay (median, s), descending."""
    smoothed = detector.smoothed(probability)
    peaks = smoothed[:, list(commands)].max(axis=1)
    # Few windows hold a word, and thresholds matter where these differ.
    thresholds = np.unique(1 - np.geomspace(1e-6, 1, THRESHOLDS))[::-1]
    rows = []
    for threshold in thresholds[thresholds >= np.quantile(peaks, 0.5)]:
        found = detector.detect(smoothed, commands, threshold)
        judged = judge([(seconds(window, samples, rate), label) for window, label in found], spoken)
        delay = float(np.median(judged.delays)) if judged.delays else np.nan
        rows.append((threshold, judged.false_accepts, judged.missed, delay))
    return pd.DataFrame(rows, columns=["threshold", "false_accepts", "missed", "delay"])


def operating_points(curve: pd.DataFrame, hours: float, spoken: int) -> pd.DataFrame:
    """False rejections at each of PER_HOUR false accepts, at the lowest threshold that keeps to it.

    Columns: asked (false accepts an hour), threshold, false_accepts_per_hour with its Poisson interval (Garwood 1936),
    false_rejections (share) with Wilson's interval, delay (s); no figures where the rate cannot be measured in so many
    hours.
    """
    rows = []
    for asked in PER_HOUR:
        kept = curve[curve["false_accepts"] <= asked * hours]
        if asked * hours < FEWEST or kept.empty:
            rows.append((asked, *[np.nan] * 8))
            continue
        point = kept.loc[kept["missed"].idxmin()]
        count = int(point["false_accepts"])
        bounds = chi2.ppf(0.025, 2 * count) / 2 if count else 0.0, chi2.ppf(0.975, 2 * count + 2) / 2
        ci = binomtest(int(point["missed"]), spoken).proportion_ci(method="wilson")
        rows.append(
            (asked, point["threshold"], count / hours, bounds[0] / hours, bounds[1] / hours,
             point["missed"] / spoken, ci.low, ci.high, point["delay"])
        )  # fmt: skip
    columns = ["asked", "threshold", "false_accepts_per_hour", "accepts_low", "accepts_high",
               "false_rejections", "rejections_low", "rejections_high", "delay"]  # fmt: skip
    return pd.DataFrame(rows, columns=columns)


def chosen(
    probability: np.ndarray, spoken: Sequence[Spoken], commands: Sequence[int], samples: int, rate: int, hours: float
) -> Detector:
    """The smoothing and rest that miss the fewest words on a validation stream, at the middle of PER_HOUR."""
    best, least = Detector(), np.inf
    for smoothing in SMOOTHINGS:
        for refractory in REFRACTORY:
            detector = Detector(smoothing, refractory)
            table = curve(probability, spoken, commands, detector, samples, rate)
            kept = table[table["false_accepts"] <= max(PER_HOUR[1] * hours, FEWEST)]
            if len(kept) and kept["missed"].min() < least:
                best, least = detector, kept["missed"].min()
    return best
