"""Figures, tables and sounds for a reviewer; the baselines are in `baselines`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.stats import binomtest, chi2

from pipelines.core.data.arrays import Part
from pipelines.core.evaluation.bootstrap import Interval
from pipelines.core.evaluation.promises import Promise
from pipelines.core.report import captions, class_figures, figures, media_figures
from pipelines.core.report.items import Item
from pipelines.core.serving import litert
from pipelines.core.tasks.classification import distribution
from pipelines.core.training.batches import predict
from pipelines.speech_commands import audio, mixing, model, task
from pipelines.speech_commands.baselines import baselines

if TYPE_CHECKING:
    from pipelines.core.training.trial import Outcome

__all__ = ["baselines", "remarks", "report"]

SNRS = (20.0, 10.0, 5.0, 0.0)  # dB
WHITE = "white noise"
SAMPLED = 300  # clips for accuracy in noise, and for LiteRT
PLAYED = 6  # of the worst mistakes
PER_HOUR = (0.5, 1.0, 10.0)  # false accepts at which missed commands are reported
FEWEST = 3  # false accepts in all, below which a rate cannot be measured
NOISE = (
    "Share of clips that are recognised as the noise grows louder, to the left. Look for the noise of the place where "
    "the commands will be spoken, and for a line that falls early."
)
SPEAKERS = (
    "Share of each test speaker's commands that are recognised, the worst first. A speaker far below the rest stands "
    "for people whom the network serves badly; with few clips that may be chance."
)
SPECTROGRAMS = (
    "Brightness is loudness, time runs to the right, pitch upwards. Look for clips that are empty, cut off or noisy: "
    "their label may be wrong."
)
RUNNING = (
    "Commands hidden in running speech of the test voices: how many are missed, for a number of false accepts an hour. "
    "Choose the row whose false accepts you can bear."
)
STREAM = {
    "stream_false_accepts_per_hour": "detections without a command in running speech",
    "stream_false_rejections": "share of the commands in running speech that are missed",
}
Estimate = tuple[float, float, float]
"""A value and the ends of its 95 % interval."""


def remarks(outcome: Outcome) -> list[str]:
    """How well the network does, in a user's words."""
    own = outcome.resampled.interval("network", "accuracy")
    sentences = [f"Of 100 clips {100 * own.value:.0f} are recognised ({100 * own.low:.0f} to {100 * own.high:.0f})"]
    if "group" in outcome.parts["test"].records:
        sentences[0] += f", of the worst speaker's {100 * _speakers(outcome)['mean'].iloc[0]:.0f}"
    if running := _in_running_speech(outcome):
        stream, matches = running
        rate, spoken = matches.false_accepts / stream.hours, len(stream.spoken)
        said = f"In {stream.hours:.1f} hours of running speech there are {rate:.2g} false accepts an hour"
        missed = f", and {100 * matches.missed / spoken:.0f} of 100 commands are missed" if spoken else ""
        sentences.append(said + missed)
    return [" ".join(f"{sentence}." for sentence in [*sentences, "In brackets: 95 % interval"])]


def report(outcome: Outcome) -> Iterator[Item]:
    """Figures, tables, numbers and files in reading order; see `Outcome`."""
    part, names = outcome.parts["test"], outcome.facts.classes
    before = distribution(task.TASK.raw_scores(outcome.outputs))
    after = distribution(outcome.scores)

    confused = class_figures.confusion_matrix(part.labels, after)
    yield Item("confusion", class_figures.confusion(confused, names), captions.CONFUSION)
    yield Item("table of words", class_figures.table(part.labels, after, names, "clips"), captions.CLASSES)
    noisy = accuracy_in_noise(outcome.network, outcome.headline.sample(SAMPLED, 0))
    yield Item("accuracy in noise", figures.lines(noisy, "Accuracy in noise", "accuracy"), NOISE)
    if "group" in part.records:
        yield from _by_speaker(outcome)
    yield from _running_speech(outcome)
    yield from class_figures.calibration(part.labels, before, after, part.weights, names)
    yield from _acceptance(outcome)
    yield from (Item(*promise) for promise in task.TASK.promises(outcome))
    if outcome.settings.examples != "none":
        worst = class_figures.mistakes(part, after, names)
        yield Item("worst mistakes", worst, captions.MISTAKES)
        if outcome.settings.examples == "full":
            yield from _sounds(outcome, worst.head(PLAYED))
    if litert.available():
        yield from _litert(outcome)


def accuracy_in_noise(network: Any, part: Part, draws: int = 1) -> pd.DataFrame:
    """Accuracy of the uncalibrated network on clean and on noisy clips, a column for each kind of noise.

    The index is the signal-to-noise ratio in dB. The noise is white, or pieces from the test part of a recording, drawn
    anew for each clip; several draws are averaged.
    """
    about, rng = part.data.about, np.random.default_rng(0)
    clips, labels = part.x()["clip"], part.labels
    waves = {name: np.load(path, mmap_mode="r") for name, path in about.noise}
    waves = {name: wave[mixing.noise_part(len(wave), "test")] for name, wave in waves.items()}
    waves = {WHITE: audio.integers(0.1 * audio.noise(rng, 1, 30 * about.sample_rate, 0.0)[0])} | waves

    def accuracy(clips: np.ndarray) -> float:
        return float((network.predict_on_batch({"clip": clips}).argmax(axis=1) == labels).mean())

    def noisy(wave: np.ndarray, decibels: float) -> float:
        windows = np.lib.stride_tricks.sliding_window_view(wave, about.samples)
        shares = []
        for _ in range(draws):
            noise = windows[rng.integers(len(windows), size=len(clips))]
            mixed = audio.mixed(clips, noise, np.full(len(clips), decibels))
            shares.append(accuracy(audio.integers(mixed / 32_768)))
        return float(np.mean(shares))

    clean = accuracy(clips)
    table = {
        name: [clean, *(noisy(wave, decibels) for decibels in SNRS)]
        for name, wave in waves.items()
        if len(wave) >= about.samples
    }
    index = pd.Index([SNRS[0] + 10, *SNRS], name="signal-to-noise ratio in dB (right end: clean)")
    return pd.DataFrame(table, index=index).sort_index()


def _by_speaker(outcome: Outcome) -> Iterator[Item]:
    """Accuracy on the commands of each test speaker."""
    shares = _speakers(outcome)
    yield Item("accuracy_of_worst_speaker", float(shares["mean"].iloc[0]), "share of this speaker's commands")
    yield Item("accuracy_of_median_speaker", float(shares["mean"].median()), "half of the speakers are above")
    table = shares.reset_index(names="speaker").rename(columns={"mean": "accuracy", "size": "test clips"})
    yield Item("table of speakers", table, SPEAKERS)


def _speakers(outcome: Outcome) -> pd.DataFrame:
    """The share of each test speaker's commands that are recognised, `mean`, and their number, `size`; worst first."""
    part = outcome.headline
    right = distribution(outcome.headline_scores).argmax(axis=1) == part.labels
    return pd.Series(right).groupby(part.frame["group"].to_numpy()).agg(["mean", "size"]).sort_values("mean")


def _acceptance(outcome: Outcome) -> Iterator[Item]:
    """Shares of commands and of other clips that are accepted, and errors among the accepted."""
    part, command = outcome.parts["test"], outcome.counted
    accepted = task.TASK.decide(outcome.outputs, outcome.facts, part)["accepted"].to_numpy()
    wrong = distribution(outcome.scores).argmax(axis=1) != part.labels
    yield Item("share_of_commands_accepted", float(accepted[command].mean()), "of the clips that hold a command")
    error = float(wrong[accepted].mean()) if accepted.any() else 0.0
    yield Item("error_of_accepted", error, "share of wrong words among the accepted clips")
    if not command.all():
        yield Item("share_of_others_accepted", float(accepted[~command].mean()), "of silence and unknown words")


def _sounds(outcome: Outcome, worst: pd.DataFrame) -> Iterator[Item]:
    """The clips of these mistakes, as spectrograms and as sound files."""
    part, facts = outcome.parts["test"], outcome.facts
    place = pd.Series(np.arange(len(part)), part.frame["id"].to_numpy())
    part = part.take(place[worst["id"]].to_numpy())
    captions = [f"{row.decided} {row.probability:.2f}, true: {row.true}" for row in worst.itertuples()]
    if captions:
        frames = predict(model.features(facts), part)
        figure = media_figures.spectrograms(list(zip(captions, frames, strict=True)), model.HOP)
        yield Item("spectrograms of the worst mistakes", figure, SPECTROGRAMS)
    for number, (caption, clip) in enumerate(zip(captions, part.x()["clip"], strict=True), 1):
        name = re.sub(r"\W+", "_", caption)
        yield Item(f"sounds/{number}_{name}.wav", audio.wav(clip, facts.sample_rate), caption)


def _litert(outcome: Outcome) -> Iterator[Item]:
    """The network as a LiteRT file, with its accuracy, size and speed."""
    sample = outcome.headline.sample(SAMPLED, 0)
    content, outputs, milliseconds = litert.litert(outcome.network, sample)
    yield Item("network.tflite", content)
    right = float((sample.labels == outputs.argmax(axis=1)).mean())
    yield Item("litert_accuracy_of_a_sample", right, "of the file for small devices")
    yield Item("litert_kilobytes", len(content) / 1e3, "its size")
    yield Item("litert_milliseconds_per_clip", milliseconds, "on this machine")
    factor = milliseconds / 1e3 / task.HOP
    yield Item("litert_real_time_factor_of_a_stream", factor, "below 1 it keeps up with a microphone")


# ------------------------------------------------------------------------------------------------------ running speech


@lru_cache(maxsize=1)  # the verdict and the report both ask for it
def _in_running_speech(outcome: Outcome) -> tuple[task.ScoredStream, task.Matches] | None:
    """The stream of the test voices, scored, and how the detector does on it; None if no detector was chosen."""
    detector, part = outcome.facts.detector, outcome.parts["test"]
    minutes = mixing.running_speech(part, "test", outcome.settings) if detector else None
    if minutes is None:
        return None
    stream = task.score(outcome.network, outcome.facts, minutes)
    return stream, task.match(stream.detections(detector), stream.spoken)


def _running_speech(outcome: Outcome) -> Iterator[Item]:
    """False accepts and missed commands of the detector in running speech of the test voices, if it was chosen."""
    facts, settings, part = outcome.facts, outcome.settings, outcome.parts["test"]
    if not (running := _in_running_speech(outcome)):
        return
    stream, matches = running
    found = {"stream_false_accepts_per_hour": hourly_rate(matches.false_accepts, stream.hours)}
    if stream.spoken:
        found["stream_false_rejections"] = proportion(matches.missed, len(stream.spoken))
    for name, values in found.items():
        for bound, value in zip(("", "_low", "_high"), values, strict=True):
            yield Item(f"{name}{bound}", value, STREAM[name])
    promise = Promise(
        "false accepts an hour of running speech",
        settings.false_accepts,
        Interval(*found["stream_false_accepts_per_hour"]),
        tolerance=settings.false_accepts / 2,
        percent=False,
        remedy="Raise the detector's threshold: lower --false-accepts.",
    )
    yield Item("false accepts", promise)
    if matches.delays:
        yield Item("stream_delay_seconds", matches.delay, "from the end of a command to its detection, median")
    yield Item("stream_hours", stream.hours, "of speech without commands, in which false accepts are counted")
    if settings.data != "demo":
        others = mixing.other_words(part, "test")
        repetitions = stream.hours * 3600 / (mixing.PAUSE + stream.length) / len(others)
        yield Item("stream_repetitions_of_a_clip", repetitions, "the more, the less the stream says about other speech")
    target = f"{settings.false_accepts:g} on validation: the detector in use"
    rows = [_point(target, list(found.values()), matches.delay, facts.detector.threshold)]
    for point in operating_points(stream.curve(facts.detector), stream.hours, len(stream.spoken)).itertuples():
        accepts = point.false_accepts_per_hour, point.accepts_low, point.accepts_high
        rejections = point.false_rejections, point.rejections_low, point.rejections_high
        rows.append(_point(f"{point.target:g}", [accepts, rejections], point.delay, point.threshold))
    yield Item("table of running speech", pd.DataFrame(rows).fillna(""), RUNNING)


def _point(target: str, estimates: list[Estimate], delay: float, threshold: float) -> dict[str, str]:
    """A row of the table: false accepts and, where there were commands, missed ones at a threshold."""
    row = {"most false accepts per hour": target}
    if not np.isfinite(threshold):
        return row | {"measured": "not measurable in so few hours"}
    accepts, *missed = ("{:.3g} [{:.3g}, {:.3g}]".format(*estimate) for estimate in estimates)
    row |= {"measured": accepts, "commands missed": missed[0]} if missed else {"measured": accepts}
    row |= {"median delay (s)": f"{delay:.2f}"} if np.isfinite(delay) else {}
    return row | {"threshold": f"{threshold:.4f}"}


def operating_points(curve: pd.DataFrame, hours: float, spoken: int) -> pd.DataFrame:
    """Missed commands at each of PER_HOUR false accepts, at the highest threshold that misses the fewest.

    Columns: target (false accepts per hour), threshold, false_accepts_per_hour with its interval, false_rejections
    (share) with its interval, delay (s); all but the target are NaN if the rate cannot be measured in so few hours.
    """
    rows = []
    for target in PER_HOUR:
        kept = curve[curve["false_accepts"] <= target * hours]
        if target * hours < FEWEST or kept.empty:
            rows.append((target, *[np.nan] * 8))
            continue
        point = kept.loc[kept["missed"].idxmin()]
        rate, share = hourly_rate(int(point["false_accepts"]), hours), proportion(int(point["missed"]), spoken)
        rows.append((target, point["threshold"], *rate, *share, point["delay"]))
    columns = ["target", "threshold", "false_accepts_per_hour", "accepts_low", "accepts_high",
               "false_rejections", "rejections_low", "rejections_high", "delay"]  # fmt: skip
    return pd.DataFrame(rows, columns=columns)


def hourly_rate(count: int, hours: float) -> Estimate:
    """A count per hour, with its exact 95 % Poisson interval (Garwood 1936)."""
    low = chi2.ppf(0.025, 2 * count) / 2 if count else 0.0
    return count / hours, low / hours, chi2.ppf(0.975, 2 * count + 2) / 2 / hours


def proportion(count: int, total: int) -> Estimate:
    """A share, with Wilson's 95 % interval; of none, NaN within 0 and 1."""
    if not total:
        return np.nan, 0.0, 1.0
    interval = binomtest(count, total).proportion_ci(method="wilson")
    return count / total, float(interval.low), float(interval.high)
