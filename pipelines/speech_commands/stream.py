"""The recogniser on a running stream: windows, detections, and how often it is wrong in an hour.

A window of a clip's length slides over the recording. The probabilities of a few windows are averaged, a word whose
mean reaches the threshold is detected at the end of the last of them, and for a while after that nothing is (Chen,
Parada and Heigold 2014, Small-footprint keyword spotting using deep neural networks). How many, how long and which
threshold is chosen on a stream of validation's voices; what comes of it is told on one of test's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd
from scipy.stats import binomtest, chi2

from pipelines.core.contract import InputError
from pipelines.core.data.arrays import Part
from pipelines.speech_commands import Settings, audio, data, demo
from pipelines.speech_commands.listing import UNKNOWN

HOP = 0.1  # s, from a window to the next
TOLERANCE = 0.75  # s after a word's end, within which its detection counts
SMOOTHINGS = (1, 2, 3, 5)  # windows that are averaged
REFRACTORY = (0.5, 1.0)  # s after a detection without another
PER_HOUR = (0.5, 1.0, 10.0)  # false accepts at which false rejections are told
FEWEST = 3  # false accepts in all that a rate must amount to, below which it cannot be measured
THRESHOLDS = 200  # tried
OFTEN = 300  # commands in an hour of a stream, about
PAUSE = 0.5  # s, mean between the words of a composed stream
FAINT = -25.0  # dB of a clip's loudest frame, from which on its word is taken to sound
FRAME = 0.01  # s
RATIOS = (10.0, 30.0)  # dB, mean power of a composed stream's words over that of its noise

Minutes = Iterable[tuple[np.ndarray, list["Spoken"]]]
"""A stream: minute by minute its samples, int16 (n,), and the commands in it, by seconds from the stream's begin."""


@dataclass(frozen=True)
class Detector:
    """How probabilities become detections: windows averaged, seconds of rest after a detection, least mean."""

    smoothing: int = 3
    refractory: float = 1.0
    threshold: float = 0.5

    def smoothed(self, probability: np.ndarray) -> np.ndarray:
        """The mean of each window's probabilities (n, classes) and those of the windows before it, alike in shape."""
        until = np.cumsum(np.concatenate([np.zeros((self.smoothing, probability.shape[1])), probability]), axis=0)
        return (until[self.smoothing :] - until[: -self.smoothing]) / self.smoothing

    def detect(self, smoothed: np.ndarray, commands: Sequence[int]) -> list[tuple[int, int]]:
        """Each detection as (window, class), in order; only of `commands`, and where no class is more probable."""
        best = smoothed.argmax(axis=1)
        likely = np.flatnonzero((smoothed.max(axis=1) >= self.threshold) & np.isin(best, commands))
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

    @property
    def delay(self) -> float:
        """Median of the delays, NaN without a hit."""
        return float(np.median(self.delays)) if self.delays else np.nan


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


@dataclass(frozen=True)
class Heard:
    """A stream as a network heard it: probabilities of all windows (n, classes), and the commands spoken in it."""

    probability: np.ndarray
    spoken: list[Spoken]
    commands: list[int]
    samples: int
    sample_rate: int

    @property
    def hours(self) -> float:
        """Hours of the stream without its commands: what false accepts are counted in."""
        within = sum(word.end + TOLERANCE - word.begin for word in self.spoken)
        return (seconds(len(self.probability) - 1, self.samples, self.sample_rate) - within) / 3600

    def judged(self, detector: Detector) -> Judged:
        """What comes of the detector's detections."""
        return self._judged(detector, detector.smoothed(self.probability))

    def _judged(self, detector: Detector, smoothed: np.ndarray) -> Judged:
        found = detector.detect(smoothed, self.commands)
        return judge([(seconds(at, self.samples, self.sample_rate), label) for at, label in found], self.spoken)

    def curve(self, detector: Detector) -> pd.DataFrame:
        """What each of many thresholds gives: columns threshold, false_accepts, missed, delay (median, s), descending.

        The detector's own threshold does not matter.
        """
        smoothed, rows = detector.smoothed(self.probability), []
        peaks = smoothed[:, self.commands].max(axis=1)
        # Few windows hold a word, and thresholds matter where these differ.
        thresholds = np.unique(1 - np.geomspace(1e-6, 1, THRESHOLDS))[::-1]
        for threshold in thresholds[thresholds >= np.quantile(peaks, 0.5)]:
            judged = self._judged(replace(detector, threshold=float(threshold)), smoothed)
            rows.append((threshold, judged.false_accepts, judged.missed, judged.delay))
        return pd.DataFrame(rows, columns=["threshold", "false_accepts", "missed", "delay"])


def heard(
    predict: Callable[[np.ndarray], np.ndarray], minutes: Minutes, commands: list[int], samples: int, sample_rate: int
) -> Heard:
    """The stream as `predict` hears it; see `probabilities`. `commands` are the classes that can be detected.

    Raises InputError for one that is shorter than a window.
    """
    spoken: list[Spoken] = []

    def blocks() -> Iterator[np.ndarray]:
        for minute, placed in minutes:
            spoken.extend(placed)
            yield minute

    windows = list(probabilities(predict, blocks(), samples, sample_rate))
    if not windows:
        raise InputError(f"Expected a recording of {samples / sample_rate:g} s or more. Received: a shorter one.")
    return Heard(np.concatenate(windows), spoken, commands, samples, sample_rate)


def chosen(stream: Heard, per_hour: float) -> Detector:
    """The detector that misses the fewest words of a validation stream, at no more than so many false accepts."""
    best, least = Detector(), np.inf
    for smoothing in SMOOTHINGS:
        for refractory in REFRACTORY:
            table = stream.curve(detector := Detector(smoothing, refractory))
            kept = table[table["false_accepts"] <= per_hour * stream.hours]
            if len(kept) and kept["missed"].min() < least:
                point = kept.loc[kept["missed"].idxmin()]  # the highest threshold of those that miss as few
                best, least = replace(detector, threshold=float(point["threshold"])), point["missed"]
    return best


def operating_points(curve: pd.DataFrame, hours: float, spoken: int) -> pd.DataFrame:
    """False rejections at each of PER_HOUR false accepts, at the highest threshold that misses the fewest words.

    Columns: asked (false accepts an hour), threshold, false_accepts_per_hour with its interval, false_rejections
    (share) with its, delay (s); no figures where the rate cannot be measured in so many hours.
    """
    rows = []
    for asked in PER_HOUR:
        kept = curve[curve["false_accepts"] <= asked * hours]
        if asked * hours < FEWEST or kept.empty:
            rows.append((asked, *[np.nan] * 8))
            continue
        point = kept.loc[kept["missed"].idxmin()]
        rate, share = per_hour(int(point["false_accepts"]), hours), share_of(int(point["missed"]), spoken)
        rows.append((asked, point["threshold"], *rate, *share, point["delay"]))
    columns = ["asked", "threshold", "false_accepts_per_hour", "accepts_low", "accepts_high",
               "false_rejections", "rejections_low", "rejections_high", "delay"]  # fmt: skip
    return pd.DataFrame(rows, columns=columns)


def per_hour(count: int, hours: float) -> tuple[float, float, float]:
    """So many in so many hours, as a rate with its exact 95 % Poisson interval (Garwood 1936)."""
    low = chi2.ppf(0.025, 2 * count) / 2 if count else 0.0
    return count / hours, low / hours, chi2.ppf(0.975, 2 * count + 2) / 2 / hours


def share_of(count: int, total: int) -> tuple[float, float, float]:
    """So many of a total, as a share with Wilson's 95 % interval; of none, NaN within 0 and 1."""
    if not total:
        return np.nan, 0.0, 1.0
    ci = binomtest(count, total).proportion_ci(method="wilson")
    return count / total, float(ci.low), float(ci.high)


# ------------------------------------------------------------------------------------------------------ what to hear


def of(part: Part, side: Literal["validation", "test"], settings: Settings) -> Minutes | None:
    """A stream of a side's voices, `settings.stream_minutes` long, or None where no other words are known for one.

    The demo's is spoken anew, of words that are in none of its clips. Any other is composed of the side's commands,
    and of its unknown words and those held out.
    """
    if not settings.stream_minutes:
        return None
    records, hours, names = part.records, settings.stream_minutes / 60, part.records.attrs["classes"]
    command = records["command"].to_numpy()
    commands, seed = part.take(command[part.rows]), {"validation": 1, "test": 2}[side]
    if settings.data == "demo":
        voices, rate = sorted(set(commands.frame["group"])), records.attrs["sample_rate"]
        spoken = demo.stream(demo.COMMANDS, demo.UNHEARD[side], voices, hours, rate, seed, OFTEN)
        return (
            (minute, [Spoken(names.index(word.word), word.begin, word.end) for word in placed])
            for minute, placed in spoken
        )
    others = other_words(part, side)
    if not len(others):
        return None
    waves = [np.load(path, mmap_mode="r") for _, path in records.attrs["noise"]]
    noise = [wave[data.noise_part(len(wave), side)] for wave in waves]
    return composed(commands, others, noise, hours, seed)


def other_words(part: Part, side: str) -> Part:
    """A side's clips of unknown words, and those held out from training.

    Of the latter those of the side's speakers, where these are known; else those that the data name for it, or half.
    """
    records, names = part.records, part.records.attrs["classes"]
    unknown = part.labels == (names.index(UNKNOWN) if UNKNOWN in names else -1)
    if "group" in records:
        mine = records["group"].isin(set(part.frame["group"])).to_numpy()
    else:
        mine = np.where(records["side"] == "", np.arange(len(records)) % 2 == (side == "test"), records["side"] == side)
    held = np.flatnonzero((records["label"] < 0).to_numpy() & mine)
    return Part(records, np.concatenate([part.rows[unknown], held]), part.inputs)


def composed(commands: Part, others: Part, noise: Sequence[np.ndarray], hours: float, seed: int = 0) -> Minutes:
    """A stream made of clips: other words with pauses between them, in noise, and now and then a command.

    A word's begin and end are those of its frames that are louder than FAINT.

    Args:
        commands: clips of commands, `clip` int16 (n, samples).
        others: clips of other words.
        noise: recordings of noise, int16, for minutes to lie in; white noise where there is none.
        hours: of the stream, in full minutes.
        seed: of what is drawn.
    """
    rng = np.random.default_rng(seed)
    rate = commands.records.attrs["sample_rate"]
    samples, labels = 60 * rate, commands.labels
    noise = [wave for wave in noise if len(wave) >= rate] or [
        audio.integers(0.1 * audio.noise(rng, 1, samples, 0.0)[0])
    ]
    for minute in range(round(60 * hours)):
        wave, spoken, at, due = np.zeros(samples, np.float32), [], 0, rng.exponential(3600 / OFTEN) * rate
        while True:
            of = commands if (command := at >= due) else others
            drawn = int(rng.integers(len(of)))
            clip = of.x([drawn])["clip"][0]
            begin, end = extent(clip, rate)
            at += int(rng.exponential(PAUSE) * rate)
            stop = at + len(clip)
            if stop + TOLERANCE * rate > samples:
                break
            wave[at:stop] += clip
            if command:
                spoken.append(
                    Spoken(int(labels[drawn]), 60 * minute + at / rate + begin, 60 * minute + at / rate + end)
                )
                stop += round(TOLERANCE * rate)  # what follows sooner could not be told from it
                due = stop + rng.exponential(3600 / OFTEN) * rate
            at = stop
        behind = noise[rng.integers(len(noise))]
        behind = np.resize(np.roll(behind, -int(rng.integers(len(behind)))), samples)
        loud = wave[wave != 0]
        scale = np.std(loud) / max(np.std(behind.astype(np.float32)), 1e-6) if len(loud) else 1.0
        wave += behind * np.float32(scale * 10 ** (-rng.uniform(*RATIOS) / 20))
        yield audio.integers(wave / 32_768), spoken


def extent(clip: np.ndarray, sample_rate: int) -> tuple[float, float]:
    """When the word of a clip, int16 (samples,), begins and ends, in seconds from the clip's begin."""
    frame = round(FRAME * sample_rate)
    frames = clip[: len(clip) // frame * frame].astype(np.float32).reshape(-1, frame)
    power = np.square(frames).mean(axis=1)
    loud = np.flatnonzero(power >= power.max() * 10 ** (FAINT / 10))
    return float(loud[0] * FRAME), float((loud[-1] + 1) * FRAME)
