"""Baselines, metrics, calibration and decisions, and what a reviewer gets to see and to hear."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pipelines.core.contract import Settings
from pipelines.core.data.arrays import Part
from pipelines.core.evaluation import calibration
from pipelines.core.evaluation.metrics import Curried, accuracy, log_loss
from pipelines.core.report import classes, figures
from pipelines.core.serving import litert
from pipelines.core.tasks import classification
from pipelines.core.training.batches import predict
from pipelines.speech_commands import audio, data, model, stream

if TYPE_CHECKING:
    import keras

    from pipelines.core.training.trial import Outcome

MOST = 20_000
"""Training clips that a baseline is fitted on."""
REGULARISATIONS = (1e-2, 1e-1, 1.0)  # inverse, of the logistic regression
RATES = (0.1, 0.2)  # learning rates of the trees
LOUDNESS = (20.0, 10.0, 5.0, 0.0)  # dB, mean power of a clip over that of the noise
WHITE = "white noise"
HEARD = 300  # clips that noise is tried on
PLAYED = 6  # of the worst mistakes


def metrics(part: Part) -> dict[str, Curried]:
    """Share of clips of which the likeliest class is the right one, and the log loss."""
    return {"accuracy": accuracy, "log_loss": log_loss}


# ---------------------------------------------------------------------------------------------------------- baselines


def baselines(
    facts: dict, settings: Settings, train: Part, validation: Part
) -> Iterator[tuple[str, classification.Predict]]:
    """Yields (name, predict); predict gives probabilities, (n,) of the second of two classes, else (n, classes).

    They hear what the network hears, mean and deviation of its log-mel features over a clip, of the clip as it is and
    of its halves. Each is fitted in several settings, of which the validation clips choose one.
    """
    train = train.sample(MOST, settings.seed)
    yield "prevalence", classification.prevalence(train, len(facts["classes"]))
    listen = model.features(facts)

    @cache
    def told(part: Part) -> np.ndarray:
        frames = predict(listen, part)
        halves = np.array_split(frames, 2, axis=1)
        parts = [f(piece, axis=1) for piece in (frames, *halves) for f in (np.mean, np.std)]
        return np.concatenate(parts, axis=1)

    regressions = [
        make_pipeline(StandardScaler(), LogisticRegression(C=strength, tol=1e-3, max_iter=1000))
        for strength in REGULARISATIONS
    ]
    yield "logistic_regression", classification.chosen(regressions, told, train, validation)
    boosted = classification.boosted(RATES, 200, 8, 10, settings.seed)
    yield "trees", classification.chosen(boosted, told, train, validation)


# -------------------------------------------------------------------------------------------- calibration, decisions


def calibrate(outputs: np.ndarray, part: Part, settings: Settings) -> dict:
    """Learns, on the calibration clips: the calibrating map, and `sure`, from which probability on a word is accepted.

    Of accepted clips the share of wrong ones keeps to the wanted one; a word heard in silence or in an unknown word is
    wrong.
    """
    learnt: dict[str, Any] = {"calibration": calibration.learn(scores(outputs, {}), part.labels, part.weights)}
    probability = classification.distribution(scores(outputs, learnt))
    decided = probability.argmax(axis=1)
    command = np.isin(decided, commands(part.records.attrs["classes"]))
    wrong = decided != part.labels
    learnt["sure"] = classification.sure_from(probability.max(axis=1)[command], wrong[command], settings.wanted_error)
    return learnt


def tune(network: keras.Model, facts: dict, parts: Mapping[str, Part], settings: Settings) -> dict:
    """Learns, on a stream of validation's voices, the `detector` that a running recogniser uses; see `stream`.

    Nothing is learnt where no other words are known that could set off a false alarm.
    """
    rows = np.sort(np.concatenate([parts["stopping"].rows, parts["calibration"].rows]))
    validation = Part(parts["test"].records, rows, parts["test"].inputs)
    minutes = stream.of(validation, "validation", settings)
    if minutes is None:
        return {}
    return {"detector": asdict(stream.chosen(hear(network, facts, minutes), settings.false_accepts))}


def hear(network: keras.Model, facts: dict, minutes: stream.Minutes) -> stream.Heard:
    """The stream as the calibrated network hears it."""
    about = commands(facts["classes"]), facts["samples"], facts["sample_rate"]
    return stream.heard(partial(listened, network, facts), minutes, *about)


def listened(network: keras.Model, facts: dict, clips: np.ndarray) -> np.ndarray:
    """Calibrated probabilities (n, classes) of clips, int16 (n, samples)."""
    return classification.distribution(scores(network.predict_on_batch({"clip": clips}), facts))


def commands(names: list[str]) -> list[int]:
    """The classes that stand for a command, neither silence nor unknown words."""
    return [n for n, name in enumerate(names) if name not in (data.UNKNOWN, data.SILENCE)]


def scores(outputs: np.ndarray, facts: dict) -> np.ndarray:
    """Probabilities, float64, (n,) of the second of two classes, else (n, classes); calibrated once that is learnt."""
    probability = classification.as_scores(outputs.astype(np.float64))
    return calibration.apply(facts["calibration"], probability) if "calibration" in facts else probability


def decide(outputs: np.ndarray, facts: dict, part: Part) -> pd.DataFrame:
    """What a user gets for each clip: the likeliest `word`, its `probability`, and whether it is `accepted`.

    Silence and unknown words are never accepted, and no word that is less probable than the threshold.
    """
    probability = classification.distribution(scores(outputs, facts))
    decided, surest = probability.argmax(axis=1), probability.max(axis=1)
    accepted = np.isin(decided, commands(facts["classes"])) & (surest >= facts["sure"])
    return pd.DataFrame({"word": np.array(facts["classes"])[decided], "probability": surest, "accepted": accepted})


# ------------------------------------------------------------------------------------------------------------- report


def report(outcome: Outcome) -> Iterator[tuple[str, Any]]:
    """Figures, tables, numbers and files in reading order; see `Outcome`."""
    facts, settings, part = outcome.facts, outcome.settings, outcome.parts["test"]
    labels, names = part.labels, facts["classes"]
    before = classification.distribution(scores(outcome.outputs, {}))
    after = classification.distribution(outcome.scores)

    yield "confusion", classes.confusion(classes.confusion_matrix(labels, after), names)
    yield "table of words", classes.table(labels, after, names, "clips")
    yield "accuracy in noise", figures.lines(
        in_noise(outcome.network, outcome.headline.sample(HEARD, 0), facts["sample_rate"]),
        "Accuracy in noise", "share of right words",
    )  # fmt: skip
    if "group" in part.records:
        yield from _by_speaker(outcome)
    yield from _streamed(outcome)
    yield from classes.calibration(labels, before, after, part.weights)

    decided = decide(outcome.outputs, facts, part)
    accepted, command = decided["accepted"].to_numpy(), outcome.counted
    right = after.argmax(axis=1) == labels
    yield "share_of_commands_accepted", float(accepted[command].mean())
    yield "error_of_accepted", float((~right)[accepted].mean()) if accepted.any() else 0.0
    if not command.all():
        yield "share_of_others_accepted", float(accepted[~command].mean())

    if settings.examples != "none":
        yield "worst mistakes", (worst := classes.mistakes(part, after, names))
        if settings.examples == "full":
            yield from _heard(outcome, worst.head(PLAYED))
    if litert.available():
        content, given, milliseconds = litert.litert(outcome.network, outcome.headline.sample(HEARD, 0))
        yield "network.tflite", content
        same = outcome.headline.sample(HEARD, 0).labels == given.argmax(axis=1)
        yield "litert_accuracy_of_a_sample", float(same.mean())
        yield "litert_kilobytes", len(content) / 1e3
        yield "litert_milliseconds_per_clip", milliseconds
        yield "litert_real_time_factor_of_a_stream", milliseconds / 1e3 / stream.HOP


def _streamed(outcome: Outcome) -> Iterator[tuple[str, Any]]:
    """What the detector makes of running speech of test's voices; nothing where none was chosen."""
    facts = outcome.facts
    if "detector" not in facts:
        return
    detector = stream.Detector(**facts["detector"])
    heard = hear(outcome.network, facts, stream.of(outcome.parts["test"], "test", outcome.settings))
    judged = heard.judged(detector)
    told = {"stream_false_accepts_per_hour": stream.per_hour(judged.false_accepts, heard.hours)}
    if heard.spoken:
        told["stream_false_rejections"] = stream.share_of(judged.missed, len(heard.spoken))
    for name, values in told.items():
        for bound, value in zip(("", "_low", "_high"), values, strict=True):
            yield f"{name}{bound}", value
    if judged.delays:
        yield "stream_delay_seconds", judged.delay
    yield "stream_hours", heard.hours
    if outcome.settings.data != "demo":
        others = stream.other_words(outcome.parts["test"], "test")
        length = stream.PAUSE + facts["samples"] / facts["sample_rate"]
        yield "stream_repetitions_of_a_clip", heard.hours * 3600 / length / len(others)
    asked = f"{outcome.settings.false_accepts:g} on validation: the detector that is used"
    rows = [_point(asked, told.values(), judged.delay, detector.threshold)]
    for point in stream.operating_points(heard.curve(detector), heard.hours, len(heard.spoken)).itertuples():
        accepts = point.false_accepts_per_hour, point.accepts_low, point.accepts_high
        rejections = point.false_rejections, point.rejections_low, point.rejections_high
        rows.append(_point(f"{point.asked:g}", (accepts, rejections), point.delay, point.threshold))
    yield "table of running speech", pd.DataFrame(rows).fillna("")


def _point(asked: str, shares: Iterable[tuple[float, float, float]], delay: float, threshold: float) -> dict[str, str]:
    """False accepts and missed commands at a threshold, as people read them."""
    row = {"false accepts an hour, at most": asked}
    if not np.isfinite(threshold):
        return row | {"measured": "not measurable in so few hours"}
    accepts, *missed = ("{:.3g} [{:.3g}, {:.3g}]".format(*share) for share in shares)
    row |= {"measured": accepts, "commands missed": missed[0]} if missed else {"measured": accepts}
    row |= {"median delay (s)": f"{delay:.2f}"} if np.isfinite(delay) else {}
    return row | {"threshold": f"{threshold:.4f}"}


def _heard(outcome: Outcome, worst: pd.DataFrame) -> Iterator[tuple[str, Any]]:
    """The clips of these mistakes, to look at and to listen to."""
    part, rate = outcome.parts["test"], outcome.facts["sample_rate"]
    place = pd.Series(np.arange(len(part)), part.frame["id"].to_numpy())
    part = part.take(place[worst["id"]].to_numpy())
    captions = [f"{row.decided} {row.probability:.2f}, true: {row.true}" for row in worst.itertuples()]
    if captions:
        frames = predict(model.features(outcome.facts), part)
        yield "worst mistakes heard", figures.spectrograms(list(zip(captions, frames, strict=True)), model.HOP)
    for number, (caption, clip) in enumerate(zip(captions, part.x()["clip"], strict=True), 1):
        name = re.sub(r"\W+", "_", caption)
        yield f"sounds/{number}_{name}.wav", audio.wav(clip, rate)


def in_noise(network: Any, part: Part, sample_rate: int, draws: int = 1) -> pd.DataFrame:
    """Accuracy of the uncalibrated network, clean and in noise, one column for each kind of noise.

    The noise of a clip is a piece of the test part of a recording of noise, or white, so loud that the mean power of
    the clip lies by the index (in dB) above it; several draws of it are averaged.
    """
    rng, samples = np.random.default_rng(0), part.records.attrs["samples"]
    clips, labels = part.x()["clip"], part.labels
    waves = {name: np.load(path, mmap_mode="r") for name, path in part.records.attrs["noise"]}
    waves = {name: wave[data.noise_part(len(wave), "test")] for name, wave in waves.items()}
    waves = {WHITE: audio.integers(0.1 * audio.noise(rng, 1, 30 * sample_rate, 0.0)[0])} | waves

    def right(heard: np.ndarray) -> float:
        given = network.predict_on_batch({"clip": heard})
        return float((given.argmax(axis=1) == labels).mean())

    def noisy(wave: np.ndarray, decibels: float) -> float:
        windows = np.lib.stride_tricks.sliding_window_view(wave, samples)
        shares = []
        for _ in range(draws):
            mixed = audio.mixed(
                clips, windows[rng.integers(len(windows), size=len(clips))], np.full(len(clips), decibels)
            )
            shares.append(right(audio.integers(mixed / 32_768)))
        return float(np.mean(shares))

    clean = right(clips)
    table = {
        name: [clean, *map(partial(noisy, wave), LOUDNESS)] for name, wave in waves.items() if len(wave) >= samples
    }
    index = pd.Index([LOUDNESS[0] + 10, *LOUDNESS], name="signal over noise in dB (right end: clean)")
    return pd.DataFrame(table, index=index).sort_index()


def _by_speaker(outcome: Outcome) -> Iterator[tuple[str, Any]]:
    """Accuracy on the commands of each test speaker: the figure, and the spread."""
    part = outcome.headline
    right = classification.distribution(outcome.headline_scores).argmax(axis=1) == part.labels
    shares = pd.Series(right).groupby(part.frame["group"].to_numpy()).agg(["mean", "size"]).sort_values("mean")
    yield "accuracy_of_worst_speaker", float(shares["mean"].iloc[0])
    yield "accuracy_of_median_speaker", float(shares["mean"].median())
    table = shares.reset_index(names="speaker").rename(columns={"mean": "accuracy", "size": "test clips"})
    yield "table of speakers", table
