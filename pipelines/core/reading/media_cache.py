"""Decode untrusted files into a cached memory map; list the unreadable ones.

A domain provides a kind of file, and how the bytes of one become an array and facts. Whatever is wrong with a file
becomes a BadFile with a short phrase.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pipelines.core.contract import InputError
from pipelines.core.data.dataset import Dataset
from pipelines.core.data.requests import Request
from pipelines.core.reading import tables

CHUNK = 1_000  # files of a request
BLOCK = 256  # files whose arrays wait in memory to be written
NAMED = 10  # bad files in a sentence

Convert = Callable[[bytes], tuple[np.ndarray, tuple]]
"""The array of a file's bytes, of one shape and dtype for all files, and its facts; raises BadFile."""


class BadFile(ValueError):  # noqa: N818  # it names a file, as InputError names an input
    """What is wrong with one file, in a short phrase."""

    def __init__(self, phrase: str) -> None:
        # It may quote the file: so it is cut, and rid of what a terminal would obey.
        super().__init__(" ".join("".join(c if c.isprintable() else " " for c in phrase[:1000]).split())[:200])


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes:
        many: what sentences call them, such as "recordings".
        one: what they call one of them, such as "a sound file".
        most_bytes: of one file.
        facts: structured dtype of what is known of each file beside its array; all zero for a bad one.
    """

    many: str
    one: str
    most_bytes: int
    facts: np.dtype


def contents(
    files: Sequence[Path], kind: Kind, probe: Callable[[bytes], Any] = lambda data: None
) -> list[tuple[str, Any]]:
    """A text that stands for the content of each file, and what `probe` makes of its bytes, None for a bad one.

    Raises:
        InputError: if there are no files.
    """
    if not files:
        raise InputError(f"There are no {kind.many}: expected at least one.")

    def known(file: Path) -> tuple[str, Any]:
        try:
            data = read(file, kind)
        except BadFile as fault:
            return str(fault), None
        return hashlib.sha256(data).hexdigest(), probe(data)

    return list(_mapped(known, files, f"Reading {kind.many}"))


def load(
    files: Sequence[Path],
    folder: Path,
    kind: Kind,
    key: tuple,
    convert: Convert,
    most_bad: float,
    trim: Callable[[np.ndarray, pd.DataFrame], np.ndarray] = lambda arrays, table: arrays,
) -> tuple[np.memmap, pd.DataFrame]:
    """Decode files once, into a memory map that is cached.

    The cache is named by the `key`, which holds the files' contents and all else that the arrays depend on: a file that
    changed is noticed, and one that was renamed is not decoded again.

    Args:
        files: in order; symbolic links count as bad files and are not followed.
        folder: of the cache; made if need be.
        kind: of the files.
        key: what the arrays depend on, distinguished by its `repr`.
        convert: makes an array and facts of a file's bytes.
        most_bad: largest share of the files that may be bad.
        trim: (arrays of the good files, their table) -> what to keep of the arrays.

    Returns:
        A read-only memory map of the good files, and a table with a row for each file: file, reason (text, empty for a
        good one), facts.

    Raises:
        InputError: if all or more than `most_bad` of the files are bad.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{hashlib.sha256(repr(key).encode()).hexdigest()}.npy"
    if not path.exists():
        _fill(path, files, kind, convert, trim)
    table = pd.read_parquet(path.with_suffix(".parquet"))
    table.insert(0, "file", [str(file) for file in files])
    bad = table[table["reason"] != ""]
    if len(bad) > most_bad * len(table) or len(bad) == len(table):
        named = ", ".join(f"{row.file} ({row.reason})" for row in bad[:NAMED].itertuples())
        raise InputError(
            f"{len(bad):,} of {len(table):,} {kind.many} are bad: expected at most {100 * most_bad:g}%, and a good one."
            f" Received: {named}{', ...' if len(bad) > NAMED else ''}."
        )
    return np.load(path, mmap_mode="r"), table


def _fill(path: Path, files: Sequence[Path], kind: Kind, convert: Convert, trim: Callable) -> None:
    """Decode the files; write the good arrays to `path` and the facts, without the files' names, beside it."""

    def converted(file: Path) -> tuple[str, tuple[np.ndarray, tuple] | None]:
        try:
            return "", convert(read(file, kind))
        except BadFile as fault:
            return str(fault), None

    facts, reasons, good = np.zeros(len(files), kind.facts), [], 0
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        draft = np.empty(0)
        for row, (reason, made) in enumerate(_mapped(converted, files, f"Decoding {kind.many}")):
            reasons.append(reason)
            if made is not None:
                array, facts[row] = made
                if not good:
                    draft = np.memmap(Path(scratch, "draft"), array.dtype, "w+", shape=(len(files), *array.shape))
                draft[good] = array
                good += 1
        table = pd.DataFrame(facts)
        table.insert(0, "reason", reasons)
        np.save(Path(scratch, "arrays.npy"), trim(draft[:good], table[table["reason"] == ""]))
        table.to_parquet(Path(scratch, "facts.parquet"), index=False)
        Path(scratch, "facts.parquet").replace(path.with_suffix(".parquet"))
        Path(scratch, "arrays.npy").replace(path)  # last: where it is, both are


def _mapped(function: Callable[[Path], Any], files: Sequence[Path], label: str) -> Iterator[Any]:
    """The function's results for the files, in order, computed by several threads, with progress."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with (
        ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool,
        Progress(*columns, console=Console(stderr=True)) as progress,
    ):
        task = progress.add_task(label, total=len(files))
        for start in range(0, len(files), BLOCK):
            for result in pool.map(function, files[start : start + BLOCK]):
                yield result
                progress.advance(task)


def requested(table: pd.DataFrame, column: str, name: str, kind: Kind, convert: Convert) -> pd.DataFrame:
    """Unlabelled records of a request, with its index: `id`, and in column `name` the arrays of the files, flat.

    Args:
        table: the request, perhaps with `id`.
        column: of the table, with the bytes of files.
        name: of the records' column.
        kind: of the files.
        convert: makes an array and facts of a file's bytes.

    Raises:
        InputError: for a missing column, and with `faults` for files that cannot be read.
    """
    if column not in table:
        raise InputError(f"request: expected the column '{column}'. Received: {tables.listed(table)}.")
    wrong = ~table[column].map(lambda value: isinstance(value, bytes | bytearray)).astype(bool)
    tables.refuse(table[column], wrong, f"the bytes of {kind.one}", "request")
    named = tables.identifiers(table, "id", "request") if "id" in table else pd.Series(table.index, table.index)
    arrays, faults = {}, {}
    for row, data in table[column].items():
        try:
            _refuse_long(len(data), kind)
            arrays[row] = convert(data)[0]
        except BadFile as fault:
            faults[row] = f"request, row {row}, column '{column}': {fault}."
    tables.refuse_rows(faults)
    return _records(named, name, arrays)


def _records(named: pd.Series, name: str, arrays: Mapping[int, np.ndarray]) -> pd.DataFrame:
    """Unlabelled records, indexed as their arrays are; `named` has the ids by the same index."""
    flat = pd.Series([array.ravel() for array in arrays.values()], dtype=object)
    return pd.DataFrame({"id": named.loc[list(arrays)].to_numpy(), "labelled": False, name: flat}).set_index(
        pd.Index(arrays, dtype=np.int64)
    )


def requests_of_files(
    listing: pd.DataFrame, kind: Kind, name: str, convert: Convert, note: str, about: Any
) -> Iterator[Request]:
    """Requests of the files of a listing, with `id` and `file`; see `requests`."""

    def made(file: str) -> np.ndarray:
        return convert(read(Path(file), kind))[0]

    return requests(listing["id"], listing["file"].tolist(), name, made, note, about)


def requests(
    named: pd.Series, items: Sequence[Any], name: str, made: Callable[[Any], np.ndarray], note: str, about: Any
) -> Iterator[Request]:
    """Requests of CHUNK items each, such as files.

    Args:
        named: the id of each item.
        items: what the arrays are made of.
        name: column of the records that holds the arrays, flat.
        made: the array of an item; where it raises BadFile, the item is at fault. Called by several threads.
        note: a sentence on what is scored.
        about: of the datasets.
    """

    def tried(identity: str, item: Any) -> np.ndarray | str:
        try:
            return made(item)
        except BadFile as fault:
            return f"{identity}: {fault}."

    named = named.reset_index(drop=True)
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for begin in range(0, len(named), CHUNK):
            ids = named.iloc[begin : begin + CHUNK]
            with warnings.catch_warnings(action="ignore"):  # threads undo each other's filters
                found = dict(zip(ids.index, pool.map(tried, ids, items[begin : begin + CHUNK]), strict=True))
            faults = tables.faulty({row: fault for row, fault in found.items() if isinstance(fault, str)}, ids)
            records = _records(ids, name, {row: one for row, one in found.items() if row not in faults.index})
            data = Dataset(records, about, ("id",))
            yield Request(data, np.arange(len(records)), faults, len(named) - ids.index[-1] - 1, (note,))


def read(file: Path, kind: Kind) -> bytes:
    """The bytes of a file; raises BadFile for anything but a plain file, and for one that is too large."""
    with opened(file) as stream:
        size = os.fstat(stream.fileno()).st_size
        _refuse_long(size, kind)
        return stream.read(size)


def _refuse_long(size: int, kind: Kind) -> None:
    if size > kind.most_bytes:
        raise BadFile(f"{size:,} bytes: expected at most {kind.most_bytes:,}")


@contextmanager
def opened(file: Path) -> Iterator[BinaryIO]:
    """The open file; raises BadFile for a link, for anything but a plain file, and for one that cannot be read."""
    try:
        mode = file.lstat().st_mode
        if stat.S_ISLNK(mode):
            raise BadFile("a symbolic link")
        if not stat.S_ISREG(mode):
            raise BadFile("not a file")
        with file.open("rb") as stream:
            yield stream
    except OSError as error:
        raise BadFile(f"unreadable: {error.strerror}") from None
