"""Untrusted files, of a kind made up here: what is told of the bad ones, and of those in a request."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipelines.core.contract import InputError
from pipelines.core.reading import media_cache
from pipelines.core.reading.media_cache import BadFile, Kind

KIND = Kind("squares", "a square", 9, np.dtype([("digest", "u8"), ("odd", "?")]))


def convert(data: bytes) -> tuple[np.ndarray, tuple]:
    """Four bytes, as a square of two by two."""
    if len(data) != 4:
        raise BadFile(f"{len(data)} bytes: expected 4")
    return np.frombuffer(data, np.uint8).reshape(2, 2), (sum(data), bool(sum(data) % 2))


def files(folder: Path, *contents: bytes) -> list[Path]:
    for number, content in enumerate(contents):
        (folder / f"{number:03d}").write_bytes(content)
    return [folder / f"{number:03d}" for number in range(len(contents))]


def test_many_files_keep_their_order_and_bad_ones_among_them_their_place(tmp_path):
    contents = [bytes([n % 256, n // 256, 0, 1]) if n % 7 else b"bad" for n in range(600)]
    arrays, table = media_cache.load(files(tmp_path, *contents), tmp_path / "cache", KIND, (1,), convert, 0.2)
    good = [content for content in contents if len(content) == 4]
    assert arrays.reshape(-1, 4).tolist() == [list(content) for content in good]
    assert (table["reason"] == "3 bytes: expected 4").tolist() == [len(content) == 3 for content in contents]
    assert table["digest"].tolist() == [sum(content) if len(content) == 4 else 0 for content in contents]
    assert table["odd"].dtype == bool


def test_a_file_that_changes_is_told_from_what_it_was_and_what_it_tells_besides_is_handed_on(tmp_path):
    (file,) = files(tmp_path, b"abcd")
    ((before, length),) = media_cache.contents([file], KIND, len)
    file.write_bytes(b"abc")
    ((after, shorter),) = media_cache.contents([file], KIND, len)
    assert before != after
    assert (length, shorter) == (4, 3)
    file.write_bytes(b"0123456789")
    assert media_cache.contents([file], KIND, len) == [("10 bytes: expected at most 9", None)]


def test_of_many_bad_files_the_first_ten_are_named(tmp_path):
    bad = files(tmp_path, b"good", *[b"bad"] * 11)
    with pytest.raises(InputError, match="11 of 12 squares are bad: expected at most 50%") as error:
        media_cache.load(bad, tmp_path / "cache", KIND, (1,), convert, 0.5)
    said = str(error.value)
    assert all(f"{file} (3 bytes: expected 4), " in said for file in bad[1:11])
    assert str(bad[11]) not in said
    assert said.endswith("), ....")


def test_links_folders_pipes_and_files_that_are_too_long_are_not_read(tmp_path):
    good, long = files(tmp_path, b"good", b"0123456789")
    link, pipe = tmp_path / "link", tmp_path / "pipe"
    link.symlink_to(good)
    os.mkfifo(pipe)
    mixed = [good, link, tmp_path, pipe, tmp_path / "none", long]
    _, table = media_cache.load(mixed, tmp_path / "cache", KIND, (1,), convert, 0.9)
    assert table["reason"].tolist() == [
        "", "a symbolic link", "not a file", "not a file", "unreadable: No such file or directory",
        "10 bytes: expected at most 9",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("cells", "told"),
    [
        ([b"good", "text"], "row 1, column 'square': expected the bytes of a square"),
        ([b"good", b"good", b"bad"], "row 2, column 'square': 3 bytes: expected 4"),
        ([b"0123456789"], "row 0, column 'square': 10 bytes: expected at most 9"),
    ],
)
def test_the_first_bad_file_of_a_request_is_told_by_its_row(cells, told):
    with pytest.raises(InputError, match=told):
        media_cache.requested(pd.DataFrame({"square": cells}), "square", "pixels", KIND, convert)


def test_a_request_becomes_records_without_a_label():
    records = media_cache.requested(pd.DataFrame({"square": [b"abcd", b"wxyz"]}), "square", "pixels", KIND, convert)
    assert records["id"].tolist() == [0, 1]
    assert records["labelled"].tolist() == [False, False]
    assert "label" not in records
    assert [bytes(pixels) for pixels in records["pixels"]] == [b"abcd", b"wxyz"]
    assert media_cache.requested(pd.DataFrame({"square": []}), "square", "pixels", KIND, convert).empty
