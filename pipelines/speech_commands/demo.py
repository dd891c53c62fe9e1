"""Speech synthesised offline by eSpeak NG: the demo's clips and streams, and voices to add to others' training data.

About a hundred voices say ten command words and other words, at a random rate and pitch, in a room with exponentially
decaying reverberation, in coloured noise. Each voice is a speaker. Figures on them show how the pipeline works and say
nothing about people, whose voices differ far more.

eSpeak NG (J. Duddington and contributors, GPL-3) comes with the optional package `espeakng-loader`. The constants were
set once, before any network was trained on the data.
"""

from __future__ import annotations

import ctypes
import hashlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import soxr
from scipy import fft
from scipy.signal import oaconvolve

from pipelines.core.contract import InputError
from pipelines.speech_commands import audio
from pipelines.speech_commands.audio import integers, loudest, mixed, noise
from pipelines.speech_commands.listing import UNKNOWN, Clips, Noise


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


COMMANDS = _words("down go left no off on right stop up yes")
OTHERS = _words(
    "bed bird cat dog happy house marvin sheila tree wow backward forward follow learn visual zero one two three four "
    "five six seven eight nine"
)
"""The unknown words of the demo; commands and these are the words of Google Speech Commands."""
UNHEARD = {
    "validation": _words(
        "water table music morning winter garden paper window sugar doctor yellow under again rather second "
        "coffee lemon summer button mother"
    ),
    "test": _words(
        "river pencil silver market finger orange carpet pocket rabbit island better never open silent number "
        "bottle ticket corner engine father"
    ),
}
"""Words of the demo's streams, which none of its clips holds."""
VOICE = "voice "  # begins ids and groups of synthetic voices that join training
TAKES = 3  # of each command by each voice, and as many other words
RATES, PITCHES = (110, 250), (20, 80)  # words a minute; of 100
SHIFT = 0.15  # s, largest distance of a word from the middle of its clip
LEVELS = (-30.0, -3.0)  # dB of full scale, peak
DECAYS = (0.1, 0.6)  # s, reverberation time: until echoes have lost 60 dB
DIRECT = (0.0, 20.0)  # dB, power of the direct sound over that of the echoes
NOISES = (0.0, 25.0)  # dB, mean power of a clip over that of its noise
COLOURS = (0.0, 2.0)  # exponent of the fall of noise power with frequency: 0 is white, 1 pink
NOISE_SECONDS = 90  # of each recording of background noise
PAUSE = 1.0  # s, mean between the words of a stream
AFTER = 1.0  # s, shortest pause after a command, in which its detection counts
ACCENTS = ("en-us", "en", "en-gb-scotland", "en-gb-x-rp", "en-029", "en-us-nyc", "en-gb-x-gbclan", "en-gb-x-gbcwmd")
SYNCHRONOUS, NO_EXIT, UTF8, RATE, PITCH = 2, 0x8000, 1, 1, 3  # of espeak-ng/speak_lib.h
UNSTEADY = {"Reed", "caleb"}  # voices with noise from the C library's generator, which no seed repeats
BLOCK = 256  # clips convolved with rooms at once


def _installed() -> tuple[Path, Path]:
    """The library of eSpeak NG and the folder of its data; raises InputError if it is not installed."""
    try:
        import espeakng_loader
    except ImportError:
        raise InputError(
            "Synthetic voices need eSpeak NG (GPL-3), which is not installed: pip install 'pipelines[voices]'"
        ) from None
    return Path(espeakng_loader.get_library_path()), Path(espeakng_loader.get_data_path())


class Synthesiser:
    """A fresh copy of the eSpeak NG library, which keeps state from word to word and else would not be reproducible.

    Raises InputError if it is not installed.
    """

    def __init__(self) -> None:
        library, folder = _installed()
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
            self.library = ctypes.CDLL(str(shutil.copy(library, Path(scratch, library.name))))
        self._pieces: list[np.ndarray] = []
        self._callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)(
            self._collect
        )
        self.rate = self.library.espeak_Initialize(SYNCHRONOUS, 0, str(folder).encode(), NO_EXIT)
        if self.rate <= 0:
            raise InputError(f"eSpeak NG does not start: expected its data in {folder}.")
        self.library.espeak_SetSynthCallback(self._callback)

    def _collect(self, samples: Any, count: int, events: object) -> int:
        if samples and count > 0:
            self._pieces.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    def say(self, text: str, voice: str, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
        """The words at a random rate and pitch, float32 with a peak of 1, without silence at the ends."""
        if self.library.espeak_SetVoiceByName(voice.encode()):
            raise InputError(f"Expected a voice of eSpeak NG, such as en-us+m1. Received: {voice!r}.")
        self.library.espeak_ng_SetRandSeed(int(rng.integers(1 << 31)))
        self.library.espeak_SetParameter(RATE, int(rng.integers(*RATES)), 0)
        self.library.espeak_SetParameter(PITCH, int(rng.integers(*PITCHES)), 0)
        self._pieces.clear()
        data = text.encode()
        self.library.espeak_Synth(data, len(data) + 1, 0, 1, 0, UTF8, None, None)
        wave = np.concatenate([np.zeros(0, np.int16), *self._pieces]).astype(np.float32)
        loud = np.flatnonzero(np.abs(wave) > 0.01 * np.abs(wave).max(initial=0))
        if not len(loud):
            raise InputError(f"Expected words that can be spoken. Received: {text!r}.")
        wave = soxr.resample(wave[loud[0] : loud[-1] + 1], self.rate, sample_rate)
        return wave / np.abs(wave).max()


def voices(count: int | None = None) -> list[str]:
    """Names of `count` voices, by default all of American English; further ones are of other accents of English.

    Raises InputError if there are fewer.
    """
    variants = sorted({path.name for path in (_installed()[1] / "voices" / "!v").iterdir()} - UNSTEADY)
    variants = [variants[n] for n in np.random.default_rng(0).permutation(len(variants))]
    names = [f"{accent}+{name}" for accent in ACCENTS for name in variants]
    count = len(variants) if count is None else count
    if count > len(names):
        raise InputError(f"Expected at most {len(names)} synthetic voices. Received: {count:,}.")
    return names[:count]


def speak(
    words: Sequence[str], names: Sequence[str], takes: int, sample_rate: int, samples: int, seed: int = 0
) -> tuple[pd.DataFrame, np.ndarray]:
    """Every word by every voice, `takes` times at random rates and pitches, each in another room; without noise.

    Digits are read as words, and underscores as spaces.

    Returns:
        A table with `word` and `voice`, and the clips, int16 (words × voices × takes, samples).

    Raises:
        InputError: if eSpeak NG is not installed, or cannot say a word.
    """
    script = [(word, name) for name in names for word in words for _ in range(takes)]
    blocks = _spoken(script, sample_rate, samples, np.random.default_rng(seed))
    return pd.DataFrame(script, columns=["word", "voice"]), np.concatenate([integers(block) for block in blocks])


def make(sample_rate: int, samples: int, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray, dict[str, np.ndarray]]:
    """The demo's clips of words and its recordings of background noise, the same for the same arguments.

    Returns:
        A table with `word` and `voice`; the clips, int16 (n, samples), at `sample_rate` in Hz; and recordings of noise
        by name, int16, NOISE_SECONDS long.
    """
    rng = np.random.default_rng(seed)
    script, blocks = [], []
    for name in voices():
        script += [(word, name) for word in COMMANDS for _ in range(TAKES)]
        script += [(word, name) for word in rng.choice(OTHERS, TAKES, replace=False).tolist()]
    for block in _spoken(script, sample_rate, samples, rng):
        background = noise(rng, len(block), samples, rng.uniform(*COLOURS, (len(block), 1)))
        blocks.append(integers(mixed(block, background, rng.uniform(*NOISES, len(block)))))
    return pd.DataFrame(script, columns=["word", "voice"]), np.concatenate(blocks), _recordings(rng, sample_rate)


def load(cache: Path, sample_rate: int, samples: int) -> tuple[Clips, Noise]:
    """What `make` gives, cached: clips with `id`, `word`, `class`, `side` (to be drawn) and `group`; and the noise."""
    key = (_code(), sample_rate, samples)
    table, clips = audio.made_once(cache, "demo", key, lambda: make(sample_rate, samples))
    table = table.rename(columns={"voice": "group"}).assign(side="")
    table["id"] = [f"clip-{n:04d}" for n in range(len(table))]
    table["class"] = table["word"].where(table["word"].isin(COMMANDS), UNKNOWN)
    noises = sorted(clips.parent.glob("noise-*.npy"))
    return (table, clips), tuple((path.stem.removeprefix("noise-"), str(path)) for path in noises)


def load_voices(
    words: Sequence[str], count: int, cache: Path, sample_rate: int, samples: int, notes: list[str]
) -> Clips:
    """The words by `count` synthetic voices, cached, all for training."""
    table, clips = audio.made_once(
        cache,
        "voices",
        (_code(), list(words), count, sample_rate, samples),
        lambda: (*speak(words, voices(count), TAKES, sample_rate, samples), {}),
    )
    notes.append(f"{len(table):,} clips of {count} synthetic voices, who speak the words as English, join training.")
    table["id"] = [f"{VOICE}{row.voice}/{row.word}/{row.Index}" for row in table.itertuples()]
    return table.assign(**{"class": table["word"], "side": "train", "group": VOICE + table["voice"]}), clips


def _code() -> str:
    """A digest of the code that synthesises speech."""
    return hashlib.sha256(Path(__file__).read_bytes() + Path(audio.__file__).read_bytes()).hexdigest()


def _spoken(
    script: list[tuple[str, str]], sample_rate: int, samples: int, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """The words of a script of (word, voice), each in another room, float32, BLOCK clips at a time."""
    synthesiser = Synthesiser()
    for start in range(0, len(script), BLOCK):
        block = np.zeros((len(script[start : start + BLOCK]), samples), np.float32)
        for clip, (word, voice) in zip(block, script[start:], strict=False):
            wave = synthesiser.say(word.replace("_", " "), voice, sample_rate, rng)
            spare = max(samples - len(wave), 0)
            most = min(spare // 2, int(SHIFT * sample_rate))
            begin = spare // 2 + rng.integers(-most, most, endpoint=True)
            clip[begin : begin + len(wave)] = loudest(wave, samples)
        rooms = np.stack([_room(rng, sample_rate) for _ in block])
        length = fft.next_fast_len(samples + rooms.shape[1], real=True)
        echoed = fft.irfft(fft.rfft(block, length) * fft.rfft(rooms, length), length)[:, :samples]
        level = 10 ** (rng.uniform(*LEVELS, (len(block), 1)) / 20)
        yield echoed * (level / np.abs(echoed).max(axis=1, keepdims=True)).astype(np.float32)


def _room(rng: np.random.Generator, sample_rate: int) -> np.ndarray:
    """The impulse response of a room: the impulse, then decaying noise as echoes, float32, 0.3 s."""
    time = np.arange(int(0.3 * sample_rate)) / sample_rate
    echoes = rng.standard_normal(len(time), np.float32) * 10 ** (-3 * time / rng.uniform(*DECAYS))
    echoes *= 10 ** (-rng.uniform(*DIRECT) / 20) / np.linalg.norm(echoes)
    echoes[0] = 1
    return echoes.astype(np.float32)


def _recordings(rng: np.random.Generator, sample_rate: int) -> dict[str, np.ndarray]:
    """Background noise by name: air is pink noise, a fan hums and beats, rain is made of drops."""
    samples = NOISE_SECONDS * sample_rate
    time = np.arange(samples) / sample_rate
    hum = sum(np.sin(2 * np.pi * 50 * n * time + n) / n for n in range(1, 12))
    fan = (noise(rng, 1, samples, 1.5)[0] + hum) * (1 + 0.4 * np.sin(2 * np.pi * 3 * time))
    drops = np.where(rng.random(samples) < 60 / sample_rate, rng.exponential(20, samples), 0)
    ring = np.exp(-np.arange(sample_rate // 50) / (sample_rate / 500)) * rng.standard_normal(sample_rate // 50)
    rain = noise(rng, 1, samples, 0.3)[0] + oaconvolve(drops, ring, mode="same")
    waves = {"air": noise(rng, 1, samples, 1.0)[0], "fan": fan, "rain": rain}
    return {name: integers(0.2 * wave / np.abs(wave).max()) for name, wave in waves.items()}


@dataclass(frozen=True)
class Placed:
    """A command in a stream: the word, and when it begins and ends, in seconds from the stream's beginning."""

    word: str
    begin: float
    end: float


def stream(
    commands: Sequence[str],
    others: Sequence[str],
    names: Sequence[str],
    hours: float,
    sample_rate: int,
    seed: int = 0,
    per_hour: float = 100,
) -> Iterator[tuple[np.ndarray, list[Placed]]]:
    """A long recording, minute by minute: other words with pauses, in noise, and about `per_hour` commands an hour.

    Each minute is of one of the voices `names`, in one room and one noise. For a fair test take voices that no network
    has learnt from, and words of UNHEARD.

    Yields:
        A minute, int16 (60 × sample_rate,), and the commands placed in it.
    """
    rng, synthesiser = np.random.default_rng(seed), Synthesiser()
    samples, share = 60 * sample_rate, per_hour * (PAUSE + 0.5) / 3_600  # a word takes half a second
    for minute in range(round(60 * hours)):
        voice, wave, placed = names[int(rng.integers(len(names)))], np.zeros(samples, np.float32), []
        at = int(rng.exponential(PAUSE) * sample_rate)
        while True:
            command = bool(commands) and rng.random() < share
            word = str(rng.choice(commands if command else others))
            spoken = synthesiser.say(word.replace("_", " "), voice, sample_rate, rng)
            end = at + len(spoken)
            if end + AFTER * sample_rate > samples:
                break
            wave[at:end] = spoken * 10 ** (rng.uniform(-6, 0) / 20)
            if command:
                placed.append(Placed(word, 60 * minute + at / sample_rate, 60 * minute + end / sample_rate))
            at = end + int((AFTER * command + 0.1 + rng.exponential(PAUSE - 0.1)) * sample_rate)
        echoed = oaconvolve(wave, _room(rng, sample_rate))[:samples]
        speech = echoed[echoed != 0].std()
        background = noise(rng, 1, samples, rng.uniform(*COLOURS))[0]
        echoed += background * np.float32(speech * 10 ** (-rng.uniform(*NOISES) / 20))
        yield integers(echoed * (10 ** (rng.uniform(*LEVELS) / 20) / np.abs(echoed).max())), placed
