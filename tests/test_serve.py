"""The registered model behind `serve`: raw records over HTTP give the scores of the run, and of `predict`."""

import base64
import contextlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import requests
from PIL import Image

from pipelines.fraud import demo as payments
from pipelines.medical_images import demo as radiographs
from pipelines.speech_commands import audio
from pipelines.speech_commands import demo as voices
from tests.processes import BOUND, obey_ctrl_c, wait_until

ROOT = Path(__file__).parents[1]


MALFORMED = [
    ("application/json", b""),
    ("application/json", b'{"dataframe_split":'),
    ("application/json", b"[1, 2]"),
    ("application/json", b'{"rows": [1]}'),
    ("application/json", b'{"dataframe_split": 7}'),
    ("application/json", b'{"dataframe_split": {"columns": ["a"], "data": [[1, 2]]}}'),
    ("application/json", b'{"dataframe_records": []}'),
    ("application/json", b'{"dataframe_records": [{"colour": NaN}]}'),
    ("application/json", b'{"inputs": {"a": 1}}'),
    ("application/json", b"[" * 5_000),
    ("text/csv", b'a,b\n"x'),
    ("text/csv", b"\xff\xfe"),
    ("application/vnd.apache.parquet", b"PAR1"),
    ("text/plain", b"hello"),
    ("", b"hello"),
]


@contextlib.contextmanager
def served(folder: Path, name: str) -> Iterator[str]:
    """The address that answers for version 1 of the model in the folder's store, until Ctrl-C ends the server."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    with (folder / "server.log").open("w") as log:
        server = start(folder, "serve", name, "--port", port, "--version", "1", stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: answers_ping(server, address, folder), "starting the server")
        yield address
        server.send_signal(signal.SIGINT)
        assert server.wait(BOUND) == 0
        assert "Traceback" not in (folder / "server.log").read_text()
    finally:
        server.kill()


def answers_ping(server: subprocess.Popen, address: str, folder: Path) -> bool:
    assert server.poll() is None, (folder / "server.log").read_text()
    try:
        return requests.get(f"{address}/ping", timeout=BOUND).ok
    except requests.ConnectionError:
        return False


def assert_malformed_requests_get_a_sentence(address: str) -> None:
    for kind, body in MALFORMED:
        response = requests.post(f"{address}/invocations", data=body, headers={"content-type": kind}, timeout=BOUND)
        assert 400 <= response.status_code < 500, (kind, body)
        told = response.json()
        assert set(told) == {"message"}
        assert told["message"]
        assert "\n" not in told["message"]
        assert "Traceback" not in response.text
    assert requests.get(f"{address}/ping", timeout=BOUND).ok


def start(folder: Path, *arguments: str, **keywords) -> subprocess.Popen:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    environment.pop("MLFLOW_TRACKING_URI", None)
    command = [sys.executable, "-m", "pipelines", *arguments]
    return subprocess.Popen(command, cwd=folder, env=environment, preexec_fn=obey_ctrl_c, **keywords)


def ended(folder: Path, *arguments: str) -> None:
    process = start(folder, *arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    said, _ = process.communicate(timeout=BOUND)
    assert process.returncode == 0, said


def predicted(folder: Path, name: str, *arguments: str) -> pd.DataFrame:
    """What version 1 of the model predicts for files, by id."""
    ended(folder, "predict", name, *arguments, "--out", "told.parquet", "--version", "1")
    return pd.read_parquet(folder / "told.parquet").set_index("id")


def asked(address: str, table: pd.DataFrame) -> requests.Response:
    content = json.loads(table.to_json(orient="split", index=False, date_format="iso", double_precision=15))
    return requests.post(f"{address}/invocations", json={"dataframe_split": content}, timeout=BOUND)


def answers(address: str, table: pd.DataFrame) -> pd.DataFrame:
    response = asked(address, table)
    assert response.ok, response.text
    return pd.DataFrame(response.json()["predictions"])


def train(folder: Path, *arguments: str) -> None:
    ended(folder, "train", *arguments)


def predictions(folder: Path) -> pd.DataFrame:
    (path,) = folder.glob("mlruns/artifacts/*/*/artifacts/test_predictions.parquet")
    return pd.read_parquet(path)


@pytest.mark.slow
def test_served_payments_get_the_scores_of_the_run_and_faults_one_sentence(tmp_path):
    table = payments.make(0)
    table = table[table["customer"].isin([f"C{number:04d}" for number in range(100)])]
    table.to_csv(tmp_path / "march.csv", index=False)
    train(tmp_path, "fraud", "--data", "march.csv", "--epochs", "1")
    logged = predictions(tmp_path).set_index("id")["network"]
    raw = table.astype({"payment_id": str, "amount": float, "fraud": float})
    logged.index = logged.index.astype(str)
    wanted = raw["payment_id"].isin(logged.index[-100:])
    raw[~wanted].to_csv(tmp_path / "history.csv", index=False)
    raw[wanted].drop(columns="fraud").to_csv(tmp_path / "new.csv", index=False)
    written = predicted(tmp_path, "fraud", "--data", "new.csv", "--history", "history.csv")
    with served(tmp_path, "fraud") as address:
        told = answers(address, raw.assign(score=wanted)).set_index("id")
        assert len(told) == 100
        assert told["probability"].to_numpy() == pytest.approx(logged[told.index].to_numpy(), abs=1e-5)
        pd.testing.assert_frame_equal(told, written[list(told)], check_dtype=False, rtol=1e-5, atol=1e-5)
        assert (told["history_age_days"] > 0).all()
        spoilt = raw.assign(score=wanted, amount=raw["amount"].where(raw["payment_id"] != told.index[50]))
        assert answers(address, spoilt)["error"].ne("").to_numpy().nonzero()[0].tolist() == [50]
        fault = asked(address, raw.tail(3).drop(columns="terminal"))
        assert fault.status_code == 400
        assert "terminal" in fault.json()["message"]
        assert_malformed_requests_get_a_sentence(address)


@pytest.mark.slow
def test_served_images_get_the_scores_of_the_run_and_faults_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(radiographs, "IMAGES", 300)
    table, pixels = radiographs.make(0)
    for row, image in zip(table.itertuples(), pixels, strict=True):
        path = tmp_path / "scans" / row[3] / f"{row.subject}_{row.Index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0]).save(path)
    train(tmp_path, "medical_images", "--data", "scans", "--epochs", "1", "--width", "8")
    logged = predictions(tmp_path).set_index("id")["network"]
    files = [tmp_path / "scans" / name for name in logged.index]
    written = predicted(tmp_path, "medical_images", "--data", "scans").loc[logged.index]
    with served(tmp_path, "medical_images") as address:
        raw = pd.DataFrame(
            {"id": logged.index, "image": [base64.b64encode(file.read_bytes()).decode() for file in files]}
        )
        told = answers(address, raw).set_index("id")
        assert told["probability of lesion"].to_numpy() == pytest.approx(logged[told.index].to_numpy(), abs=1e-5)
        pd.testing.assert_frame_equal(told, written[list(told)], check_dtype=False, rtol=1e-5, atol=1e-5)
        spoilt = answers(address, raw.head(3).assign(image=[raw["image"][0], "bm90aGluZw==", raw["image"][2]]))
        assert spoilt["error"].ne("").tolist() == [False, True, False]
        assert spoilt["id"].tolist() == raw["id"].head(3).tolist()
        bigger = io.BytesIO()
        Image.open(files[0]).resize((64, 64), Image.Resampling.NEAREST).save(bigger, "BMP")
        (one,) = answers(address, pd.DataFrame({"image": [base64.b64encode(bigger.getvalue()).decode()]})).itertuples()
        assert one.label in ("clear", "lesion")
        fault = asked(address, pd.DataFrame({"image": [base64.b64encode(b"no image").decode()]}))
        assert fault.status_code == 400
        assert "row 0, column 'image'" in fault.json()["message"]
        assert_malformed_requests_get_a_sentence(address)
    assert np.isfinite(logged).all()


@pytest.mark.slow
def test_served_recordings_get_the_scores_of_the_run_and_faults_one_sentence(tmp_path):
    rate = 16_000
    table, clips = voices.speak(["no", "yes"], voices.voices(12), 4, rate, rate)
    for row, clip in zip(table.itertuples(), clips, strict=True):
        path = tmp_path / "words" / row.word / f"{row.voice.split('+')[1]}_nohash_{row.Index % 4}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(audio.wav(clip, rate))
    train(tmp_path, "speech_commands", "--data", "words", "--epochs", "2", "--size", "tiny")
    logged = predictions(tmp_path).set_index("id")["network"]
    files = [tmp_path / "words" / name for name in logged.index]
    written = predicted(tmp_path, "speech_commands", "--data", "words").loc[logged.index]
    with served(tmp_path, "speech_commands") as address:
        raw = pd.DataFrame(
            {"id": logged.index, "audio": [base64.b64encode(file.read_bytes()).decode() for file in files]}
        )
        told = answers(address, raw).set_index("id").loc[logged.index]
        of_yes = np.where(told["word"] == "yes", told["probability"], 1 - told["probability"])
        assert of_yes == pytest.approx(logged.to_numpy(), abs=1e-5)
        pd.testing.assert_frame_equal(told, written[list(told)], check_dtype=False, rtol=1e-5, atol=1e-5)
        longer = audio.wav(np.tile(audio.decode(files[0].read_bytes())[0], 3).astype(np.int16), rate)
        (one,) = answers(address, pd.DataFrame({"audio": [base64.b64encode(longer).decode()]})).itertuples()
        assert one.word in ("no", "yes")
        fault = asked(address, pd.DataFrame({"audio": [base64.b64encode(b"no sound").decode()]}))
        assert fault.status_code == 400
        assert "row 0, column 'audio'" in fault.json()["message"]
        assert_malformed_requests_get_a_sentence(address)
    assert len(set(logged)) > 1
