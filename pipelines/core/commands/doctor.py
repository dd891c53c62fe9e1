"""`doctor`: whether this machine has what a run needs."""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil

from pipelines.core.commands import ports
from pipelines.core.commands.ui import links
from pipelines.core.contract import InputError, discover
from pipelines.core.training.device import quiet, setup, versions


def _nvidia() -> list[str]:
    """Names of the GPUs that the NVIDIA driver shows, whether or not TensorFlow can use them."""
    if not shutil.which("nvidia-smi"):
        return []
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False)
    return listed.stdout.split("\n")[:-1] if listed.returncode == 0 else []


def _missing_cuda() -> list[str]:
    """CUDA libraries that TensorFlow looks for and the loader does not find."""
    missing = []
    for name in ("libcudart.so.12", "libcublas.so.12", "libcudnn.so.9", "libcufft.so.11", "libcusparse.so.12"):
        try:
            ctypes.CDLL(name)
        except OSError:
            missing.append(name)
    return missing


def _interface(root: Path) -> Iterator[tuple[str, bool, str]]:
    """Where MLflow's UI opens and, where there are runs, the address of each pipeline's list."""
    from pipelines.core.store import tracking

    try:
        port = tracking.port()
        if ports.fault(port):
            yield "ui", True, f"port {port} is in use: by `make ui`, or else `make ui PORT={ports.next_free(port)}`"
        else:
            yield "ui", True, f"port {port} is free for `make ui`"
        if (root / "mlruns" / "mlflow.db").exists() or os.environ.get("MLFLOW_TRACKING_URI"):
            tracking.connect(root)
            yield from (("runs", True, line) for line in links(discover()))
    except InputError as error:
        yield "ui", False, str(error)


def doctor(root: Path | None = None) -> Iterator[tuple[str, bool, str]]:
    """What a run needs of this machine, looked at one by one: (name, whether it will do, a sentence)."""
    root = root or Path.cwd()
    python = sys.version_info[:2]
    yield "python", (3, 11) <= python <= (3, 13), f"{platform.python_version()}, 3.11 to 3.13 is supported"
    memory = psutil.virtual_memory()
    yield "cores", True, f"{psutil.cpu_count()} logical"
    yield (
        "memory",
        memory.available > 2 << 30,
        f"{memory.available >> 30} of {memory.total >> 30} GiB free, 2 are needed",
    )
    free = shutil.disk_usage(root).free
    yield "disk", free > 2 << 30, f"{free >> 30} GiB free below {root}, 2 are needed for runs and caches"
    for folder in ("data", "mlruns"):
        place = root / folder if (root / folder).exists() else root
        yield folder, os.access(place, os.W_OK), f"{place} can{'' if os.access(place, os.W_OK) else 'not'} be written"
    yield from _interface(root)
    try:
        with quiet():
            device = setup(seed=0)
    except Exception as error:  # a doctor reports what is broken instead of breaking
        yield "backend", False, f"{type(error).__name__}: {error}"
        return
    yield "backend", True, ", ".join(f"{name} {version}" for name, version in versions().items())
    cards = _nvidia()
    if not cards:
        yield "gpu", True, "no NVIDIA driver here: training runs on the CPU, which is fine for the demos"
    elif device.accelerators:
        yield "gpu", True, f"{device.accelerators} of {len(cards)} × {device.device}, {device.precision}"
    else:
        missing = _missing_cuda()
        why = f"not found: {', '.join(missing)}" if missing else "the CUDA libraries load, so compare driver versions"
        yield "gpu", False, f"the driver shows {cards[0]} but {device.backend} does not use it; {why}"
