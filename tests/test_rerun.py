"""Training again: several files as one, sides that stay, and networks that start from another."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pandas as pd
import pytest
import soundfile
from keras import layers
from PIL import Image

from pipelines.core.commands import train
from pipelines.core.contract import InputError, Settings, discover
from pipelines.core.data import typed_json
from pipelines.core.data.dataset import Dataset
from pipelines.core.data.splits import Splits
from pipelines.core.reading import downloads
from pipelines.core.review.run_context import load_start
from pipelines.core.store import champions, isolation, manifest, registry, tracking
from pipelines.core.training import warm_start
from pipelines.fraud import Settings as Fraud
from pipelines.fraud import data as fraud
from pipelines.fraud import demo
from pipelines.fraud import model as fraud_model
from pipelines.fraud import reading as fraud_reading
from pipelines.medical_images import Settings as Images
from pipelines.medical_images import data as images
from pipelines.speech_commands import Settings as Speech
from pipelines.speech_commands import data as speech
from pipelines.stocks import Settings as Stocks
from pipelines.stocks import data as stocks
from tests.builders import dataset

BLOBS = discover("toys")["blobs"]
DEMO = [downloads.Origin("demo", "demo")]


# Several files as one


def picture(path: Path, level: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8), level, np.uint8)).save(path)


def test_images_of_two_folders_join_with_their_own_pixels_and_classes_in_the_order_they_came(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    levels = {"old/bee/1": 10, "old/cat/2": 20, "new/ant/1": 30, "new/cat/1": 40, "new/cat/copy": 20}
    for name, level in levels.items():
        picture(tmp_path / f"{name}.png", level)
    data = images.append([(tmp_path / "old", Images()), (tmp_path / "new", Images())])
    assert data.about.classes == ("bee", "cat", "ant")
    facts = images.learn(data, Images())
    shown = images.encode(data, facts).inputs["image"][np.arange(len(data))][:, 0, 0, 0]
    named = [data.about.classes[label] for label in data.records["label"]]
    assert sorted(zip(shown, named, strict=True)) == [(10, "bee"), (20, "cat"), (30, "ant"), (40, "cat")]


def recording(path: Path, level: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.full(8_000, level, np.int16), 8_000)


def test_recordings_of_one_more_speaker_join_those_of_before(tmp_path, monkeypatch):
    """The new folder alone has too few speakers to be split; together they have enough."""
    monkeypatch.chdir(tmp_path)
    level = 0
    for folder, people in (("old", "abcde"), ("new", "ef")):
        for person in people:
            for word in (0, 1):
                level += 100
                # The recordings of e in the new folder are those of the old one.
                recording(tmp_path / folder / f"{word}_{person}_0.wav", level if person != "e" else 7_000 + word)
    settings = Speech(sample_rate=8_000)
    data = speech.append([(tmp_path / "old", settings), (tmp_path / "new", settings)])
    assert len(data) == 12
    assert data.records["group"].nunique() == 6
    assert len(data.about.clips) == 2
    facts = speech.learn(data, settings)
    clips = speech.encode(data, facts).inputs["clip"][np.arange(12)]
    heard = dict(zip(data.records["id"], clips[:, 4_000], strict=True))
    assert (heard["0_a_0.wav"], heard["1_e_0.wav"], heard["0_f_0.wav"]) == (100, 7_001, 1_300)
    assert len(set(heard.values())) == 12


@pytest.fixture(scope="module")
def payments() -> pd.DataFrame:
    table = demo.make(0)
    return table[table["customer"].isin([f"C{number:04d}" for number in range(60)])].reset_index(drop=True)


def assert_same(data: Dataset, expected: Dataset) -> None:
    pd.testing.assert_frame_equal(data.records, expected.records)
    np.testing.assert_array_equal(data.identity, expected.identity)
    assert (data.about, data.key) == (expected.about, expected.key)


def test_payments_of_two_files_join_to_what_one_file_gives(tmp_path, payments):
    payments.to_csv(tmp_path / "all.csv", index=False)
    payments.iloc[:600].to_csv(tmp_path / "early.csv", index=False)
    payments.iloc[500:].to_csv(tmp_path / "late.csv", index=False)
    whole = fraud_reading.read(tmp_path / "all.csv", Fraud())
    both = fraud_reading.append([(tmp_path / f"{name}.csv", Fraud()) for name in ("early", "late")])
    assert_same(both, whole)


def test_prices_of_two_files_join_to_what_one_file_gives(tmp_path):
    from pipelines.stocks import demo as prices

    table = prices.indices()
    days = np.sort(table["Date"].unique())
    for name, kept in (("all", days[:500]), ("early", days[:400]), ("late", days[350:500])):
        table[table["Date"].isin(kept)].to_csv(tmp_path / f"{name}.csv", index=False)
    whole = stocks.read(tmp_path / "all.csv", Stocks())
    both = stocks.append([(tmp_path / f"{name}.csv", Stocks()) for name in ("early", "late")])
    assert_same(both, whole)


def test_the_last_days_that_are_asked_for_are_test(payments, tmp_path):
    payments.to_csv(tmp_path / "all.csv", index=False)
    data = fraud_reading.read(tmp_path / "all.csv", Fraud())
    tested, records = fraud.split(data, Fraud(test_days=7)).test, data.records
    end = records["time"].max().normalize() + pd.Timedelta(days=1)
    assert records["time"].iloc[tested].min() >= end - pd.Timedelta(days=7)
    assert (records["time"] >= end - pd.Timedelta(days=7)).sum() == len(tested)


# The data of before


def version(**tags: str) -> registry.Version:
    return registry.Version("toy", 7, "run", tags)


@pytest.fixture
def chained(tmp_path, monkeypatch):
    """A champion that was trained on old.csv, and the origin of new.csv."""
    for name in ("old", "new"):
        (tmp_path / f"{name}.csv").write_text(name)
    origins = [downloads.Origin("own", name, tmp_path / f"{name}.csv") for name in ("old", "new")]
    splits = Splits(np.array([0]), np.array([1]), np.array([2]))
    summary, table = manifest.describe(people("abc"), splits, origins[:1])
    monkeypatch.setattr(manifest, "load", lambda version: (summary, table))
    return origins


def test_the_files_of_the_champion_come_before_the_new_one_and_the_same_file_once(chained):
    old, new = chained
    assert manifest.chain(version(), "toy", new) == [old, new]
    assert manifest.chain(version(), "toy", old) == [old]


def test_a_file_that_is_gone_or_has_changed_is_refused_by_name(chained):
    old, new = chained
    old.path.write_text("changed")
    with pytest.raises(InputError, match=r"old.csv is no longer what version 7 was trained on"):
        manifest.chain(version(), "toy", new)
    old.path.unlink()
    with pytest.raises(InputError, match=r"old.csv, which version 7 was trained on, is gone"):
        manifest.chain(version(), "toy", new)


def test_without_a_champion_there_is_nothing_to_append_to(chained):
    with pytest.raises(InputError, match=r"--append: expected a champion of toy"):
        manifest.chain(None, "toy", chained[1])


# Sides that stay


def people(groups: str) -> Dataset:
    return dataset({"label": 0, "x": np.arange(len(groups)), "group": list(groups)}, ("x",))


def test_a_new_record_of_a_known_group_joins_it_and_a_new_group_goes_where_it_was_drawn(monkeypatch):
    before = people("aabbcc")
    told = manifest.describe(before, Splits(*np.split(np.arange(6), [2, 4])), DEMO)
    monkeypatch.setattr(manifest, "load", lambda version: told)
    drawn = Splits(np.array([4, 5, 8]), np.array([2, 3, 7]), np.array([0, 1, 6, 9]))
    kept = manifest.keep_sides(drawn, people("aabbccabcd"), version())
    assert [rows.tolist() for rows in kept.sides().values()] == [[0, 1, 6], [2, 3, 7], [4, 5, 8, 9]]


def test_what_the_start_has_learnt_from_is_in_no_test_and_what_it_was_trained_on_stops_nothing(monkeypatch):
    before = people("aabbcc")
    told = manifest.describe(before, Splits(*np.split(np.arange(6), [2, 4])), DEMO)
    monkeypatch.setattr(manifest, "load", lambda version: told)
    drawn = Splits(np.array([4]), np.array([0, 2, 6]), np.array([1, 3, 5, 7]))
    kept = manifest.drop_seen_records(drawn, people("aabbccde"), version())
    assert [rows.tolist() for rows in kept.sides().values()] == [[4], [2, 6], [5, 7]]
    assert sum(kept.left_out.values()) == 3
    with pytest.raises(InputError, match="has learnt from all test records"):
        manifest.drop_seen_records(replace(drawn, test=np.array([1, 3])), people("aabbccde"), version())


def test_records_stay_on_their_sides_in_a_file_of_another_order_with_other_columns(monkeypatch):
    """Recognised by the columns of the champion's run, whatever key the new data have."""
    before = dataset({"label": 0, "x": np.arange(6), "day": 1.0}, ("x", "day"))
    told = manifest.describe(before, Splits(*np.split(np.arange(6), [2, 4])), DEMO)
    monkeypatch.setattr(manifest, "load", lambda version: told)
    now = dataset({"label": 0, "extra": "new", "day": 1, "x": [str(x) for x in range(7, -1, -1)]}, ("x", "extra"))
    drawn = Splits(np.arange(0, 3), np.arange(3, 6), np.arange(6, 8))
    kept = manifest.keep_sides(drawn, now, version())
    assert [rows.tolist() for rows in kept.sides().values()] == [[0, 1, 6, 7], [4, 5], [2, 3]]


def test_data_without_a_column_by_which_the_champion_recognises_records_are_refused(monkeypatch):
    told = manifest.describe(people("aabbcc"), Splits(*np.split(np.arange(6), [2, 4])), DEMO)
    monkeypatch.setattr(manifest, "load", lambda version: told)
    now = dataset({"label": 0, "group": list("abc")})
    with pytest.raises(InputError, match="Expected the column 'x', by which records are recognised"):
        manifest.keep_sides(Splits(np.array([0]), np.array([1]), np.array([2])), now, version())


def test_a_version_of_an_earlier_release_is_refused_with_a_sentence(monkeypatch, tmp_path):
    """Its manifest has hashes of whole records, which no later file shares."""
    (tmp_path / manifest.SUMMARY).write_text(json.dumps({"test": {"rows": 1}, "name": "march"}))
    pd.DataFrame({"record_hash": [1], "side": ["test"]}).to_parquet(tmp_path / manifest.TABLE)
    monkeypatch.setattr(tracking, "fetch", lambda run_id, name: tmp_path / name)
    old = registry.Version("toy", 7, "a run of an earlier release", {})
    with pytest.raises(InputError, match=r"^Version 7 of toy was registered by an earlier release.*--name\.$"):
        manifest.load(old)


# Networks that start from another


def network(words: int = 5, classes: int = 3, width: int = 8, mean: float = 0.0) -> keras.Model:
    number, word = keras.Input((2,), name="number"), keras.Input((), name="word", dtype="int32")
    scaled = layers.Normalization(mean=[mean, mean], variance=[1.0, 4.0], dtype="float32")(number)
    hidden = layers.Concatenate()([scaled, layers.Embedding(words, 3)(word)])
    hidden = layers.Dense(width, activation="relu")(hidden)
    outputs = layers.Dense(classes, activation="softmax", dtype="float32")(hidden)
    return keras.Model({"number": number, "word": word}, outputs)


@dataclass(frozen=True)
class Facts:
    name: str
    edges: tuple[float, ...] | None = None
    means: tuple[float, ...] = ()


def started(source: keras.Model, facts: Facts | None = None) -> warm_start.Start:
    return warm_start.Start("m", 7, "2 5 7", source, facts)


def answers(model: keras.Model) -> np.ndarray:
    rng = np.random.default_rng(0)
    return model.predict({"number": rng.normal(5, 3, (50, 2)), "word": np.arange(50) % 5}, verbose=0)


def test_a_network_of_the_same_shape_answers_as_the_one_it_starts_from_also_when_saved(tmp_path):
    source, fresh = network(mean=3.0), network(mean=0.0)
    told = warm_start.reuse(fresh, started(source))
    np.testing.assert_allclose(answers(fresh), answers(source), atol=1e-6)
    assert "4 layers as they were." in told
    fresh.save(tmp_path / "model.keras")
    np.testing.assert_allclose(answers(keras.saving.load_model(tmp_path / "model.keras")), answers(source), atol=1e-6)


def test_what_has_grown_keeps_what_it_knew(tmp_path):
    source, larger = network(), network(words=7, classes=4)
    told = warm_start.reuse(larger, started(source))
    np.testing.assert_array_equal(
        larger.get_layer(index=-1).get_weights()[0][:, :3], source.get_layer(index=-1).get_weights()[0]
    )
    before = answers(source)
    after = answers(larger)[:, :3]
    np.testing.assert_allclose(after / after.sum(axis=1, keepdims=True), before, atol=1e-5)
    assert "from (5, 3) to (7, 3)" in told
    assert "from (8, 3) to (8, 4)" in told


def test_a_hidden_layer_of_another_width_is_new_and_told():
    wider = network(width=16)
    untouched = wider.layers[-2].get_weights()[0].copy()
    told = warm_start.reuse(wider, started(network()))
    assert f"2 layers as they were; new: {wider.layers[-2].name}, {wider.layers[-1].name}." in told
    np.testing.assert_array_equal(wider.layers[-2].get_weights()[0], untouched)


def test_the_ancestors_are_those_of_the_start_and_itself(monkeypatch):
    monkeypatch.setattr(isolation, "load", lambda uri: SimpleNamespace(network=None, facts=Facts("old")))
    assert load_start(version(ancestors="2 5")).ancestors == "2 5 7"
    assert load_start(version()).ancestors == "7"


def test_adapted_facts_stay_where_the_inputs_are_the_same_and_other_inputs_are_refused():
    start = started(network(), Facts("old", edges=(1, 2), means=(5,)))
    learnt, adapted = Facts("new"), Facts("new", edges=(3,))
    inputs = {"number": np.zeros((4, 2)), "word": np.zeros(4)}
    assert start.adapted(learnt, adapted, inputs) == Facts("new", edges=(1, 2)), "what `adapt` adds is the version's"
    assert start.adapted(learnt, adapted, inputs | {"number": np.zeros((4, 3))}) == adapted
    with pytest.raises(InputError, match=r"--from: expected data for the inputs of version 7, number, word"):
        start.adapted(learnt, adapted, {"number": np.zeros((4, 2))})


def test_payments_for_a_start_keep_its_columns_in_their_order_and_its_categories_first():
    rows = 60
    table = {"tip": np.arange(rows) % 7, "age": np.arange(rows) % 5, "kind": ["b", "c", "a"] * 20, "is_fraud": 0}
    roles = fraud_reading.Roles(label="is_fraud")
    data = dataset(table | {"label": np.int8(0)}, ("tip", "age", "kind"), about=fraud_reading.About(roles, 0.0))
    columns = {"age": ("double", True), "kind": ("string", True)}
    facts = fraud.Facts(roles, 0.0, ("age",), {"kind": ("c", "b")}, ("age", "kind"), columns)
    adopted = fraud.adopt(data, facts)
    learnt = fraud.learn(adopted, Fraud())
    assert learnt.features == ("age", "kind")
    assert learnt.categorical == {"kind": ("c", "b", "a")}
    assert any("tip is left out" in note for note in (*adopted.notes, *learnt.notes))
    np.testing.assert_array_equal(adopted.identity, data.identity)


def test_the_encoding_of_payments_survives_json_and_makes_the_same_network(payments, tmp_path):
    """The edges are facts, so that a later network can keep them."""
    payments.to_csv(tmp_path / "payments.csv", index=False)
    data = fraud_reading.read(tmp_path / "payments.csv", Fraud())
    facts = fraud.learn(data, Fraud())
    encoded = fraud.encode(data, facts)
    x = {name: values[np.arange(len(data))] for name, values in encoded.inputs.items()}
    y = encoded.targets["label"][np.arange(len(data))]
    adapted = fraud_model.adapt(facts, Fraud(), x, y)
    stored = typed_json.from_json(fraud.Facts, json.loads(json.dumps(typed_json.to_json(adapted))))
    assert stored == adapted
    few = {name: values[:20] for name, values in x.items()}
    one, two = (fraud_model.build(known, Fraud(), x, y) for known in (adapted, stored))
    warm_start.reuse(two, started(one))
    np.testing.assert_allclose(two.predict(few, verbose=0), one.predict(few, verbose=0), atol=1e-6)


def test_tickers_keep_their_places_and_their_coefficients_whatever_the_order():
    data = stocks.read(None, Stocks(data="random-walk"))
    train = data.take(stocks.split(data, Stocks()).train)
    plain = stocks.learn(train, Stocks())
    turned = replace(plain, tickers=plain.tickers[::-1])
    after = stocks.learn(stocks.adopt(train, turned), Stocks())
    assert after.tickers == turned.tickers
    assert after.har[1:] == plain.har[1:][::-1]
    assert after.har[0] == plain.har[0]


# End to end


def test_a_network_trained_on_more_starts_from_the_champion_and_says_so(store, tmp_path, capsys):
    settings = Settings(epochs=2, learning_rate=0.02, batch_size=128)
    table = BLOBS.demo.make(1)
    table[table["subject"] < 700].to_csv(tmp_path / "old.csv", index=False)
    table[table["subject"] >= 650].to_csv(tmp_path / "new.csv", index=False)
    pipeline = replace(BLOBS, gates=())
    train.train(pipeline, replace(settings, data="old.csv"))
    capsys.readouterr()

    outcome = train.train(pipeline, replace(settings, data="new.csv", from_="champion", append=True))
    said = capsys.readouterr().out
    assert "900 of 3,000 records are new" in said
    assert "Starts from version 1 of blobs: 3 layers as they were." in said
    assert len(outcome.parts["test"].records) == 3_000
    second = registry.find("blobs", "2")
    assert second.tags["ancestors"] == "1"
    summary, _ = manifest.load(second)
    assert [source["name"] for source in summary["sources"]] == ["old", "new"]
    recorded = store.get_run(second.run_id).data
    assert (recorded.params["from"], recorded.params["append"]) == ("1", "True")
    files = [file.path for file in store.list_artifacts(second.run_id, "figures")]
    assert "figures/drift.png" in files

    champions.set_champion(registry.find("blobs", "1"))
    train.train(pipeline, replace(settings, data="new.csv", append=True, from_="2"))
    assert "Together: old, new." in capsys.readouterr().out
    assert registry.find("blobs", "3").tags["ancestors"] == "1 2"


def test_another_kind_of_data_is_refused_before_training_and_leaves_no_run(store, tmp_path, monkeypatch):
    settings = Settings(epochs=1, batch_size=128, data="points.csv")
    BLOBS.demo.make(1).to_csv(tmp_path / "points.csv", index=False)
    pipeline = replace(BLOBS, gates=())
    train.train(pipeline, settings)
    held = BLOBS.data.columns(BLOBS.data.Facts())
    monkeypatch.setattr(BLOBS.data, "columns", lambda facts: held | {"a": ("string", True)})
    with pytest.raises(InputError, match=r"Column 'a': expected double, as in version 1 of blobs"):
        train.train(pipeline, settings)
    experiment = store.get_experiment_by_name("blobs")
    assert len(store.search_runs([experiment.experiment_id])) == 1
