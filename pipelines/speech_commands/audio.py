"""Recordings of any kind in, int16 clips of one length out: decode, resample, fit, fingerprint, cache.

Recordings come from strangers. What a header declares is checked before memory is taken for it, no more samples are
read than it declares, and whatever is wrong with a recording ends as a BadFile that says it in a few words.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pandas as pd
import soundfile
import soxr
from scipy import fft

from pipelines.core.contract import InputError
from pipelines.core.reading import media
from pipelines.core.reading.media import BadFile

CACHE = 1  # version of what is stored; raise it whenever `decode` or `fitted` give something else
FORMATS = ("WAV", "WAVEX", "FLAC", "OGG")
RATES = (4_000, 192_000)  # Hz
MOST_CHANNELS = 8
MOST_SECONDS = 60  # of a clip
MOST_NOISE_SECONDS = 3_600  # of a recording of background noise
MOST_STREAM_SECONDS = 86_400  # of a recording to listen to
FACTS = np.dtype([("digest", "u8"), ("seconds", "f8"), ("silent", "?"), ("clipped", "?"), ("short", "?")])
KIND = media.Kind("recordings", "a sound file", 64_000_000, FACTS)
FRAMES = 1 << 16  # read at once
UNTOLD = 1 << 62  # frames, from which on the library means that the header does not tell; it cannot read these
SILENT = 1e-3  # of full scale: a clip without a louder sample is silent
CLIPPED = 1e-3  # share of samples at full scale, from which on a clip is clipped
SHORT = 0.2  # seconds, below which a recording hardly holds a word
FAINT, RANGE = 1e-10, 30.0  # power that silence is taken to have, -100 dB; dB
PLATEAU = 0.999  # share of the most energy from which on a window is as good as the loudest


# ------------------------------------------------------------------------------------------------------------- decode


def decode(data: bytes) -> tuple[np.ndarray, int]:
    """The samples of a WAV, FLAC or OGG file, float32 within -1 and 1, the mean of its channels, and the rate in Hz.

    Raises BadFile, also for more than MOST_SECONDS, before any of them is read.
    """
    with _opened(BytesIO(data), len(data), MOST_SECONDS) as sound:
        return np.concatenate(list(_blocks(sound))), sound.samplerate


@contextmanager
def _opened(stream: BinaryIO, size: int, most_seconds: float) -> Iterator[soundfile.SoundFile]:
    """The open recording, its header checked; whatever the library raises on damaged bytes becomes BadFile."""
    try:
        if not size:
            raise BadFile("empty file")
        _refuse_cut(stream, size)
        with soundfile.SoundFile(stream) as sound:
            if sound.format not in FORMATS:
                raise BadFile(f"format {sound.format}: expected {', '.join(FORMATS)}")
            if not RATES[0] <= sound.samplerate <= RATES[1]:
                raise BadFile(f"{sound.samplerate:,} samples a second: expected {RATES[0]:,} to {RATES[1]:,}")
            if sound.channels > MOST_CHANNELS:
                raise BadFile(f"{sound.channels:,} channels: expected at most {MOST_CHANNELS}")
            if sound.frames > UNTOLD:
                raise BadFile("a stream whose header does not tell its length: save it anew")
            if sound.frames > most_seconds * sound.samplerate:
                raise BadFile(f"{sound.frames / sound.samplerate:,.0f} s long: expected at most {most_seconds:,} s")
            yield sound
    except BadFile:
        raise
    except Exception as error:  # damaged bytes reach every corner of a library: no list of classes is complete
        said = getattr(error, "error_string", str(error))
        # Reading to an end that is not there.
        damage = "truncated" if "fseek" in said else f"no WAV, FLAC or OGG, or a damaged one: {said}"
        raise BadFile(damage) from error


def _refuse_cut(stream: BinaryIO, size: int) -> None:
    """Raises BadFile for a WAV whose chunks are longer than its file, which the library would read as if it ended."""
    begin = stream.read(12)
    kind = b""
    while begin[:4] == b"RIFF" and kind != b"data" and len(head := stream.read(8)) == 8:
        kind, declared = head[:4], int.from_bytes(head[4:], "little")
        here = stream.tell()
        if declared > size - here:
            name = kind.decode("ascii", "replace")
            raise BadFile(f"truncated: {declared:,} bytes declared for {name!r}, {size - here:,} there")
        stream.seek(here + declared + declared % 2)
    stream.seek(0)


def _blocks(sound: soundfile.SoundFile) -> Iterator[np.ndarray]:
    """The samples, float32 within -1 and 1, mean of the channels, at most FRAMES at a time."""
    got = 0
    while len(block := sound.read(FRAMES, dtype="float32", always_2d=True)):
        got += len(block)  # never more than the header declares, which was checked
        with np.errstate(over="ignore", invalid="ignore"):
            mono = block.mean(axis=1)
        if not np.isfinite(mono).all():
            raise BadFile("samples that are not finite")
        yield mono.clip(-1, 1)
    if not got:
        raise BadFile("no samples")
    if got < sound.frames:
        raise BadFile(f"truncated: {sound.frames:,} samples declared, {got:,} there")


# ---------------------------------------------------------------------------------------------------------------- fit


def fitted(wave: np.ndarray, rate: int, sample_rate: int, samples: int) -> np.ndarray:
    """A clip of so many samples, int16: resampled, then cut to its loudest part or padded with zeros at both ends.

    `wave` is float32 within -1 and 1 at `rate` in Hz. One that has the rate and the length comes back as it is.
    """
    if rate != sample_rate:
        wave = soxr.resample(wave, rate, sample_rate)
    wave = loudest(wave, samples)
    spare = samples - len(wave)
    return integers(np.pad(wave, (spare // 2, spare - spare // 2)))


def loudest(wave: np.ndarray, samples: int) -> np.ndarray:
    """The part of so many samples with the most energy, or all of a wave that is shorter."""
    if len(wave) <= samples:
        return wave
    until = np.concatenate([[0], np.cumsum(np.square(wave, dtype=np.float64))])
    energy = until[samples:] - until[:-samples]
    best = np.flatnonzero(energy >= PLATEAU * energy.max())
    begin = best[len(best) // 2]  # a word shorter than the window lies in its middle
    return wave[begin : begin + samples]


def integers(wave: np.ndarray) -> np.ndarray:
    """Samples within -1 and 1 as int16; what lies beyond is clipped."""
    return np.clip(np.rint(wave * 32_768), -32_768, 32_767).astype(np.int16)


def mixed(clips: np.ndarray, noise: np.ndarray, decibels: np.ndarray) -> np.ndarray:
    """Clips with noise so loud that the mean power of each clip lies `decibels` above that of its noise.

    Clips and noise are of shape (n, samples), decibels (n,), infinity for none. In float32, not clipped.
    """
    clips, noise = np.asarray(clips, np.float32), np.asarray(noise, np.float32)
    power, of_noise = (np.einsum("ns,ns->n", waves, waves) for waves in (clips, noise))
    scale = np.sqrt(power / np.maximum(of_noise, 1e-12)) * 10 ** (-np.asarray(decibels, np.float32) / 20)
    return clips + scale.astype(np.float32)[:, None] * noise


def noise(rng: np.random.Generator, count: int, samples: int, colour: np.ndarray | float) -> np.ndarray:
    """Noise whose power falls with frequency to the power of `colour`, float32 (count, samples), mean power 1."""
    length = fft.next_fast_len(samples, real=True)
    spectrum = fft.rfft(rng.standard_normal((count, length), np.float32))
    fall = np.maximum(np.arange(spectrum.shape[1], dtype=np.float32), 1) ** (-np.float32(colour) / 2)
    waves = fft.irfft(spectrum * fall, length)[:, :samples]
    return waves / np.sqrt(np.mean(np.square(waves), axis=1, keepdims=True))


def wav(clip: np.ndarray, sample_rate: int) -> bytes:
    """A WAV file of the clip, int16, which `decode` gives back to the bit."""
    file = BytesIO()
    soundfile.write(file, clip, sample_rate, subtype="PCM_16", format="WAV")
    return file.getvalue()


def measured(clips: np.ndarray, sample_rate: int) -> pd.DataFrame:
    """What clips sound like, int16 (n, samples): a row each.

    Columns: `loudness` (root mean square) and `peak` in dB of full scale; `centroid`, the mean frequency of the power
    spectrum in Hz; `voiced`, the share of blocks of 25 ms within RANGE dB of the clip's loudest.
    """
    wave = clips.astype(np.float32) / 32_768
    power = np.abs(fft.rfft(wave, axis=1)) ** 2 + FAINT
    frequency = fft.rfftfreq(wave.shape[1], 1 / sample_rate)
    block = max(round(0.025 * sample_rate), 1)
    blocks = wave[:, : wave.shape[1] // block * block].reshape(len(wave), -1, block)
    loud = 10 * np.log10((blocks**2).mean(axis=2) + FAINT)
    return pd.DataFrame(
        {
            "loudness": 10 * np.log10((wave**2).mean(axis=1) + FAINT),
            "peak": 20 * np.log10(np.abs(wave).max(axis=1) + FAINT),
            "centroid": (power @ frequency) / power.sum(axis=1),
            "voiced": (loud > loud.max(axis=1, keepdims=True) - RANGE).mean(axis=1),
        }
    )


def digest(clip: np.ndarray) -> int:
    """A 64-bit hash of the samples: equal for equal clips, whatever format they were stored in."""
    return int.from_bytes(hashlib.blake2b(np.ascontiguousarray(clip), digest_size=8).digest(), "little")


# --------------------------------------------------------------------------------------------------------------- load


def convert(data: bytes, sample_rate: int, samples: int) -> tuple[np.ndarray, tuple]:
    """The fitted clip in a file's bytes, and its FACTS; raises BadFile."""
    wave, rate = decode(data)
    clip, loudness, seconds = fitted(wave, rate, sample_rate, samples), np.abs(wave), len(wave) / rate
    clipped = (loudness >= 32_767 / 32_768).mean() > CLIPPED
    return clip, (digest(clip), seconds, loudness.max() < SILENT, clipped, seconds < SHORT)


def load(
    files: Sequence[Path], folder: Path, sample_rate: int, samples: int, most_bad: float
) -> tuple[np.memmap, pd.DataFrame]:
    """The good clips among `files`, in order, and a row of facts on every file, as in `media.load`.

    Args:
        files: recordings.
        folder: where the cache lies.
        sample_rate: of the clips, in Hz.
        samples: of each clip.
        most_bad: largest share of the files that may be bad.

    Returns:
        A read-only memory map, int16, shape (good clips, samples), and a table with a row for each file: file, reason
        (text, empty for a good one), digest (uint64, of the clip), seconds (of the recording), and whether it is
        silent, clipped or short.

    Raises:
        InputError: there are no files, or all or more than `most_bad` of them are bad.
    """
    contents = [content for content, _ in media.contents(files, KIND)]
    key = (CACHE, sample_rate, samples, contents)
    return media.load(files, folder, KIND, key, partial(convert, sample_rate=sample_rate, samples=samples), most_bad)


def load_noise(file: Path, folder: Path, sample_rate: int) -> Path:
    """The .npy file in `folder` that holds a whole recording of noise, int16, shape (samples,), at `sample_rate` in Hz.

    It is decoded once, in blocks. Raises InputError for a bad one, or one of more than MOST_NOISE_SECONDS.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with media.opened(file) as stream, tempfile.TemporaryDirectory(dir=folder) as scratch:
            content = hashlib.file_digest(stream, "sha256").hexdigest()
            path = folder / f"noise-{hashlib.sha256(repr((CACHE, sample_rate, content)).encode()).hexdigest()}.npy"
            if path.exists():
                return path
            raw = Path(scratch, "raw")
            with raw.open("wb") as written:
                for block in _resampled(stream, sample_rate, MOST_NOISE_SECONDS):
                    block.tofile(written)
            np.save(Path(scratch, "noise.npy"), np.memmap(raw, np.int16, "r"))
            Path(scratch, "noise.npy").replace(path)
            return path
    except BadFile as fault:
        raise InputError(f"{file} is no recording of background noise: {fault}.") from None


def streamed(file: Path, sample_rate: int) -> Iterator[np.ndarray]:
    """A recording of up to a day in blocks, int16 (m,), at `sample_rate` in Hz. Raises InputError for a bad one."""
    try:
        with media.opened(file) as stream:
            yield from _resampled(stream, sample_rate, MOST_STREAM_SECONDS)
    except BadFile as fault:
        raise InputError(f"{file} is no recording to listen to: {fault}.") from None


def _resampled(stream: BinaryIO, sample_rate: int, most_seconds: float) -> Iterator[np.ndarray]:
    """The samples of an open file, int16, at `sample_rate` in Hz, a block at a time."""
    size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    with _opened(stream, size, most_seconds) as sound:
        resampler = soxr.ResampleStream(sound.samplerate, sample_rate, 1)
        for block in _blocks(sound):
            yield integers(resampler.resample_chunk(block))
        yield integers(resampler.resample_chunk(np.zeros(0, np.float32), last=True))
