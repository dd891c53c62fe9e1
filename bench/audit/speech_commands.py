"""Recordings with planted faults: copies, speakers on several sides or unknown, files whose form tells the word."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

import numpy as np
import soundfile
import soxr

from bench.audit.faults import COPIES, LABELS, Domain, Fault
from pipelines.speech_commands import PIPELINE

RATE, WORDS, SPEAKERS, TAKES = 16_000, ("down", "left", "stop", "yes"), 20, 3
SIDES = ("train", "train", "val", "test")
HARMONICS, NOISE = 25, 0.004
COPIED = 30


@dataclass(frozen=True, eq=False)
class Clip:
    """A recording, float64 from -1 to 1, and how its file is written; without a speaker files have numbers alone."""

    word: str
    speaker: str
    side: str
    wave: np.ndarray
    rate: int = RATE
    suffix: str = ".wav"
    subtype: str = ""


def clean(rng: np.random.Generator) -> list[Clip]:
    """Three takes of four words by twenty voices: vowels that glide between formants, in noise."""
    formants = rng.uniform([250, 900], [850, 2_600], (len(WORDS), 4, 2))
    clips = []
    for number in range(SPEAKERS):
        pitch, tract = rng.uniform(90, 240), rng.uniform(0.85, 1.2)
        for place, word in enumerate(WORDS):
            for _ in range(TAKES):
                wave = _spoken(rng, formants[place] * tract, pitch * rng.uniform(0.9, 1.1))
                clips.append(Clip(word, f"s{number:02d}", SIDES[number % len(SIDES)], wave))
    return clips


def _spoken(rng: np.random.Generator, formants: np.ndarray, pitch: float) -> np.ndarray:
    """A word as harmonics of the pitch that two formants shape, somewhere in 0.7 to 1 s of noise."""
    samples = round(rng.uniform(0.35, 0.6) * RATE)
    along = np.linspace(0, 1, samples)
    targets = formants * rng.normal(1, 0.04, formants.shape)
    track = [np.interp(along, np.linspace(0, 1, len(formants)), targets[:, one]) for one in (0, 1)]
    glide = pitch * (1 + rng.uniform(-0.15, 0.1) * along)
    harmonic = np.arange(1, HARMONICS + 1)[:, None]
    gain = sum(1 / (1 + ((harmonic * glide - formant) / 90) ** 2) for formant in track)
    voice = (gain * np.sin(2 * np.pi * harmonic * np.cumsum(glide) / RATE)).sum(axis=0) * np.sin(np.pi * along) ** 0.5
    length = round(rng.uniform(0.7, 1.0) * RATE)
    wave = rng.normal(0, NOISE * rng.uniform(0.5, 2), length)
    begin = rng.integers(0, length - samples + 1)
    wave[begin : begin + samples] += rng.uniform(0.15, 0.5) * voice / np.abs(voice).max()
    return np.rint(wave * 32_768) / 32_768  # what a file of 16 bits holds


def write(clips: Sequence[Clip], folder: Path) -> Path:
    """The recordings in a folder for each side and word, the speaker in the file's name."""
    for number, clip in enumerate(clips):
        place = folder / clip.side / clip.word
        place.mkdir(parents=True, exist_ok=True)
        name = f"{clip.speaker}_nohash_{number}" if clip.speaker else f"clip{number:04d}"
        soundfile.write(place / f"{name}{clip.suffix}", clip.wave, clip.rate, subtype=clip.subtype or None)
    return folder


# ------------------------------------------------------------------------------------------------------------- plants

Change = Callable[[Clip], Clip]
Clips = list[Clip]
Plant = Callable[[Clips, np.random.Generator], Clips]


def _copied(change: Change, begin: str = "train", end: str = "test", word: str = "") -> Plant:
    """Plant changed copies of clips of one side on another, under new speakers and perhaps as another word."""

    def plant(clips: Clips, rng: np.random.Generator) -> Clips:
        originals = [clip for clip in clips if clip.side == begin and clip.word != word]
        chosen = [originals[place] for place in rng.permutation(len(originals))[:COPIED]]
        copies = [
            replace(change(clip), speaker=f"v{number % 10}", side=end, word=word or clip.word)
            for number, clip in enumerate(chosen)
        ]
        return [*clips, *copies]

    return plant


def _with_wave(change: Callable[[np.ndarray], np.ndarray]) -> Change:
    return lambda clip: replace(clip, wave=change(clip.wave))


def _delayed(seconds: float) -> Change:
    """Later by so much, as if the recording had begun earlier; the end is cut off."""
    late = round(seconds * RATE)
    return _with_wave(lambda wave: np.concatenate([wave[:late][::-1] * 0.02, wave])[: len(wave)])


def _trimmed(wave: np.ndarray) -> np.ndarray:
    """Without the quiet ends."""
    loud = np.flatnonzero(np.abs(wave) > 0.25 * np.abs(wave).max())
    return wave[max(loud[0] - 160, 0) : loud[-1] + 160]


def _encoded(form: str, subtype: str) -> Callable[[np.ndarray], np.ndarray]:
    """Through a lossy codec and back."""

    def change(wave: np.ndarray) -> np.ndarray:
        file = BytesIO()
        soundfile.write(file, wave, RATE, format=form, subtype=subtype)
        file.seek(0)
        return soundfile.read(file)[0]

    return change


def _resampled(rate: int) -> Change:
    return lambda clip: replace(clip, wave=soxr.resample(clip.wave, RATE, rate), rate=rate)


def _moved(rename: Callable[[str], str]) -> Plant:
    """Plant the last take of each word by some training speakers on test, the speaker written in another way."""

    def plant(clips: Clips, rng: np.random.Generator) -> Clips:
        last = {(clip.speaker, clip.word): clip for clip in clips}
        some = sorted({clip.speaker for clip in clips if clip.side == "train"})[:4]
        return [
            replace(clip, side="test", speaker=rename(clip.speaker))
            if clip.speaker in some and clip is last[clip.speaker, clip.word]
            else clip
            for clip in clips
        ]

    return plant


def _of_a_word(change: Change) -> Plant:
    """Plant another form of file for one word."""
    return lambda clips, rng: [change(clip) if clip.word == "stop" else clip for clip in clips]


def _each(change: Callable[[Clip, int], Clip]) -> Plant:
    return lambda clips, rng: [change(clip, number) for number, clip in enumerate(clips)]


SPEAKER, FORM = r"speaker|group", r"file|form\b"
AGAIN, APART = "the network has heard its label", "the network knows the voice, not the word"
NARROW = "test seems larger than it is: intervals are too narrow"
SHORTCUT = "the network hears the device, not the word"


def _copies(name: str, change: Change, begin: str = "train", why: str = AGAIN, fast: bool = False) -> Fault:
    """Copies in test of clips of the side `begin`, three of four of which must be found."""
    return Fault(name, why, "warned", COPIES, _copied(change, begin), least=3 * COPIED // 4, fast=fast)


FAULTS = (
    _copies("exact copies across sides", lambda clip: clip, fast=True),
    _copies("copies in another lossless format", lambda clip: replace(clip, suffix=".flac")),
    _copies("copies shifted by 50 ms", _delayed(0.05)),
    _copies("copies trimmed", _with_wave(_trimmed)),
    _copies("copies louder", _with_wave(lambda wave: wave * 1.7), fast=True),
    _copies("copies quieter and shifted", lambda clip: _delayed(0.03)(_with_wave(lambda wave: wave * 0.5)(clip))),
    _copies("copies through Ogg Vorbis", _with_wave(_encoded("OGG", "VORBIS"))),
    _copies("copies in 8 bits (A-law)", _with_wave(_encoded("WAV", "ALAW"))),
    _copies("copies at 22,050 samples a second", _resampled(22_050)),
    _copies("copies of inverted polarity", _with_wave(lambda wave: -wave)),
    _copies("louder copies of validation in test", _with_wave(lambda wave: wave * 1.4), "val",
            "the threshold was chosen on them"),
    _copies("copies within test", _with_wave(_trimmed), "test", NARROW),
    Fault("one recording under two words", "at least one of the labels is wrong", "warned",
          LABELS, _copied(lambda clip: clip, end="train", word="stop")),
    Fault("one speaker on two sides", APART, "refused", SPEAKER, _moved(lambda name: name), fast=True),
    Fault("speakers s04 and S4 on two sides", APART, "refused", SPEAKER,
          _moved(lambda name: f"S{int(name[1:])}"), fast=True),
    Fault("speakers s04 and S-004 on two sides", APART, "refused", SPEAKER,
          _moved(lambda name: f"S-{int(name[1:]):03d}")),
    Fault("speakers of one clip each", "a number of the recording is no speaker", "warned",
          r"speaker.*\b(one|each|single)|no speaker is known",
          _each(lambda clip, number: replace(clip, speaker=f"r{number}"))),
    Fault("no speaker known", "intervals by clip are too narrow where voices recur", "warned", SPEAKER,
          _each(lambda clip, number: replace(clip, speaker=""))),
    Fault("recordings of one word are shorter", SHORTCUT, "warned", r"duration|length|second|form\b", _of_a_word(
        _with_wave(lambda wave: wave[: round(0.69 * RATE)] if len(wave) > 0.69 * RATE else wave)), fast=True),
    Fault("recordings of one word at 8,000 samples a second", SHORTCUT, "warned", r"rate|form\b",
          _of_a_word(_resampled(8_000))),
    Fault("offset of one word", SHORTCUT, "warned", r"offset|form\b", _of_a_word(_with_wave(lambda wave: wave + 0.03))),
    Fault("FLAC for one word, WAV for others", SHORTCUT, "warned", FORM,
          _of_a_word(lambda clip: replace(clip, suffix=".flac"))),
    Fault("24 bits for one word, 16 for others", SHORTCUT, "warned", FORM,
          _of_a_word(lambda clip: replace(clip, subtype="PCM_24"))),
)  # fmt: skip

DOMAIN = Domain(PIPELINE, clean, write, FAULTS)
