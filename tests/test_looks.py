"""Earlier evaluations on the same test records are counted, and the count cannot be reset."""

from dataclasses import replace
from types import SimpleNamespace

import mlflow
import numpy as np
import pytest

from pipelines.core.commands import train
from pipelines.core.contract import Settings, discover
from pipelines.core.store import looks as looks_module
from pipelines.core.store.looks import looks

BLOBS = discover("toys")["blobs"]
SETTINGS = Settings(epochs=1, batch_size=512, learning_rate=0.02)


def newest(store):
    experiment = store.get_experiment_by_name("blobs")
    return store.search_runs([experiment.experiment_id], order_by=["attributes.start_time DESC"])[0]


def test_the_number_of_evaluations_on_the_same_records_cannot_be_reset(store, tmp_path):
    table = BLOBS.demo.make(0, subjects=200)

    def looks_after(variant, name="points.csv"):
        """How many runs were evaluated on test records of this one before."""
        variant.to_csv(tmp_path / name, index=False)
        train.train(BLOBS, replace(SETTINGS, data=str(tmp_path / name)))
        return looks(BLOBS, newest(store).info.run_id)

    assert looks_after(table) == 0
    assert looks_after(table.drop(index=0)) == 1, "one row fewer"
    assert looks_after(table.assign(a=table["a"] + 1e-12)) == 2, "a column changed in its last digits"
    store.delete_run(newest(store).info.run_id)
    assert looks_after(table) == 3, "a deleted run counts"
    store.set_terminated(newest(store).info.run_id, "KILLED")
    assert looks_after(table.sample(frac=1, random_state=0), "others.csv") == 4, "a killed run, another name and order"
    assert looks_after(BLOBS.demo.make(7, subjects=200)) == 0, "other records are another test set"


def run(run_id: str, model: str, sha256: str = "") -> SimpleNamespace:
    tags = {"test_sha256": sha256 or run_id, "model": model}
    return SimpleNamespace(
        info=SimpleNamespace(run_id=run_id), data=SimpleNamespace(tags=tags, metrics={"test/auc": 1})
    )


@pytest.mark.parametrize(
    ("other", "model", "expected"),
    [
        (("2024-03-15", "2024-04-15"), "blobs", True),
        (("2024-05-01", "2024-06-01"), "blobs", False),
        (("2024-03-15", "2024-04-15"), "another bank", False),
    ],
)
def test_the_same_days_are_the_same_test_set_of_a_model_however_the_records_were_changed(
    monkeypatch, other, model, expected
):
    """A record that was changed a little is another record, but of the same days."""
    tested = {"new": (np.array([1], np.uint64), ("2024-03-01", "2024-04-01")), "old": (np.array([2], np.uint64), other)}
    monkeypatch.setattr(looks_module, "_tested", lambda run: tested[run.info.run_id])
    monkeypatch.setattr(mlflow, "get_experiment_by_name", lambda name: SimpleNamespace(experiment_id="1"))
    monkeypatch.setattr(mlflow, "search_runs", lambda *_, **__: [run("new", "blobs"), run("old", model)])
    assert looks(BLOBS, "new") == expected
