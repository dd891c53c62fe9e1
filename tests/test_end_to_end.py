"""The commands a user types, in processes of their own: what they print, how they exit, what they leave behind."""

import contextlib
import itertools
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import requests

from pipelines.fraud import demo
from tests.processes import BOUND, obey_ctrl_c, wait_until

ROOT = Path(__file__).parents[1]
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
ENVIRONMENT["PYTHONPATH"] = str(ROOT)


def start(folder: Path, *arguments: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "pipelines", *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command,
        cwd=folder,
        env=ENVIRONMENT,
        stdout=pipe,
        stderr=pipe,
        text=True,
        preexec_fn=obey_ctrl_c,
        start_new_session=True,  # Ctrl-C in a terminal reaches the children as well
    )


def finished(folder: Path, *arguments: str) -> tuple[int, str, str]:
    process = start(folder, *arguments)
    out, err = process.communicate(timeout=BOUND)
    return process.returncode, out, err


def runs(folder: Path) -> list[tuple[str, str]]:
    """(name, status) of the runs in the folder's store."""
    store = folder / "mlruns" / "mlflow.db"
    if not store.exists():
        return []
    with sqlite3.connect(store) as connection:
        return connection.execute("select name, status from runs order by start_time").fetchall()


@pytest.fixture(scope="module")
def payments() -> pd.DataFrame:
    """The first payments of some of the demo's customers: few, but with all that a table of payments has."""
    table = demo.make(0)
    some = table["customer"].isin([f"C{number:04d}" for number in range(100)])
    return table[some].reset_index(drop=True)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, payments):
    """A folder in which a user has trained on a table of their own, and what the command said."""
    folder = tmp_path_factory.mktemp("own")
    payments.rename(columns={"fraud": "is_fraud", "customer": "card"}).to_csv(folder / "march.csv", index=False)
    flags = ["--label", "is_fraud", "--time", "time", "--amount", "amount", "--id", "payment_id"]
    said = finished(folder, "train", "fraud", "--data", "march.csv", *flags, "--entity", "card", "terminal",
                    "--epochs", "2")  # fmt: skip
    return folder, said


def test_training_on_a_table_of_ones_own_ends_with_a_verdict_and_a_link(trained):
    folder, (code, out, err) = trained
    assert code == 0, err
    ((name, status),) = runs(folder)
    assert status == "FINISHED"
    assert re.fullmatch(r"(champion|challenger|refused) · AP 0\.\d+ · march", name)
    assert name in out
    assert "report.html?workflowType=machine_learning" in out
    assert "entities card, terminal" in out
    assert err == "", "libraries chatter, or something fails in silence"


def test_each_step_of_the_line_leaves_a_line_with_its_seconds(trained):
    _, (_, out, _) = trained
    lines = out.splitlines()
    ended = [re.match(r"(\w[\w ]{8}) .* [\d,]+\.\d s$", line) for line in lines]
    steps = [match[1].strip() for match in ended if match]
    line = ["data", "device", "context", "split", "open run", "build", "fit", "evaluate", "record", "promote"]
    assert steps == line
    assert all(len(line) == 80 for line, match in zip(lines, ended, strict=True) if match)


def test_records_of_ones_own_stay_out_of_the_run_but_for_their_ids(trained, payments):
    folder, _ = trained
    (tables,) = folder.glob("mlruns/artifacts/fraud/*/artifacts/tables")
    misses = pd.read_csv(tables / "worst_misses.csv")
    assert set(misses) == {"id", "probability"}
    report = (tables.parent / "report.html").read_text()
    assert payments["terminal"].iloc[0] not in report


def test_the_registered_model_scores_payments_with_their_past_as_context(trained, payments, monkeypatch):
    folder, _ = trained
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlruns' / 'mlflow.db'}")
    mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlruns' / 'mlflow.db'}")
    model = mlflow.pyfunc.load_model("models:/fraud/1")
    raw = payments.rename(columns={"fraud": "is_fraud", "customer": "card"})
    raw = raw.astype({"payment_id": str, "amount": float, "is_fraud": float})
    (predictions,) = folder.glob("mlruns/artifacts/fraud/*/artifacts/test_predictions.parquet")
    logged = pd.read_parquet(predictions).assign(id=lambda table: table["id"].astype(str)).set_index("id")

    asked = raw["payment_id"].isin(logged.index[-200:])
    answers = model.predict(raw.assign(score=asked)).set_index("id")
    assert answers["probability"].to_numpy() == pytest.approx(logged.loc[answers.index, "network"], abs=1e-5)
    assert (answers["earlier_payments"] > 0).any()

    alone = model.predict(raw[asked].drop(columns="is_fraud").tail(1))
    assert alone["earlier_payments"].tolist() == [0]
    with pytest.raises(mlflow.exceptions.MlflowException, match="terminal"):
        model.predict(raw[asked].drop(columns="terminal"))


def test_the_ui_opens_on_the_runs_until_ctrl_c(trained):
    folder, _ = trained
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    process = start(folder, "ui", "--port", port)
    try:
        lines = iter(process.stdout.readline, "")
        (link,) = re.findall(
            r"^fraud: (.*)$", "".join(itertools.takewhile(lambda line: "Ctrl-C" not in line, lines)), re.M
        )
        assert link.startswith(f"http://127.0.0.1:{port}/#/experiments/")
        assert requests.get(f"http://127.0.0.1:{port}/", timeout=BOUND).ok
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=BOUND)
        assert (process.returncode, out, err) == (0, "Ended.\n", "")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def spoil(table: pd.DataFrame, fault: str, path: Path) -> None:
    """Writes `table` to `path` with one fault."""
    table = table.head(300).copy()
    if fault == "missing label":
        table = table.drop(columns="fraud")
    elif fault == "text in a number":
        table["amount"] = table["amount"].astype(object)
        table.loc[17, "amount"] = "twelve"
    elif fault == "bad date":
        table["time"] = table["time"].astype(str)
        table.loc[17, "time"] = "2024-13-45"
    elif fault == "duplicate id":
        table.loc[17, "payment_id"] = table.loc[3, "payment_id"]
    table.to_csv(path, index=False)
    if fault == "empty":
        path.write_bytes(b"")
    elif fault == "binary":
        path.write_bytes(np.random.default_rng(0).integers(0, 256, 5000, dtype=np.uint8).tobytes())


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("missing label", ["fraud", "--label"]),
        ("text in a number", ["amount", "19", "twelve"]),
        ("bad date", ["time", "19", "2024-13-45"]),
        ("duplicate id", ["payment_id", "5", "19"]),
        ("empty", ["empty"]),
        ("binary", ["neither CSV"]),
    ],
)
def test_a_faulty_table_ends_in_one_sentence_and_code_2_and_leaves_no_run(tmp_path, payments, fault, told):
    spoil(payments, fault, tmp_path / "bad.csv")
    code, _, err = finished(tmp_path, "train", "fraud", "--data", "bad.csv")
    assert code == 2
    assert err.startswith("error: ")
    assert len(err.strip().splitlines()) == 1
    assert all(word in err for word in told), err
    assert "Received" in err or fault == "empty"
    assert runs(tmp_path) == []


def test_a_planted_leak_is_refused_by_name(tmp_path, payments):
    payments.assign(chargeback_amount=payments["amount"] * payments["fraud"]).to_csv(tmp_path / "leak.csv", index=False)
    code, _, err = finished(tmp_path, "train", "fraud", "--data", "leak.csv")
    assert code == 2
    assert "chargeback_amount" in err
    assert "--allow-column" in err
    assert runs(tmp_path) == []


def test_ctrl_c_during_training_ends_the_run_as_killed(tmp_path, payments):
    payments.to_csv(tmp_path / "payments.csv", index=False)
    process = start(tmp_path, "train", "fraud", "--data", "payments.csv", "--epochs", "500", "--patience", "500")
    wait_until(lambda: epochs(tmp_path) or process.poll() is not None, "the first epoch")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=BOUND)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert [status for _, status in runs(tmp_path)] == ["KILLED"]


def epochs(folder: Path) -> int:
    """Number of epochs logged so far in the folder's store."""
    store = folder / "mlruns" / "mlflow.db"
    if not store.exists():
        return 0
    with sqlite3.connect(store) as connection:
        try:
            return connection.execute("select count(*) from metrics where key = 'val/loss'").fetchone()[0]
        except sqlite3.OperationalError:  # not created yet, or being written
            return 0


@pytest.mark.slow  # shuffled labels are part of the life of a version, see test_life
def test_a_random_walk_of_labels_is_not_promoted(tmp_path, payments):
    """Where nothing can be learnt, the gates against the baselines must not hold."""
    rng = np.random.default_rng(0)
    noise = payments.assign(fraud=rng.random(len(payments)) < 0.02)
    noise.to_csv(tmp_path / "noise.csv", index=False)
    code, out, err = finished(tmp_path, "train", "fraud", "--data", "noise.csv", "--epochs", "2")
    assert code == 0, err
    assert "· refused" in out or "· challenger" in out


@pytest.mark.parametrize(
    ("pipeline", "suffix", "named"),
    [("medical_images", ".png", "truncated"), ("speech_commands", ".wav", "empty file")],
)
def test_a_folder_with_broken_files_ends_in_one_report_and_code_2(tmp_path, pipeline, suffix, named):
    for label in ("yes", "no"):
        for number in range(4):
            file = tmp_path / "mine" / label / f"{number}{suffix}"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(b"" if number % 2 else b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x08\0\0\0\x08")
    code, out, err = finished(tmp_path, "train", pipeline, "--data", "mine")
    assert code == 2
    assert "Traceback" not in out + err
    told = " ".join(err.split())
    assert "8 of 8" in told
    assert named in told
    assert f"mine/no/0{suffix}" in told
    assert runs(tmp_path) == []
