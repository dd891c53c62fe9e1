"""Where data comes from: resolve what `--data` names, download and verify it, unpack it safely, fingerprint it.

Whatever bears its final name under `data/<pipeline>/` is complete and verified: downloads grow under `NAME.part`,
archives unpack beside their destination, and both are renamed at the end.
"""

from __future__ import annotations

import difflib
import hashlib
import stat
import tarfile
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from lzma import LZMAError
from pathlib import Path, PureWindowsPath
from typing import IO, Literal
from urllib.parse import urlsplit

import requests
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from pipelines.core.contract import InputError, Pipeline, Source

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
CHUNK = 1 << 16  # bytes
PAUSES = (0.5, 1, 2, 4, 8)  # seconds before each further connection
SIZE_MARGIN = 1.1  # a body longer than this times the declared size is not the file that was registered
MOST_RATIO = 100  # of an archive's contents to its own size
SMALL = 16 << 20  # bytes; below it a higher ratio harms nobody
PASSING = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)
DAMAGED = (zipfile.BadZipFile, tarfile.TarError, zlib.error, LZMAError, EOFError, KeyError, ValueError)


@dataclass(frozen=True)
class Origin:
    """What `--data` resolved to: an embedded demo (no path), a registered public set, or the user's own."""

    kind: Literal["demo", "public", "own"]
    name: str
    path: Path | None = None


def resolve(data: str, pipeline: Pipeline, root: Path) -> Origin:
    """The origin that `data` names: a demo or a source of the pipeline, or a file, folder or archive.

    Public sets are fetched into `root/data/<pipeline>/`; archives, public or own, are unpacked there. A registered
    name wins over a file of the same name, which `./NAME` still reaches. Raises InputError if it is none of these.
    """
    if data in pipeline.demos:
        return Origin("demo", data)
    folder = root / "data" / pipeline.name
    if data in pipeline.sources:
        origin = Origin("public", data, fetch(pipeline.sources[data], folder))
    elif data and (path := Path(data).expanduser()).exists():
        origin = Origin("own", _stem(path.resolve()), path)
    else:
        raise _unresolved(data, [*pipeline.demos, *pipeline.sources], pipeline.name)
    assert origin.path is not None
    if origin.path.is_file() and origin.path.name.lower().endswith(ARCHIVES):
        return Origin(origin.kind, origin.name, unpack(origin.path, folder))
    return origin


def _unresolved(data: str, known: Sequence[str], pipeline: str) -> InputError:
    """Why `data` is no data; a word that may be meant for one of the `known` names is answered with all of them."""
    if Path(data).suffix or len(Path(data).parts) > 1:
        return _no_such_file(Path(data))
    close = difflib.get_close_matches(data, known, n=1)
    guess = f", did you mean {close[0]}?" if close else "."
    return InputError(f"No such data: {data!r}{guess} --data of {pipeline} takes {', '.join(known)} or a path.")


def existing(path: str) -> Path:
    """The path of a file or folder that exists.

    Raises:
        InputError: if it does not; names those beside it that have a similar name.
    """
    given = Path(path).expanduser()
    if not given.exists():
        raise _no_such_file(Path(path))
    return given


def _no_such_file(path: Path) -> InputError:
    place = path.expanduser().parent
    if not place.is_dir():
        return InputError(f"No such file: {path}, since there is no folder {path.parent}.")
    beside = sorted(entry.name for entry in place.iterdir() if not entry.name.startswith("."))
    close = [str(path.with_name(name)) for name in difflib.get_close_matches(path.name, beside)]
    return InputError(f"No such file: {path}" + (f"; did you mean {' or '.join(close)}?" if close else "."))


def sha256(path: Path) -> str:
    """Hex digest of a file's bytes or, for a folder, of the relative names and digests of all files in it, sorted."""
    if path.is_file():
        return _digest(path, "sha256")
    total = hashlib.sha256()
    for name in sorted(file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()):
        total.update(f"{name}\0{_digest(path / name, 'sha256')}\0".encode())
    return total.hexdigest()


def fetch(source: Source, folder: Path) -> Path:
    """The verified file of a registered source in `folder`, downloaded unless it is there already.

    A file put there by hand is taken if it is the right one. A download that was cut resumes, in this call or in the
    next. Raises InputError if the file cannot be downloaded, or is not the one that was registered.
    """
    path = folder / Path(urlsplit(source.url).path).name
    if path.exists():
        if fault := _fault(path, source):
            raise InputError(f"{path} is not the file that {source.url} stands for; move it away. {fault}")
        return path
    folder.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    try:
        _download(source, part)
    except requests.RequestException as error:
        reason = type(error).__name__ if error.response is None else f"status {error.response.status_code}"
        raise InputError(f"{source.url} could not be downloaded ({reason}): put the file at {path} by hand") from error
    if fault := _fault(part, source):
        part.unlink()
        raise InputError(f"What {source.url} sent is not the file that was registered, so it was deleted. {fault}")
    part.replace(path)
    return path


def unpack(archive: Path, folder: Path, most_bytes: int = 10**11, most_files: int = 10**6) -> Path:
    """The contents of a zip or tar archive, in a subfolder of `folder` named after it and its contents.

    An archive that holds a single file or folder gives that one. A second call returns what the first unpacked.
    Links are unpacked as copies of the files they point to. Raises InputError for an archive that cannot be read,
    has a member that climbs out of it, or expands beyond a limit: bytes, files, or MOST_RATIO, each measured while
    writing since headers can lie.
    """
    target = folder / f"{_stem(archive)}-{sha256(archive)[:12]}"
    if target.exists():
        return _lone_entry(target)
    folder.mkdir(parents=True, exist_ok=True)
    room = min(most_bytes, max(SMALL, MOST_RATIO * archive.stat().st_size))
    with Console(stderr=True).status(f"Unpacking {archive.name}"), tempfile.TemporaryDirectory(dir=folder) as scratch:
        fresh = Path(scratch, "contents")
        fresh.mkdir()
        try:
            for number, (name, content) in enumerate(_members(archive, fresh), start=1):
                if number > most_files:
                    raise InputError(f"{archive} holds more than {most_files:,} files; unpack it yourself.")
                room -= _write(content, fresh / name, room)
                if room < 0:
                    raise InputError(f"{archive} expands without bound, at {name!r}; if you trust it, unpack it.")
        except (*DAMAGED, OSError, RuntimeError) as error:  # the last two: a full disk, an encrypted archive
            raise InputError(f"{archive} cannot be unpacked: {error}") from error
        fresh.rename(target)
    return _lone_entry(target)


def _members(archive: Path, folder: Path) -> Iterator[tuple[str, IO[bytes] | None]]:
    """Name and open content (None: a folder) of each member; raises InputError for one that leads out of `folder`."""
    if archive.suffix.lower() in (".zip", ".npz"):  # NumPy's archives are zip files
        with zipfile.ZipFile(archive) as zipped:
            for member in zipped.infolist():
                _refuse_member(archive, member.filename, stat.S_ISLNK(member.external_attr >> 16))
                yield member.filename, None if member.is_dir() else zipped.open(member)
        return
    with tarfile.open(archive) as file:
        for entry in file:
            try:
                tarfile.data_filter(entry, str(folder))
            except tarfile.FilterError as error:
                raise InputError(f"{archive} has a member that leads out of it or is no file: {error}") from error
            content = None if entry.isdir() else file.extractfile(entry)
            _refuse_member(archive, entry.name, content is None and not entry.isdir())
            yield entry.name, content


def _refuse_member(archive: Path, name: str, odd: bool) -> None:
    # Windows rules see a climb through either slash, and drive letters, whatever system this runs on.
    path = PureWindowsPath(name)
    if odd or path.anchor or ".." in path.parts:
        raise InputError(f"{archive} has a member that leads out of it or is no file: {name!r}")


def _write(content: IO[bytes] | None, path: Path, room: int) -> int:
    """Write a member and return its bytes; stops early once they are more than `room`."""
    (path if content is None else path.parent).mkdir(parents=True, exist_ok=True)
    if content is None:
        return 0
    written = 0
    with content, path.open("wb") as file:
        while written <= room and (chunk := content.read(CHUNK)):
            written += file.write(chunk)
    return written


def _lone_entry(folder: Path) -> Path:
    entries = [entry for entry in folder.iterdir() if not entry.name.startswith((".", "__MACOSX"))]
    return entries[0] if len(entries) == 1 else folder


def _download(source: Source, part: Path) -> None:
    """Bring `part` to completion, over as many connections as it takes, one more than PAUSES at most."""
    columns = (TextColumn(part.stem), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=source.size or None)
        for pause in (*PAUSES, None):
            try:
                _stream(source, part, lambda done, total: progress.update(task, completed=done, total=total))
                return
            except PASSING:
                if pause is None:
                    raise
                time.sleep(pause)


def _stream(source: Source, part: Path, advance: Callable[[int, int | None], None]) -> None:
    """One connection: continue `part` where the server can, else start it anew (RFC 9110, sections 13.1.5 and 14).

    A part is continued if the server vouches with If-Range that its file is still the same, or if a checksum will
    tell in the end. Raises one of PASSING where another connection may do better.
    """
    validator = part.with_name(f"{part.name}.etag")
    unchanged = validator.read_text() if validator.exists() else ""
    have = part.stat().st_size if part.exists() and (unchanged or source.checksum) else 0
    headers = {"Accept-Encoding": "identity"}  # the checksum is of the bytes as published
    if have:
        headers |= {"Range": f"bytes={have}-"} | ({"If-Range": unchanged} if unchanged else {})
    with requests.get(source.url, headers=headers, stream=True, timeout=60) as response:
        status = response.status_code
        continued = status == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        if status in (206, 416) and not continued:
            part.unlink(missing_ok=True)
            raise requests.ConnectionError("not the range that was asked for: start anew", response=response)
        if status == 429 or status >= 500:
            raise requests.ConnectionError("busy", response=response)
        response.raise_for_status()
        if not continued:
            have = 0
            validator.write_text(response.headers.get("ETag") or response.headers.get("Last-Modified", ""))
        total = have + int(response.headers["Content-Length"]) if "Content-Length" in response.headers else source.size
        most = source.size * SIZE_MARGIN or float("inf")
        with part.open("ab" if continued else "wb") as file:
            for chunk in response.iter_content(CHUNK):
                have += file.write(chunk)
                advance(have, total or None)
                if have > most:
                    return  # far longer than declared: `fetch` will find it to be another file
    if have < total:
        raise requests.ConnectionError(f"cut after {have:,} of {total:,} bytes")
    validator.unlink(missing_ok=True)


def _fault(path: Path, source: Source) -> str:
    """Why `path` is not the file of `source`, or "" if it is. Without a checksum the size has to do."""
    algorithm, _, expected = source.checksum.partition(":")
    if source.checksum and (received := _digest(path, algorithm)) != expected.lower():
        return f"Expected {algorithm} {expected}. Received: {received}"
    if not source.checksum and source.size and (size := path.stat().st_size) != source.size:
        return f"Expected {source.size:,} bytes. Received: {size:,}"
    return ""


def _digest(path: Path, algorithm: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def _stem(path: Path) -> str:
    compressed = path.suffix.lower() in {".gz", ".bz2", ".xz"}
    return path.name if path.is_dir() else Path(path.stem).stem if compressed else path.stem
