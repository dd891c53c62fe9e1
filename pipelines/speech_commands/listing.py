"""Recordings on disk as a listing: which file holds which word, by whom and for which side, and how that was told."""

import re
from pathlib import Path

import numpy as np
import pandas as pd

from pipelines.core.contract import InputError
from pipelines.core.reading import folders, tables

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


def listed(path: Path, name_pattern: str, notes: list[str]) -> tuple[pd.DataFrame, Path]:
    """The recordings at a path, and the folder beside which background noise would lie.

    The path is a folder of one folder a word, these perhaps below train, val and test; a flat folder whose files' names
    tell the words; a folder with a table for each side; or one table. What is assumed is added to the `notes`.

    Returns:
        A table with `file`, `id` (its name within the folder), `word`, `class` (the word, or UNKNOWN), `side` ("" if
        not named) and, where it is known, `group`, the speaker.

    Raises:
        InputError: where words, files or sides cannot be told, with the file and what was expected.
    """
    if path.is_file() or _tables(path):
        listing, folder = _tabled(path)
    else:
        listing = folders.in_folders(path, SUFFIXES, f"recordings ({', '.join(sorted(SUFFIXES))})", notes, {NOISE})
        listing, folder = listing.rename(columns={"class": "word"}), path
    return _as_published(_named(listing, name_pattern, notes), folder, notes), folder


def noises(folder: Path) -> list[Path]:
    """The recordings of background noise in a folder, or in one below it."""
    files = sorted(file for at in (NOISE, f"*/{NOISE}") for file in folder.glob(f"{at}/*"))
    return [file for file in files if file.suffix.lower() in SUFFIXES]


def _tables(folder: Path) -> list[Path]:
    return sorted(file for file in folder.glob("*.csv") if folders.side(file.stem))


def _tabled(path: Path) -> tuple[pd.DataFrame, Path]:
    """The recordings that one table of file, class and perhaps speaker and split names, or one table for each side."""
    listings = []
    for file in [path] if path.is_file() else _tables(path):
        table = tables.load(file, names=("file", "class", "speaker"))
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
            listing["side"] = folders.side(file.stem)
        elif "split" in table:
            sides = table["split"].astype("str").map(folders.side)
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
