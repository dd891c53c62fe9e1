"""Which version is champion: one at a time, with the way back, whoever asks at once."""

import itertools
import threading
import time

import mlflow
import numpy as np
import pytest
from mlflow.exceptions import MlflowException
from toys.blobs import PIPELINE

from pipelines.core.contract import InputError
from pipelines.core.store import registry


@pytest.fixture
def versions(store):
    """Six versions of a model, without anything in them."""
    store.create_registered_model("blobs")
    experiment = store.create_experiment("blobs")
    runs = [store.create_run(experiment).info.run_id for _ in range(6)]
    return [registry.Version.of(store.create_model_version("blobs", "nowhere", run)) for run in runs]


@pytest.mark.parametrize("seed", range(3))
def test_each_rollback_takes_back_one_crowning_that_was_not_taken_back_yet(versions, seed):
    rng = np.random.default_rng(seed)
    reign = []
    for _ in range(15):
        if len(reign) > 1 and rng.random() < 0.4:
            left, back = registry.rollback("blobs")
            assert (left.number, back.number) == (reign.pop(), reign[-1])
        else:
            chosen = versions[rng.integers(len(versions))]
            registry.crown(chosen)
            reign.append(chosen.number)
        reign = [number for number, _ in itertools.groupby(reign)]
        assert registry.champion("blobs").number == reign[-1]
        assert registry.champions("blobs") == reign


def test_without_a_champion_before_there_is_no_way_back(versions):
    with pytest.raises(InputError, match="no champion so far"):
        registry.rollback("blobs")
    registry.crown(versions[2])
    with pytest.raises(InputError, match="version 3, the only champion so far"):
        registry.rollback("blobs")
    assert registry.champion("blobs").number == 3


def test_a_champion_that_was_made_by_hand_is_remembered(versions, store):
    registry.crown(versions[0])
    store.set_registered_model_alias("blobs", "champion", "4")
    registry.crown(versions[1])
    assert registry.champions("blobs") == [1, 4, 2]


def test_a_deleted_version_is_passed_over_on_the_way_back(versions, store):
    for version in versions[:3]:
        registry.crown(version)
    store.delete_model_version("blobs", "2")
    assert registry.rollback("blobs")[1].number == 1


def test_versions_come_newest_first_with_their_aliases(versions):
    registry.crown(versions[1])
    assert [version.number for version in registry.versions("blobs")] == [6, 5, 4, 3, 2, 1]
    assert registry.aliases("blobs") == {2: ["champion"]}
    assert registry.of_run("blobs", versions[3].run_id).number == 4
    assert registry.of_run("blobs", "0" * 32) is None


def test_of_two_that_are_crowned_at_once_one_is_told_that_the_champion_has_changed(versions, monkeypatch):
    crown = registry.crown

    def slowly(version):
        time.sleep(0.3)  # long enough for the other thread to look, if nothing keeps it out
        crown(version)

    monkeypatch.setattr(registry, "crown", slowly)
    begun, stands = threading.Barrier(2), {}

    def settle(version):
        begun.wait()
        stands[version.number] = registry.settle(version, None, crowned=True)

    threads = [threading.Thread(target=settle, args=[version]) for version in versions[:2]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(stands.values()) == [False, True]
    assert stands[registry.champion("blobs").number]
    assert len(registry.champions("blobs")) == 1


def test_a_decision_against_a_champion_of_before_does_not_stand_even_if_it_crowns_nobody(versions):
    registry.crown(versions[0])
    assert registry.settle(versions[2], versions[0], crowned=False)
    assert not registry.settle(versions[2], None, crowned=False)
    assert not registry.settle(versions[2], versions[1], crowned=True)
    assert registry.champion("blobs").number == 1


@pytest.mark.parametrize(
    ("models", "asked", "meant"),
    [
        (["blobs", "blobs-demo"], "", "blobs"),
        (["blobs-demo"], "", "blobs-demo"),
        (["blobs-demo", "blobs-iris"], "", "several registered models.* blobs-demo, blobs-iris"),
        (["blobs", "mine"], "mine", "mine"),
        (["blobs"], "mine", "no registered model mine.* blobs"),
        ([], "", "no registered model blobs.* none"),
        (["other"], "", "no registered model blobs.* other"),
    ],
)
def test_the_model_that_is_meant_is_named_as_the_pipeline_or_its_only_one(store, models, asked, meant):
    for name in models:
        store.create_registered_model(name, {"pipeline": "other" if name == "other" else "blobs"})
    if " " in meant:
        with pytest.raises(InputError, match=meant):
            registry.model_name(PIPELINE, asked)
    else:
        assert registry.model_name(PIPELINE, asked) == meant


def test_a_server_that_is_away_is_not_taken_for_a_model_without_a_champion(versions, monkeypatch):
    assert registry.champion("blobs") is None
    assert registry.champion("unheard-of") is None

    def away(*_):
        raise MlflowException("connection refused")

    monkeypatch.setattr(mlflow.MlflowClient, "get_model_version_by_alias", away)
    with pytest.raises(MlflowException, match="refused"):
        registry.champion("blobs")
