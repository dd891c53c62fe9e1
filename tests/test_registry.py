"""Which version is champion: one at a time, with the way back, whoever asks at once."""

import fcntl
import itertools
import threading
from pathlib import Path

import mlflow
import numpy as np
import pytest
from mlflow.exceptions import MlflowException

from pipelines.core.contract import InputError
from pipelines.core.store import champions, registry


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
            left, back = champions.rollback("blobs")
            assert (left.number, back.number) == (reign.pop(), reign[-1])
        else:
            chosen = versions[rng.integers(len(versions))]
            champions.set_champion(chosen)
            reign.append(chosen.number)
        reign = [number for number, _ in itertools.groupby(reign)]
        assert champions.current("blobs").number == reign[-1]
        assert champions.history("blobs") == reign


def test_without_a_champion_before_there_is_no_way_back(versions):
    with pytest.raises(InputError, match="no champion so far"):
        champions.rollback("blobs")
    champions.set_champion(versions[2])
    with pytest.raises(InputError, match="version 3, the only champion so far"):
        champions.rollback("blobs")
    assert champions.current("blobs").number == 3


def test_a_champion_that_was_made_by_hand_is_remembered(versions, store):
    champions.set_champion(versions[0])
    store.set_registered_model_alias("blobs", "champion", "4")
    champions.set_champion(versions[1])
    assert champions.history("blobs") == [1, 4, 2]


def test_a_deleted_version_is_passed_over_on_the_way_back(versions, store):
    for version in versions[:3]:
        champions.set_champion(version)
    store.delete_model_version("blobs", "2")
    assert champions.rollback("blobs")[1].number == 1


def test_versions_come_newest_first_with_their_aliases(versions):
    champions.set_champion(versions[1])
    assert [version.number for version in registry.versions("blobs")] == [6, 5, 4, 3, 2, 1]
    assert registry.aliases("blobs") == {2: ["champion"]}
    assert registry.of_run("blobs", versions[3].run_id).number == 4
    assert registry.of_run("blobs", "0" * 32) is None


def while_locked(function):
    """The function, which is refused unless it is called by who holds the lock of the store."""

    def guarded(*arguments):
        with Path("mlruns", ".lock").open("w") as lock, pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return function(*arguments)

    return guarded


def test_of_two_that_are_crowned_at_once_one_is_refused_since_the_champion_has_changed(versions, monkeypatch):
    begun, stands = threading.Barrier(2), {}

    def promote(version):
        begun.wait()
        stands[version.number] = champions.promote_if_unchanged(version, None, promote=True)

    threads = [threading.Thread(target=promote, args=[version]) for version in versions[:2]]
    with monkeypatch.context() as patch:
        for name in ("current", "set_champion"):
            patch.setattr(champions, name, while_locked(getattr(champions, name)))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(stands.values()) == [False, True]
    assert stands[champions.current("blobs").number]
    assert len(champions.history("blobs")) == 1


def test_a_decision_against_a_champion_of_before_does_not_stand_even_if_it_crowns_nobody(versions):
    champions.set_champion(versions[0])
    assert champions.promote_if_unchanged(versions[2], versions[0], promote=False)
    assert not champions.promote_if_unchanged(versions[2], None, promote=False)
    assert not champions.promote_if_unchanged(versions[2], versions[1], promote=True)
    assert champions.current("blobs").number == 1


def test_a_server_that_is_away_is_not_taken_for_a_model_without_a_champion(versions, monkeypatch):
    assert champions.current("blobs") is None
    assert champions.current("unheard-of") is None

    def away(*_):
        raise MlflowException("connection refused")

    monkeypatch.setattr(mlflow.MlflowClient, "get_model_version_by_alias", away)
    with pytest.raises(MlflowException, match="refused"):
        champions.current("blobs")
