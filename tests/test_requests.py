"""Data to predict on, as each pipeline reads them: some at a time, with their history, without what is at fault."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from test_stocks_baselines import autoregressive, prices

from pipelines.core.contract import InputError
from pipelines.core.reading import tables
from pipelines.fraud import PIPELINE as FRAUD
from pipelines.medical_images import PIPELINE as IMAGES
from pipelines.medical_images import images
from pipelines.speech_commands import PIPELINE as SPEECH
from pipelines.speech_commands import audio
from pipelines.stocks import PIPELINE as STOCKS


def asked(pipeline, path, facts, history=None):
    return list(pipeline.data.CAPABILITIES.requests(path, history, facts, pipeline.settings()))


def decoded(pipeline, request, facts, rows):
    found = pipeline.data.encode(request.data, facts).inputs
    return {name: np.asarray(values[rows]) for name, values in found.items()}


# --------------------------------------------------------------------------------------------------------------- fraud


@pytest.fixture(scope="module")
def payments():
    """The demo's payments of some customers, what training learns, and which payments are new."""
    table = FRAUD.demo.make(0)
    table = table[table["customer"] < "C0060"].astype({"payment_id": str}).reset_index(drop=True)
    train = FRAUD.data.read(None, FRAUD.settings()).take(np.arange(20_000))
    facts = FRAUD.data.learn(train, FRAUD.settings())
    return table, facts, table["time"] >= "2024-06-01"


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_payments_with_a_history_are_decoded_as_in_one_table(payments, tmp_path, monkeypatch, suffix):
    table, facts, new = payments
    monkeypatch.setattr(tables.chunks, "__defaults__", (None, (), 700))
    for name, part in {"old": table[~new], "new": table[new].drop(columns="fraud")}.items():
        (part.to_csv if suffix == ".csv" else part.to_parquet)(tmp_path / f"{name}{suffix}", index=False)
    (request,) = asked(FRAUD, tmp_path / f"new{suffix}", facts, tmp_path / f"old{suffix}")
    assert request.data.records["id"].iloc[request.rows].tolist() == table["payment_id"][new].tolist()
    assert request.faults.empty

    whole = FRAUD.data.parse(table.assign(fraud=table["fraud"].astype(float).mask(new)), facts)
    expected = FRAUD.data.encode(whole, facts).inputs
    rows = np.flatnonzero(new)
    for name, values in decoded(FRAUD, request, facts, request.rows).items():
        np.testing.assert_array_equal(values, np.asarray(expected[name][rows]), name)
    ages = FRAUD.data.CAPABILITIES.history.age(request.data, request.rows, facts)
    since = (table["time"][new] - table["time"][~new].max()) / pd.Timedelta(days=1)
    assert ages == pytest.approx(since.to_numpy(), abs=1e-4)


def test_a_payment_that_stands_in_the_history_too_is_at_fault_and_seen_once(payments, tmp_path):
    table, facts, new = payments
    table[~new].to_csv(tmp_path / "old.csv", index=False)
    again = pd.concat([table[~new].tail(2), table[new]]).drop(columns="fraud")
    again.to_csv(tmp_path / "new.csv", index=False)
    (request,) = asked(FRAUD, tmp_path / "new.csv", facts, tmp_path / "old.csv")
    assert request.faults.index.tolist() == [2, 3]
    assert request.faults["id"].tolist() == table["payment_id"][~new].tail(2).tolist()
    assert len(request.data.records) == len(table)
    assert len(request.rows) == new.sum()


def test_a_folder_is_no_history_of_payments(payments, tmp_path):
    table, facts, new = payments
    table[new].to_csv(tmp_path / "new.csv", index=False)
    (tmp_path / "old").mkdir()
    table[~new].to_csv(tmp_path / "old" / "old.csv", index=False)
    with pytest.raises(InputError, match="old is a folder: expected a CSV or Parquet file"):
        asked(FRAUD, tmp_path / "new.csv", facts, tmp_path / "old")


def test_payments_without_identifiers_are_called_by_their_rows(payments, tmp_path):
    table, facts, new = payments
    bare = table.drop(columns=["payment_id", "fraud"])
    bare[~new].to_csv(tmp_path / "old.csv", index=False)
    bare[new].to_csv(tmp_path / "new.csv", index=False)
    (request,) = asked(FRAUD, tmp_path / "new.csv", facts, tmp_path / "old.csv")
    assert request.faults.empty
    assert request.data.records["id"].iloc[request.rows].tolist() == list(range(2, 2 + new.sum()))


# -------------------------------------------------------------------------------------------------------------- stocks


@pytest.fixture(scope="module")
def market(tmp_path_factory):
    """Prices of three tickers, of which one ends early, and what training on them learns."""
    folder = tmp_path_factory.mktemp("market")
    table = prices(autoregressive(3, 700, 0), 0)
    ticker = next(column for column in table if column.lower() == "ticker")
    first = table[ticker].iloc[0]
    table = table[(table[ticker] != first) | (table["date"] < table["date"].sort_values().unique()[-150])]
    table.to_csv(folder / "prices.csv", index=False)
    data = STOCKS.data.read(folder / "prices.csv", STOCKS.settings())
    return folder, table, STOCKS.data.learn(data.take(np.flatnonzero(data.labelled)), STOCKS.settings()), data


def assert_inputs_are_those_of_the_whole(request, facts, data):
    answered = request.data.records.iloc[request.rows]
    rows = data.records.reset_index().set_index("id").loc[answered["id"], "index"].to_numpy()
    expected = STOCKS.data.encode(data, facts).inputs
    for name, values in decoded(STOCKS, request, facts, request.rows).items():
        np.testing.assert_allclose(values, expected[name][rows], rtol=1e-4, atol=1e-5, err_msg=name)


def test_the_last_day_of_each_ticker_is_asked_for_with_no_more_than_it_reads(market):
    folder, _, facts, data = market
    (request,) = asked(STOCKS, folder / "prices.csv", facts)
    answered = request.data.records.iloc[request.rows]
    assert answered["time"].tolist() == data.records.groupby("ticker")["time"].max().sort_values().tolist()
    assert len(request.data) < len(data)
    assert_inputs_are_those_of_the_whole(request, facts, data)
    assert sorted(STOCKS.data.CAPABILITIES.history.age(request.data, request.rows, facts) > 0) == [False, False, True]


def test_days_after_the_history_are_asked_for_with_it(market, tmp_path):
    _, table, facts, data = market
    recent = table["date"] >= table["date"].sort_values().unique()[-30]
    table[~recent].to_csv(tmp_path / "old.csv", index=False)
    table[recent].to_csv(tmp_path / "new.csv", index=False)
    (request,) = asked(STOCKS, tmp_path / "new.csv", facts, tmp_path / "old.csv")
    assert len(request.rows) == recent.sum()
    assert_inputs_are_those_of_the_whole(request, facts, data)


def test_a_file_without_a_ticker_and_its_history_are_of_the_known_ticker_that_its_name_gives(market, tmp_path):
    _, table, facts, _ = market
    column = next(column for column in table if column.lower() == "ticker")
    known = facts.tickers[-1]
    own = table[table[column] == known].drop(columns=column)
    recent = own["date"] >= own["date"].sort_values().iloc[-30]
    own[~recent].to_csv(tmp_path / "old.csv", index=False)
    for name, ticker in {known: known, "june": ""}.items():
        own[recent].to_csv(tmp_path / f"{name}.csv", index=False)
        (request,) = asked(STOCKS, tmp_path / f"{name}.csv", facts, tmp_path / "old.csv")
        assert len(request.rows) == 30
        assert set(request.data.records["ticker"]) == {ticker}


def test_a_last_day_without_a_price_is_at_fault_and_the_day_before_is_answered(market, tmp_path):
    _, table, facts, _ = market
    spoilt = table.copy()
    last = spoilt["date"].idxmax()
    spoilt.loc[last, "close"] = np.nan
    spoilt.to_csv(tmp_path / "prices.csv", index=False)
    (request,) = asked(STOCKS, tmp_path / "prices.csv", facts)
    assert len(request.faults) == 1
    assert "close" in request.faults["error"].iloc[0]
    assert f"{table['date'][last]:%Y-%m-%d}" in request.faults["id"].iloc[0]
    assert len(request.rows) == 3


@pytest.mark.parametrize("price", [None, 0, -1, "x"])
@pytest.mark.parametrize("place", ["before", "after", "both"])
@pytest.mark.parametrize("split", [False, True], ids=["alone", "with a history"])
def test_a_bad_row_beside_a_good_one_of_the_same_ticker_and_day_is_at_fault_alone(
    market, tmp_path, price, place, split
):
    _, table, facts, _ = market
    bad = table.loc[[table["date"].idxmax()]].astype({"close": object}).assign(close=price)
    parts = {"before": [bad, table], "after": [table, bad], "both": [bad, table, bad]}[place]
    spoilt = pd.concat(parts)
    recent = spoilt["date"] >= table["date"].sort_values().unique()[-30]
    spoilt[~recent].to_csv(tmp_path / "old.csv", index=False)
    spoilt[recent if split else slice(None)].to_csv(tmp_path / "new.csv", index=False)
    (request,) = asked(STOCKS, tmp_path / "new.csv", facts, tmp_path / "old.csv" if split else None)
    name = STOCKS.data.names(bad, facts).iloc[0]
    assert request.faults["id"].tolist() == [name] * (len(parts) - 1)
    assert request.faults["error"].str.contains("column 'close'").all()
    answered = request.data.records["id"].iloc[request.rows].tolist()
    assert answered.count(name) == 1
    assert len(answered) == ((table["date"] >= spoilt["date"][recent].min()).sum() if split else 3)


def test_a_history_is_a_file_or_a_folder_of_one_file_a_ticker(market, tmp_path):
    _, table, facts, _ = market
    ticker = next(column for column in table if column.lower() == "ticker")
    recent = table["date"] >= table["date"].sort_values().unique()[-30]
    table[~recent].to_csv(tmp_path / "old.csv", index=False)
    table[recent].to_csv(tmp_path / "new.csv", index=False)
    for name, part in table[~recent].groupby(ticker):
        (tmp_path / "old").mkdir(exist_ok=True)
        part.drop(columns=ticker).to_csv(tmp_path / "old" / f"{name}.csv", index=False)
    (of_file,), (of_folder,) = (
        asked(STOCKS, tmp_path / "new.csv", facts, tmp_path / old) for old in ("old.csv", "old")
    )
    assert len(of_folder.rows) == recent.sum()
    pd.testing.assert_frame_equal(of_folder.data.records, of_file.data.records)


# --------------------------------------------------------------------------------------------------------------- files


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(5):
        path = tmp_path / "scans" / ("deep/er" if number % 2 else "deep") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (20, 30)).astype(np.uint8)).save(path)
    (tmp_path / "scans" / "deep" / "5.png").write_bytes(b"no image")
    (tmp_path / "scans" / "notes.txt").write_text("no image either")
    return tmp_path / "scans"


SCANS = IMAGES.data.Facts(classes=("no", "yes"), size=16, channels=1)
CLIPS = SPEECH.data.Facts(classes=("no", "yes"), sample_rate=8_000, samples=8_000)


def test_images_of_a_folder_come_in_chunks_in_order_with_the_bad_ones_told(folder, monkeypatch):
    monkeypatch.setattr("pipelines.core.reading.media_cache.CHUNK", 4)
    requests = asked(IMAGES, folder, SCANS)
    assert [request.later for request in requests] == [2, 0]
    ids = [name for request in requests for name in request.data.records["id"]]
    assert ids == ["deep/0.png", "deep/2.png", "deep/4.png", "deep/er/1.png", "deep/er/3.png"]
    (bad,) = pd.concat([request.faults for request in requests]).itertuples()
    assert (bad.Index, bad.id) == (3, "deep/5.png")
    assert "deep/5.png: no PNG" in bad.error
    expected, _ = images.convert((folder / "deep" / "er" / "1.png").read_bytes(), 16, 1)
    assert np.array_equal(decoded(IMAGES, requests[1], SCANS, np.array([0]))["image"][0], expected)


def test_images_of_a_table_are_those_without_a_label(folder):
    names = ["scans/deep/0.png", "scans/deep/2.png", "scans/deep/missing.png"]
    table = pd.DataFrame({"file": names, "label": ["yes", None, None]})
    table.to_csv(folder.parent / "scans.csv", index=False)
    (request,) = asked(IMAGES, folder.parent / "scans.csv", SCANS)
    assert request.data.records["id"].tolist() == names[1:2]
    assert request.faults["id"].tolist() == names[2:]


@pytest.mark.parametrize("name", ["images", "test_images"])
def test_images_of_an_archive_of_arrays_are_fitted_as_those_of_files(folder, monkeypatch, name):
    monkeypatch.chdir(folder.parent)
    pixels = np.random.default_rng(1).integers(0, 255, (3, 20, 20)).astype(np.uint8)
    np.savez("arrays.npz", **{name: pixels})
    (request,) = asked(IMAGES, folder.parent / "arrays.npz", SCANS)
    assert len(request.rows) == 3
    found = decoded(IMAGES, request, SCANS, np.arange(3))["image"]
    assert np.array_equal(found[1], images.fitted(pixels[1][..., None], 16, 1))


def test_recordings_of_a_folder_are_those_but_for_noise(tmp_path):
    wave = np.arange(8_000, dtype=np.int16)
    for name in ("a/1.wav", "b/2.wav", "_background_noise_/hum.wav"):
        (tmp_path / "clips" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "clips" / name).write_bytes(audio.wav(wave, 8_000))
    (tmp_path / "clips" / "a" / "3.wav").write_bytes(b"")
    (request,) = asked(SPEECH, tmp_path / "clips", CLIPS)
    assert request.data.records["id"].tolist() == ["a/1.wav", "b/2.wav"]
    assert request.faults["error"].tolist() == ["a/3.wav: empty file."]
    assert np.array_equal(decoded(SPEECH, request, CLIPS, np.array([1]))["clip"][0], wave)


@pytest.mark.parametrize(("pipeline", "facts"), [(IMAGES, SCANS), (SPEECH, CLIPS)], ids=["images", "clips"])
def test_a_folder_without_files_of_the_kind_is_refused(pipeline, facts, tmp_path):
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(InputError, match="holds no"):
        asked(pipeline, tmp_path, facts)
