"""A record is the same record in every file that holds it: the one promise on which "test stays test" rests."""

import numpy as np
import pandas as pd
import pytest
import soundfile
from PIL import Image
from toys.assays import demo as assays
from toys.blobs import demo as blobs
from toys.documents import demo as documents

from pipelines.core.contract import discover
from pipelines.core.data.identity import identities
from pipelines.core.data.splits import Splits
from pipelines.core.reading.downloads import Origin
from pipelines.core.store import manifest
from pipelines.fraud import demo as fraud
from pipelines.stocks import demo as stocks

PIPELINES = discover() | discover("toys")


def payments() -> pd.DataFrame:
    table = fraud.make(0).head(400)
    table.loc[::3, "fraud"] = 1  # both labels in every part
    return table.assign(region=np.where(np.arange(400) % 2, "north", "south"))


def claims() -> pd.DataFrame:
    """Payments without time and entities, whose identity is all that is said of them."""
    return payments().drop(columns=["payment_id", "time", "customer", "terminal"])


def prices() -> pd.DataFrame:
    table = stocks.indices().drop(columns="Adj Close")
    return table[table["Date"] < "2000-06-01"]


TABLES = {
    "fraud": (payments, {}),
    "claims": (claims, {"label": "fraud", "amount": "amount"}),
    "stocks": (prices, {}),
    "blobs": (blobs.make, {}),
    "assays": (assays.make, {}),
    "documents": (documents.make, {}),
}
"""A user's table of each pipeline that reads tables, and the settings that it is read with."""


def read(name: str, path, **settings):
    pipeline = PIPELINES["fraud" if name == "claims" else name]
    return pipeline.data.read(path, pipeline.settings(data=str(path), **settings))


@pytest.fixture(params=TABLES)
def table(request, tmp_path, monkeypatch):
    """Reads a variant of the table, as CSV or Parquet."""
    monkeypatch.chdir(tmp_path)
    make, settings = TABLES[request.param]
    original = make()

    def variant(change=lambda table: table, suffix=".csv"):
        path = tmp_path / f"data{suffix}"
        changed = change(original.copy())
        changed.to_parquet(path, index=False) if suffix == ".parquet" else changed.to_csv(path, index=False)
        return read(request.param, path, **settings)

    return variant


def same(one: np.ndarray, other: np.ndarray) -> bool:
    return np.array_equal(np.sort(one), np.sort(other))


def test_records_that_differ_have_different_identities(table):
    whole = table()
    assert len(np.unique(whole.identity)) == len(whole.records[list(whole.key)].drop_duplicates())


def test_a_subset_keeps_identities(table):
    whole, some = table(), table(lambda table: table[table.index % 3 > 0])
    assert np.isin(some.identity, whole.identity).all()
    assert len(some) < len(whole)


def test_the_order_of_rows_and_columns_makes_no_difference(table):
    shuffled = table(lambda table: table.sample(frac=1, random_state=0)[list(table)[::-1]])
    assert same(shuffled.identity, table().identity)


def test_an_extra_column_makes_no_difference(table):
    whole = table()
    wider = table(lambda table: table.assign(comment=[f"note {n}" for n in range(len(table))]))
    assert same(identities(wider.records, whole.key), whole.identity)


@pytest.mark.parametrize("table", ["claims", "stocks"], indirect=True)  # whose last column is in the key
def test_a_column_that_is_constant_in_a_subset_makes_no_difference(table):
    """Whether a column is of use is decided from training records, and changes no record."""
    whole = table()
    some = table(lambda table: table[table.iloc[:, -1] == table.iloc[:, -1].mode()[0]])
    assert np.isin(identities(some.records, whole.key), whole.identity).all()


def test_how_numbers_are_written_makes_no_difference(table):
    def written_otherwise(table):
        whole = table.select_dtypes("integer").columns
        return table.astype(dict.fromkeys(whole, float))

    assert same(table(written_otherwise).identity, table().identity)


@pytest.mark.parametrize("table", ["fraud", "claims", "stocks"], indirect=True)  # toys read CSV alone
def test_another_file_format_makes_no_difference(table):
    assert same(table(suffix=".parquet").identity, table().identity)


def test_what_was_learnt_from_is_recognised_in_another_file(table):
    """All records, shuffled and with one more column: the manifest of the run knows those that it learnt from."""
    whole = table()
    sides = np.array_split(np.arange(len(whole)), [len(whole) // 2, len(whole) // 2 + 50])
    summary, manifest_table = manifest.describe(whole, Splits(*sides), [Origin("own", "data")])
    order = np.random.default_rng(1).permutation(len(whole))
    other = table(lambda table: table.iloc[order].drop_duplicates().assign(comment="new"))
    known = manifest.learnt_from(manifest_table, other, identities(other.records, summary["key"]))
    learnt = np.isin(identities(other.records, summary["key"]), whole.identity[np.concatenate(sides[:2])])
    assert learnt.any()
    assert known[learnt].all()
    assert not known.all()


# ------------------------------------------------------------------------------------------------------------- media


def write_images(folder, suffix, order):
    for number in order:
        pixels = np.random.default_rng(number).integers(0, 256, (32, 32), np.uint8)
        path = folder / f"class{number % 2}" / f"image_{'x' * (number % 3)}{number}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)


def write_clips(folder, suffix, order):
    for number in order:
        wave = np.random.default_rng(number).normal(0, 0.1, 16_000)
        path = folder / f"word{number % 2}" / f"speaker{number % 7}_nohash_{number}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, (wave * 32_767).clip(-32_768, 32_767).astype(np.int16), 16_000)


MEDIA = {"medical_images": (write_images, ".png", ".bmp"), "speech_commands": (write_clips, ".wav", ".flac")}


@pytest.mark.parametrize("name", MEDIA)
def test_media_keep_their_identity_in_a_subset_and_in_another_encoding(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write, suffix, other = MEDIA[name]
    write(tmp_path / "whole", suffix, range(40))
    write(tmp_path / "part", other, range(30, 0, -1))
    whole, part = read(name, tmp_path / "whole"), read(name, tmp_path / "part")
    assert len(np.unique(whole.identity)) == len(whole) == 40
    assert len(part) == 30
    assert np.isin(part.identity, whole.identity).all()
