"""Turn recordings of words into records: reading, the split by speaker, the network's input, requests."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipelines.core.contract import Capabilities, InputError
from pipelines.core.data.arrays import Encoded, Gathered, Rows
from pipelines.core.data.dataset import Dataset, extended_classes, with_classes
from pipelines.core.data.requests import Request
from pipelines.core.data.splits import SHARES, Splits, draw_by_class, halves
from pipelines.core.evaluation.calibration import Calibration
from pipelines.core.reading import folders, media_cache
from pipelines.core.reading.folders import SIDES
from pipelines.speech_commands import Settings, audio, demo, form, inspection, listing, mixing
from pipelines.speech_commands.listing import SILENCE, UNKNOWN, Clips, Noise
from pipelines.speech_commands.task import Detector

FEW = 5  # test speakers, below which the rule of the split warns
BLOCK = 256  # clips in memory at once
COLUMNS = ("id", "word", "class", "side", "digest")


@dataclass(frozen=True)
class About:
    """What was recognised in the recordings.

    Attributes:
        classes: names by label: the commands in alphabetical order, then UNKNOWN and SILENCE if there are such clips.
        sample_rate: of the clips, in Hz.
        samples: of each clip.
        clips: .npy files, int16 (n, samples) each; none in a request, whose records hold the samples.
        noise: recordings of background noise.
    """

    classes: tuple[str, ...]
    sample_rate: int
    samples: int
    clips: tuple[str, ...] = ()
    noise: Noise = ()


@dataclass(frozen=True)
class Facts:
    """What was learnt.

    Attributes:
        classes, sample_rate, samples: see `About`.
        features: none, since the input is a sound file.
        notes: sentences for the report.
        calibration: of the class probabilities.
        sure: probability from which on a command is accepted; above 1 none is.
        detector: for running speech, if there was some to choose it on.
    """

    classes: tuple[str, ...]
    sample_rate: int
    samples: int
    features: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    calibration: Calibration | None = None
    sure: float = 2.0
    detector: Detector | None = None


# --------------------------------------------------------------------------------------------------------------- read


def read(path: Path | None, settings: Settings) -> Dataset[About]:
    """One record a clip: `id`, `word`, `side`, `digest`, `label`, `labelled`, `command`, `clip`, and perhaps `group`.

    `label` (int64) is -1 for words held out from training; `command` (bool) says whether the headline counts the clip;
    `side` is "" where it is to be drawn; `group` is the speaker, and for silence a piece of a recording; `clip` is the
    position in the files `About.clips`, one after the other; `form.NAMES` are facts of the file, missing for clips that
    are made here. A clip is recognised by the digest of its samples.

    Raises:
        InputError: if the data cannot be used, naming the file and what was expected.
    """
    return append([(path, settings)])


def append(parts: Sequence[tuple[Path | None, Settings]]) -> Dataset[About]:
    """The clips of several reads as one; a recording in two of them is kept once."""
    settings = parts[-1][1]
    rate, samples = settings.sample_rate, round(settings.sample_rate * settings.seconds)
    if not (audio.RATES[0] <= rate <= audio.RATES[1] and 0.1 <= settings.seconds <= 10 and settings.voices >= 0):
        raise InputError(
            f"Expected --sample-rate of {audio.RATES[0]:,} to {audio.RATES[1]:,}, --seconds of 0.1 to 10 and --voices "
            f"of 0 or more. Received: {rate:,}, {settings.seconds:g} and {settings.voices:,}."
        )
    notes: list[str] = []
    paths = [(path, one) for path, one in parts if path]
    stores, noise = _recordings(paths, rate, samples, notes) if paths else _demo(settings, rate, samples, notes)
    table = pd.concat([clips for clips, _ in stores], ignore_index=True)
    if settings.voices:
        words = sorted(set(table["class"]) - {"", UNKNOWN, SILENCE})
        stores.append(demo.load_voices(words, settings.voices, _cache(), rate, samples, notes))
    if noise:
        stores += mixing.silence(table, noise, _cache(), rate, samples, notes)
    return _dataset(stores, rate, samples, noise, notes)


def _cache() -> Path:
    return Path.cwd() / "data" / "speech_commands" / "cache"


def _recordings(
    parts: Sequence[tuple[Path, Settings]], rate: int, samples: int, notes: list[str]
) -> tuple[list[Clips], Noise]:
    settings = parts[-1][1]
    paths = [(path, one.name_pattern) for path, one in parts]
    table, files = listing.recordings(paths, settings.non_keywords, notes)
    stores = listing.load(table, _cache(), rate, samples, settings.max_bad, notes)
    return stores, tuple((file.name, str(audio.load_noise(file, _cache(), rate))) for file in files)


def _demo(settings: Settings, rate: int, samples: int, notes: list[str]) -> tuple[list[Clips], Noise]:
    if settings.voices:
        raise InputError("--voices adds synthetic voices to recordings of people: the demo consists of them already.")
    (table, path), noise = demo.load(_cache(), rate, samples)
    notes.append("The voices are synthetic (eSpeak NG): figures show how the pipeline works, nothing about people.")
    return [(listing.usable(table, settings.non_keywords, notes), path)], noise


def _dataset(stores: Sequence[Clips], rate: int, samples: int, noise: Noise, notes: Sequence[str]) -> Dataset[About]:
    columns = [name for name in (*COLUMNS, "group", *form.NAMES) if name in stores[0][0]]
    records = pd.concat([table.reindex(columns=columns) for table, _ in stores], ignore_index=True)
    names = set(records["class"]) - {""}
    classes = [*sorted(names - {UNKNOWN, SILENCE}), *(name for name in (UNKNOWN, SILENCE) if name in names)]
    if len(names - {SILENCE}) < 2:
        raise InputError(f"Recordings of at least two words are needed. Received: {', '.join(classes) or 'none'}.")
    kinds = records.pop("class")
    records["label"] = kinds.map({name: n for n, name in enumerate(classes)}).fillna(-1).astype(np.int64)
    records["labelled"] = kinds != ""
    records["command"] = ~kinds.isin(["", UNKNOWN, SILENCE])
    begins = np.cumsum([0, *(len(np.load(path, mmap_mode="r")) for _, path in stores[:-1])])
    records["clip"] = np.concatenate([table.index + begin for (table, _), begin in zip(stores, begins, strict=True)])
    about = About(tuple(classes), rate, samples, tuple(str(path) for _, path in stores), noise)
    return Dataset(records, about, ("digest",), tuple(dict.fromkeys(notes)))


def describe(data: Dataset[About]) -> str:
    """What was read, in a few lines: clips by class, speakers, and what was assumed."""
    about, used = data.about, data.records[data.labelled]
    counts = used["label"].value_counts().sort_index()
    classes = ", ".join(f"{about.classes[label]} {count:,}" for label, count in counts.items())
    people = used[(used["word"] != SILENCE) & ~used["id"].str.startswith(demo.VOICE)]
    speakers = f" of {people['group'].nunique():,} speakers" if "group" in used else ""
    length = f"{about.samples / about.sample_rate:g} s at {about.sample_rate:,} Hz"
    return "\n".join([f"{len(used):,} clips{speakers}, {length}", f"classes: {classes}", *data.notes])


# -------------------------------------------------------------------------------------------------------------- split


def split(data: Dataset[About], settings: Settings) -> Splits:
    """The sides that the data name; for those that they lack, whole speakers drawn, or clips if none is known.

    The draw is the same for every seed, so that networks of several seeds are compared on the same clips. Silence and
    synthetic voices have their sides from `read`; words held out are on none.

    Raises:
        InputError: if no draw puts every class on every side.
    """
    records, classes = data.records, data.about.classes
    side = records["side"].to_numpy(object).copy()
    side[~data.labelled] = "none"
    named = [name for name in SHARES if name in set(side[records["word"] != SILENCE])]
    drawn = {name: share for name, share in SHARES.items() if name not in named}
    rule = f"{' and '.join(named)} as the data name them" if named else ""
    if drawn:
        labels = records["label"].to_numpy()
        if "group" in records:
            kinds = np.array([*classes, ""])[labels]
            side = listing.draw_speakers(records["group"], kinds, side, drawn, partial(_complete, data))
            how = "whole speakers drawn at random"
        else:
            free, spoken = np.flatnonzero(side == ""), [name for name in classes if name != SILENCE]
            side[free] = draw_by_class(np.full(len(free), "train", object), labels[free], spoken, None, drawn)
            how = "clips drawn at random by class, speakers not kept apart"
        rule += f"{'; ' if rule else ''}{' and '.join(drawn)}: {how}"
    train, validation, test = (np.flatnonzero(side == name) for name in SIDES)
    splits = select_test(data, test)
    if "group" in records and (count := records["group"].iloc[test][splits.counted].nunique()) < FEW:
        rule += f"; BEWARE: test has {count} speaker{'s' * (count > 1)} only, and results on other people may differ"
    return replace(splits, train=train, validation=validation, rule=rule)


def select_test(data: Dataset[About], test: np.ndarray) -> Splits:
    """The split whose test side are these rows alone: commands count, and the clips of a speaker belong together."""
    clusters = ("group",) if "group" in data else ()
    return Splits(test[:0], test[:0], test, headline=data.records["command"].to_numpy(bool), clusters=clusters)


def _complete(data: Dataset[About], side: np.ndarray) -> bool:
    """Whether train, test and both halves of validation have every class."""
    labels, classes = data.records["label"].to_numpy(), set(data.records["label"][data.labelled])
    train, validation, test = (np.flatnonzero(side == name) for name in SIDES)
    return all(set(labels[rows]) == classes for rows in (train, test, *halves(data, validation)))


# ------------------------------------------------------------------------------------------------------ learn, encode


def learn(train: Dataset[About], settings: Settings) -> Facts:
    """The classes, and the rate and the length of the clips."""
    about = train.about
    return Facts(about.classes, about.sample_rate, about.samples, notes=train.notes)


def encode(data: Dataset[About], facts: Facts) -> Encoded:
    """The input `clip`, int16 (n, samples), read from the cache on demand, and the target `label`, int64 (n,).

    Raises:
        InputError: if classes, rate or length of the clips are not those of the facts.
    """
    records, about = data.records, data.about
    for name in ("classes", "sample_rate", "samples"):
        if getattr(about, name) != getattr(facts, name):
            raise InputError(f"Expected {name} {getattr(facts, name)}. Received: {getattr(about, name)}.")
    clip: Rows
    if about.clips:
        clip = Gathered([np.load(path, mmap_mode="r") for path in about.clips], records["clip"].to_numpy())
    else:
        clip = np.stack(records["clip"].tolist()).reshape(len(records), about.samples)
    return Encoded({"clip": clip}, {"label": records["label"].to_numpy()} if "label" in records else {})


def adopt(data: Dataset[About], facts: Facts) -> Dataset[About]:
    """The data for a network that starts from another: its classes first, in its order."""
    return with_classes(data, extended_classes(facts.classes, data.about.classes))


def drift_summary(data: Dataset[About], facts: Facts) -> pd.DataFrame:
    """Acoustic features of each clip, see `audio.measured`."""
    clips, rows = encode(data, facts).inputs["clip"], np.arange(len(data))
    blocks = np.array_split(rows, len(rows) // BLOCK + 1)
    return pd.concat([audio.measured(clips[block], facts.sample_rate) for block in blocks], ignore_index=True)


# ----------------------------------------------------------------------------------------------------------- requests


def columns(facts: Facts) -> dict[str, tuple[str, bool]]:
    """A request's columns: the bytes of a sound file, and optionally its name."""
    return {"audio": ("binary", True), "id": ("string", False)}


def _requested(facts: Facts) -> tuple[About, Callable[[bytes], tuple[np.ndarray, tuple]]]:
    """What is known of a request, and how its files become clips."""
    convert = partial(audio.convert, sample_rate=facts.sample_rate, samples=facts.samples)
    return About(facts.classes, facts.sample_rate, facts.samples), convert


def parse(table: pd.DataFrame, facts: Facts) -> Dataset[About]:
    """The records of a request: column `audio` holds the bytes of WAV, FLAC or OGG files, `id` may name them.

    Raises:
        InputError: for a missing column, and for recordings that cannot be read.
    """
    about, convert = _requested(facts)
    return Dataset(media_cache.requested(table, "audio", "clip", audio.KIND, convert), about, ("id",))


def requests(path: Path | None, history: Path | None, facts: Facts, settings: Settings) -> Iterator[Request]:
    """The recordings of a folder or of a table of files, a thousand at a time.

    Raises:
        InputError: if there are no recordings.
    """
    about, convert = _requested(facts)
    if path is None:
        (table, file), _ = demo.load(_cache(), facts.sample_rate, facts.samples)
        clips: Any = np.load(file, mmap_mode="r")
        yield from media_cache.requests(table["id"], clips, "clip", np.asarray, "All clips are scored.", about)
        return
    files, note = folders.listed(path, listing.SUFFIXES, "recordings", "class", {listing.NOISE})
    yield from media_cache.requests_of_files(files, audio.KIND, "clip", convert, note, about)


def example(data: Dataset[About], facts: Facts) -> pd.DataFrame:
    """These records as raw columns: the clips as WAV files."""
    clips = encode(data, facts).inputs["clip"][np.arange(len(data))]
    return pd.DataFrame({"audio": [audio.wav(clip, facts.sample_rate) for clip in clips]})


def inspect(data: Dataset[About], splits: Splits, facts: Facts, settings: Settings) -> Splits:
    """The splits after the checks of recordings, see `inspection`."""
    return inspection.inspect(data, splits, encode(data, facts).inputs["clip"], facts, settings)


CAPABILITIES = Capabilities(
    example=example, requests=requests, append=append, adopt=adopt, drift_summary=drift_summary,
    augmentation=mixing.augmentation, fixed=("sample_rate", "samples"), inspect=inspect,
)  # fmt: skip
