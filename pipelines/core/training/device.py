"""Everything that depends on the machine or the backend: seed, GPU, precision, and what `doctor` looks at.

TensorFlow is imported here and nowhere else, and only where it is the backend.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.metadata
import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from pipelines.core.contract import InputError

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h
KEPT = 32 << 20  # bytes, the largest threshold that glibc takes


@dataclass(frozen=True)
class Device:
    """What a run computes on; every field is logged."""

    backend: str
    device: str
    accelerators: int
    precision: str
    cores: int

    @property
    def workers(self) -> int:
        """Threads that prepare batches: enough to keep a GPU busy, none beside the training on a CPU."""
        return min(4, self.cores) if self.accelerators else 1


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep off the terminal what TensorFlow's libraries say while they are loaded, whatever its log level."""
    kept = os.dup(2)
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def setup(seed: int, device: str = "auto", precision: str = "auto", gpus: int = 1) -> Device:
    """Seed every generator, claim up to `gpus` GPUs and set the precision.

    On a CPU the operations are made deterministic, so that a seed repeats to the bit. Left to "auto", a GPU trains in
    bfloat16 where it has it (compute capability 8.0 and up) and a CPU in float32, which small networks prefer there.

    Raises:
        InputError: if fewer GPUs can be used than `device` "gpu" or `gpus` ask for.
    """
    import keras

    keras.utils.set_random_seed(seed)
    backend = keras.backend.backend()
    find = _tensorflow_gpus if backend == "tensorflow" else _jax_gpus
    names, bfloat16 = find(0 if device == "cpu" else gpus)
    wanted = gpus if gpus > 1 else int(device == "gpu")
    if len(names) < wanted and device != "cpu":
        raise InputError(
            f"--device {device} --gpus {gpus}: expected {wanted} GPU{'s' * (wanted > 1)} that {backend} can use. "
            f"Received: {len(names)}; 'make doctor' says why."
        )
    if precision == "auto":
        precision = "bfloat16" if bfloat16 else "float32"
    precision = {"bfloat16": "mixed_bfloat16"}.get(precision, precision)
    keras.config.set_dtype_policy(precision)
    found = names[0] if names else platform.processor() or platform.machine()
    return Device(backend, found, len(names), precision, psutil.cpu_count() or 1)


def _tensorflow_gpus(most: int) -> tuple[list[str], bool]:
    import tensorflow as tf

    tf.get_logger().setLevel("ERROR")  # it warns of every network beyond a few in one process
    gpus = tf.config.list_physical_devices("GPU")[:most]
    tf.config.set_visible_devices(gpus, "GPU")
    if not gpus:
        tf.config.experimental.enable_op_determinism()
        _keep_freed_memory()
        return [], False
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
    if len(gpus) > 1:
        mirror([f"GPU:{number}" for number in range(len(gpus))])
    capable = all(found.get("compute_capability", (0,))[0] >= 8 for found in details)
    return [found.get("device_name", "GPU") for found in details], capable


def _keep_freed_memory() -> None:
    """Let batches reuse the memory of those before them, instead of faulting each page in anew.

    Once its first generator data set is made, TensorFlow makes glibc return freed memory at once. Training on a
    CPU then spends up to a quarter of its time in the kernel (12 times the page faults were measured).
    """
    import tensorflow as tf

    malloc = getattr(ctypes.CDLL(None), "mallopt", None)
    if malloc is None:  # not glibc
        return
    for _ in tf.data.Dataset.from_generator(lambda: iter(()), output_signature=tf.TensorSpec(())):
        _keep_freed_memory()
    malloc(M_MMAP_THRESHOLD, KEPT)
    malloc(M_TRIM_THRESHOLD, 32 * KEPT)


def mirror(devices: list[str]) -> None:
    """From here on TensorFlow trains every network on all `devices` at once, each on its share of a batch."""
    import tensorflow as tf

    tf.distribute.experimental_set_strategy(tf.distribute.MirroredStrategy(devices))


def _jax_gpus(most: int) -> tuple[list[str], bool]:
    import jax
    import keras

    gpus = [device for device in jax.devices() if device.platform == "gpu"][:most]
    if most == 0:
        jax.config.update("jax_default_device", jax.devices("cpu")[0])
    if len(gpus) > 1:
        keras.distribution.set_distribution(keras.distribution.DataParallel(devices=[f"gpu:{gpu.id}" for gpu in gpus]))
    capabilities = [float(getattr(gpu, "compute_capability", 0) or 0) for gpu in gpus]
    return [gpu.device_kind for gpu in gpus], bool(gpus) and min(capabilities) >= 8


def versions() -> dict[str, str]:
    """Versions of what a result depends on."""
    names = ("tensorflow", "keras", "jax", "numpy", "pandas", "scikit-learn", "mlflow")
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
