"""The line from data to verdict, on the toy domain of `tests/toys`, in MLflow as a reviewer finds it."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import keras
import mlflow
import numpy as np
import pandas as pd
import pytest

from pipelines.core.commands import train
from pipelines.core.contract import Gate, InputError, Settings, discover
from pipelines.core.review import promotion
from pipelines.core.store import champions
from pipelines.core.training import cost

PIPELINE = discover("toys")["blobs"]
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
SETTINGS = Settings(epochs=5, learning_rate=0.02, batch_size=128)


def runs(client, name="blobs"):
    experiment = client.get_experiment_by_name(name)
    return client.search_runs([experiment.experiment_id]) if experiment else []


def table(path: Path, seed: int = 1, noise: bool = False) -> Path:
    frame = PIPELINE.demo.make(seed)
    if noise:
        frame["class"] = np.random.default_rng(0).integers(0, 2, len(frame))
    frame.to_csv(path, index=False)
    return path


@pytest.mark.parametrize(
    ("name", "counted"), [("assays", "measured_cells"), ("documents", "tags_found"), ("masks", "pixels_in_common")]
)
def test_tasks_of_other_kinds_run_from_data_to_verdict(store, name, counted):
    """Several quantities, some missing; several tags; a class for each pixel, scored in batches."""
    train.train(replace(discover("toys")[name], gates=()), replace(SETTINGS, epochs=1))
    (recorded,) = runs(store, name)
    assert recorded.info.status == "FINISHED"
    assert recorded.data.metrics[f"test/{counted}"] > 0
    assert recorded.data.tags["decision"] in ("champion", "challenger")


def test_a_run_holds_what_a_reviewer_needs_and_the_first_to_pass_its_gates_is_champion(store):
    train.train(PIPELINE, SETTINGS)
    (recorded,) = runs(store)
    data = recorded.data
    assert recorded.info.status == "FINISHED"
    assert data.tags["decision"] == "champion"
    assert recorded.info.run_name.startswith("champion · roc auc 0.")
    assert recorded.info.run_name.endswith("· demo")
    assert {"pipeline", "data", "headline", "mlflow.note.content"} <= set(data.tags)
    assert data.params["seed"] == "0"
    assert data.params["backend"] in {"tensorflow", "jax"}
    assert data.metrics["test/roc_auc_low"] < data.metrics["test/roc_auc"] < data.metrics["test/roc_auc_high"]
    assert data.metrics["baseline/prevalence/roc_auc"] == 0.5
    assert [m.step for m in store.get_metric_history(recorded.info.run_id, "val/loss")] == [1, 2, 3, 4, 5]
    inputs = {i.tags[0].value: i.dataset.digest for i in recorded.inputs.dataset_inputs}
    assert len(set(inputs.values())) == 3
    files = {file.path for file in store.list_artifacts(recorded.info.run_id)}
    assert {"report.html", "manifest.parquet", "manifest.json", "test_predictions.parquet", "figures"} <= files
    assert champions.current("blobs-demo").number == 1
    assert "prevalence" in data.tags["mlflow.note.content"]


def test_another_seed_on_the_same_data_is_a_challenger_and_the_champion_stays(store):
    train.train(PIPELINE, SETTINGS)
    train.train(PIPELINE, replace(SETTINGS, seed=1))
    latest = runs(store)[0]
    assert latest.data.tags["decision"] == "challenger"
    assert (
        "Keep version 1: the same data, code and settings made it with another seed"
        in latest.data.tags["mlflow.note.content"]
    )
    assert "used once before" in latest.data.tags["mlflow.note.content"]
    assert champions.current("blobs-demo").number == 1


def test_a_better_network_replaces_the_champion_and_a_worse_one_does_not(store, tmp_path, monkeypatch):
    monkeypatch.setattr(promotion, "better_baseline", lambda outcome: None)  # versions are compared here
    weak = replace(SETTINGS, epochs=1, learning_rate=1e-5)
    path = str(table(tmp_path / "points.csv"))
    open_door = replace(PIPELINE, gates=())
    train.train(open_door, replace(weak, data=path))
    train.train(open_door, replace(SETTINGS, data=path))
    assert champions.current("blobs").number == 2
    train.train(open_door, replace(weak, data=path))
    assert champions.current("blobs").number == 2
    assert "Keep version 2: the new version is worse" in runs(store)[0].data.tags["mlflow.note.content"]


def test_labels_that_nothing_can_forecast_do_not_pass_the_gate(store, tmp_path):
    train.train(PIPELINE, replace(SETTINGS, data=str(table(tmp_path / "noise.csv", noise=True))))
    assert runs(store)[0].data.tags["decision"] in {"refused", "challenger"}
    assert champions.current("blobs") is None


def test_a_missed_gate_refuses(store):
    train.train(replace(PIPELINE, gates=(Gate("prevalence", margin=-0.5),)), SETTINGS)
    assert runs(store)[0].data.tags["decision"] == "refused"
    assert champions.current("blobs-demo") is None


def test_bad_input_leaves_no_run_behind(store, tmp_path):
    path = tmp_path / "bad.csv"
    pd.DataFrame({"a": [1.0]}).to_csv(path)
    with pytest.raises(InputError, match="expected the column 'b'"):
        train.train(PIPELINE, replace(SETTINGS, data=str(path)))
    assert runs(store) == []


def inspected(monkeypatch, inspect):
    """The toy with a check for leaks of its own."""
    monkeypatch.setattr(PIPELINE.data, "CAPABILITIES", replace(PIPELINE.data.CAPABILITIES, inspect=inspect))
    return PIPELINE


def test_a_domains_own_warning_is_printed_and_what_it_leaves_out_is_not_trained_on(store, monkeypatch, capsys):
    def inspect(data, splits, facts, settings):
        assert facts == PIPELINE.data.learn(data.take(splits.train), settings)
        kept = splits.with_sides(splits.sides() | {"train": splits.train[10:]})
        copies = np.arange(len(data)) // 2
        left_out = splits.left_out | {"train records that copy one of test": 10}
        return replace(kept, copies=copies, left_out=left_out, warnings=("10 records of train are copies.",))

    outcome = train.train(inspected(monkeypatch, inspect), SETTINGS)
    assert "WARNING: 10 records of train are copies." in capsys.readouterr().out
    whole = PIPELINE.data.split(outcome.data, SETTINGS).train
    np.testing.assert_array_equal(outcome.parts["train"].rows, whole[10:])
    assert outcome.splits.left_out["train records that copy one of test"] == 10
    (recorded,) = runs(store)
    assert recorded.info.status == "FINISHED"


def test_a_leak_that_the_domain_finds_is_refused_before_a_run_is_opened(store, monkeypatch):
    def inspect(data, splits, facts, settings):
        raise InputError("column 'a': expected no leak. Received: one.")

    with pytest.raises(InputError, match="column 'a'"):
        train.train(inspected(monkeypatch, inspect), SETTINGS)
    assert runs(store) == []


@pytest.mark.parametrize(("fault", "status"), [(KeyboardInterrupt, "KILLED"), (RuntimeError, "FAILED")])
def test_an_interrupted_run_is_killed_and_a_crashed_one_failed(store, monkeypatch, fault, status):
    def broken(*_):
        raise fault

    monkeypatch.setattr(PIPELINE.task, "metrics", broken)
    with pytest.raises(fault):
        train.train(PIPELINE, SETTINGS)
    assert [recorded.info.status for recorded in runs(store)] == [status]
    assert champions.current("blobs-demo") is None


def test_the_logged_model_answers_raw_records_with_the_scores_of_the_run(store):
    outcome = train.train(PIPELINE, SETTINGS)
    model = mlflow.pyfunc.load_model("models:/blobs-demo@champion")
    raw = PIPELINE.demo.make(0)
    asked = raw.assign(score=np.isin(np.arange(len(raw)), outcome.splits.test))
    answers = model.predict(asked.astype({"class": float}))
    assert answers["probability"].to_numpy() == pytest.approx(outcome.scores, abs=1e-6)
    assert answers["id"].tolist() == outcome.splits.test.tolist()
    unlabelled = model.predict(raw.drop(columns="class").head(7))
    assert len(unlabelled) == 7
    with pytest.raises(mlflow.exceptions.MlflowException, match="missing inputs"):
        model.predict(raw[["subject", "a"]])


def test_the_logged_model_holds_an_example_of_a_request_only_where_records_may_be_stored(store, tmp_path):
    train.train(PIPELINE, SETTINGS)
    model = mlflow.pyfunc.load_model("models:/blobs-demo/1")
    example = model.input_example
    assert len(model.predict(example)) == len(example) == 5
    train.train(PIPELINE, replace(SETTINGS, data=str(table(tmp_path / "points.csv"))))
    assert mlflow.pyfunc.load_model("models:/blobs/1").input_example is None


def test_multiplications_are_counted_in_dense_and_convolutional_layers():
    image = keras.Input((5, 5, 2))
    convolved = keras.layers.Conv2D(3, 3)(image)  # 3 x 3 places, 3 filters of 3 x 3 x 2
    dense = keras.layers.Dense(4)(keras.layers.Flatten()(convolved))  # 27 inputs
    network = keras.Model(image, keras.layers.BatchNormalization()(dense))
    assert cost.multiply_adds(network) == 3 * 3 * 3 * (3 * 3 * 2) + 27 * 4


CONSTANT = """

class Constant(Blobs):
    def scores(self, outputs, facts):
        return outputs[:, 0] * 0 + 0.25


TASK = Constant()
"""


@pytest.mark.slow
def test_a_version_is_scored_with_the_code_it_carries(store, tmp_path):
    """The champion's shipped code is changed on disk: only a process that runs that code can tell."""
    from pipelines.core.store import isolation

    outcome = train.train(PIPELINE, SETTINGS)
    champion = champions.current("blobs-demo")
    local = Path(mlflow.artifacts.download_artifacts(champion.uri, dst_path=str(tmp_path / "copy")))
    shipped = local / "code" / "toys" / "blobs" / "task.py"
    code, part = shipped.read_text(), outcome.headline
    own = isolation.score(champion.uri, True, part.data, part.rows)
    assert own.scores == pytest.approx(outcome.headline_scores, abs=1e-6)

    shipped.write_text(code + CONSTANT)
    carried = isolation.score(str(local), False, part.data, part.rows)
    assert carried.outputs == pytest.approx(own.outputs, abs=1e-6)
    assert carried.scores == pytest.approx(np.full(len(part), 0.25))
    np.testing.assert_array_equal(carried.measures["label"], part.labels)
    np.testing.assert_array_equal(carried.measures["score"], carried.scores)

    shipped.write_text(code + "\n\nBlobs.batch = 100  # and so keeps measures alone\n")
    carried = isolation.score(str(local), False, part.data, part.rows)
    assert carried.scores is carried.outputs is None
    assert carried.measures["score"] == pytest.approx(outcome.headline_scores, abs=1e-6)


def test_two_processes_that_create_the_store_at_once_both_find_it(tmp_path):
    code = "from pipelines.core.store import tracking; tracking.connect()"
    starts = [subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, env=ENVIRONMENT) for _ in range(2)]
    assert [process.wait() for process in starts] == [0, 0]
    assert (tmp_path / "mlruns" / "mlflow.db").exists()


def test_the_manifest_says_which_record_was_on_which_side(store):
    outcome = train.train(PIPELINE, SETTINGS)
    run_id = runs(store)[0].info.run_id
    summary = json.loads(Path(mlflow.artifacts.download_artifacts(f"runs:/{run_id}/manifest.json")).read_text())
    assert {side: summary[side]["rows"] for side in ("train", "validation", "test")} == {
        side: len(rows) for side, rows in outcome.splits.sides().items()
    }
