"""Recordings of words in, records out: where they come from, their words and speakers, the split, and requests."""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from pipelines.core import evaluate, tables
from pipelines.core.pipeline import InputError, Splits
from pipelines.core.rows import Part, Rows
from pipelines.speech_commands import Settings, audio, demo

if TYPE_CHECKING:
    from pipelines.core.batches import Augment

SIDES = ("train", "validation", "test")
SHARES = {"test": 0.2, "validation": 0.15}  # of the recordings, where the data do not say which are which
FEWEST = 4  # speakers: one for train, one for test, and two for the halves of validation
FEW = 5  # speakers in test, below which the rule warns
HALVABLE = 3  # of a kind in validation, from which on both of its halves get one, however they are dealt
DRAWS = 100  # of speakers, until one puts every word on every side
SUFFIXES = {".wav", ".flac", ".ogg", ".oga", ".opus"}
UNKNOWN, SILENCE, NOISE = "_unknown_", "_silence_", "_background_noise_"
GOOGLE = {"yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go"}
"""The commands of the 12-class task on Google Speech Commands; its other words are unknown ones."""
LISTS = {"validation": "validation_list.txt", "test": "testing_list.txt"}
PATTERNS = {
    "<digit>_<speaker>_<n>": r"^(?P<word>\d)_(?P<speaker>[^_]+)_\d+$",
    "<speaker>_nohash_<n>": r"^(?P<speaker>[^_]+)_nohash_\d+$",
}
MATCHED = 0.95  # share of the names that must fit before a pattern is taken to be the one
NOISE_PARTS = {"train": (0.0, 0.6), "validation": (0.6, 0.8), "test": (0.8, 1.0)}  # of each recording, in time
PIECES = 4  # of a side's part of a recording, each a group of silent clips
SHIFT, GAINS, RATIOS, NOISY = 0.1, (-12.0, 6.0), (0.0, 30.0), 0.8  # s; dB; dB; share of the clips that get noise
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
    rate, samples = settings.sample_rate, round(settings.sample_rate * settings.seconds)
    if not (audio.RATES[0] <= rate <= audio.RATES[1] and 0.1 <= settings.seconds <= 10 and settings.voices >= 0):
        raise InputError(
            f"Expected --sample-rate of {audio.RATES[0]:,} to {audio.RATES[1]:,}, --seconds of 0.1 to 10 and --voices "
            f"of 0 or more. Received: {rate:,}, {settings.seconds:g} and {settings.voices:,}."
        )
    cache, notes = Path.cwd() / "data" / "speech_commands" / "cache", []
    if path is None:
        listing, clips, noise = _demo(cache, rate, samples, notes)
    else:
        listing, folder = _tabled(path) if path.is_file() or _tables(path) else _listed(path, notes)
        listing = _as_published(_named(listing, settings.name_pattern, notes), folder, notes)
    listing = _held_out(listing, settings.non_keywords, notes)
    listing = _settled(listing, notes)
    if path is not None:
        listing = _thinned(listing, notes)
        listing, clips = _loaded(listing, cache, rate, samples, settings.max_bad, notes)
        files = sorted(file for file in folder.glob(f"**/{NOISE}/*") if file.suffix.lower() in SUFFIXES)
        noise = [[file.name, str(audio.load_noise(file, cache, rate))] for file in files]
    elif settings.voices:
        raise InputError("--voices joins synthetic voices to recordings of people: the demo is made of them already.")
    stores = [(listing, clips)]
    if settings.voices:
        stores.append(_voices(listing, settings.voices, cache, rate, samples, notes))
    if noise:
        stores += _silence(listing, noise, cache, rate, samples, notes)
    known = ["id", "word", "class", "side", "digest", *(["group"] if "group" in listing else [])]
    records = pd.concat([table[known] for table, _ in stores], ignore_index=True)
    held = set(records["class"]) - {""}
    classes = [*sorted(held - {UNKNOWN, SILENCE}), *(name for name in (UNKNOWN, SILENCE) if name in held)]
    if len(held - {SILENCE}) < 2:
        raise InputError(f"Recordings of at least two words are needed. Received: {', '.join(classes) or 'none'}.")
    kinds = records.pop("class")
    records["label"] = kinds.map({name: n for n, name in enumerate(classes)}).fillna(-1).astype(np.int64)
    records["command"] = ~kinds.isin(["", UNKNOWN, SILENCE])
    records["clip"] = np.arange(len(records))
    paths = [str(path) for _, path in stores]
    about = {"classes": classes, "sample_rate": rate, "samples": samples, "clips": paths, "noise": noise}
    records.attrs = about | {"notes": notes}
    return records


def _demo(cache: Path, rate: int, samples: int, notes: list[str]) -> tuple[pd.DataFrame, Path, list[list[str]]]:
    """Listing, clips and recordings of noise of the demo, made once."""
    table, clips = _kept(cache, "demo", (_source(), rate, samples), lambda: demo.make(rate, samples))
    notes.append("The voices are synthetic (eSpeak NG): figures say how the pipeline works and nothing about people.")
    table = table.rename(columns={"voice": "group"}).assign(side="")
    table["id"] = [f"clip-{n:04d}" for n in range(len(table))]
    table["class"] = table["word"].where(table["word"].isin(demo.COMMANDS), UNKNOWN)
    noise = [[path.stem.removeprefix("noise-"), str(path)] for path in sorted(clips.parent.glob("noise-*.npy"))]
    return table, clips, noise


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
            fresh.rename(folder)
    return pd.read_parquet(folder / "table.parquet"), folder / "clips.npy"


def _source() -> str:
    """What stands for the way in which synthetic speech is made."""
    return hashlib.sha256(Path(demo.__file__).read_bytes()).hexdigest()


def _listed(folder: Path, notes: list[str]) -> tuple[pd.DataFrame, Path]:
    """The recordings in a folder of one folder a word, these perhaps below train, val and test; or in a flat one."""
    files = [file for file in sorted(folder.rglob("*")) if not _hidden(file.relative_to(folder)) and not file.is_dir()]
    others = Counter(file.suffix for file in files if file.suffix.lower() not in SUFFIXES)
    if others:
        notes.append(f"{others.total():,} other files are ignored ({', '.join(sorted(others))}).")
    rows = []
    for file in files:
        *folders, name = file.relative_to(folder).parts
        if file.suffix.lower() in SUFFIXES:
            side = _side(folders[0]) if len(folders) > 1 else ""
            word, *below = (folders[1:] if side else folders) or [""]
            rows.append((str(file), "/".join([*folders, name]), side, word, "/".join(below)))
    if not rows:
        raise InputError(f"{folder} holds no recordings ({', '.join(sorted(SUFFIXES))}): expected a folder a word.")
    listing = pd.DataFrame(rows, columns=["file", "id", "side", "word", "below"])
    if (listing["side"] == "").any() and (listing["side"] != "").any():
        stray = listing.loc[listing["side"] == "", "id"].iloc[0]
        raise InputError(f"{folder}: expected each recording below a folder for its side. Received: {stray}.")
    if (listing["below"] != "").all():
        listing["group"] = listing["below"]
        notes.append(f"Folders below a word's are speakers: {listing['id'][0]} is of {listing['below'][0]}.")
    return listing.drop(columns="below"), folder


def _side(folder: str) -> str:
    """The side that a name stands for: `testing` is test, `val` validation; "" if none."""
    named = re.fullmatch(r"(train|val|test)(?:ing|id|idation)?(?:[^a-z].*)?", folder.lower())
    return {"train": "train", "val": "validation", "test": "test"}[named[1]] if named else ""


def _hidden(path: Path) -> bool:
    return any(part.startswith((".", "__")) or part == NOISE for part in path.parts)


def _tables(folder: Path) -> list[Path]:
    return sorted(file for file in folder.glob("*.csv") if _side(file.stem))


def _tabled(path: Path) -> tuple[pd.DataFrame, Path]:
    """The recordings that one table of file, class and perhaps speaker and split names, or one table for each side."""
    listings = []
    for file in [path] if path.is_file() else _tables(path):
        table = tables.load(file)
        for column, kind in (("file", "a file"), ("class", "a word"), ("speaker", "a speaker")):
            if column in table:
                tables.refuse(table[column], table[column].isna(), kind, file.name)
            elif column != "speaker":
                told = tables.listed(table, column)
                raise InputError(f"{file.name}: expected the column '{column}'. Received: {told}.")
        names = tables.identifiers(table, "file", file.name).astype(str).to_numpy()
        listing = pd.DataFrame({"id": names, "word": table["class"].astype(str).to_numpy(), "side": ""})
        if "speaker" in table:
            listing["group"] = table["speaker"].astype(str).to_numpy()
        if path.is_dir():
            listing["side"] = _side(file.stem)
        elif "split" in table:
            sides = table["split"].astype("str").map(_side)
            tables.refuse(table["split"], sides == "", "train, val or test", file.name)
            listing["side"] = sides.to_numpy()
        listings.append(listing)
    listing = pd.concat(listings, ignore_index=True)
    if (twice := listing["id"].duplicated()).any():
        raise InputError(f"{path}: expected each file in one table. Received: {listing['id'][twice.idxmax()]} in two.")
    folder = path if path.is_dir() else path.parent
    places = [folder, *sorted(place for place in folder.iterdir() if place.is_dir()), folder.parent]
    base = next((place for place in places if (place / listing["id"][0]).exists()), None)
    if base is None:
        raise InputError(f"{path}: expected files relative to {folder}. Received: {listing['id'][0]}, not found there.")
    return listing.assign(file=[str(base / name) for name in listing["id"]]), folder


def _named(listing: pd.DataFrame, pattern: str, notes: list[str]) -> pd.DataFrame:
    """The listing with the words and speakers that the files' names tell."""
    stems = [Path(file).stem for file in listing["file"]]
    try:
        asked = re.compile(pattern)
    except re.error as error:
        raise InputError(f"--name-pattern: expected a regular expression. Received: {pattern!r} ({error}).") from None
    if pattern:
        found = [asked.search(stem) for stem in stems]
        if not set(asked.groupindex) & {"word", "speaker"}:
            raise InputError(f"--name-pattern: expected (?P<word>…) or (?P<speaker>…) in it. Received: {pattern!r}.")
        if None in found:
            example = listing["file"][found.index(None)]
            raise InputError(f"--name-pattern {pattern!r} does not fit {example} ({found.count(None):,} such files).")
        return listing.assign(**{{"word": "word", "speaker": "group"}[name]: [match[name] for match in found]
                                 for name in {"word", "speaker"} & set(asked.groupindex)})  # fmt: skip
    flat = (listing["word"] == "").all()
    for shape, known in PATTERNS.items():
        found = [re.search(known, stem) for stem in stems]
        if "group" in listing or np.mean([match is not None for match in found]) < MATCHED:
            continue
        # A name that does not fit stands for a speaker of its own.
        speakers = [match["speaker"] if match else stem for match, stem in zip(found, stems, strict=True)]
        notes.append(f"Names are {shape}, recognised: {listing['id'][0]} is of speaker {speakers[0]}.")
        if "word" in re.compile(known).groupindex and (flat or (listing["word"] == speakers).all()):
            if None in found:
                stray = listing["id"][found.index(None)]
                raise InputError(f"Names are {shape}, but for {stray} ({found.count(None):,} such files).")
            listing = listing.assign(word=[match["word"] for match in found])
            notes.append("BEWARE: the published split of spoken digits (n below 5 is test) shares its speakers.")
        listing = listing.assign(group=speakers)
    if (listing["word"] == "").any():
        stray = listing["id"][(listing["word"] == "").idxmax()]
        raise InputError(f"Expected a folder for each word, or --name-pattern to tell it. Received: {stray}.")
    return listing


def _as_published(listing: pd.DataFrame, folder: Path, notes: list[str]) -> pd.DataFrame:
    """The listing with classes, and with the official sides where the data is laid out as Google Speech Commands."""
    listing = listing.assign(**{"class": listing["word"]})
    if not all((folder / name).is_file() for name in LISTS.values()):
        return listing
    side = pd.Series("train", listing.index)
    for name, file in LISTS.items():
        side[listing["id"].isin((folder / file).read_text(errors="replace").split())] = name
    notes.append(f"Sides are those of {' and '.join(LISTS.values())}.")
    if set(listing["word"]) > GOOGLE:
        listing["class"] = listing["word"].where(listing["word"].isin(GOOGLE), UNKNOWN)
        notes.append(f"The task of 12 classes: {len(GOOGLE)} commands, other words are {UNKNOWN}, and {SILENCE}.")
    return listing.assign(side=side)


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
            f"BEWARE: {count} speakers are too few to keep some apart, which takes {FEWEST}: clips are drawn at "
            "random, and figures say nothing about other people."
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
    table["id"] = [f"voice {row.voice}/{row.word}/{row.Index}" for row in table.itertuples()]
    notes.append(f"{len(table):,} clips of {count} synthetic voices, who speak the words as English, join training.")
    return table.assign(**{"class": table["word"], "side": "train", "group": "voice " + table["voice"]}), clips


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
    speakers = f" of {used.loc[used['word'] != SILENCE, 'group'].nunique():,} speakers" if "group" in used else ""
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
    named = set(side[records["word"] != SILENCE]) & set(SHARES)
    drawn = {name: share for name, share in SHARES.items() if name not in named}
    rule = f"as the data name {' and '.join(sorted(named))}" if named else ""
    if drawn:
        spoken = "group" in records
        (_draw_speakers if spoken else _draw_clips)(records, side, drawn)
        how = "whole speakers drawn at random" if spoken else "clips drawn at random by class, speakers unknown"
        rule += f"{'; ' if rule else ''}{' and '.join(drawn)}: {how}"
    classes = records.attrs["classes"]
    for name in SIDES:
        missing = set(range(len(classes))) - set(records["label"][side == name])
        if missing:
            raise InputError(f"No clip of '{classes[min(missing)]}' is in {name}: expected some of every class.")
    command, splits = records["command"].to_numpy(), [np.flatnonzero(side == name) for name in SIDES]
    clusters = ("group",) if "group" in records else ()
    if clusters and (judged := records["group"].iloc[splits[2]][command[splits[2]]].nunique()) < FEW:
        rule += f"; BEWARE: test has {judged} speaker{'s' * (judged > 1)} only, and other people may fare otherwise"
    return Splits(*splits, rule=rule, headline=command, clusters=clusters)


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
        f"No draw of whole speakers puts every word on every side: expected {FEWEST} speakers of each word or more. "
        f"Received: {speakers.min()} of '{records.attrs['classes'][speakers.idxmin()]}'."
    )


def _covers(records: pd.DataFrame, side: np.ndarray) -> bool:
    """Whether train, test and both halves of validation have every class."""
    labels = records["label"].to_numpy()
    train, validation, test = (np.flatnonzero(side == name) for name in SIDES)
    wanted = set(labels[side != "none"])
    return all(wanted == set(labels[rows]) for rows in (train, test, *evaluate.halves(records, validation)))


# ------------------------------------------------------------------------------------------------- learn, decode, ask


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


class Gathered:
    """The clips at `places` of several maps, numbered one map after the other, read when they are asked for."""

    def __init__(self, maps: list[np.ndarray], places: np.ndarray) -> None:
        self.maps, self.places = maps, places
        self.ends = np.cumsum([len(clips) for clips in maps])
        self.shape, self.dtype = (len(places), maps[0].shape[1]), maps[0].dtype

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """The clips in these rows, int16 (len(rows), samples)."""
        places = self.places[rows]
        of_map = np.searchsorted(self.ends, places, side="right")
        clips = np.empty((len(places), self.shape[1]), self.dtype)
        for number in np.unique(of_map):
            here = of_map == number
            clips[here] = self.maps[number][places[here] - self.ends[number] + len(self.maps[number])]
        return clips


def parse(table: pd.DataFrame, facts: dict) -> pd.DataFrame:
    """A request as records: column `audio` holds the bytes of WAV, FLAC or OGG files, `id` may name them.

    Raises:
        InputError: for a missing column, and for the first recording that cannot be read.
    """
    if "audio" not in table:
        raise InputError(f"request: expected the column 'audio'. Received: {tables.listed(table)}.")
    column = table["audio"]
    wrong = ~column.map(lambda value: isinstance(value, bytes | bytearray)).astype(bool)
    tables.refuse(column, wrong, "the bytes of a sound file", "request")
    try:
        clips = audio.load_bytes(column.tolist(), facts["sample_rate"], facts["samples"])
    except audio.BadClip as fault:
        raise InputError(f"request, row {table.index[fault.row]}, column 'audio': {fault}.") from None
    named = tables.identifiers(table, "id", "request") if "id" in table else pd.Series(table.index)
    clip = pd.Series(list(clips), dtype=object)
    return pd.DataFrame({"id": named.to_numpy(), "label": np.full(len(table), -1), "clip": clip})


def columns(facts: dict) -> dict[str, tuple[str, bool]]:
    """What a request holds: the bytes of each sound file, and perhaps a name."""
    return {"audio": ("binary", True), "id": ("string", False)}


def request(records: pd.DataFrame, facts: dict) -> pd.DataFrame:
    """These records as a request holds them: the clips, as WAV files."""
    clips = decode(records, facts)["clip"][np.arange(len(records))]
    return pd.DataFrame({"audio": [audio.wav(clip, facts["sample_rate"]) for clip in clips]})


# ------------------------------------------------------------------------------------------------------- augmentation


def augmentation(train: Part, settings: Settings) -> Augment:
    """A function that shifts training clips in time, adds noise and changes their gain, drawn anew for each clip.

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
        padded = np.pad(x["clip"], ((0, 0), (most, most)))
        shifted = np.lib.stride_tricks.sliding_window_view(padded, samples, axis=1)
        clips = shifted[np.arange(count), rng.integers(0, 2 * most, count, endpoint=True)]
        source = rng.integers(len(sources), size=count)
        noise = windows[begins[source] + rng.integers(spans[source])]
        decibels = np.where(rng.random(count) < NOISY, rng.uniform(*RATIOS, count), np.inf)
        gain = 10 ** (rng.uniform(*GAINS, (count, 1)) / 20)
        return x | {"clip": audio.integers(audio.mixed(clips, noise, decibels) * np.float32(gain / 32_768))}, y

    return augment
