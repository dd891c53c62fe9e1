"""Baselines, and the report: figures, tables and sounds for a reviewer."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.stats import binomtest, chi2
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pipelines.core.data.arrays import Part
from pipelines.core.evaluation.bootstrap import Interval
from pipelines.core.evaluation.promises import promised
from pipelines.core.report import class_figures, figures, media_figures
from pipelines.core.serving import litert
from pipelines.core.tasks import classification
from pipelines.core.tasks.classification import Predict, distribution
from pipelines.core.training.batches import predict
from pipelines.speech_commands import Settings, audio, mixing, model, task
from pipelines.speech_commands.data import Facts

if TYPE_CHECKING:
    from pipelines.core.training.trial import Outcome

MOST = 20_000
"""Training clips that a baseline is fitted to."""
REGULARISATIONS = (1e-2, 1e-1, 1.0)  # inverse, of the logistic regression
RATES = (0.1, 0.2)  # learning rates of the trees
SNRS = (20.0, 10.0, 5.0, 0.0)  # dB
WHITE = "white noise"
SAMPLED = 300  # clips for accuracy in noise, and for LiteRT
PLAYED = 6  # of the worst mistakes
PER_HOUR = (0.5, 1.0, 10.0)  # false accepts at which missed commands are reported
FEWEST = 3  # false accepts in all, below which a rate cannot be measured

Estimate = tuple[float, float, float]
"""A value and the ends of its 95 % interval."""


# ---------------------------------------------------------------------------------------------------------- baselines


def baselines(facts: Facts, settings: Settings, train: Part, validation: Part) -> Iterator[tuple[str, Predict]]:
    """Class shares; logistic regression and boosted trees on summary statistics of the network's log-mel features.

    The statistics are mean and deviation of each band, over the clip and over its halves. Hyperparameters are chosen on
    the validation clips.
    """
    train = train.sample(MOST, settings.seed)
    yield "prevalence", classification.prevalence(train, len(facts.classes))
    extractor = model.features(facts)

    @cache
    def statistics(part: Part) -> np.ndarray:
        frames = predict(extractor, part)
        pieces = (frames, *np.array_split(frames, 2, axis=1))
        return np.concatenate([f(piece, axis=1) for piece in pieces for f in (np.mean, np.std)], axis=1)

    regressions = [
        make_pipeline(StandardScaler(), LogisticRegression(C=strength, tol=1e-3, max_iter=1000))
        for strength in REGULARISATIONS
    ]
    yield "logistic_regression", classification.best_on_validation(regressions, statistics, train, validation)
    trees = classification.boosted_trees(RATES, 200, 8, 10, settings.seed)
    yield "trees", classification.best_on_validation(trees, statistics, train, validation)


# ------------------------------------------------------------------------------------------------------------- report


def report(outcome: Outcome) -> Iterator[tuple[str, Any]]:
    """Figures, tables, numbers and files in reading order; see `Outcome`."""
    part, names = outcome.parts["test"], outcome.facts.classes
    before = distribution(task.TASK.raw_scores(outcome.outputs))
    after = distribution(outcome.scores)

    yield "confusion", class_figures.confusion(class_figures.confusion_matrix(part.labels, after), names)
    yield "table of words", class_figures.table(part.labels, after, names, "clips")
    noisy = accuracy_in_noise(outcome.network, outcome.headline.sample(SAMPLED, 0))
    yield "accuracy in noise", figures.lines(noisy, "Accuracy in noise", "accuracy")
    if "group" in part.records:
        yield from _by_speaker(outcome)
    yield from _running_speech(outcome)
    yield from class_figures.calibration(part.labels, before, after, part.weights)
    yield from _acceptance(outcome)
    yield from task.TASK.promises(outcome)
    if outcome.settings.examples != "none":
        worst = class_figures.mistakes(part, after, names)
        yield "worst mistakes", worst
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


def _by_speaker(outcome: Outcome) -> Iterator[tuple[str, Any]]:
    """Accuracy on the commands of each test speaker."""
    part = outcome.headline
    right = distribution(outcome.headline_scores).argmax(axis=1) == part.labels
    shares = pd.Series(right).groupby(part.frame["group"].to_numpy()).agg(["mean", "size"]).sort_values("mean")
    yield "accuracy_of_worst_speaker", float(shares["mean"].iloc[0])
    yield "accuracy_of_median_speaker", float(shares["mean"].median())
    table = shares.reset_index(names="speaker").rename(columns={"mean": "accuracy", "size": "test clips"})
    yield "table of speakers", table


def _acceptance(outcome: Outcome) -> Iterator[tuple[str, float]]:
    """Shares of commands and of other clips that are accepted, and errors among the accepted."""
    part, command = outcome.parts["test"], outcome.counted
    accepted = task.TASK.decide(outcome.outputs, outcome.facts, part)["accepted"].to_numpy()
    wrong = distribution(outcome.scores).argmax(axis=1) != part.labels
    yield "share_of_commands_accepted", float(accepted[command].mean())
    yield "error_of_accepted", float(wrong[accepted].mean()) if accepted.any() else 0.0
    if not command.all():
        yield "share_of_others_accepted", float(accepted[~command].mean())


def _sounds(outcome: Outcome, worst: pd.DataFrame) -> Iterator[tuple[str, Any]]:
    """The clips of these mistakes, as spectrograms and as sound files."""
    part, facts = outcome.parts["test"], outcome.facts
    place = pd.Series(np.arange(len(part)), part.frame["id"].to_numpy())
    part = part.take(place[worst["id"]].to_numpy())
    captions = [f"{row.decided} {row.probability:.2f}, true: {row.true}" for row in worst.itertuples()]
    if captions:
        frames = predict(model.features(facts), part)
        figure = media_figures.spectrograms(list(zip(captions, frames, strict=True)), model.HOP)
        yield "spectrograms of the worst mistakes", figure
    for number, (caption, clip) in enumerate(zip(captions, part.x()["clip"], strict=True), 1):
        name = re.sub(r"\W+", "_", caption)
        yield f"sounds/{number}_{name}.wav", audio.wav(clip, facts.sample_rate)


def _litert(outcome: Outcome) -> Iterator[tuple[str, Any]]:
    """The network as a LiteRT file, with its accuracy, size and speed."""
    sample = outcome.headline.sample(SAMPLED, 0)
    content, outputs, milliseconds = litert.litert(outcome.network, sample)
    yield "network.tflite", content
    yield "litert_accuracy_of_a_sample", float((sample.labels == outputs.argmax(axis=1)).mean())
    yield "litert_kilobytes", len(content) / 1e3
    yield "litert_milliseconds_per_clip", milliseconds
    yield "litert_real_time_factor_of_a_stream", milliseconds / 1e3 / task.HOP


# ------------------------------------------------------------------------------------------------------ running speech


def _running_speech(outcome: Outcome) -> Iterator[tuple[str, Any]]:
    """False accepts and missed commands of the detector in running speech of the test voices, if it was chosen."""
    facts, settings, part = outcome.facts, outcome.settings, outcome.parts["test"]
    minutes = mixing.running_speech(part, "test", settings) if facts.detector else None
    if minutes is None:
        return
    stream = task.score(outcome.network, facts, minutes)
    matches = task.match(stream.detections(facts.detector), stream.spoken)
    found = {"stream_false_accepts_per_hour": hourly_rate(matches.false_accepts, stream.hours)}
    if stream.spoken:
        found["stream_false_rejections"] = proportion(matches.missed, len(stream.spoken))
    for name, values in found.items():
        for bound, value in zip(("", "_low", "_high"), values, strict=True):
            yield f"{name}{bound}", value
    rate = Interval(*found["stream_false_accepts_per_hour"])
    yield from promised(
        "false accepts an hour of running speech",
        settings.false_accepts,
        rate,
        tolerance=settings.false_accepts / 2,
        percent=False,
        remedy="Raise the detector's threshold: lower --false-accepts.",
    )
    if matches.delays:
        yield "stream_delay_seconds", matches.delay
    yield "stream_hours", stream.hours
    if settings.data != "demo":
        others = mixing.other_words(part, "test")
        yield "stream_repetitions_of_a_clip", stream.hours * 3600 / (mixing.PAUSE + stream.length) / len(others)
    target = f"{settings.false_accepts:g} on validation: the detector in use"
    rows = [_point(target, list(found.values()), matches.delay, facts.detector.threshold)]
    for point in operating_points(stream.curve(facts.detector), stream.hours, len(stream.spoken)).itertuples():
        accepts = point.false_accepts_per_hour, point.accepts_low, point.accepts_high
        rejections = point.false_rejections, point.rejections_low, point.rejections_high
        rows.append(_point(f"{point.target:g}", [accepts, rejections], point.delay, point.threshold))
    yield "table of running speech", pd.DataFrame(rows).fillna("")


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
