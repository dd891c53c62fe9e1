"""`evaluate`: a version scored on labelled data, what is left out of that, and that nothing is trained."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from pipelines.core.commands import evaluate, train
from pipelines.core.contract import InputError, Settings, discover
from pipelines.core.reading.downloads import Origin

PIPELINE = replace(discover("toys")["blobs"], gates=())
SETTINGS = Settings(epochs=3, learning_rate=0.02, batch_size=128)


@pytest.fixture
def version(store, tmp_path):
    """A folder with a version of the model `blobs`, and the labelled points that it was made from."""
    PIPELINE.demo.make(1).to_csv(tmp_path / "old.csv", index=False)
    train.train(PIPELINE, replace(SETTINGS, data="old.csv"))
    return store


def latest(client):
    return client.search_runs([client.get_experiment_by_name("blobs").experiment_id])[0]


def test_the_figure_is_that_of_the_versions_scores_on_all_new_records(version, tmp_path):
    new = PIPELINE.demo.make(2).assign(subject=lambda table: table["subject"] + 10_000)
    new.to_csv(tmp_path / "new.csv", index=False)
    evaluate.evaluate(PIPELINE, data="new.csv")
    recorded = latest(version)
    told = pd.read_parquet(version.download_artifacts(recorded.info.run_id, "test_predictions.parquet"))
    assert len(told) == len(new)
    figures = recorded.data.metrics
    assert figures["test/roc_auc"] == pytest.approx(roc_auc_score(told["class"], told["network"]))
    assert figures["test/roc_auc_low"] < figures["test/roc_auc"] < figures["test/roc_auc_high"]
    assert recorded.info.run_name == f"evaluated · roc auc {figures['test/roc_auc']:.3f} · new"


def test_nothing_is_trained_registered_or_promoted(version, tmp_path):
    PIPELINE.demo.make(2).assign(subject=lambda table: table["subject"] + 10_000).to_csv("new.csv", index=False)
    evaluate.evaluate(PIPELINE, data="new.csv")
    assert len(version.search_model_versions("name = 'blobs'")) == 1
    assert not [name for name in latest(version).data.metrics if name.startswith(("train/", "val/", "baseline/"))]


def test_records_and_groups_that_the_version_has_learnt_from_are_not_scored(version, capsys):
    evaluate.evaluate(PIPELINE, data="old.csv")
    told = pd.read_parquet(version.download_artifacts(latest(version).info.run_id, "test_predictions.parquet"))
    subjects = PIPELINE.demo.make(1)["subject"].to_numpy()
    assert set(subjects[told["id"]] % 5) == {0}, "the toy's test subjects"
    assert f"Excluded: {np.sum(subjects % 5 > 0):,} records that version 1 has learnt from" in capsys.readouterr().out


def test_history_is_read_beside_the_data_and_is_not_scored(version, tmp_path):
    new = PIPELINE.demo.make(2).assign(subject=lambda table: table["subject"] + 10_000)
    new[:900].to_csv(tmp_path / "past.csv", index=False)
    new[800:].to_csv(tmp_path / "new.csv", index=False)
    evaluate.evaluate(PIPELINE, data="new.csv", history="past.csv")
    told = pd.read_parquet(version.download_artifacts(latest(version).info.run_id, "test_predictions.parquet"))
    assert told["class"].tolist() == new["class"].tolist()[800:]


def test_data_that_cannot_be_scored_are_refused_and_leave_no_run(version, tmp_path):
    before = latest(version).info.run_id
    table = PIPELINE.demo.make(1)
    table[table["subject"] % 5 > 0].to_csv("learnt.csv", index=False)
    with pytest.raises(InputError, match=r"has not learnt from. Received: [\d,]+ records"):
        evaluate.evaluate(PIPELINE, data="learnt.csv")
    table.drop(columns="class").to_csv("unlabelled.csv", index=False)
    with pytest.raises(InputError, match="0 with a label"):
        evaluate.evaluate(PIPELINE, data="unlabelled.csv")
    with pytest.raises(InputError, match="no version 7 of blobs"):
        evaluate.evaluate(PIPELINE, data="old.csv", version="7")
    assert latest(version).info.run_id == before


# ------------------------------------------------------------------------------------- with which settings it is scored

OWN, DEMO = Origin("own", "new"), Origin("demo", "demo")


def settings_of(stored: dict, origin: Origin) -> Settings:
    return evaluate.settings_of(PIPELINE, SimpleNamespace(settings=stored), "new.csv", "blobs", origin)


@pytest.mark.parametrize(
    ("trained", "origin", "expected"),
    [
        ("none", OWN, "none"),
        ("none", DEMO, "none"),
        ("ids", OWN, "ids"),
        ("ids", DEMO, "ids"),
        ("full", OWN, "ids"),
        ("full", DEMO, "full"),
        ("auto", OWN, "ids"),
        ("auto", DEMO, "full"),
    ],
)
def test_what_may_be_stored_is_never_more_than_in_training_nor_than_is_usual_for_the_data(trained, origin, expected):
    assert settings_of({"examples": trained}, origin).examples == expected


def test_a_setting_that_no_longer_exists_is_ignored_with_a_sentence_and_others_are_kept(capsys):
    stored = {"seed": 7, "allow_column": ["a"], "twirl": 3, "bend": "x", "data": "old.csv", "name": ""}
    settings = settings_of(stored, OWN)
    assert capsys.readouterr().out == "Settings of the version that no longer exist are ignored: bend, twirl.\n"
    assert (settings.seed, settings.allow_column) == (7, ("a",))
    assert (settings.data, settings.name) == ("new.csv", "blobs")
    settings_of({"seed": 7}, OWN)
    assert capsys.readouterr().out == ""
