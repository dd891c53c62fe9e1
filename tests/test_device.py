"""Devices: what is asked for and is not there is refused; several devices train one network."""

import ctypes
import json
import os
import resource
import subprocess
import sys

import keras
import numpy as np
import pytest

from pipelines.core.contract import InputError
from pipelines.core.training import device
from pipelines.core.training.batches import predict
from tests.test_fit import network, parts

# A process of its own, since a second network under a mirrored strategy fails in one (Keras 3 on TensorFlow).
MIRRORED = """
import json, sys
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

import numpy as np
from pipelines.core.training import device
from pipelines.core.training.batches import predict
from pipelines.core.training.fit import fit
from tests.test_fit import LOSS, SETTINGS, network, parts

machine = device.setup(0)
if sys.argv[1] == "two":
    device.mirror(["CPU:0", "CPU:1"])
model, (train, stopping) = network(), parts()
fitted = fit(model, LOSS, train, stopping, SETTINGS, machine)
print(json.dumps({"replicas": tf.distribute.get_strategy().num_replicas_in_sync, "losses": fitted.epochs}))
"""


@pytest.fixture
def no_gpu(monkeypatch):
    """None is found, whether or not the machine has one."""
    for finder in ("_tensorflow_gpus", "_jax_gpus"):
        monkeypatch.setattr(device, finder, lambda most: ([], False))


@pytest.mark.parametrize("asked", [{"device": "gpu"}, {"gpus": 2}])
def test_a_gpu_that_is_absent_is_refused(no_gpu, asked):
    with pytest.raises(InputError, match=r"expected \d GPUs? .* Received: 0; 'make doctor' says why"):
        device.setup(0, **asked)


def test_precision_follows_the_setting(no_gpu):
    assert device.setup(0, precision="bfloat16").precision == "mixed_bfloat16"
    assert device.setup(0).precision == "float32"


@pytest.mark.slow
def test_two_devices_train_one_network_as_one_does():
    def trained(devices: str) -> dict:
        command = [sys.executable, "-c", MIRRORED, devices]
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ)
        return json.loads(done.stdout.splitlines()[-1])

    one, two = trained("one"), trained("two")
    assert (one["replicas"], two["replicas"]) == (1, 2)
    # Dropout draws differently on two devices; that apart, they see the same batches.
    for alone, shared in zip(one["losses"], two["losses"], strict=True):
        assert shared["val_loss"] == pytest.approx(alone["val_loss"], rel=0.1)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="about TensorFlow's memory")
@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="about glibc's memory")
def test_a_batch_reuses_the_memory_of_the_one_before_it():
    if device.setup(0).accelerators:
        pytest.skip("about training on a CPU")
    pages = 8 << 20 >> 12
    predict(network(), parts()[0])  # after which TensorFlow would hand all of it back

    def faults():
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(20):
            np.ones(8 << 20, np.uint8)
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    faults()
    assert faults() < pages, "of 20 arrays, not even one was made of new pages"
