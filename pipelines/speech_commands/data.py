"""Recordings of words in, records out: where they come from, their words and speakers, the split, and requests."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from pipelines.core.contract import InputError
from pipelines.core.data.arrays import Gathered, Part, Rows
from pipelines.core.data.dataset import grown, told_apart
from pipelines.core.data.requests import Request
from pipelines.core.data.splits import Splits, halves
from pipelines.core.reading import folders, media
from pipelines.core.reading.folders import SIDES
from pipelines.speech_commands import Settings, audio, demo
from pipelines.speech_commands.listing import NOISE, SILENCE, SUFFIXES, UNKNOWN, listed, noises

if TYPE_CHECKING:
    from pipelines.core.training.batches import Augment

SHARES = {"test": 0.2, "validation": 0.15}  # of the recordings, where the data do not say which are which
FIXED = ("sample_rate", "samples")
"""Facts that all data of a model share."""
FEWEST = 4  # speakers: one for train, one for test, and two for the halves of validation
FEW = 5  # speakers in test, below which the rule warns
HALVABLE = 3  # of a kind in validation, from which on both of its halves get one, however they are dealt
BLOCK = 256  # clips in memory at once
DRAWS = 100  # of speakers, until one puts every word on every side
VOICE = "voice "  # begins ids and groups of synthetic voices
NOISE_PARTS = {"train": (0.0, 0.6), "validation": (0.6, 0.8), "test": (0.8, 1.0)}  # of each recording, in time
PIECES = 4  # of a side's part of a recording, each a group of silent clips
SHIFT, GAINS, RATIOS, NOISY = 0.1, (-12.0, 6.0), (0.0, 30.0), 0.8  # s; dB; dB; share of the clips that get noise
PACE = 1.15  # most that a clip is played faster or slower
MADE_NOISE = 30  # s of white, and of pink noise


# --------------------------------------------------------------------------------------------------------------- read


def read(path: Path | None, settings: Settings) -> pd.DataFrame:
    """One row a clip: `id`, `word`, `label` (int64), `command`, `side`, `digest`, `clip`, and `group` if known.

    `label` is the place of the clip's class, -1 for words held out; `command` says whether the headline counts it;
    `side` is "" where it is to be drawn; `group` is the speaker, for silence a piece of a recording. `clip` is the
    place among the clips in the .npy files `attrs["clips"]`, one after the other, int16 (n, samples). `attrs` further
    holds `classes`, `sample_rate` in Hz, `samples`, `noise` (a list of [name, .npy file of int16 samples]), and
    `notes`, a sentence for each assumption.

    Raises:
        InputError: where the data cannot be used, with the file and what was expected.
    """
    return read_all([(path, settings)])


def read_all(parts: Sequence[tuple[Path | None, Settings]]) -> pd.DataFrame:
    """The clips of several reads as one; a recording that two of them have is kept once."""
    settings = parts[-1][1]
    rate, samples = settings.sample_rate, round(settings.sample_rate * settings.seconds)
    if not (audio.RATES[0] <= rate <= audio.RATES[1] and 0.1 <= settings.seconds <= 10 and settings.voices >= 0):
        raise InputError(
            f"Expected --sample-rate of {audio.RATES[0]:,} to {audio.RATES[1]:,}, --seconds of 0.1 to 10 and --voices "
            f"of 0 or more. Received: {rate:,}, {settings.seconds:g} and {settings.voices:,}."
        )
    cache, notes = Path.cwd() / "data" / "speech_commands" / "cache", []
    if parts[0][0] is None:
        stores, noise = _demo(cache, rate, samples, settings, notes)
    else:
        stores, noise = _recorded(parts, cache, rate, samples, notes)
    listing = pd.concat([table for table, _ in stores], ignore_index=True)
    if settings.voices:
        stores.append(_voices(listing, settings.voices, cache, rate, samples, notes))
    if noise:
        stores += _silence(listing, noise, cache, rate, samples, notes)
    records = _records(stores)
    records.attrs |= {"sample_rate": rate, "samples": samples, "noise": noise, "notes": list(dict.fromkeys(notes))}
    return records


def _recorded(
    parts: Sequence[tuple[Path, Settings]], cache: Path, rate: int, samples: int, notes: list[str]
) -> tuple[list[tuple[pd.DataFrame, Path]], list[list[str]]]:
    """Listings with the files of their clips, one for each part, and the recordings of noise by name."""
    settings = parts[-1][1]
    found = [listed(path, one.name_pattern, notes) for path, one in parts]
    listing = _held_out(_together([listing for listing, _ in found]), settings.non_keywords, notes)
    listing = _thinned(_settled(listing, notes), notes)
    stores = [
        _loaded(rows.reset_index(drop=True), cache, rate, samples, settings.max_bad, notes)
        for _, rows in listing.groupby("part")
    ]
    files = [file for _, folder in found for file in noises(folder)]
    return _kept_once(stores), [[file.name, str(audio.load_noise(file, cache, rate))] for file in files]


def _together(listings: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The listings of several folders as one, each file with the number of its `part`."""
    part = np.repeat(np.arange(len(listings)), [len(listing) for listing in listings])
    listing = pd.concat(listings, ignore_index=True, join="inner").assign(part=part)
    listing["id"] = told_apart(listing["id"], part)
    if len({(one["side"] == "").all() for one in listings}) > 1:  # only some of them name their sides
        listing["side"] = ""
    return listing


def _kept_once(stores: list[tuple[pd.DataFrame, Path]]) -> list[tuple[pd.DataFrame, Path]]:
    """The stores without the recordings that an earlier one has; the index stays the place of the clip."""
    seen: set[int] = set()
    kept = []
    for table, path in stores:
        kept.append((table[~table["digest"].isin(seen)], path))
        seen |= set(table["digest"])
    return kept


def _records(stores: Sequence[tuple[pd.DataFrame, Path]]) -> pd.DataFrame:
    """Records of tables, whose indices are places in the .npy files beside them; `attrs` with `classes` and `clips`."""
    known = [name for name in ("id", "word", "class", "side", "digest", "group") if name in stores[0][0]]
    records = pd.concat([table[known] for table, _ in stores], ignore_index=True)
    held = set(records["class"]) - {""}
    classes = [*sorted(held - {UNKNOWN, SILENCE}), *(name for name in (UNKNOWN, SILENCE) if name in held)]
    if len(held - {SILENCE}) < 2:
        raise InputError(f"Recordings of at least two words are needed. Received: {', '.join(classes) or 'none'}.")
    kinds = records.pop("class")
    records["label"] = kinds.map({name: n for n, name in enumerate(classes)}).fillna(-1).astype(np.int64)
    records["command"] = ~kinds.isin(["", UNKNOWN, SILENCE])
    begins = np.cumsum([0, *(len(np.load(path, mmap_mode="r")) for _, path in stores[:-1])])
    records["clip"] = np.concatenate([table.index + begin for (table, _), begin in zip(stores, begins, strict=True)])
    records.attrs = {"classes": classes, "clips": [str(path) for _, path in stores]}
    return records


def _demo(
    cache: Path, rate: int, samples: int, settings: Settings, notes: list[str]
) -> tuple[list[tuple[pd.DataFrame, Path]], list[list[str]]]:
    """Listing with the file of its clips, and recordings of noise, of the demo, made once."""
    if settings.voices:
        raise InputError("--voices joins synthetic voices to recordings of people: the demo is made of them already.")
    table, clips = _kept(cache, "demo", (_source(), rate, samples), lambda: demo.make(rate, samples))
    notes.append("The voices are synthetic (eSpeak NG): figures say how the pipeline works and nothing about people.")
    table = table.rename(columns={"voice": "group"}).assign(side="")
    table["id"] = [f"clip-{n:04d}" for n in range(len(table))]
    table["class"] = table["word"].where(table["word"].isin(demo.COMMANDS), UNKNOWN)
    noise = [[path.stem.removeprefix("noise-"), str(path)] for path in sorted(clips.parent.glob("noise-*.npy"))]
    return [(_settled(_held_out(table, settings.non_keywords, notes), notes), clips)], noise


def _kept(
    cache: Path, name: str, key: object, make: Callable[[], tuple[pd.DataFrame, np.ndarray, dict[str, np.ndarray]]]
) -> tuple[pd.DataFrame, Path]:
    """Table, with digests, and file of the clips that `make` gives, now or in an earlier run with the same key."""
    folder = cache / f"{name}-{hashlib.sha256(repr((audio.CACHE, key)).encode()).hexdigest()[:16]}"
    if not folder.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            table, clips, noise = make()
            table["digest"] = np.array([audio.digest(clip) for clip in clips], np.uint64)
            fresh = Path(scratch, name)
            fresh.mkdir()
            table.to_parquet(fresh / "table.parquet")
            np.save(fresh / "clips.npy", clips)
            for kind, wave in noise.items():
                np.save(fresh / f"noise-{kind}.npy", wave)
            with suppress(OSError):  # another process was first, with the same
                fresh.rename(folder)
    return pd.read_parquet(folder / "table.parquet"), folder / "clips.npy"


def _source() -> str:
    """What stands for the way in which synthetic speech is made."""
    return hashlib.sha256(b"".join(Path(module.__file__).read_bytes() for module in (demo, audio))).hexdigest()


def _held_out(listing: pd.DataFrame, words: tuple[str, ...], notes: list[str]) -> pd.DataFrame:
    """The listing with class "" for the words that are held out from training."""
    if missing := sorted(set(words) - set(listing["word"])):
        known = ", ".join(sorted(set(listing["word"])))
        raise InputError(f"--non-keywords: expected some of {known}. Received: {', '.join(missing)}.")
    held = listing["word"].isin(words)
    if held.any():
        notes.append(f"{held.sum():,} recordings of {', '.join(sorted(words))} are held out, to count false alarms.")
    return listing.assign(**{"class": listing["class"].mask(held, "")})


def _settled(listing: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """The listing with side "" for all recordings that `split` draws from, and speakers only where they can be used.

    Raises InputError where sides are named, but not train.
    """
    used = listing[listing["class"] != ""]
    named = set(used["side"]) - {""}
    if named and "train" not in named:
        raise InputError(f"Recordings for training are needed. Received: only {' and '.join(sorted(named))}.")
    if named != set(SIDES):
        listing = listing.assign(side=listing["side"].where(listing["side"] != "train", ""))
    if "group" not in listing:
        notes.append(
            "BEWARE: no speaker is known, so the same voices may be on all sides, and then figures say little about "
            "other people; --name-pattern, or a column 'speaker' in a table of files, tells."
        )
        return listing
    shared = used[used["side"] != ""].groupby("group")["side"].nunique() > 1
    if shared.any():
        notes.append(
            f"BEWARE: the split that the data name shares {shared.sum():,} of {len(shared):,} speakers between its "
            f"sides, {shared.idxmax()} among them: figures would flatter."
        )
    count = used["group"].nunique()
    if named != set(SIDES) and count < FEWEST:
        notes.append(
            f"BEWARE: too few speakers to keep some apart, {count} where it takes {FEWEST}: clips are drawn at random, "
            "and figures say nothing about other people."
        )
        return listing.drop(columns="group")
    return listing


def _thinned(listing: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """The listing with as many unknown words on each side as a command has there on average, drawn at random.

    Only where they are of several words: a folder of unknown ones is left as it is.
    """
    unknown = (listing["class"] == UNKNOWN) & (listing["word"] != UNKNOWN)
    commands = listing[~listing["class"].isin(["", UNKNOWN, SILENCE])]
    drop, rng = [], np.random.default_rng(0)
    for side, rows in listing[unknown].groupby("side"):
        wanted = round((commands["side"] == side).sum() / commands["class"].nunique())
        drop += rng.permutation(rows.index)[wanted:].tolist()
    if drop:
        notes.append(f"{unknown.sum() - len(drop):,} of {unknown.sum():,} recordings of unknown words are used.")
    return listing.drop(index=drop).reset_index(drop=True)


def _loaded(
    listing: pd.DataFrame, cache: Path, rate: int, samples: int, most_bad: float, notes: list[str]
) -> tuple[pd.DataFrame, Path]:
    """The recordings that can be read, with digests, and the file that holds their clips."""
    clips, table = audio.load([Path(file) for file in listing["file"]], cache, rate, samples, most_bad)
    good = (table["reason"] == "").to_numpy()
    notes += [f"{row.file} is left out: {row.reason}." for row in table[~good].itertuples()]
    table = table[good]
    seconds = table["seconds"]
    notes.append(
        f"Recordings of {seconds.min():.2f} to {seconds.max():.2f} s became clips of {samples / rate:g} s: "
        f"{(seconds > samples / rate + 0.001).sum():,} cut, {(seconds < samples / rate - 0.001).sum():,} padded; "
        f"{table['silent'].sum():,} are silent, {table['clipped'].sum():,} clipped, {table['short'].sum():,} shorter "
        f"than {audio.SHORT:g} s."
    )
    listing = listing[good].assign(digest=table["digest"].to_numpy()).reset_index(drop=True)
    return listing, Path(clips.filename)


def _voices(
    listing: pd.DataFrame, count: int, cache: Path, rate: int, samples: int, notes: list[str]
) -> tuple[pd.DataFrame, Path]:
    """Records of synthetic voices that say the commands, all of training, and the file of their clips."""
    words = sorted(set(listing["class"]) - {"", UNKNOWN, SILENCE})
    table, clips = _kept(
        cache,
        "voices",
        (_source(), words, count, rate, samples),
        lambda: (*demo.speak(words, demo.voices(count), demo.TAKES, rate, samples), {}),
    )
    table["id"] = [f"{VOICE}{row.voice}/{row.word}/{row.Index}" for row in table.itertuples()]
    notes.append(f"{len(table):,} clips of {count} synthetic voices, who speak the words as English, join training.")
    return table.assign(**{"class": table["word"], "side": "train", "group": VOICE + table["voice"]}), clips


def _silence(
    listing: pd.DataFrame, noise: list[list[str]], cache: Path, rate: int, samples: int, notes: list[str]
) -> list[tuple[pd.DataFrame, Path]]:
    """Records of silence, drawn for each side from its part of the recordings of noise, and the file of their clips.

    About as many as a command has there on average. There are none where the recordings are too short for it.
    """
    recordings = {name: np.load(path, mmap_mode="r") for name, path in noise}
    commands = listing[~listing["class"].isin(["", UNKNOWN, SILENCE])]
    mean, drawn = len(commands) / commands["class"].nunique(), (commands["side"] == "").mean()
    rows, rng = [], np.random.default_rng(0)
    for side in SIDES:
        parts = [(name, noise_part(len(wave), side)) for name, wave in recordings.items()]
        pieces = [(name, begin, end) for name, part in parts for begin, end in _pieces(part, samples)]
        if len(pieces) < HALVABLE:
            notes.append(f"The recordings of noise are too short to cut {SILENCE} for {side} from them.")
            return []
        share = (commands["side"] == side).mean() + drawn * SHARES.get(side, 1 - sum(SHARES.values()))
        for n in range(max(HALVABLE, round(mean * share))):
            name, begin, end = pieces[n % len(pieces)]
            at = int(rng.integers(begin, end - samples, endpoint=True))
            rows.append((side, name, f"{name} from {begin / rate:.1f} s", at, rng.random()))
    table = pd.DataFrame(rows, columns=["side", "name", "group", "at", "gain"])
    table = table.assign(**{"class": SILENCE, "word": SILENCE})
    table["id"] = [f"{SILENCE}/{row.name}/{row.at}/{row.Index}" for row in table.itertuples(name="Clip")]

    def make() -> tuple[pd.DataFrame, np.ndarray, dict]:
        cut = [recordings[row.name][row.at : row.at + samples] * row.gain for row in table.itertuples(name="Clip")]
        return table, np.rint(cut).astype(np.int16), {}

    notes.append(
        f"{len(table):,} clips of {SILENCE} are cut from {', '.join(recordings)}, each side in a time of its own."
    )
    return [_kept(cache, "silence", (noise, rows, samples), make)]


def noise_part(length: int, side: str) -> slice:
    """The samples of a recording of noise, so many long, that belong to a side."""
    begin, end = NOISE_PARTS[side]
    return slice(round(begin * length), round(end * length))


def _pieces(part: slice, samples: int) -> list[tuple[int, int]]:
    """The begin and end of up to PIECES equal pieces of a part, each long enough for a clip."""
    count = min(PIECES, (part.stop - part.start) // samples)
    bounds = np.linspace(part.start, part.stop, count + 1).astype(int).tolist() if count else []
    return list(pairwise(bounds))


def describe(records: pd.DataFrame) -> str:
    """What was read, in a few lines: how many clips of which class, of how many speakers, and what was assumed."""
    about, used = records.attrs, records[records["label"] >= 0]
    counts = used["label"].value_counts().sort_index()
    classes = ", ".join(f"{about['classes'][label]} {count:,}" for label, count in counts.items())
    people = used[(used["word"] != SILENCE) & ~used["id"].str.startswith(VOICE)]
    speakers = f" of {people['group'].nunique():,} speakers" if "group" in used else ""
    length = about["samples"] / about["sample_rate"]
    return "\n".join(
        [
            f"{len(used):,} clips{speakers}, {length:g} s at {about['sample_rate']:,} Hz",
            f"classes: {classes}",
            *about["notes"],
        ]
    )


# -------------------------------------------------------------------------------------------------------------- split


def split(records: pd.DataFrame, settings: Settings) -> Splits:
    """The sides that the data name; for those that they lack, whole speakers drawn, or where none is known, clips.

    The draw is the same for every seed, so that networks of several seeds are judged on the same clips. Silence and
    synthetic voices have their sides from `read`; words held out are on none.

    Raises:
        InputError: where there is no way to put every class on every side.
    """
    side = records["side"].to_numpy(object).copy()
    side[records["label"] < 0] = "none"
    named = [name for name in SHARES if name in set(side[records["word"] != SILENCE])]
    drawn = {name: share for name, share in SHARES.items() if name not in named}
    rule = f"{' and '.join(named)} as the data name them" if named else ""
    if drawn:
        spoken = "group" in records
        (_draw_speakers if spoken else _draw_clips)(records, side, drawn)
        how = "whole speakers drawn at random" if spoken else "clips drawn at random by class, speakers not apart"
        rule += f"{'; ' if rule else ''}{' and '.join(drawn)}: {how}"
    classes = records.attrs["classes"]
    for name in SIDES:
        missing = set(range(len(classes))) - set(records["label"][side == name])
        if missing:
            raise InputError(f"No clip of '{classes[min(missing)]}' is in {name}: expected some of every class.")
    train, validation, test = (np.flatnonzero(side == name) for name in SIDES)
    splits = judged(records, test)
    if "group" in records and (count := records["group"].iloc[test][splits.counted].nunique()) < FEW:
        rule += f"; BEWARE: test has {count} speaker{'s' * (count > 1)} only, and other people may fare otherwise"
    return replace(splits, train=train, validation=validation, rule=rule)


def judged(records: pd.DataFrame, test: np.ndarray) -> Splits:
    """The split that has these rows for test and no others: commands count, and clips of a speaker are tied."""
    clusters = ("group",) if "group" in records else ()
    return Splits(test[:0], test[:0], test, headline=records["command"].to_numpy(), clusters=clusters)


def _draw_clips(records: pd.DataFrame, side: np.ndarray, shares: dict[str, float]) -> None:
    """Fills in the sides that are "", so that each has about its share of each class."""
    labels, rng = records["label"].to_numpy(), np.random.default_rng(0)
    for label in np.unique(labels[side == ""]):
        rows = rng.permutation(np.flatnonzero((side == "") & (labels == label)))
        counts = [
            max(HALVABLE if name == "validation" else 1, round(share * len(rows))) for name, share in shares.items()
        ]
        if sum(counts) >= len(rows):
            raise InputError(
                f"Word '{records.attrs['classes'][label]}' has too few clips to be on all sides: expected "
                f"{sum(counts) + 1} or more, better a hundred. Received: {len(rows)}."
            )
        side[rows] = np.repeat([*shares, "train"], [*counts, len(rows) - sum(counts)])


def _draw_speakers(records: pd.DataFrame, side: np.ndarray, shares: dict[str, float]) -> None:
    """Fills in the sides that are "", all clips of a speaker alike: the first draw that puts every class everywhere.

    Validation gets two speakers or more, one for each of its halves. What is drawn is the number of speakers that comes
    nearest to the share of clips: of six, one for test, two for validation, and three are left for training.
    """
    free = np.flatnonzero(side == "")
    names, codes = np.unique(records["group"].to_numpy(str)[free], return_inverse=True)
    size = np.bincount(codes)
    for attempt in range(DRAWS):
        order = np.random.default_rng(attempt).permutation(len(names))
        reached = np.concatenate([[0], size[order].cumsum() / size.sum()])
        given, begin = np.full(len(names), "train", object), 0
        for name, share in shares.items():
            nearest = int(np.abs(reached - reached[begin] - share).argmin())
            end = min(max(nearest, begin + (2 if name == "validation" else 1)), len(names))
            given[order[begin:end]], begin = name, end
        side[free] = given[codes]
        if _covers(records, side):
            return
    speakers = records.iloc[free].groupby("label")["group"].nunique()
    raise InputError(
        f"None of {DRAWS} draws of whole speakers puts every word on every side: expected {FEWEST} speakers of each "
        f"word, better ten or more. Received: {speakers.min()} of '{records.attrs['classes'][speakers.idxmin()]}'."
    )


def _covers(records: pd.DataFrame, side: np.ndarray) -> bool:
    """Whether train, test and both halves of validation have every class."""
    labels = records["label"].to_numpy()
    train, validation, test = (np.flatnonzero(side == name) for name in SIDES)
    wanted = set(labels[side != "none"])
    return all(wanted == set(labels[rows]) for rows in (train, test, *halves(records, validation)))


# ------------------------------------------------------------------------------------------------- learn, decode, ask


def adopt(records: pd.DataFrame, facts: dict) -> pd.DataFrame:
    """The records for a network that starts from another: its classes first, in its order."""
    return grown(records, facts["classes"])


def summary(records: pd.DataFrame, facts: dict) -> pd.DataFrame:
    """What drift is measured on, a row a clip, see `audio.measured`."""
    found, rows = decode(records, facts)["clip"], np.arange(len(records))
    parts = [audio.measured(found[some], facts["sample_rate"]) for some in np.array_split(rows, len(rows) // BLOCK + 1)]
    return pd.concat(parts, ignore_index=True)


def learn(train: pd.DataFrame, settings: Settings) -> dict:
    """Facts: the classes, and the rate (Hz) and samples of the clips; no column of the records feeds the network."""
    return {"features": []} | {name: train.attrs[name] for name in ("classes", "sample_rate", "samples", "notes")}


def decode(records: pd.DataFrame, facts: dict) -> dict[str, Rows]:
    """The network's input: `clip`, int16 (n, samples), read from the cache when it is asked for.

    Raises:
        InputError: if the clips have other classes, or another rate or length, than those the facts were learnt from.
    """
    for name in ("classes", "sample_rate", "samples"):
        if records.attrs.get(name, facts[name]) != facts[name]:
            raise InputError(f"Expected {name} {facts[name]}. Received: {records.attrs[name]}.")
    if "clips" in records.attrs:
        maps = [np.load(path, mmap_mode="r") for path in records.attrs["clips"]]
        return {"clip": Gathered(maps, records["clip"].to_numpy())}
    return {"clip": np.stack(records["clip"].tolist()).reshape(len(records), facts["samples"])}


def parse(table: pd.DataFrame, facts: dict) -> pd.DataFrame:
    """A request as records: column `audio` holds the bytes of WAV, FLAC or OGG files, `id` may name them.

    Raises:
        InputError: for a missing column, and for the first recording that cannot be read.
    """
    convert = partial(audio.convert, sample_rate=facts["sample_rate"], samples=facts["samples"])
    return media.requested(table, "audio", "clip", audio.KIND, convert)


def requests(path: Path | None, history: Path | None, facts: dict, settings: Settings) -> Iterator[Request]:
    """The recordings of a folder, or of a table of files, a thousand at a time.

    Raises:
        InputError: where there are no recordings.
    """
    rate, samples = facts["sample_rate"], facts["samples"]
    if path is None:
        cache = Path.cwd() / "data" / "speech_commands" / "cache"
        [(table, clips)], _ = _demo(cache, rate, samples, settings, [])
        clips = np.load(clips, mmap_mode="r")[table.index]
        yield from media.requests(table["id"], clips, "clip", np.asarray, "All clips are scored.")
        return
    listing, note = folders.listed(path, SUFFIXES, "recordings", "class", {NOISE})
    convert = partial(audio.convert, sample_rate=rate, samples=samples)
    yield from media.of_files(listing, audio.KIND, "clip", convert, note)


def columns(facts: dict) -> dict[str, tuple[str, bool]]:
    """What a request holds: the bytes of each sound file, and perhaps a name."""
    return {"audio": ("binary", True), "id": ("string", False)}


def request(records: pd.DataFrame, facts: dict) -> pd.DataFrame:
    """These records as a request holds them: the clips, as WAV files."""
    clips = decode(records, facts)["clip"][np.arange(len(records))]
    return pd.DataFrame({"audio": [audio.wav(clip, facts["sample_rate"]) for clip in clips]})


# ------------------------------------------------------------------------------------------------------- augmentation


def played(clips: np.ndarray, pace: np.ndarray, later: np.ndarray) -> np.ndarray:
    """Clips played at another pace, as a tape is, and later: speed, pitch and vocal tract differ between speakers.

    Ko, Peddinti, Povey and Khudanpur (2015), Audio augmentation for speech recognition.

    Args:
        clips: (n, samples).
        pace: (n,), above 1 is faster and higher.
        later: (n,), by how many samples the middle moves.

    Returns:
        float32 (n, samples), linearly interpolated, zero beyond the clips' ends.
    """
    at = np.arange(clips.shape[1], dtype=float)
    middle = at.mean()
    found = np.empty(clips.shape, np.float32)
    for into, clip, speed, shift in zip(found, clips, pace, later, strict=True):
        into[:] = np.interp((at - middle - shift) * speed + middle, at, clip, 0, 0)
    return found


def augmentation(train: Part, settings: Settings) -> Augment:
    """A function that changes pace and place of training clips, adds noise and a gain, drawn anew for each clip.

    Noise comes from the training part of the recordings of noise, and is white or pink. It is added to NOISY of the
    clips, each at a ratio within RATIOS of the clip's mean power to the noise's, in dB. The function takes and returns
    `clip`, int16 (n, samples), and labels; what a gain lifts beyond full scale is clipped.
    """
    about, rng = train.records.attrs, np.random.default_rng(0)
    rate, samples = about["sample_rate"], about["samples"]
    length = max(int(MADE_NOISE * rate), 2 * samples)
    sources = [audio.integers(0.1 * audio.noise(rng, 1, length, colour)[0]) for colour in (0.0, 1.0)]
    for _, path in about["noise"]:
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
        clips = played(x["clip"], PACE ** rng.uniform(-1, 1, count), rng.integers(-most, most, count, endpoint=True))
        source = rng.integers(len(sources), size=count)
        noise = windows[begins[source] + rng.integers(spans[source])]
        decibels = np.where(rng.random(count) < NOISY, rng.uniform(*RATIOS, count), np.inf)
        gain = 10 ** (rng.uniform(*GAINS, (count, 1)) / 20)
        return x | {"clip": audio.integers(audio.mixed(clips, noise, decibels) * np.float32(gain / 32_768))}, y

    return augment
