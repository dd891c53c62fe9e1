"""`predict` on the toy domain: what is written, what is refused, and what is left behind."""

from dataclasses import replace
from types import SimpleNamespace

import mlflow
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys.blobs import PIPELINE
from toys.blobs import data as blobs

from pipelines.core.commands import predict, train
from pipelines.core.contract import Capabilities, History, InputError, Settings
from pipelines.core.data.arrays import Encoded
from pipelines.core.data.requests import BLOCK, Request
from pipelines.core.reading import tables
from pipelines.core.review import compatibility
from pipelines.core.serving import model
from pipelines.core.store import champions, isolation, tracking
from pipelines.core.store.looks import looks
from tests.builders import dataset


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project folder with a champion, as the working directory, and its data without labels."""
    folder = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", "")
        table = PIPELINE.demo.make(1)
        table.to_csv("old.csv", index=False)
        train.train(PIPELINE, Settings(data="old.csv", epochs=5, learning_rate=0.02, batch_size=128))
        table.drop(columns="class").to_csv("new.csv", index=False)
        yield folder


@pytest.fixture
def fussy(monkeypatch):
    """The toy domain with a column of numbers that a row may get wrong."""
    plain = blobs.parse

    def parse(table, facts):
        return plain(table.assign(a=tables.numbers(table["a"], "request", required=True)), facts)

    monkeypatch.setattr(blobs, "parse", parse)


def predictions() -> pd.DataFrame:
    return pd.read_parquet(tracking.fetch(champions.current("blobs").run_id, "test_predictions.parquet"))


def last_run():
    client = mlflow.MlflowClient()
    return client.search_runs([client.get_experiment_by_name("blobs").experiment_id])[0]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_decisions_are_those_of_the_run_with_the_model_that_made_them(project, suffix):
    predict.predict(PIPELINE, data="new.csv", out=f"told{suffix}")
    told = (pd.read_csv if suffix == ".csv" else pd.read_parquet)(f"told{suffix}")
    assert list(told) == ["id", "probability", "decision", "model", "version", "error"]
    assert told["id"].tolist() == list(range(len(PIPELINE.demo.make(1))))
    logged = predictions().set_index("id")["network"]
    assert told.set_index("id").loc[logged.index, "probability"].to_numpy() == pytest.approx(logged, abs=1e-6)
    assert set(told["model"]) == {"blobs"}
    assert set(told["version"]) == {1}
    assert told["error"].isin(["", np.nan]).all()


def test_the_run_holds_fingerprint_counts_and_drift_and_is_no_look_at_a_test(project):
    before = looks(PIPELINE, champions.current("blobs").run_id)
    predict.predict(PIPELINE, data="new.csv", out="told.csv")
    found = last_run()
    assert found.data.tags["kind"] == "predict"
    assert len(found.data.params["data_sha256"]) == 64
    assert found.data.metrics["predict/rows_scored"] == 3000
    assert found.data.metrics["predict/rows_with_errors"] == 0
    assert found.data.metrics["predict/score_drift"] < 0.05
    after = looks(PIPELINE, champions.current("blobs").run_id)
    assert after == before


def test_scores_that_have_moved_are_said(project, capsys):
    moved = PIPELINE.demo.make(1).drop(columns="class")
    moved[["a", "b"]] += 2
    moved.to_csv("moved.csv", index=False)
    predict.predict(PIPELINE, data="moved.csv", out="told.csv")
    assert "WARNING" in capsys.readouterr().out
    assert last_run().data.metrics["predict/score_drift"] > compatibility.WARN


def test_rows_with_labels_are_left_out_unless_every_row_has_one(project, capsys):
    table = PIPELINE.demo.make(1).astype({"class": float})
    table.loc[10:19, "class"] = np.nan
    table.to_csv("some.csv", index=False)
    predict.predict(PIPELINE, data="some.csv", out="told.csv")
    assert pd.read_csv("told.csv")["id"].tolist() == list(range(10, 20))
    assert "Rows without a label are scored." in capsys.readouterr().out
    predict.predict(PIPELINE, data="old.csv", out="told.csv")
    assert len(pd.read_csv("told.csv")) == len(table)
    assert "every one has a label" in capsys.readouterr().out


def test_rows_that_cannot_be_read_are_written_with_the_reason_and_change_no_other(project, fussy, capsys):
    predict.predict(PIPELINE, data="new.csv", out="clean.parquet")
    table = pd.read_csv("new.csv").astype({"a": object})
    table.loc[[0, 7, 2999], "a"] = ["x", None, "y"]
    table.to_csv("bad.csv", index=False)
    predict.predict(PIPELINE, data="bad.csv", out="told.parquet")
    clean, told = pd.read_parquet("clean.parquet"), pd.read_parquet("told.parquet")
    bad = told["error"] != ""
    assert np.flatnonzero(bad).tolist() == [0, 7, 2999]
    assert told["error"][0] == "request, row 2, column 'a': expected a number. Received: 'x'."
    assert told["probability"][bad].isna().all()
    np.testing.assert_array_equal(told["probability"][~bad], clean["probability"][~bad])
    assert last_run().data.metrics["predict/rows_with_errors"] == 3
    assert "3 rows could not be scored" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"out": "told.txt"}, [".csv or .parquet", "told.txt"]),
        ({"out": "nowhere/told.csv"}, ["--out", "nowhere/told.csv"]),
        ({"out": "new.csv"}, ["another file", "new.csv"]),
        ({"history": "new.csv"}, ["--history", "no history"]),
        ({"history": "none.csv"}, ["No such file: none.csv"]),
        ({"data": "none.csv"}, ["No such file: none.csv"]),
        ({"data": "narrow.csv"}, ["'b'"]),
        ({"data": "letters.csv"}, ["letters", "3,000", "'x'"]),
        ({"version": "7"}, ["version 7", "blobs"]),
    ],
)
def test_what_does_not_fit_is_refused_and_leaves_neither_file_nor_run(project, fussy, change, told):
    table = pd.read_csv("new.csv")
    table.drop(columns="b").to_csv("narrow.csv", index=False)
    table.assign(a="x").to_csv("letters.csv", index=False)
    runs, files = last_run().info.run_id, {path.name: path.read_bytes() for path in project.glob("*.*")}
    with pytest.raises(InputError) as refused:
        predict.predict(PIPELINE, **{"data": "new.csv", "out": "fresh.csv"} | change)
    assert all(word in str(refused.value) for word in told), refused.value
    assert "\n" not in str(refused.value)
    assert {path.name: path.read_bytes() for path in project.glob("*.*")} == files
    assert last_run().info.run_id == runs


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_history_that_exists_reaches_the_domain_as_it_is(project, monkeypatch, kind):
    """What a history may look like is for the domain to say."""
    old = project / f"old_{kind}"
    old.mkdir(exist_ok=True) if kind == "folder" else old.write_text("")
    seen = []

    def requests(path, history, facts, settings):
        seen.append(history)
        raise InputError("enough")

    history = History(age=lambda *_: None, context=lambda part, facts: part.rows)
    monkeypatch.setattr(blobs, "CAPABILITIES", replace(blobs.CAPABILITIES, history=history, requests=requests))
    with pytest.raises(InputError, match="enough"):
        predict.predict(PIPELINE, data="new.csv", out="fresh.csv", history=f"old_{kind}")
    assert [path.resolve() for path in seen] == [old]


def test_what_is_interrupted_leaves_the_file_of_before(project, monkeypatch):
    predict.predict(PIPELINE, data="new.csv", out="kept.csv")
    PIPELINE.demo.make(1, BLOCK).drop(columns="class").to_csv("long.csv", index=False)  # three a subject
    before = (project / "kept.csv").read_bytes(), set(project.iterdir())
    decide = PIPELINE.task.decide
    calls = []

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) > 1:
            raise KeyboardInterrupt
        return decide(*arguments)

    monkeypatch.setattr(PIPELINE.task, "decide", interrupted)
    with pytest.raises(KeyboardInterrupt):
        predict.predict(PIPELINE, data="long.csv", out="kept.csv")
    assert len(calls) == 2
    assert ((project / "kept.csv").read_bytes(), set(project.iterdir())) == before


@pytest.mark.slow
def test_a_version_is_run_with_the_code_that_it_carries(project, monkeypatch):
    predict.predict(PIPELINE, data="new.csv", out="here.parquet")
    monkeypatch.setattr(isolation, "code_sha256", lambda pipeline: "of another day")
    monkeypatch.setattr(PIPELINE.task, "decide", None)  # today's code would fail
    predict.predict(PIPELINE, data="new.csv", out="there.parquet")
    here, there = pd.read_parquet("here.parquet"), pd.read_parquet("there.parquet")
    pd.testing.assert_frame_equal(here, there)
    pd.DataFrame({"subject": [1]}).to_csv("narrow.csv", index=False)
    with pytest.raises(InputError, match="expected the column 'a'"):
        predict.predict(PIPELINE, data="narrow.csv", out="there.parquet")


# ---------------------------------------------------------------------------------------------------- blocks, in order


class Numbering(model.Scorer):
    """A scorer whose outputs are the numbers of the rows."""

    def __init__(self):
        self.facts, self.network = None, None
        encoded = SimpleNamespace(
            encode=lambda data, facts: Encoded({"n": np.arange(len(data))}), CAPABILITIES=Capabilities()
        )
        task = SimpleNamespace(
            decide=lambda outputs, facts, part: pd.DataFrame({"n": outputs, "yes": True}),
            scores=lambda outputs, facts: outputs.astype(float),
        )
        self.pipeline = SimpleNamespace(data=encoded, task=task)


@given(st.lists(st.booleans(), max_size=30), st.integers(1, 7))
def test_rows_at_fault_stand_where_they_stood_whatever_the_blocks(good, block):
    good = np.array([True, *good])
    data = dataset(pd.DataFrame({"id": np.flatnonzero(good)}, index=np.flatnonzero(good)))
    bad = np.flatnonzero(~good)
    faults = pd.DataFrame({"id": bad, "error": "bad"}, index=bad)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipelines.core.data.requests.BLOCK", block)
        patch.setattr("pipelines.core.training.batches.predict", lambda network, part: part.x()["n"])
        blocks = list(Numbering().answers(Request(data, np.arange(len(data)), faults)))
    told = pd.concat([decisions for decisions, _ in blocks])
    assert np.concatenate([scores for _, scores in blocks]).tolist() == list(range(len(data)))
    assert told["id"].tolist() == list(range(len(good)))
    assert (told["error"] == "").tolist() == good.tolist()
    assert told["n"].isna().tolist() == (~good).tolist()


# ------------------------------------------------------------------------------------------------------------- tables


def test_every_row_at_fault_is_told_whichever_check_finds_it():
    table = pd.DataFrame({"id": [1, 2, 2, 4], "a": ["1", "x", "3", None]}, index=[5, 6, 7, 8])

    def parse(table):
        numbers = tables.numbers(table["a"], "new.csv", required=True)
        return pd.DataFrame({"id": tables.identifiers(table, "id", "new.csv"), "a": numbers})

    records, faults = tables.parse_valid_rows(parse, table, table["id"])
    assert records.index.tolist() == [5, 7]  # with the row at fault gone, its identifier stands once
    assert faults.index.tolist() == [6, 8]
    assert faults["id"].tolist() == [2, 4]
    assert all(f"row {row}" in told for row, told in faults["error"].items())


def test_a_table_without_a_row_that_can_be_read_is_refused_with_the_first_fault():
    def parse(table):
        tables.refuse(table["a"], table["a"] > 0, "a number below 0", "new.csv")
        raise InputError("nothing is left")

    with pytest.raises(InputError, match="row 0, column 'a': expected a number below 0"):
        tables.parse_valid_rows(parse, pd.DataFrame({"a": [1, 2]}), pd.Series([0, 1]))


@given(st.integers(1, 40), st.integers(1, 11), st.sampled_from([".csv", ".parquet"]))
def test_a_table_in_chunks_is_the_table(tmp_path_factory, rows, chunk, suffix):
    path = tmp_path_factory.mktemp("chunks") / f"table{suffix}"
    table = pd.DataFrame({"id": [f"{n:03d}" for n in range(rows)], "a": np.arange(rows) / 7, "b": "x"})
    (table.to_csv if suffix == ".csv" else table.to_parquet)(path, index=False)
    parts = list(tables.chunks(path, {"id": True, "a": True, "c": False}, ["id"], chunk))
    assert max(map(len, parts)) <= chunk
    whole = pd.concat(parts)
    pd.testing.assert_frame_equal(whole, tables.load(path, ["id"])[["id", "a"]])
