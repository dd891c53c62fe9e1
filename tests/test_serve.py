"""The registered model behind `mlflow models serve`: raw records over HTTP give the scores that the run logged."""

import base64
import contextlib
import io
import json
import os
import socket
import subprocess
import sys
import time
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

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent  # where the server looks for uvicorn


@contextlib.contextmanager
def served(folder: Path, name: str) -> Iterator[str]:
    """The address that answers for version 1 of the model in the folder's store."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = os.environ | {
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlruns' / 'mlflow.db'}",
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
    }
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", f"models:/{name}/1", "--env-manager", "local"]
    with (folder / "server.log").open("w") as log:
        server = subprocess.Popen([*command, "-p", port], cwd=folder, env=environment, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(300):
            assert server.poll() is None, (folder / "server.log").read_text()
            with contextlib.suppress(requests.ConnectionError):
                if requests.get(f"{address}/ping", timeout=5).ok:
                    break
            time.sleep(0.5)
        yield address
    finally:
        server.terminate()
        server.wait(30)


def asked(address: str, table: pd.DataFrame) -> requests.Response:
    content = json.loads(table.to_json(orient="split", index=False, date_format="iso", double_precision=15))
    return requests.post(f"{address}/invocations", json={"dataframe_split": content}, timeout=120)


def answers(address: str, table: pd.DataFrame) -> pd.DataFrame:
    response = asked(address, table)
    assert response.ok, response.text
    return pd.DataFrame(response.json()["predictions"])


def train(folder: Path, *arguments: str) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    environment.pop("MLFLOW_TRACKING_URI", None)
    command = [sys.executable, "-m", "pipelines", "train", *arguments]
    subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True, timeout=280)


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
    with served(tmp_path, "fraud") as address:
        told = answers(address, raw.assign(score=wanted)).set_index("id")
        assert len(told) == 100
        assert told["probability"].to_numpy() == pytest.approx(logged[told.index].to_numpy(), abs=1e-5)
        fault = asked(address, raw.tail(3).drop(columns="terminal"))
        assert fault.status_code == 400
        assert "terminal" in fault.json()["message"]
        assert "Traceback" not in fault.text


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
    with served(tmp_path, "medical_images") as address:
        raw = pd.DataFrame(
            {"id": logged.index, "image": [base64.b64encode(file.read_bytes()).decode() for file in files]}
        )
        told = answers(address, raw).set_index("id")
        assert told["probability of lesion"].to_numpy() == pytest.approx(logged[told.index].to_numpy(), abs=1e-5)
        bigger = io.BytesIO()
        Image.open(files[0]).resize((64, 64), Image.Resampling.NEAREST).save(bigger, "BMP")
        (one,) = answers(address, pd.DataFrame({"image": [base64.b64encode(bigger.getvalue()).decode()]})).itertuples()
        assert one.label in ("clear", "lesion")
        fault = asked(address, pd.DataFrame({"image": [base64.b64encode(b"no image").decode()]}))
        assert fault.status_code == 400
        assert "row 0, column 'image'" in fault.json()["message"]
        assert "Traceback" not in fault.text
    assert np.isfinite(logged).all()


@pytest.mark.slow
def test_served_recordings_get_the_scores_of_the_run_and_faults_one_sentence(tmp_path):
    rate = 16_000
    table, clips = voices.speak(["no", "yes"], voices.voices(12), 4, rate, rate)
    for row, clip in zip(table.itertuples(), clips, strict=True):
        path = tmp_path / "words" / row.word / f"{row.voice.split('+')[1]}_nohash_{row.Index % 4}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(audio.wav(clip, rate))
    train(tmp_path, "speech_commands", "--data", "words", "--epochs", "1", "--size", "tiny")
    logged = predictions(tmp_path).set_index("id")["network"]
    files = [tmp_path / "words" / name for name in logged.index]
    with served(tmp_path, "speech_commands") as address:
        raw = pd.DataFrame(
            {"id": logged.index, "audio": [base64.b64encode(file.read_bytes()).decode() for file in files]}
        )
        told = answers(address, raw).set_index("id").loc[logged.index]
        of_yes = np.where(told["word"] == "yes", told["probability"], 1 - told["probability"])
        assert of_yes == pytest.approx(logged.to_numpy(), abs=1e-5)
        longer = audio.wav(np.tile(audio.decode(files[0].read_bytes())[0], 3).astype(np.int16), rate)
        (one,) = answers(address, pd.DataFrame({"audio": [base64.b64encode(longer).decode()]})).itertuples()
        assert one.word in ("no", "yes")
        fault = asked(address, pd.DataFrame({"audio": [base64.b64encode(b"no sound").decode()]}))
        assert fault.status_code == 400
        assert "row 0, column 'audio'" in fault.json()["message"]
        assert "Traceback" not in fault.text
    assert len(set(logged)) > 1
