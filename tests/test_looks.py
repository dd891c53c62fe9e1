"""Earlier evaluations on the same test records are counted, and the count cannot be reset."""

from dataclasses import replace

import numpy as np
import pytest

from pipelines.core.commands import train
from pipelines.core.contract import Settings, discover
from pipelines.core.store import champions
from pipelines.core.store.looks import looks

BLOBS = discover("toys")["blobs"]
SETTINGS = Settings(epochs=1, batch_size=512, learning_rate=0.02)


@pytest.fixture
def trained(store, tmp_path):
    """Trains on a table of points and returns the looks at its test records before; and the first run's id."""

    def run_it(table, name="points.csv"):
        table.to_csv(tmp_path / name, index=False)
        train.train(BLOBS, replace(SETTINGS, data=str(tmp_path / name)))
        return looks(BLOBS, newest(store).info.run_id)

    table = BLOBS.demo.make(0, subjects=200)
    assert run_it(table) == 0
    return run_it, table


def newest(store):
    experiment = store.get_experiment_by_name("blobs")
    return store.search_runs([experiment.experiment_id], order_by=["attributes.start_time DESC"])[0]


def test_one_row_fewer_is_the_same_test_set(trained):
    run_it, table = trained
    assert run_it(table.drop(index=0)) == 1


def test_a_millionth_of_a_millionth_is_the_same_test_set(trained):
    run_it, table = trained
    assert run_it(table.assign(a=table["a"] + 1e-12)) == 1


def test_another_file_name_and_another_order_are_the_same_test_set(trained):
    run_it, table = trained
    assert run_it(table.sample(frac=1, random_state=0), "others.csv") == 1


def test_deleted_runs_count(trained, store):
    run_it, table = trained
    store.delete_run(newest(store).info.run_id)
    assert run_it(table) == 1


def test_a_run_that_was_killed_after_its_test_metrics_counts(trained, store):
    run_it, table = trained
    store.set_terminated(newest(store).info.run_id, "KILLED")
    assert run_it(table) == 1


def test_other_records_are_another_test_set(trained):
    run_it, _ = trained
    assert run_it(BLOBS.demo.make(7, subjects=200)) == 0


def test_the_same_days_are_the_same_test_set_however_the_records_were_changed(store, tmp_path):
    pipeline = discover()["stocks"]
    from pipelines.stocks import demo

    table = demo.indices()
    table = table[table["Date"] < "2003-01-01"]
    rng = np.random.default_rng(0)
    settings = pipeline.settings(epochs=1, batch_size=4096, device="cpu")
    for number in range(2):
        prices = ["Open", "High", "Low", "Close", "Adj Close"]
        table[prices] *= 1 + 1e-4 * rng.random()
        table["Ticker" if "Ticker" in table else "Name"] = f"T{number}"
        table.drop_duplicates("Date").to_csv(tmp_path / "p.csv", index=False)
        train.train(pipeline, replace(settings, data=str(tmp_path / "p.csv")))
    experiment = store.get_experiment_by_name("stocks")
    last = store.search_runs([experiment.experiment_id], order_by=["attributes.start_time DESC"])[0]
    assert looks(pipeline, last.info.run_id) == 1
    assert champions.current("stocks") is None or champions.current("stocks").number <= 2
