"""What every test stands on: quiet libraries, no network beyond this machine, properties that repeat."""

import functools
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import hypothesis
import pytest

from pipelines.__main__ import prepare

WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
THREADS = max(1, (os.cpu_count() or 1) // WORKERS)  # more would only wait for one another

# Libraries read these while they are imported, which test modules do before any fixture runs.
for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
    os.environ.setdefault(name, str(THREADS))
prepare()
os.environ.setdefault("MPLBACKEND", "agg")

hypothesis.settings.register_profile("repeatable", deadline=None, derandomize=True, max_examples=50)
hypothesis.settings.load_profile("repeatable")


@pytest.fixture(scope="session", autouse=True)
def radiographs_made_once():
    """Simulating them takes ten seconds, and several tests of a process read the demo."""
    from pipelines.medical_images import demo

    make = demo.make
    once = functools.cache(lambda seed, images: make(seed))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "make", lambda seed: tuple(part.copy() for part in once(seed, demo.IMAGES)))
        yield


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data; the test is skipped where there is none."""
    folder = os.environ.get("PIPELINES_REAL_DATA")
    if not folder:
        pytest.skip("PIPELINES_REAL_DATA is not set")
    return Path(folder)


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory):
    """A database without runs: creating one takes MLflow seconds, copying it nothing."""
    folder = tmp_path_factory.mktemp("store")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    code = "from pipelines.core.store import tracking; tracking.connect()"
    subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, check=True)
    return folder / "mlruns" / "mlflow.db"


@pytest.fixture
def store(tmp_path, monkeypatch, empty_store):
    """An empty project folder, and a client of its store."""
    import mlflow

    from pipelines.core.store import tracking

    (tmp_path / "mlruns").mkdir()
    shutil.copy(empty_store, tmp_path / "mlruns")
    monkeypatch.chdir(tmp_path)
    # Set, so that what `connect` writes into it is undone afterwards.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    monkeypatch.delenv("MLFLOW_PORT", raising=False)
    tracking.connect()
    return mlflow.MlflowClient()


@pytest.fixture(scope="session", autouse=True)
def loopback_only():
    """Fails a test that opens a connection to any other machine."""
    with pytest.MonkeyPatch.context() as patch:
        for method in ("connect", "connect_ex"):
            patch.setattr(socket.socket, method, _guarded(getattr(socket.socket, method)))
        yield


def _guarded(connect):
    def guarded(self, address):
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in ("127.0.0.1", "::1", "localhost"):
            pytest.fail(f"a test connects to {address[0]}:{address[1]}")
        return connect(self, address)

    return guarded
