"""Decode, resample, fit and cache recordings: WAV, FLAC or OGG in, int16 clips of one length out.

Recordings are untrusted. A header is checked before memory is allocated for what it declares, no more samples are read
than it declares, and every fault becomes a BadFile with a short reason.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
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
from pipelines.core.reading import media_cache
from pipelines.core.reading.media_cache import BadFile
from pipelines.speech_commands import form

CACHE = 2  # version of what is stored; raise it whenever the results of `decode` or `fitted` change
FORMATS = ("WAV", "WAVEX", "FLAC", "OGG")
RATES = (4_000, 192_000)  # Hz
MOST_CHANNELS = 8
MOST_SECONDS = 60  # of a clip
MOST_NOISE_SECONDS = 3_600  # of a recording of background noise
MOST_STREAM_SECONDS = 86_400  # of a recording to listen to
FLAGS = [("digest", "u8"), ("silent", "?"), ("clipped", "?"), ("short", "?")]
FACTS = np.dtype([*FLAGS, *form.FACTS])
KIND = media_cache.Kind("recordings", "a sound file", 64_000_000, FACTS)
FRAMES = 1 << 16  # read at once
UNSTATED = 1 << 62  # frames; from here on the library means that the header states no length, and cannot read it
SILENT = 1e-3  # peak as a share of full scale, below which a clip is silent
CLIPPED = 1e-3  # share of samples at full scale, from which on a clip is clipped
SHORT = 0.2  # seconds, below which a recording is too short for a word
FLOOR, RANGE = 1e-10, 30.0  # power added before logarithms, -100 dB; dB
PLATEAU = 0.999  # share of the most energy from which on a window is as good as the loudest


# ------------------------------------------------------------------------------------------------------------- decode


def decode(data: bytes) -> tuple[np.ndarray, int]:
    """The samples of a WAV, FLAC or OGG file, float32 from -1 to 1, averaged over channels, and the rate in Hz.

    Raises BadFile; for a header that declares more than MOST_SECONDS, before any sample is read.
    """
    wave, rate, _ = _decoded(data)
    return wave, rate


def _decoded(data: bytes) -> tuple[np.ndarray, int, tuple]:
    """The samples, the rate, and form.FACTS."""
    with _opened(BytesIO(data), len(data), MOST_SECONDS) as sound:
        wave = np.concatenate(list(_blocks(sound)))
        return wave, sound.samplerate, form.facts(sound, wave)


@contextmanager
def _opened(stream: BinaryIO, size: int, most_seconds: float) -> Iterator[soundfile.SoundFile]:
    """Open a recording and check its header; whatever the library raises on damaged bytes becomes BadFile."""
    try:
        if not size:
            raise BadFile("empty file")
        _refuse_truncated(stream, size)
        with soundfile.SoundFile(stream) as sound:
            if sound.format not in FORMATS:
                raise BadFile(f"format {sound.format}: expected {', '.join(FORMATS)}")
            if not RATES[0] <= sound.samplerate <= RATES[1]:
                raise BadFile(f"{sound.samplerate:,} samples a second: expected {RATES[0]:,} to {RATES[1]:,}")
            if sound.channels > MOST_CHANNELS:
                raise BadFile(f"{sound.channels:,} channels: expected at most {MOST_CHANNELS}")
            if sound.frames > UNSTATED:
                raise BadFile("a stream whose header does not state its length: save it again")
            if sound.frames > most_seconds * sound.samplerate:
                raise BadFile(f"{sound.frames / sound.samplerate:,.0f} s long: expected at most {most_seconds:,} s")
            yield sound
    except BadFile:
        raise
    except Exception as error:  # damaged bytes can raise anything in the library: no list of classes is complete
        message = getattr(error, "error_string", str(error)).rstrip(".")
        # A failed seek is an attempt to read beyond the end.
        damage = "truncated" if "fseek" in message else f"no WAV, FLAC or OGG, or a damaged one: {message}"
        raise BadFile(damage) from error


def _refuse_truncated(stream: BinaryIO, size: int) -> None:
    """Raise BadFile for a WAV whose chunks are longer than its file, which the library reads without complaint."""
    begin = stream.read(12)
    kind = b""
    while begin[:4] == b"RIFF" and kind != b"data" and len(head := stream.read(8)) == 8:
        kind, declared = head[:4], int.from_bytes(head[4:], "little")
        here = stream.tell()
        if declared > size - here:
            name = kind.decode("ascii", "replace")
            raise BadFile(f"truncated: {declared:,} bytes declared for {name!r}, {size - here:,} present")
        stream.seek(here + declared + declared % 2)
    stream.seek(0)


def _blocks(sound: soundfile.SoundFile) -> Iterator[np.ndarray]:
    """The samples, float32 from -1 to 1, averaged over channels, at most FRAMES at a time."""
    count = 0
    while len(block := sound.read(FRAMES, dtype="float32", always_2d=True)):
        count += len(block)  # never more than the header declares, which was checked
        with np.errstate(over="ignore", invalid="ignore"):
            mono = block.mean(axis=1)
        if not np.isfinite(mono).all():
            raise BadFile("samples that are not finite")
        yield mono.clip(-1, 1)
    if not count:
        raise BadFile("no samples")
    if count < sound.frames:
        raise BadFile(f"truncated: {sound.frames:,} samples declared, {count:,} present")


# ---------------------------------------------------------------------------------------------------------------- fit


def fitted(wave: np.ndarray, rate: int, sample_rate: int, samples: int) -> np.ndarray:
    """A clip of `samples` samples, int16: resampled, then cut to its loudest part or zero-padded at both ends.

    `wave` is float32 from -1 to 1 at `rate` in Hz. One of the right rate and length is not changed.
    """
    if rate != sample_rate:
        wave = soxr.resample(wave, rate, sample_rate)
    wave = loudest(wave, samples)
    spare = samples - len(wave)
    return integers(np.pad(wave, (spare // 2, spare - spare // 2)))


def loudest(wave: np.ndarray, samples: int) -> np.ndarray:
    """The window of `samples` samples with the most energy, or the whole of a shorter wave."""
    if len(wave) <= samples:
        return wave
    cumulative = np.concatenate([[0], np.cumsum(np.square(wave, dtype=np.float64))])
    energy = cumulative[samples:] - cumulative[:-samples]
    best = np.flatnonzero(energy >= PLATEAU * energy.max())
    begin = best[len(best) // 2]  # centres a word that is shorter than the window
    return wave[begin : begin + samples]


def integers(wave: np.ndarray) -> np.ndarray:
    """Samples from -1 to 1 as int16; values beyond are clipped."""
    return np.clip(np.rint(wave * 32_768), -32_768, 32_767).astype(np.int16)


def mixed(clips: np.ndarray, noise: np.ndarray, decibels: np.ndarray) -> np.ndarray:
    """Clips (n, samples) with noise added at signal-to-noise ratios (n,), infinity for none; float32, not clipped."""
    clips, noise = np.asarray(clips, np.float32), np.asarray(noise, np.float32)
    power, noise_power = (np.einsum("ns,ns->n", waves, waves) for waves in (clips, noise))
    scale = np.sqrt(power / np.maximum(noise_power, 1e-12)) * 10 ** (-np.asarray(decibels, np.float32) / 20)
    return clips + scale.astype(np.float32)[:, None] * noise


def noise(rng: np.random.Generator, count: int, samples: int, colour: np.ndarray | float) -> np.ndarray:
    """Noise with a power spectrum of 1 / frequency ** colour, float32 (count, samples), of mean power 1."""
    length = fft.next_fast_len(samples, real=True)
    spectrum = fft.rfft(rng.standard_normal((count, length), np.float32))
    fall = np.maximum(np.arange(spectrum.shape[1], dtype=np.float32), 1) ** (-np.float32(colour) / 2)
    waves = fft.irfft(spectrum * fall, length)[:, :samples]
    return waves / np.sqrt(np.mean(np.square(waves), axis=1, keepdims=True))


def wav(clip: np.ndarray, sample_rate: int) -> bytes:
    """The clip, int16, as a WAV file, from which `decode` restores it to the bit."""
    file = BytesIO()
    soundfile.write(file, clip, sample_rate, subtype="PCM_16", format="WAV")
    return file.getvalue()


def measured(clips: np.ndarray, sample_rate: int) -> pd.DataFrame:
    """Acoustic features of clips, int16 (n, samples), a row each.

    Columns: `loudness` (root mean square) and `peak` in dB of full scale; `centroid`, the mean frequency of the power
    spectrum in Hz; `voiced`, the share of blocks of 25 ms within RANGE dB of the loudest one.
    """
    wave = clips.astype(np.float32) / 32_768
    power = np.abs(fft.rfft(wave, axis=1)) ** 2 + FLOOR
    frequency = fft.rfftfreq(wave.shape[1], 1 / sample_rate)
    block = max(round(0.025 * sample_rate), 1)
    blocks = wave[:, : wave.shape[1] // block * block].reshape(len(wave), -1, block)
    loud = 10 * np.log10((blocks**2).mean(axis=2) + FLOOR)
    return pd.DataFrame(
        {
            "loudness": 10 * np.log10((wave**2).mean(axis=1) + FLOOR),
            "peak": 20 * np.log10(np.abs(wave).max(axis=1) + FLOOR),
            "centroid": (power @ frequency) / power.sum(axis=1),
            "voiced": (loud > loud.max(axis=1, keepdims=True) - RANGE).mean(axis=1),
        }
    )


def digest(clip: np.ndarray) -> int:
    """A 64-bit hash of the samples: equal for equal clips, whatever the format of their files."""
    return int.from_bytes(hashlib.blake2b(clip.tobytes(), digest_size=8).digest(), "little")


# --------------------------------------------------------------------------------------------------------------- load


def convert(data: bytes, sample_rate: int, samples: int) -> tuple[np.ndarray, tuple]:
    """The fitted clip of a file's bytes, and its FACTS; raises BadFile."""
    wave, rate, formed = _decoded(data)
    clip, loudness = fitted(wave, rate, sample_rate, samples), np.abs(wave)
    clipped = (loudness >= 32_767 / 32_768).mean() > CLIPPED
    return clip, (digest(clip), loudness.max() < SILENT, clipped, len(wave) / rate < SHORT, *formed)


def load(
    files: Sequence[Path], folder: Path, sample_rate: int, samples: int, most_bad: float
) -> tuple[np.memmap, pd.DataFrame]:
    """Decode recordings into clips that are cached in `folder`, see `media_cache.load`.

    Returns:
        The readable clips in order, a read-only memory map, int16 (n, samples), at `sample_rate` in Hz; and a row for
        each file: file, reason (empty for a readable one), digest (uint64, of the clip), whether it is silent, clipped
        or short, and `form.FACTS` of the recording.

    Raises:
        InputError: if there are no files, or all or more than the share `most_bad` of them are unreadable.
    """
    contents = [content for content, _ in media_cache.contents(files, KIND)]
    key = (CACHE, sample_rate, samples, contents)
    decoded = partial(convert, sample_rate=sample_rate, samples=samples)
    return media_cache.load(files, folder, KIND, key, decoded, most_bad)


def made_once(
    folder: Path, name: str, key: object, make: Callable[[], tuple[pd.DataFrame, np.ndarray, dict[str, np.ndarray]]]
) -> tuple[pd.DataFrame, Path]:
    """Clips that are computed, cached like decoded ones.

    Args:
        folder: of the cache.
        name: of what is made, for the name of its folder in the cache.
        key: everything that the result depends on; its `repr` is hashed.
        make: gives a table with a row for each clip; the clips, int16 (n, samples); and recordings of noise by name.

    Returns:
        The table with the clips' `digest`, and the .npy file of the clips; beside it are files noise-NAME.npy.
    """
    path = folder / f"{name}-{hashlib.sha256(repr((CACHE, key)).encode()).hexdigest()[:16]}"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            table, clips, noises = make()
            draft = Path(scratch, name)
            draft.mkdir()
            digests = np.array([digest(clip) for clip in clips], np.uint64)
            table.assign(digest=digests).to_parquet(draft / "table.parquet")
            np.save(draft / "clips.npy", clips)
            for kind, wave in noises.items():
                np.save(draft / f"noise-{kind}.npy", wave)
            with suppress(OSError):  # another process was first, with the same result
                draft.rename(path)
    return pd.read_parquet(path / "table.parquet"), path / "clips.npy"


def load_noise(file: Path, folder: Path, sample_rate: int) -> Path:
    """Decode a whole recording of noise block by block; returns the cached .npy file, int16 (samples,).

    Raises InputError for an unreadable recording, or one of more than MOST_NOISE_SECONDS.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with media_cache.opened(file) as stream, tempfile.TemporaryDirectory(dir=folder) as scratch:
            content = hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]  # it has readinto
            path = folder / f"noise-{hashlib.sha256(repr((CACHE, sample_rate, content)).encode()).hexdigest()}.npy"
            if path.exists():
                return path
            raw = Path(scratch, "raw")
            with raw.open("wb") as output:
                for block in _resampled(stream, sample_rate, MOST_NOISE_SECONDS):
                    block.tofile(output)
            np.save(Path(scratch, "noise.npy"), np.memmap(raw, np.int16, "r"))
            Path(scratch, "noise.npy").replace(path)
            return path
    except BadFile as fault:
        raise InputError(f"{file}: expected a recording of background noise. Received: {fault}.") from None


def streamed(file: Path, sample_rate: int) -> Iterator[np.ndarray]:
    """A recording of up to a day in blocks, int16 (m,), at `sample_rate` in Hz; raises InputError if unreadable."""
    try:
        with media_cache.opened(file) as stream:
            yield from _resampled(stream, sample_rate, MOST_STREAM_SECONDS)
    except BadFile as fault:
        raise InputError(f"{file}: expected a recording to listen to. Received: {fault}.") from None


def _resampled(stream: BinaryIO, sample_rate: int, most_seconds: float) -> Iterator[np.ndarray]:
    """The samples of an open file at `sample_rate` in Hz, int16, block by block."""
    size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    with _opened(stream, size, most_seconds) as sound:
        resampler = soxr.ResampleStream(sound.samplerate, sample_rate, 1)
        for block in _blocks(sound):
            yield integers(resampler.resample_chunk(block))
        yield integers(resampler.resample_chunk(np.zeros(0, np.float32), last=True))
