"""Speech made offline by eSpeak NG: the demo's clips and streams, and voices that join the training of others' data.

About a hundred voices say ten command words and other words, each time at a rate and a pitch of its own, in a room
whose reverberation decays exponentially, in front of coloured noise. Voices are the speakers. What is measured on them
says how the pipeline works and nothing about people, whose voices differ far more.

eSpeak NG (J. Duddington and contributors, GPL-3) comes with the package `espeakng-loader`, an optional one. The
constants were set once, before any network was trained on the data.
"""

import ctypes
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import soxr
from scipy import fft
from scipy.signal import oaconvolve

from pipelines.core.contract import InputError
from pipelines.speech_commands.audio import integers, loudest, mixed, noise


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


COMMANDS = _words("down go left no off on right stop up yes")
OTHERS = _words(
    "bed bird cat dog happy house marvin sheila tree wow backward forward follow learn visual zero one two three four "
    "five six seven eight nine"
)
"""What the demo's class of unknown words is made of: with the commands, the words of Google Speech Commands."""
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
"""What streams are made of: words in no clip of the demo."""
TAKES = 3  # of each command by each voice, and as many other words
RATES, PITCHES = (110, 250), (20, 80)  # words a minute; of 100
SHIFT = 0.15  # s, most that a word lies off the middle of its clip
LEVELS = (-30.0, -3.0)  # dB of full scale, peak
DECAYS = (0.1, 0.6)  # s, in which a room's echoes lose 60 dB
DIRECT = (0.0, 20.0)  # dB, power of the direct sound over that of the echoes
NOISES = (0.0, 25.0)  # dB, mean power of a clip over that of its noise
COLOURS = (0.0, 2.0)  # power of noise falls with frequency to this power: 0 is white, 1 pink
NOISE_SECONDS = 90  # of each recording of background noise
PAUSE = 1.0  # s, mean between the words of a stream
AFTER = 1.0  # s, least pause after a command, within which a detection counts for it
ACCENTS = ("en-us", "en", "en-gb-scotland", "en-gb-x-rp", "en-029", "en-us-nyc", "en-gb-x-gbclan", "en-gb-x-gbcwmd")
SYNCHRONOUS, NO_EXIT, UTF8, RATE, PITCH = 2, 0x8000, 1, 1, 3  # of espeak-ng/speak_lib.h
UNSTEADY = {"Reed", "caleb"}  # voices whose noise the C library draws, so that no seed repeats it
BLOCK = 256  # clips put into rooms at once


def _installed() -> tuple[Path, Path]:
    """The library of eSpeak NG and the folder of its data; raises InputError where it is not installed."""
    try:
        import espeakng_loader
    except ImportError:
        raise InputError(
            "Synthetic voices need eSpeak NG (GPL-3), which is not installed: pip install 'pipelines[voices]'"
        ) from None
    return Path(espeakng_loader.get_library_path()), Path(espeakng_loader.get_data_path())


class Synthesiser:
    """A copy of eSpeak NG of its own: the library keeps state from word to word, and only a fresh one repeats itself.

    Raises InputError where it is not installed.
    """

    def __init__(self) -> None:
        library, folder = _installed()
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
            self.library = ctypes.CDLL(str(shutil.copy(library, Path(scratch, library.name))))
        self._heard: list[np.ndarray] = []
        self._callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)(
            self._hear
        )
        self.rate = self.library.espeak_Initialize(SYNCHRONOUS, 0, str(folder).encode(), NO_EXIT)
        if self.rate <= 0:
            raise InputError(f"eSpeak NG does not start: expected its data in {folder}.")
        self.library.espeak_SetSynthCallback(self._callback)

    def _hear(self, samples: object, count: int, events: object) -> int:
        if samples and count > 0:
            self._heard.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    def say(self, text: str, voice: str, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
        """The words at a rate and a pitch that are drawn, float32 with a peak of 1, without silence at the ends."""
        if self.library.espeak_SetVoiceByName(voice.encode()):
            raise InputError(f"Expected a voice of eSpeak NG, such as en-us+m1. Received: {voice!r}.")
        self.library.espeak_ng_SetRandSeed(int(rng.integers(1 << 31)))
        self.library.espeak_SetParameter(RATE, int(rng.integers(*RATES)), 0)
        self.library.espeak_SetParameter(PITCH, int(rng.integers(*PITCHES)), 0)
        self._heard.clear()
        said = text.encode()
        self.library.espeak_Synth(said, len(said) + 1, 0, 1, 0, UTF8, None, None)
        wave = np.concatenate([np.zeros(0, np.int16), *self._heard]).astype(np.float32)
        loud = np.flatnonzero(np.abs(wave) > 0.01 * np.abs(wave).max(initial=0))
        if not len(loud):
            raise InputError(f"Expected words that can be spoken. Received: {text!r}.")
        wave = soxr.resample(wave[loud[0] : loud[-1] + 1], self.rate, sample_rate)
        return wave / np.abs(wave).max()


def voices(count: int | None = None) -> list[str]:
    """Names of so many voices, by default of all in American English; more go through further accents of English.

    Raises InputError for more voices than there are.
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
    """Every voice says every word `takes` times, each time otherwise and in another room; no noise is added.

    Digits are read as words, and an underscore as a space.

    Returns:
        A table with `word` and `voice`, and the clips, int16, shape (words × voices × takes, samples).

    Raises:
        InputError: where eSpeak NG is not installed, or cannot say a word.
    """
    script = [(word, name) for name in names for word in words for _ in range(takes)]
    blocks = _spoken(script, sample_rate, samples, np.random.default_rng(seed))
    return pd.DataFrame(script, columns=["word", "voice"]), np.concatenate([integers(block) for block in blocks])


def make(sample_rate: int, samples: int, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray, dict[str, np.ndarray]]:
    """The demo's clips of words and its recordings of background noise, the same for the same arguments.

    Returns:
        A table with `word` and `voice`; the clips, int16, shape (n, samples), `sample_rate` in Hz; and the recordings
        of noise by name, int16, NOISE_SECONDS long.
    """
    rng = np.random.default_rng(seed)
    script, blocks = [], []
    for name in voices():
        script += [(word, name) for word in COMMANDS for _ in range(TAKES)]
        script += [(word, name) for word in rng.choice(OTHERS, TAKES, replace=False).tolist()]
    for block in _spoken(script, sample_rate, samples, rng):
        behind = noise(rng, *block.shape, rng.uniform(*COLOURS, (len(block), 1)))
        blocks.append(integers(mixed(block, behind, rng.uniform(*NOISES, len(block)))))
    return pd.DataFrame(script, columns=["word", "voice"]), np.concatenate(blocks), _recordings(rng, sample_rate)


def _spoken(
    script: list[tuple[str, str]], sample_rate: int, samples: int, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """The words of a script of (word, voice), each in a room of its own, float32, BLOCK clips at a time."""
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
        heard = fft.irfft(fft.rfft(block, length) * fft.rfft(rooms, length), length)[:, :samples]
        level = 10 ** (rng.uniform(*LEVELS, (len(block), 1)) / 20)
        yield heard * (level / np.abs(heard).max(axis=1, keepdims=True)).astype(np.float32)


def _room(rng: np.random.Generator, sample_rate: int) -> np.ndarray:
    """How a room answers an impulse: the impulse, then echoes as noise that decays, float32, 0.3 s."""
    time = np.arange(int(0.3 * sample_rate)) / sample_rate
    echoes = rng.standard_normal(len(time), np.float32) * 10 ** (-3 * time / rng.uniform(*DECAYS))
    echoes *= 10 ** (-rng.uniform(*DIRECT) / 20) / np.linalg.norm(echoes)
    echoes[0] = 1
    return echoes.astype(np.float32)


def _recordings(rng: np.random.Generator, sample_rate: int) -> dict[str, np.ndarray]:
    """Background noise by name: air of pink noise, a fan that hums and beats, and rain of drops."""
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
    """A long recording, minute by minute: other words with pauses, in noise, and now and then a command.

    Each minute is of one of the voices `names`, in one room and one noise. Words of UNHEARD and voices that no network
    has learnt from make a fair stream; with `per_hour` 0 there is no command in it.

    Yields:
        A minute, int16, shape (60 × sample_rate,), and the commands placed in it, about `per_hour` in an hour.
    """
    rng, synthesiser = np.random.default_rng(seed), Synthesiser()
    samples, share = 60 * sample_rate, per_hour * (PAUSE + 0.5) / 3_600  # a word takes half a second
    for minute in range(round(60 * hours)):
        voice, wave, placed = names[rng.integers(len(names))], np.zeros(samples, np.float32), []
        at = int(rng.exponential(PAUSE) * sample_rate)
        while True:
            command = bool(commands) and rng.random() < share
            word = str(rng.choice(commands if command else others))
            said = synthesiser.say(word.replace("_", " "), voice, sample_rate, rng)
            end = at + len(said)
            if end + AFTER * sample_rate > samples:
                break
            wave[at:end] = said * 10 ** (rng.uniform(-6, 0) / 20)
            if command:
                placed.append(Placed(word, 60 * minute + at / sample_rate, 60 * minute + end / sample_rate))
            at = end + int((AFTER * command + 0.1 + rng.exponential(PAUSE - 0.1)) * sample_rate)
        heard = oaconvolve(wave, _room(rng, sample_rate))[:samples]
        speech = heard[heard != 0].std()
        behind = noise(rng, 1, samples, rng.uniform(*COLOURS))[0]
        heard += behind * np.float32(speech * 10 ** (-rng.uniform(*NOISES) / 20))
        yield integers(heard * (10 ** (rng.uniform(*LEVELS) / 20) / np.abs(heard).max())), placed
