"""One source for both backends: a network saved by TensorFlow answers the same on JAX."""

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from pipelines.core.pipeline import discover
from pipelines.core.rows import Part

PIPELINES = [*discover().values(), *discover("toys").values()]

ON_JAX = """
import sys, keras, numpy
assert keras.backend.backend() == "jax"
model = keras.saving.load_model(sys.argv[1])
with numpy.load(sys.argv[2]) as inputs:
    numpy.save(sys.argv[3], model.predict(dict(inputs), verbose=0))
    model.compile("adam", "mse")
    model.fit(dict(inputs), numpy.zeros((len(inputs[inputs.files[0]]), 1)), epochs=1, verbose=0)
"""


@pytest.mark.parametrize("pipeline", PIPELINES, ids=lambda pipeline: pipeline.name)
def test_a_network_answers_and_trains_on_jax_as_on_tensorflow(pipeline, tmp_path):
    pytest.importorskip("jax")
    settings = pipeline.settings()
    records = pipeline.data.read(None, settings)
    records = records.iloc[:80_000]
    splits = pipeline.data.split(records, settings)
    facts = pipeline.data.learn(records.iloc[splits.train], settings)
    train = Part(records, splits.train, pipeline.data.decode(records, facts))
    network = pipeline.model.build(facts, settings, train.x(), train.labels)
    network.save(tmp_path / "model.keras")
    few = train.take(np.arange(256)).x()
    np.savez(tmp_path / "inputs.npz", **few)
    paths = [str(tmp_path / name) for name in ("model.keras", "inputs.npz", "outputs.npy")]
    environment = os.environ | {"KERAS_BACKEND": "jax"}
    subprocess.run([sys.executable, "-c", ON_JAX, *paths], check=True, env=environment, capture_output=True)
    here = keras.saving.load_model(paths[0]).predict(few, verbose=0)
    assert np.load(paths[2]) == pytest.approx(here, abs=1e-5)


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
