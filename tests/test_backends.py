"""One source for both backends: a pipeline that is trained on JAX does what it does on TensorFlow."""

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_fraud_on_jax_ends_within_the_interval_of_tensorflow(tmp_path):
    figures = {}
    for backend in ("tensorflow", "jax"):
        (folder := tmp_path / backend).mkdir()
        environment = os.environ | {"KERAS_BACKEND": backend, "PYTHONPATH": str(Path(__file__).parents[1])}
        environment.pop("MLFLOW_TRACKING_URI", None)
        command = [sys.executable, "-m", "pipelines", "train", "fraud", "--epochs", "4"]
        subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
        with sqlite3.connect(folder / "mlruns" / "mlflow.db") as store:
            figures[backend] = dict(store.execute("select key, value from latest_metrics").fetchall())
    for metric in ("average_precision", "roc_auc", "card_precision_at_100"):
        low, high = (figures["tensorflow"][f"test/{metric}_{end}"] for end in ("low", "high"))
        assert low < figures["jax"][f"test/{metric}"] < high
    assert figures["jax"]["test/average_precision"] != figures["tensorflow"]["test/average_precision"]
