"""List the recordings of a data set: which file holds which word, by which speaker and for which side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from pipelines.core.contract import InputError
from pipelines.core.data.dataset import unique_ids
from pipelines.core.data.identity import one_spelling
from pipelines.core.reading import folders
from pipelines.core.reading.folders import SIDES
from pipelines.speech_commands import audio, form

Clips = tuple[pd.DataFrame, Path]
"""A table of clips, whose index is their place in the .npy file, int16 (n, samples)."""
Noise = tuple[tuple[str, str], ...]
"""Recordings of background noise: the name, and the .npy file, int16 (samples,)."""

SUFFIXES = {".wav", ".flac", ".ogg", ".oga", ".opus"}
UNKNOWN, SILENCE, NOISE = "_unknown_", "_silence_", "_background_noise_"
GOOGLE = {"yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go"}
"""The commands of the 12-class task on Google Speech Commands; its other words are unknown ones."""
LISTS = {"validation": "validation_list.txt", "test": "testing_list.txt"}
SCHEMES = {
    "<digit>_<speaker>_<n>": r"^(?P<word>\d)_(?P<speaker>[^_]+)_\d+$",
    "<speaker>_nohash_<n>": r"^(?P<speaker>[^_]+)_nohash_\d+$",
}
FEWEST_SPEAKERS = 4  # one for train, one for test, two for the halves of validation
SEPARATE = 0.9  # speakers a recording, above which they tie nothing together
DRAWS = 100  # of speakers, until one puts every class on every side


# ---------------------------------------------------------------------------------------------------------- recordings


def recordings(
    parts: Sequence[tuple[Path, str]], non_keywords: Sequence[str], notes: list[str]
) -> tuple[pd.DataFrame, list[Path]]:
    """List the recordings of several data sets, and their files of background noise.

    Args:
        parts: pairs of path and name pattern. A path is a folder of one folder a word, perhaps below train, val and
            test; a flat folder whose file names hold the words; a folder with a table for each side; or one table.
        non_keywords: words to hold out from training.
        notes: gets a sentence for each assumption.

    Returns:
        A table with `file`, `id`, `word`, `class` (the word, UNKNOWN, or "" for words held out), `side` ("" for one
        that is to be drawn), `part` (position in `parts`) and, where speakers are known, `group`; and the noise files.

    Raises:
        InputError: if words, files or sides cannot be recognised, naming the file and what was expected.
    """
    listings, noise = [], []
    for path, pattern in parts:
        listing, folder = _listed(path, pattern, notes)
        listings.append(listing)
        files = sorted(file for place in (NOISE, f"*/{NOISE}") for file in folder.glob(f"{place}/*"))
        noise += [file for file in files if file.suffix.lower() in SUFFIXES]
    part = np.repeat(np.arange(len(listings)), [len(listing) for listing in listings])
    joined = pd.concat(listings, ignore_index=True, join="inner").assign(part=part)
    joined["id"] = unique_ids(joined["id"], part)
    if len({(listing["side"] == "").all() for listing in listings}) > 1:  # only some name their sides
        joined["side"] = ""
    if "group" in joined:
        joined["group"] = one_spelling(joined["group"], "speaker", notes)
    return _limit_unknown(usable(joined, non_keywords, notes), notes), noise


def _listed(path: Path, pattern: str, notes: list[str]) -> tuple[pd.DataFrame, Path]:
    """The recordings at a path, and the folder that may hold background noise."""
    if path.is_file() or _side_tables(path):
        listing, folder = _from_tables(path)
    else:
        listing = folders.in_folders(path, SUFFIXES, f"recordings ({', '.join(sorted(SUFFIXES))})", notes, {NOISE})
        folder = path
    listing = listing.rename(columns={"class": "word"})
    return _as_published(_named(listing, pattern, notes), folder, notes), folder


def _side_tables(folder: Path) -> list[Path]:
    return sorted(file for file in folder.glob("*.csv") if folders.side(file.stem))


def _from_tables(path: Path) -> tuple[pd.DataFrame, Path]:
    """The recordings in one table of file, class and perhaps speaker and split, or in one table for each side."""
    if path.is_file():
        listing, folder = folders.table_of_files(path, "class", "speaker"), path.parent
    else:
        sides = [folders.table_of_files(file, "class", "speaker").assign(side=folders.side(file.stem))
                 for file in _side_tables(path)]  # fmt: skip
        listing, folder = pd.concat(sides, ignore_index=True), path
    listing = listing if "side" in listing else listing.assign(side="")
    if (twice := listing["id"].duplicated()).any():
        raise InputError(f"{path}: expected each file in one table. Received: {listing['id'][twice.idxmax()]} in two.")
    places = [folder, *sorted(place for place in folder.iterdir() if place.is_dir()), folder.parent]
    base = next((place for place in places if (place / listing["id"][0]).exists()), None)
    if base is None:
        raise InputError(f"{path}: expected files relative to {folder}. Received: {listing['id'][0]}, not found there.")
    return listing.assign(file=[str(base / name) for name in listing["id"]]), folder


def _named(listing: pd.DataFrame, pattern: str, notes: list[str]) -> pd.DataFrame:
    """The listing with the words and speakers that file names hold, by the user's pattern or by a known scheme."""
    files = listing["file"].tolist()
    if pattern:
        fits = folders.matches(files, pattern, "--name-pattern")
        names = {"word": "word", "speaker": "group"}
        known = [name for name in names if name in fits[0].re.groupindex]
        if not known:
            raise InputError(f"--name-pattern: expected (?P<word>…) or (?P<speaker>…) in it. Received: {pattern!r}.")
        return listing.assign(**{names[name]: [match[name] for match in fits] for name in known})
    for shape, scheme in SCHEMES.items():
        found = None if "group" in listing else folders.likely_matches(files, scheme)
        if found is None:
            continue
        # A file whose name does not fit counts as a separate speaker.
        speakers = [match["speaker"] if match else Path(file).stem for match, file in zip(found, files, strict=True)]
        notes.append(f"File names follow {shape}: {listing['id'][0]} is of speaker {speakers[0]}.")
        if "word" in scheme and (listing["word"].eq("").all() or listing["word"].eq(speakers).all()):
            if None in found:
                stray = listing["id"][found.index(None)]
                raise InputError(f"File names follow {shape}, except {stray} ({found.count(None):,} such files).")
            listing = listing.assign(word=[match["word"] for match in found if match])
            notes.append("BEWARE: the published split of spoken digits (n below 5 is test) shares its speakers.")
        listing = listing.assign(group=speakers)
    if (listing["word"] == "").any():
        stray = listing["id"][(listing["word"] == "").idxmax()]
        raise InputError(f"Expected a folder for each word, or --name-pattern for words in names. Received: {stray}.")
    return listing


def _as_published(listing: pd.DataFrame, folder: Path, notes: list[str]) -> pd.DataFrame:
    """The listing with classes, and with the official sides of a folder laid out as Google Speech Commands."""
    listing = listing.assign(**{"class": listing["word"]})
    if not all((folder / name).is_file() for name in LISTS.values()):
        return listing
    side = pd.Series("train", listing.index)
    for name, file in LISTS.items():
        side[listing["id"].isin((folder / file).read_text(errors="replace").split())] = name
    notes.append(f"The split is that of {' and '.join(LISTS.values())}.")
    if set(listing["word"]) > GOOGLE:
        listing["class"] = listing["word"].where(listing["word"].isin(GOOGLE), UNKNOWN)
        notes.append(f"The task of 12 classes: {len(GOOGLE)} commands, {UNKNOWN} for other words, and {SILENCE}.")
    return listing.assign(side=side)


def usable(listing: pd.DataFrame, non_keywords: Sequence[str], notes: list[str]) -> pd.DataFrame:
    """The listing with class "" for words held out, side "" for what is to be drawn, and speakers if they are usable.

    Raises:
        InputError: for an unknown word, and if sides are named, but not train.
    """
    if missing := sorted(set(non_keywords) - set(listing["word"])):
        words = ", ".join(sorted(set(listing["word"])))
        raise InputError(f"--non-keywords: expected some of {words}. Received: {', '.join(missing)}.")
    held_out = listing["word"].isin(non_keywords)
    if held_out.any():
        notes.append(
            f"{held_out.sum():,} recordings of {', '.join(sorted(non_keywords))} are held out, to count false alarms."
        )
    listing = listing.assign(**{"class": listing["class"].mask(held_out, "")})
    used = listing[~held_out]
    if "group" in used and used["group"].nunique() > SEPARATE * len(used):
        notes.append(
            f"BEWARE: {used['group'].nunique():,} speakers of {len(used):,} recordings, such as "
            f"{used['group'].iloc[0]}, are about one a recording, as if they were numbers of files: they are ignored."
        )
        listing, used = listing.drop(columns="group"), used.drop(columns="group")
    named = set(used["side"]) - {""}
    if named and "train" not in named:
        raise InputError(f"Recordings for training are needed. Received: only {' and '.join(sorted(named))}.")
    if named != set(SIDES):
        listing = listing.assign(side=listing["side"].where(listing["side"] != "train", ""))
    if "group" not in listing:
        notes.append(
            "BEWARE: no speaker is known. The same voices may be on all sides, and figures then say little about other "
            "people. Name the speakers by --name-pattern, or in a column 'speaker' of a table of files."
        )
        return listing
    shared = used[used["side"] != ""].groupby("group")["side"].nunique() > 1
    if shared.any():
        notes.append(
            f"BEWARE: {shared.sum():,} of {len(shared):,} speakers, such as {shared.idxmax()}, are on more than one "
            "side of the split that comes with the data: figures would be too good."
        )
    count = used["group"].nunique()
    if named != set(SIDES) and count < FEWEST_SPEAKERS:
        notes.append(
            f"BEWARE: {count} speakers are too few to keep some for validation and test, which takes "
            f"{FEWEST_SPEAKERS}: clips are drawn at random, and figures say nothing about other people."
        )
        return listing.drop(columns="group")
    return listing


def _limit_unknown(listing: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """The listing with as many unknown words on each side as a command has there on average, drawn at random.

    A folder UNKNOWN, whose words are not named, is left as it is.
    """
    unknown = (listing["class"] == UNKNOWN) & (listing["word"] != UNKNOWN)
    commands = command_clips(listing)
    drop, rng = [], np.random.default_rng(0)
    for side, rows in listing[unknown].groupby("side"):
        wanted = round((commands["side"] == side).sum() / commands["class"].nunique())
        drop += rng.permutation(rows.index)[wanted:].tolist()
    if drop:
        notes.append(f"{unknown.sum() - len(drop):,} of {unknown.sum():,} recordings of unknown words are used.")
    return listing.drop(index=drop).reset_index(drop=True)


def command_clips(listing: pd.DataFrame) -> pd.DataFrame:
    """The rows of commands."""
    return listing[~listing["class"].isin(["", UNKNOWN, SILENCE])]


def load(listing: pd.DataFrame, cache: Path, rate: int, samples: int, most_bad: float, notes: list[str]) -> list[Clips]:
    """The clips of each part, with their digests; a recording in two parts is kept once.

    Recordings that cannot be read are named in `notes`.
    """
    stores: list[Clips] = []
    seen: set[int] = set()
    for _, rows in listing.groupby("part"):
        clips, path = _load_part(rows.reset_index(drop=True), cache, rate, samples, most_bad, notes)
        stores.append((clips[~clips["digest"].isin(seen)], path))
        seen |= set(clips["digest"])
    return stores


def _load_part(listing: pd.DataFrame, cache: Path, rate: int, samples: int, most_bad: float, notes: list[str]) -> Clips:
    clips, table = audio.load([Path(file) for file in listing["file"]], cache, rate, samples, most_bad)
    good = (table["reason"] == "").to_numpy()
    notes += [f"{row.file} is left out: {row.reason}." for row in table[~good].itertuples()]
    table = table[good]
    seconds = table["seconds"]
    notes.append(
        f"Recordings of {seconds.min():.2f} to {seconds.max():.2f} s became clips of {samples / rate:g} s: "
        f"{(seconds > samples / rate + 0.001).sum():,} cut, {(seconds < samples / rate - 0.001).sum():,} padded; "
        f"{table['silent'].sum():,} silent, {table['clipped'].sum():,} clipped, {table['short'].sum():,} shorter than "
        f"{audio.SHORT:g} s."
    )
    known = table[["digest", *form.NAMES]].reset_index(drop=True)
    listing = pd.concat([listing[good].reset_index(drop=True), known], axis=1)
    return listing, Path(str(clips.filename))


# --------------------------------------------------------------------------------------------------------------- sides


def draw_speakers(
    group: pd.Series,
    classes: np.ndarray,
    side: np.ndarray,
    shares: Mapping[str, float],
    complete: Callable[[np.ndarray], bool],
) -> np.ndarray:
    """Fill in the sides that are "" by whole speakers drawn at random.

    As many speakers as come nearest to the share of clips, at least one, and for validation two, one for each half: of
    six speakers, one is for test, two are for validation, and three are left for train.

    Args:
        group: the speaker of each clip, (n,).
        classes: name of the class of each clip, (n,), for the message.
        side: of each clip, (n,).
        shares: of the clips, by the side to draw.
        complete: whether the sides (n,) are acceptable; the first draw that they are is taken.

    Raises:
        InputError: if none of DRAWS draws is acceptable.
    """
    side, free = side.copy(), np.flatnonzero(side == "")
    names, codes = np.unique(group.to_numpy(str)[free], return_inverse=True)
    size = np.bincount(codes)
    for attempt in range(DRAWS):
        order = np.random.default_rng(attempt).permutation(len(names))
        reached = np.concatenate([[0], size[order].cumsum() / size.sum()])
        drawn, begin = np.full(len(names), "train", object), 0
        for name, share in shares.items():
            nearest = int(np.abs(reached - reached[begin] - share).argmin())
            end = min(max(nearest, begin + (2 if name == "validation" else 1)), len(names))
            drawn[order[begin:end]], begin = name, end
        side[free] = drawn[codes]
        if complete(side):
            return side
    speakers = pd.Series(codes).groupby(classes[free]).nunique()
    raise InputError(
        f"None of {DRAWS} draws of whole speakers puts every word on every side: expected {FEWEST_SPEAKERS} speakers "
        f"of each word, better ten or more. Received: {speakers.min()} of '{speakers.idxmin()}'."
    )
