"""Running a version with the code that it carries: which code that is, and what a version says that cannot run."""

import shutil
import sys
import tomllib
from pathlib import Path

import mlflow
import numpy as np
import pytest
from toys import blobs
from toys.blobs import PIPELINE

from pipelines.core.contract import InputError
from pipelines.core.store import isolation
from tests.builders import dataset

slow = pytest.mark.slow  # each starts a process that imports MLflow
ROOT = Path(__file__).parents[1]
ABSENT = "rdkit_that_is_absent"
MODEL = """
import dataclasses, os, types
import mlflow

@dataclasses.dataclass(frozen=True)
class About:
    pass

class Tiny(mlflow.pyfunc.PythonModel):
    def load_context(self, context):
        if os.environ.get("TINY_LACKS") == "load":
            import rdkit_that_is_absent

    def predict(self, context, model_input, params=None):
        return model_input

    pipeline = types.SimpleNamespace(data=types.SimpleNamespace(About=About))

    def score(self, data, rows):
        import rdkit_that_is_absent

mlflow.models.set_model(Tiny())
"""
VERBS = """
class InputError(Exception):
    pass

def add(model, a, b):
    return {"sum": a + b}

def refuse(model):
    raise InputError("expected something else.")

def need(model):
    import rdkit_that_is_absent

def stop(model):
    raise KeyboardInterrupt
"""


@pytest.fixture
def tiny(store, tmp_path, monkeypatch):
    """The URI of a registered version whose code is a few lines in the package `shipped`."""
    files = {"model.py": MODEL, "shipped/__init__.py": "", "shipped/verbs.py": VERBS}
    files["shipped/needy.py"] = f"import {ABSENT}\n\ndef verb(model):\n    pass\n"
    for name, text in files.items():
        path = tmp_path / "code" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    model = str(tmp_path / "code" / "model.py")
    with mlflow.start_run(experiment_id=store.create_experiment("tiny", (tmp_path / "artifacts").as_uri())):
        mlflow.pyfunc.log_model(
            name="model",
            python_model=model,
            code_paths=[str(tmp_path / "code" / "shipped"), str(ROOT / "pipelines")],
            pip_requirements=["mlflow"],
            registered_model_name="tiny",
        )
    monkeypatch.setattr(sys, "path", list(sys.path))  # loading a version in this process adds to it
    yield "models:/tiny/1"
    for name in [name for name in sys.modules if name.partition(".")[0] == "shipped"]:
        del sys.modules[name]


@slow
def test_a_function_of_the_version_gets_the_model_and_json_and_answers_in_json(tiny):
    assert isolation.run_in_version(tiny, False, "shipped.verbs:add", a=1, b=2) == {"sum": 3}
    with pytest.raises(InputError, match=r"^expected something else\.$"):
        isolation.run_in_version(tiny, False, "shipped.verbs:refuse")


@pytest.mark.parametrize(
    ("same_code", "lacks", "function"),
    [
        (True, "load", "shipped.verbs:add"),
        (True, "", "shipped.needy:verb"),
        (True, "", "shipped.verbs:need"),
        pytest.param(False, "load", "shipped.verbs:add", marks=slow),
        (False, "", "shipped.needy:verb"),
        pytest.param(False, "", "shipped.verbs:need", marks=slow),
    ],
)
def test_a_module_that_a_version_needs_is_named_wherever_it_is_imported(tiny, monkeypatch, same_code, lacks, function):
    monkeypatch.setenv("TINY_LACKS", lacks)
    with pytest.raises(InputError) as refused:
        isolation.run_in_version(tiny, same_code, function)
    assert str(refused.value) == f"version 1 of tiny needs the module '{ABSENT}', which is not installed."


@pytest.mark.parametrize(
    ("same_code", "lacks"),
    [(True, "load"), (True, ""), pytest.param(False, "load", marks=slow), (False, "")],
)
def test_a_module_that_scoring_needs_is_named_alike(tiny, monkeypatch, same_code, lacks):
    data = dataset({"a": [5.0, 6.0]}, ("a",))
    monkeypatch.setenv("TINY_LACKS", lacks)
    with pytest.raises(InputError) as refused:
        isolation.score(tiny, same_code, data, np.array([1]))
    assert str(refused.value) == f"version 1 of tiny needs the module '{ABSENT}', which is not installed."


@pytest.mark.parametrize(
    "function",
    [
        "shipped.tomorrow:shine",
        pytest.param("tomorrow.verbs:shine", marks=slow),
        pytest.param("shipped.verbs:shine", marks=slow),
    ],
)
def test_a_version_whose_code_has_no_such_function_asks_for_a_new_one(tiny, function):
    with pytest.raises(InputError, match=r"^version 1 of tiny was registered by a release .* train a new version"):
        isolation.run_in_version(tiny, False, function)


@slow
def test_ctrl_c_in_a_version_keeps_its_exit_code(tiny):
    with pytest.raises(RuntimeError, match="version 1 of tiny ended with code 130"):
        isolation.run_in_version(tiny, False, "shipped.verbs:stop")


# --------------------------------------------------------------------------------------------- which code it carries

DECIDE = ("contract", "data", "evaluation", "reading", "serving", "tasks", "training")
"""Rooms of core whose code has a part in scores."""
SHOW = ("__init__.py", "commands", "report", "review", "store")


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """A copy of core and of the toy domain in place of the ones on disk."""
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "pipelines" / "core", tmp_path / "pipelines" / "core", ignore=ignored)
    shutil.copytree(ROOT / "tests" / "toys", tmp_path / "toys", ignore=ignored)
    monkeypatch.setattr(isolation, "__file__", str(tmp_path / "pipelines" / "core" / "store" / "isolation.py"))
    monkeypatch.setattr(blobs, "__file__", str(tmp_path / "toys" / "blobs" / "__init__.py"))
    return tmp_path


def test_every_room_of_core_either_decides_about_scores_or_does_not():
    rooms = {path.name for path in (ROOT / "pipelines" / "core").iterdir()} - {"__pycache__"}
    assert rooms == {*DECIDE, *SHOW}


def test_the_digest_covers_the_rooms_and_the_files_of_the_domain_that_decide_about_scores_and_nothing_else(copied):
    folder, before, core = copied, isolation.code_sha256(PIPELINE), copied / "pipelines" / "core"
    changed = set()
    for path in [*core.rglob("*.py"), *(folder / "toys").rglob("*.py")]:
        text = path.read_text()
        path.write_text(text + "\n# another comment\n")
        if isolation.code_sha256(PIPELINE) != before:
            changed.add(path.relative_to(folder).as_posix())
        path.write_text(text)
    deciding = [path for room in DECIDE for path in (core / room).rglob("*.py")]
    deciding += set((folder / "toys" / "blobs").rglob("*.py")) - {folder / "toys" / "blobs" / "report.py"}
    assert changed == {path.relative_to(folder).as_posix() for path in deciding}
    assert "pipelines/core/evaluation/calibration.py" in changed
    assert "pipelines/core/report/figures.py" not in changed


def test_the_digest_changes_with_the_name_of_a_file_and_with_a_new_one(copied):
    folder = copied
    digests = {isolation.code_sha256(PIPELINE)}
    calibration = folder / "pipelines" / "core" / "evaluation" / "calibration.py"
    calibration.rename(calibration.with_name("calibrate.py"))
    digests.add(isolation.code_sha256(PIPELINE))
    (folder / "toys" / "blobs" / "deep").mkdir()
    (folder / "toys" / "blobs" / "deep" / "deeper.py").write_text("")
    digests.add(isolation.code_sha256(PIPELINE))
    assert len(digests) == 3


def test_a_version_carries_every_file_of_core_and_of_its_domain_at_any_depth(copied):
    folder = copied
    (folder / "toys" / "blobs" / "deep").mkdir()
    (folder / "toys" / "blobs" / "deep" / "table.json").write_text("{}")
    files = isolation.package_files(PIPELINE)
    on_disk = [*(folder / "pipelines" / "core").rglob("*"), *(folder / "toys" / "blobs").rglob("*")]
    expected = {path.relative_to(folder).as_posix() for path in on_disk if path.is_file()}
    assert set(files) == expected | {"pipelines/__init__.py", "toys/__init__.py"}
    assert {"pipelines/core/report/template.html", "pipelines/core/report/style.css"} <= set(files)
    assert "toys/blobs/deep/table.json" in files


def test_an_installed_package_has_every_file_that_its_modules_read():
    with (ROOT / "pyproject.toml").open("rb") as file:
        listed = tomllib.load(file)["tool"]["setuptools"]["package-data"]
    named = {ROOT / package.replace(".", "/") / name for package, names in listed.items() for name in names}
    others = {path for path in (ROOT / "pipelines").rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert named == {path for path in others if path.name != "README.md"}  # a model card is read by people
