"""Compose sound from clips and noise: silence, augmented training clips, and running speech."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from pipelines.core.data.arrays import Part
from pipelines.core.data.splits import SHARES
from pipelines.core.reading.folders import SIDES
from pipelines.speech_commands import Settings, audio, demo
from pipelines.speech_commands.listing import SILENCE, UNKNOWN, Clips, Noise, command_clips

NOISE_PARTS = {"train": (0.0, 0.6), "validation": (0.6, 0.8), "test": (0.8, 1.0)}  # shares of each recording's length
PIECES = 4  # of a side's part of a recording; the silent clips of a piece are a group
FEWEST_SILENT = 3  # silent clips on a side; of three, each half of validation gets one
SHIFT, GAINS, PACE = 0.1, (-12.0, 6.0), 1.15  # s; dB; highest speed, and lowest as 1 / PACE
NOISY, SNRS = 0.8, (0.0, 30.0)  # share of the training clips that get noise; dB
MADE_NOISE = 30  # s of white, and of pink noise
OFTEN = 300  # commands per hour of a stream, about
PAUSE = 0.5  # s, mean between the words of a composed stream
TOLERANCE = 0.75  # s after the end of a command, within which its detection counts
FAINT = -25.0  # dB below the loudest frame of a clip, from which on a frame belongs to its word
FRAME = 0.01  # s
STREAM_SNRS = (10.0, 30.0)  # dB, mean power of a composed stream's words over that of its noise


# --------------------------------------------------------------------------------------------------- noise and silence


def silence(listing: pd.DataFrame, noise: Noise, cache: Path, rate: int, samples: int, notes: list[str]) -> list[Clips]:
    """Clips of silence, cut for each side from its part of the noise, about as many as a command has there on average.

    None if the recordings of noise are too short.
    """
    waves = {name: np.load(path, mmap_mode="r") for name, path in noise}
    commands = command_clips(listing)
    mean, drawn = len(commands) / commands["class"].nunique(), (commands["side"] == "").mean()
    rows, rng = [], np.random.default_rng(0)
    for side in SIDES:
        parts = [(name, noise_part(len(wave), side)) for name, wave in waves.items()]
        pieces = [(name, begin, end) for name, part in parts for begin, end in _pieces(part, samples)]
        if len(pieces) < FEWEST_SILENT:
            notes.append(f"The recordings of noise are too short to cut {SILENCE} for {side}.")
            return []
        share = (commands["side"] == side).mean() + drawn * SHARES.get(side, 1 - sum(SHARES.values()))
        for n in range(max(FEWEST_SILENT, round(mean * share))):
            name, begin, end = pieces[n % len(pieces)]
            first = int(rng.integers(begin, end - samples, endpoint=True))
            rows.append((side, name, f"{name} from {begin / rate:.1f} s", first, rng.random()))
    table = pd.DataFrame(rows, columns=["side", "noise", "group", "first", "gain"])
    table = table.assign(**{"class": SILENCE, "word": SILENCE})
    table["id"] = [f"{SILENCE}/{row.noise}/{row.first}/{row.Index}" for row in table.itertuples()]

    def make() -> tuple[pd.DataFrame, np.ndarray, dict[str, np.ndarray]]:
        clips = [waves[row.noise][row.first : row.first + samples] * row.gain for row in table.itertuples()]
        return table, np.rint(clips).astype(np.int16), {}

    notes.append(f"{len(table):,} clips of {SILENCE} are cut from {', '.join(waves)}, each side from another part.")
    return [audio.made_once(cache, "silence", (noise, rows, samples), make)]


def noise_part(length: int, side: str) -> slice:
    """The part of a recording of noise, `length` samples long, that belongs to a side."""
    begin, end = NOISE_PARTS[side]
    return slice(round(begin * length), round(end * length))


def _pieces(part: slice, samples: int) -> list[tuple[int, int]]:
    """The bounds of up to PIECES equal pieces of a part, each long enough for a clip."""
    count = min(PIECES, (part.stop - part.start) // samples)
    bounds = np.linspace(part.start, part.stop, count + 1).astype(int).tolist() if count else []
    return list(pairwise(bounds))


# -------------------------------------------------------------------------------------------------------- augmentation


def resampled_clips(clips: np.ndarray, speed: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Clips played faster or slower, as a tape is, and shifted: speed, pitch and vocal tract differ between speakers.

    Ko, Peddinti, Povey and Khudanpur (2015), Audio augmentation for speech recognition.

    Args:
        clips: (n, samples).
        speed: (n,), above 1 is faster and higher.
        shift: (n,), samples by which the middle moves to later.

    Returns:
        float32 (n, samples), linearly interpolated, zero beyond the clips' ends.
    """
    time = np.arange(clips.shape[1], dtype=float)
    middle = time.mean()
    changed = np.empty(clips.shape, np.float32)
    for row, (clip, rate, by) in enumerate(zip(clips, speed, shift, strict=True)):
        changed[row] = np.interp((time - middle - by) * rate + middle, time, clip, 0, 0)
    return changed


def augmentation(
    train: Part, settings: Settings
) -> Callable[[dict[str, np.ndarray], np.ndarray, np.random.Generator], tuple[dict[str, np.ndarray], np.ndarray]]:
    """A function that changes speed, place, noise and gain of training clips at random, for each clip and epoch.

    The noise is white, pink, or from the training part of the recordings of noise. NOISY of the clips get noise, at a
    signal-to-noise ratio within SNRS. The function takes and returns `clip`, int16 (n, samples), and labels (n,);
    samples that a gain lifts beyond full scale are clipped.
    """
    about, rng = train.data.about, np.random.default_rng(0)
    rate, samples = about.sample_rate, about.samples
    length = max(int(MADE_NOISE * rate), 2 * samples)
    sources = [audio.integers(0.1 * audio.noise(rng, 1, length, colour)[0]) for colour in (0.0, 1.0)]
    for _, path in about.noise:
        recording = np.load(path, mmap_mode="r")
        sources.append(recording[noise_part(len(recording), "train")])
    sources = [source for source in sources if len(source) >= samples]
    windows = np.lib.stride_tricks.sliding_window_view(np.concatenate(sources), samples)
    begins = np.cumsum([0, *map(len, sources[:-1])])
    spans = np.array([len(source) - samples + 1 for source in sources])
    most = int(SHIFT * rate)

    def augment(
        x: dict[str, np.ndarray], y: np.ndarray, rng: np.random.Generator
    ) -> tuple[dict[str, np.ndarray], np.ndarray]:
        count = len(y)
        speed, shift = PACE ** rng.uniform(-1, 1, count), rng.integers(-most, most, count, endpoint=True)
        clips = resampled_clips(x["clip"], speed, shift)
        source = rng.integers(len(sources), size=count)
        noise = windows[begins[source] + rng.integers(spans[source])]
        decibels = np.where(rng.random(count) < NOISY, rng.uniform(*SNRS, count), np.inf)
        gain = 10 ** (rng.uniform(*GAINS, (count, 1)) / 20)
        return x | {"clip": audio.integers(audio.mixed(clips, noise, decibels) * np.float32(gain / 32_768))}, y

    return augment


# ------------------------------------------------------------------------------------------------------ running speech


@dataclass(frozen=True)
class Spoken:
    """A command in a stream: its class, and when it begins and ends, in seconds."""

    label: int
    begin: float
    end: float


Minutes = Iterable[tuple[np.ndarray, Sequence[Spoken]]]
"""A stream by the minute: samples, int16 (n,), and the commands in them, in seconds from the start of the stream."""


def running_speech(part: Part, side: Literal["validation", "test"], settings: Settings) -> Minutes | None:
    """A stream of a side's voices, `settings.stream_minutes` long; None if the data have no words beside commands.

    The demo's is synthesised from words that none of its clips holds. Any other is composed of the side's clips: of
    commands, of unknown words and of words held out.
    """
    if not settings.stream_minutes:
        return None
    about, hours, seed = part.data.about, settings.stream_minutes / 60, {"validation": 1, "test": 2}[side]
    commands = part.take(part.frame["command"].to_numpy(bool))
    if settings.data == "demo":
        voices = sorted(set(commands.frame["group"]))
        spoken = demo.stream(demo.COMMANDS, demo.UNHEARD[side], voices, hours, about.sample_rate, seed, OFTEN)
        return (
            (minute, [Spoken(about.classes.index(word.word), word.begin, word.end) for word in placed])
            for minute, placed in spoken
        )
    others = other_words(part, side)
    if not len(others):
        return None
    waves = [np.load(path, mmap_mode="r") for _, path in about.noise]
    return composed(commands, others, [wave[noise_part(len(wave), side)] for wave in waves], hours, seed)


def other_words(part: Part, side: str) -> Part:
    """A side's clips of unknown words, and of words held out from training.

    The latter are those of the side's speakers; if speakers are not known, those that the data assign to it, or half.
    """
    records, names = part.records, part.data.about.classes
    unknown = part.labels == (names.index(UNKNOWN) if UNKNOWN in names else -1)
    if "group" in records:
        own = records["group"].isin(set(part.frame["group"])).to_numpy()
    else:
        own = np.where(records["side"] == "", np.arange(len(records)) % 2 == (side == "test"), records["side"] == side)
    held_out = np.flatnonzero(~part.data.labelled & own)
    return Part(part.data, np.concatenate([part.rows[unknown], held_out]), part.encoded)


def composed(commands: Part, others: Part, noise: Sequence[np.ndarray], hours: float, seed: int = 0) -> Minutes:
    """A stream of clips: other words with pauses between them, in noise, and about OFTEN commands an hour.

    The start and the end of a word are those of the frames of its clip within FAINT of the loudest.

    Args:
        commands: clips of commands, `clip` int16 (n, samples).
        others: clips of other words.
        noise: recordings of noise, int16, one of which is behind each minute; white noise if there is none.
        hours: of the stream, in full minutes.
        seed: of all that is drawn.
    """
    rng = np.random.default_rng(seed)
    rate = commands.data.about.sample_rate
    samples, labels = 60 * rate, commands.labels
    long = [wave for wave in noise if len(wave) >= rate]
    noise = long or [audio.integers(0.1 * audio.noise(rng, 1, samples, 0.0)[0])]
    for minute in range(round(60 * hours)):
        wave, at, due = np.zeros(samples, np.float32), 0, rng.exponential(3600 / OFTEN) * rate
        spoken: list[Spoken] = []
        while True:
            source = commands if (command := at >= due) else others
            drawn = int(rng.integers(len(source)))
            clip = source.x(np.array([drawn]))["clip"][0]
            begin, end = word_bounds(clip, rate)
            at += int(rng.exponential(PAUSE) * rate)
            stop = at + len(clip)
            if stop + TOLERANCE * rate > samples:
                break
            wave[at:stop] += clip
            if command:
                first = 60 * minute + at / rate
                spoken.append(Spoken(int(labels[drawn]), first + begin, first + end))
                stop += round(TOLERANCE * rate)  # so that no later word can be taken for the detection
                due = stop + rng.exponential(3600 / OFTEN) * rate
            at = stop
        background = noise[rng.integers(len(noise))]
        background = np.resize(np.roll(background, -int(rng.integers(len(background)))), samples)
        loud = wave[wave != 0]
        scale = np.std(loud) / max(np.std(background.astype(np.float32)), 1e-6) if len(loud) else 1.0
        wave += background * np.float32(scale * 10 ** (-rng.uniform(*STREAM_SNRS) / 20))
        yield audio.integers(wave / 32_768), spoken


def word_bounds(clip: np.ndarray, sample_rate: int) -> tuple[float, float]:
    """When the word of a clip, int16 (samples,), begins and ends, in seconds from the start of the clip."""
    frame = round(FRAME * sample_rate)
    frames = clip[: len(clip) // frame * frame].astype(np.float32).reshape(-1, frame)
    power = np.square(frames).mean(axis=1)
    loud = np.flatnonzero(power >= power.max() * 10 ** (FAINT / 10))
    return float(loud[0] * FRAME), float((loud[-1] + 1) * FRAME)
