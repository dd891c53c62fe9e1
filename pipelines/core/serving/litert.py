"""The network for small devices: a LiteRT file (formerly TensorFlow Lite), its outputs and its speed.

Needs the extra `export` (`ai-edge-litert`) and the TensorFlow backend.
"""

from __future__ import annotations

import importlib.util
import tempfile
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np

from pipelines.core.data.arrays import Part


def available() -> bool:
    """Whether this process can write and run LiteRT files."""
    return keras.backend.backend() == "tensorflow" and importlib.util.find_spec("ai_edge_litert") is not None


def litert(network: Any, part: Part) -> tuple[bytes, np.ndarray, float]:
    """The network as a LiteRT file, tried on the part's records one by one on one thread.

    Returns:
        The file; its outputs, float32 (n, …); and the milliseconds that a record takes.
    """
    from ai_edge_litert.interpreter import Interpreter

    from pipelines.core.training import device  # which needs what a logged model does not bring

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "network.tflite")
        network.export(str(path), format="litert", verbose=False)
        content = path.read_bytes()
    with device.quiet():  # it announces its delegate
        interpreter = Interpreter(model_content=content, num_threads=1)
        interpreter.allocate_tensors()
    (taken,), (given,) = interpreter.get_input_details(), interpreter.get_output_details()
    (values,) = part.x().values()
    outputs, started = [], time.perf_counter()
    for value in values:
        interpreter.set_tensor(taken["index"], value[None])
        interpreter.invoke()
        outputs.append(interpreter.get_tensor(given["index"])[0].copy())
    return content, np.stack(outputs), 1e3 * (time.perf_counter() - started) / max(len(values), 1)
