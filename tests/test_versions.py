"""What a person does with versions: history, promote, rollback; and trainings that MLflow did not take."""

from dataclasses import replace

import mlflow
import pytest
from mlflow.exceptions import MlflowException

from pipelines.core.commands import send, train, versions
from pipelines.core.contract import InputError, Settings, UnrecordedError, discover
from pipelines.core.review import promotion, record
from pipelines.core.store import champions, registry

PIPELINE = replace(discover("toys")["blobs"], gates=())
GOOD = Settings(epochs=3, learning_rate=0.02, batch_size=128)
WEAK = replace(GOOD, epochs=1, learning_rate=1e-5)


@pytest.fixture
def registered(store):
    """Three versions, of which the second is champion after the first, without anything in them."""
    store.create_registered_model("blobs")
    experiment = store.create_experiment("blobs")
    made = []
    for decision in ("champion", "champion", "refused"):
        run_id = store.create_run(experiment).info.run_id
        version = registry.Version.of(store.create_model_version("blobs", "nowhere", run_id))
        tags = {"data": "may", "headline": "roc_auc 0.81 [0.79, 0.83]", "decision": decision, "decided_by": "rule"}
        made.append(registry.tag_version(version, tags))
    champions.set_champion(made[0])
    champions.set_champion(made[1])
    registry.tag_version(made[1], {"verdict": "better", "compared_with": "1"})
    return made


def lines(capsys) -> list[str]:
    return [line.strip() for line in capsys.readouterr().out.splitlines() if line.strip()]


def test_history_shows_each_version_newest_first_with_what_was_decided(registered, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "140")
    versions.history(PIPELINE)
    *_, third, second, first = lines(capsys)
    assert third.split()[0] == "3"
    assert "refused" in third
    assert all(told in second for told in ("champion ", "may", "0.81 [0.79, 0.83]", "better than version 1"))
    assert first.count("champion") == 1  # decided so once, and no longer the alias
    assert second.count("champion") == 2


def test_a_person_promotes_with_a_reason_that_is_written_down(registered, capsys, monkeypatch):
    versions.promote(PIPELINE, version=3, why="Fewer false alarms on Sundays.")
    assert "Version 3 of blobs is champion now instead of version 2" in capsys.readouterr().out
    promoted = champions.current("blobs")
    assert promoted.number == 3
    assert promoted.tags["decided_by"] == "person"
    assert promoted.tags["reason"] == "Fewer false alarms on Sundays."
    assert promoted.tags["decided_at"].startswith("20")
    monkeypatch.setenv("COLUMNS", "160")
    versions.history(PIPELINE, name="blobs")
    assert "champion by a person: Fewer false alarms on Sundays." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"version": 3}, "takes your reason"),
        ({"version": 3, "why": "  "}, "takes your reason"),
        ({}, "neither"),
        ({"version": 3, "rollback": True}, "both"),
        ({"version": 9, "why": "Because."}, "no version 9"),
        ({"version": 2, "why": "Because."}, "the champion already"),
        ({"version": 3, "why": "Because.", "name": "blogs"}, "no registered model blogs"),
    ],
)
def test_a_promotion_that_makes_no_sense_is_refused_and_changes_nothing(registered, asked, told):
    with pytest.raises(InputError, match=told):
        versions.promote(PIPELINE, **asked)
    assert champions.history("blobs") == [1, 2]


def test_rolling_back_twice_goes_back_two_and_marks_what_was_left(registered, capsys):
    versions.promote(PIPELINE, version=3, why="Try it.")
    versions.promote(PIPELINE, rollback=True)
    versions.promote(PIPELINE, rollback=True)
    assert "Version 1 of blobs is champion again instead of version 2." in capsys.readouterr().out
    decisions = {version.number: version.tags["decision"] for version in registry.versions("blobs")}
    assert decisions == {1: "champion", 2: "rolled back", 3: "rolled back"}
    with pytest.raises(InputError, match="no champion to go back to"):
        versions.promote(PIPELINE, rollback=True)


def test_nothing_to_send_is_said(store):
    with pytest.raises(InputError, match="no training of blobs waits"):
        send.send(PIPELINE)


@pytest.mark.slow
def test_who_finishes_second_is_compared_with_who_finished_first(store, monkeypatch):
    """While the third version is judged against the first, the second becomes champion."""
    train.train(PIPELINE, WEAK)
    train.train(PIPELINE, GOOD)
    first, second = (registry.find("blobs-demo", number) for number in "12")
    champions.set_champion(first)
    decide, kinds = promotion.decide, []

    def interrupted(outcome, version, champion, looks):
        decision = decide(outcome, version, champion, looks)
        kinds.append((champion.number, decision.kind))
        if len(kinds) == 1:
            champions.set_champion(second)
        return decision

    monkeypatch.setattr(promotion, "decide", interrupted)
    train.train(PIPELINE, replace(GOOD, seed=1))
    assert kinds == [(1, "champion"), (2, "challenger")]
    assert champions.current("blobs-demo").number == 2
    tags = registry.find("blobs-demo", "3").tags
    assert (tags["decision"], tags["verdict"], tags["compared_with"]) == ("challenger", "equal", "2")


@pytest.mark.slow
@pytest.mark.parametrize("at", ["results", "version", "finish"])
def test_a_training_that_the_store_does_not_take_is_kept_and_sent_once(store, monkeypatch, tmp_path, at):
    broken, told = [True], getattr(record, at)

    def faulty(*arguments):
        done = told(*arguments)
        if broken:
            raise MlflowException("the disk is full")
        return done

    monkeypatch.setattr(record, at, faulty)
    with pytest.raises(UnrecordedError, match=r"the disk is full.*roc_auc 0\..*pipelines send blobs"):
        train.train(PIPELINE, GOOD)
    (kept,) = tmp_path.glob("mlruns/pending/blobs/*")
    assert champions.current("blobs-demo") is None
    broken.clear()
    send.send(PIPELINE)
    assert not kept.exists()
    (found,) = store.search_runs([store.get_experiment_by_name("blobs").experiment_id])
    assert (found.info.status, found.info.run_id) == ("FINISHED", kept.stem)
    assert [point.step for point in store.get_metric_history(kept.stem, "val/loss")] == [1, 2, 3]
    (version,) = registry.versions("blobs-demo")
    assert champions.current("blobs-demo").number == version.number == 1
    assert version.tags["decision"] == found.data.tags["decision"] == "champion"


@pytest.mark.slow
def test_a_kept_training_makes_a_run_of_its_own_where_the_store_has_none_and_only_with_its_code(
    store, monkeypatch, tmp_path
):
    def away(*_):
        raise MlflowException("gone")

    with monkeypatch.context() as patch:
        patch.setattr(record, "results", away)
        with pytest.raises(UnrecordedError):
            train.train(PIPELINE, GOOD)
    (begun,) = store.search_runs([store.get_experiment_by_name("blobs").experiment_id])
    with monkeypatch.context() as patch:
        patch.setattr("pipelines.core.store.isolation.code_sha256", lambda pipeline: "other")
        with pytest.raises(InputError, match="made with other code"):
            send.send(PIPELINE)
    monkeypatch.setattr("pipelines.core.store.tracking.holds", lambda run_id: False)
    send.send(PIPELINE)
    sent = champions.current("blobs-demo").run_id
    assert sent != begun.info.run_id
    assert [point.step for point in store.get_metric_history(sent, "val/loss")] == [1, 2, 3]
    assert store.get_run(sent).data.params["epochs"] == "3"
    assert (
        len(mlflow.pyfunc.load_model("models:/blobs-demo/1").predict(PIPELINE.demo.make().drop(columns="class")))
        == 3000
    )
