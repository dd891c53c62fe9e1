"""The commands with a real MLflow server over HTTP, also while it is away."""

import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import mlflow
import pandas as pd
import pytest
import requests

from pipelines.core.commands import evaluate, predict, send, train, versions
from pipelines.core.contract import InputError, Settings, UnrecordedError, discover
from pipelines.core.review import record
from pipelines.core.store import champions, registry, tracking
from tests.processes import BOUND, wait_until

PIPELINE = replace(discover("toys")["blobs"], gates=())
GOOD = Settings(epochs=5, learning_rate=0.02, batch_size=128)
WEAK = replace(GOOD, epochs=1, learning_rate=1e-5)


class Server:
    """An MLflow server on this machine, with its database and its artifacts in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = str(free.getsockname()[1])
        self.address = f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        stores = ["--backend-store-uri", f"sqlite:///{self.folder}/server.db", "--artifacts-destination"]
        command = [sys.executable, "-m", "mlflow", "server", *stores, str(self.folder / "artifacts")]
        command += ["--host", "127.0.0.1", "--port", self.port, "--workers", "1"]
        binaries = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        environment = os.environ | {"PATH": binaries, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        environment.pop("MLFLOW_TRACKING_URI", None)
        log = (self.folder / "server.log").open("a")
        # In a session of its own, so that its workers end with it.
        self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        wait_until(self.is_healthy, "starting the MLflow server")

    def is_healthy(self) -> bool:
        assert self.process.poll() is None, (self.folder / "server.log").read_text()
        try:
            return requests.get(f"{self.address}/health", timeout=BOUND).ok
        except requests.RequestException:
            return False

    def stop(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, 9)
            self.process.wait()


@pytest.fixture
def server(tmp_path, monkeypatch):
    folder = tmp_path / "server"
    folder.mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    there = Server(folder)
    there.start()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", there.address)
    tracking.connect()
    yield there
    there.stop()


@pytest.mark.slow
def test_a_server_that_goes_away_while_a_network_is_trained_costs_no_training(server, monkeypatch, capsys):
    train.train(PIPELINE, WEAK)
    assert champions.current("blobs-demo").number == 1
    log_epoch, attempts = tracking.log_epoch, []

    def interrupted(epoch, figures):
        attempts.append(epoch)
        if epoch == 2:
            server.stop()
        log_epoch(epoch, figures)

    monkeypatch.setattr(tracking, "log_epoch", interrupted)
    with pytest.raises(UnrecordedError) as told:
        train.train(PIPELINE, GOOD)
    monkeypatch.setattr(tracking, "log_epoch", log_epoch)
    assert attempts == [0, 1, 2, 2]  # once while training, and once more at its end
    assert "MLflow no longer answers (the connection failed). Training goes on." in capsys.readouterr().out
    assert "`pipelines send blobs`" in str(told.value)
    (kept,) = Path("mlruns/pending/blobs").iterdir()
    assert str(kept) in str(told.value)

    with pytest.raises(InputError, match=f"MLflow does not answer at {server.address}"):
        train.train(PIPELINE, GOOD)
    with pytest.raises(InputError, match=f"MLflow does not answer at {server.address}"):
        send.send(PIPELINE)
    assert kept.exists()

    server.start()
    send.send(PIPELINE)
    said = capsys.readouterr().out
    assert "better than version 1" in said
    assert f"{server.address}/#/experiments/" in said
    assert not kept.exists()
    client = mlflow.MlflowClient()
    sent = client.get_run(kept.stem)
    assert (sent.info.status, sent.data.tags["decision"]) == ("FINISHED", "champion")
    assert [point.step for point in client.get_metric_history(kept.stem, "val/loss")] == [1, 2, 3, 4, 5]
    files = {file.path for file in client.list_artifacts(kept.stem)}
    assert {"report.html", "manifest.parquet", "test_predictions.parquet", "figures"} <= files
    assert champions.current("blobs-demo").number == 2
    assert not list(Path().rglob("*.db"))


@pytest.mark.slow
def test_a_server_that_goes_away_before_or_after_the_training_is_told_in_a_sentence(server, monkeypatch):
    announce, begin = record.announce, record.begin

    def away(function):
        def interrupted(*arguments):
            server.stop()
            function(*arguments)

        return interrupted

    monkeypatch.setattr(record, "begin", away(begin))
    with pytest.raises(UnrecordedError, match=f"{server.address} no longer answers .the connection failed."):
        train.train(PIPELINE, WEAK)
    monkeypatch.setattr(record, "begin", begin)
    server.start()
    monkeypatch.setattr(record, "announce", away(announce))
    with pytest.raises(UnrecordedError, match="this run is not all recorded"):
        train.train(PIPELINE, WEAK)
    server.start()
    assert champions.current("blobs-demo").number == 1, "all but the end of its run was recorded"


@pytest.mark.slow
def test_every_command_works_with_a_server_as_with_a_store_of_ones_own(server, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    train.train(PIPELINE, GOOD)
    train.train(PIPELINE, replace(GOOD, seed=1))
    second = registry.find("blobs-demo", "2")
    assert (second.tags["decision"], second.tags["verdict"]) == ("challenger", "equal")
    assert sent_artifacts(second) == sent_artifacts(registry.find("blobs-demo", "1"))
    versions.promote(PIPELINE, version=2, why="To see that it works.")
    capsys.readouterr()
    versions.history(PIPELINE)
    assert "champion by a person: To see that it works." in capsys.readouterr().out
    versions.promote(PIPELINE, rollback=True)
    assert champions.current("blobs-demo").number == 1
    table = PIPELINE.demo.make(1).assign(subject=lambda rows: rows["subject"] + 10_000)
    table.to_csv("new.csv", index=False)
    evaluate.evaluate(PIPELINE, data="new.csv", name="blobs-demo")
    assert "evaluated" in capsys.readouterr().out
    predict.predict(PIPELINE, data="new.csv", out="told.csv", name="blobs-demo")
    assert len(pd.read_csv("told.csv")) == len(table)
    assert not list(Path().rglob("*.db"))


def sent_artifacts(version: registry.Version) -> set[str]:
    return {file.path for file in mlflow.MlflowClient().list_artifacts(version.run_id)}
