"""The Makefile and .ci/run, in a copied tree whose interpreters are stubs that write down what they are asked."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from pipelines.core.contract import discover

ROOT = Path(__file__).parents[1]

PYTHON = """#!/bin/sh
case "$*" in
    *version_info*) echo "${VERSION:-3.12}" ;;
    *ensurepip*) [ ! -e no-venv ] ;;
    "-m venv --clear .venv") echo venv >> log; rm -rf .venv; mkdir -p .venv/bin; cp "$0" .venv/bin/python ;;
    "-m pip config list") cat pip-settings ;;
    "-m pip install"*) echo "pip $(cat .venv/uv.txt)" >> log ;;
    "-m uv pip sync"*) echo "uv $* [$UV_DEFAULT_INDEX] [$UV_INDEX]" >> log; [ ! -e no-network ] ;;
    *) echo "$*" ;;
esac
"""
SYNC = "uv -m uv pip sync --python .venv/bin/python --require-hashes"


def script(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


@pytest.fixture
def tree(tmp_path):
    """A bare checkout: two pipelines, one bench, stub interpreters in bin/, no .venv, no GPU."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in ("pipelines/core", "pipelines/fraud", "pipelines/stocks", "tests", "data/fraud", "mlruns"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "__init__.py").touch()
    script(tmp_path / "bench" / "fraud.py", "")
    (tmp_path / "requirements.lock").write_text(
        "tyro==1 \\\n    --hash=sha256:a\nuv==2 \\\n    --hash=sha256:b\nzipp==3\n"
    )
    (tmp_path / "requirements-gpu.lock").touch()
    (tmp_path / "requirements-jax.lock").touch()
    (tmp_path / "pip-settings").touch()
    for name in ("python3", "python3.13", "python3.12", "python3.11"):
        script(tmp_path / "bin" / name, PYTHON)
    script(tmp_path / "bin" / "nvidia-smi", "#!/bin/sh\n[ -e gpu ]\n")
    return tmp_path


@pytest.fixture
def ready(tree):
    """The same after its set-up."""
    assert make(tree, "lint").returncode == 0
    (tree / "log").unlink()
    return tree


def make(tree, *arguments, **environment):
    """Runs make with nothing of this process's environment, lest an outer make's flags come through."""
    environment["PATH"] = f"{tree / 'bin'}:/usr/local/bin:/usr/bin:/bin"
    return subprocess.run(["make", *arguments], cwd=tree, env=environment, capture_output=True, text=True, check=False)


def change_lock(tree):
    """Makes the lock newer than what is installed, whatever the file system's resolution in time."""
    os.utime(tree / ".venv" / "installed", (0, 0))


def log(tree):
    return (tree / "log").read_text().splitlines() if (tree / "log").exists() else []


def test_make_alone_lists_every_target_and_pipeline(tree):
    phony = re.search(r"^\.PHONY:(.*)$", (tree / "Makefile").read_text(), re.MULTILINE)[1]
    targets = [word for word in phony.split() if word not in ("help", "FORCE") and "$" not in word]
    answer = make(tree)
    assert answer.returncode == 0
    assert len(targets) > 5
    for target in [*targets, "NAME", "bench-NAME"]:
        assert re.search(rf"^make {target}  +\S", answer.stdout, re.MULTILINE), target
    assert "Pipelines: fraud stocks." in answer.stdout
    assert log(tree) == []


def test_make_and_list_know_the_same_pipelines():
    assert f"Pipelines: {' '.join(discover())}." in make(ROOT, "help").stdout


@pytest.mark.parametrize(
    ("arguments", "commands"),
    [
        (["fraud"], ["pipelines train fraud"]),
        (["fraud", "DATA=my file.csv", "ARGS=--epochs 2"], ["pipelines train fraud --data my file.csv --epochs 2"]),
        (["history", "NAME=fraud"], ["pipelines history fraud"]),
        (
            ["predict", "NAME=fraud", "DATA=may.csv", "ARGS=--out told.csv"],
            ["pipelines predict fraud --data may.csv --out told.csv"],
        ),
        (["bench-fraud", "DATA=x"], ["bench.fraud --data x"]),
        (["train"], ["pipelines train fraud", "pipelines train stocks"]),
        (["doctor"], ["pipelines doctor"]),
        (["test"], ["pytest -n 2 --dist loadfile --no-loadscope-reorder"]),
        (["test-all"], ["pytest -n 2 --dist loadfile --no-loadscope-reorder -m "]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_target_runs_its_command(ready, arguments, commands):
    answer = make(ready, *arguments)
    assert answer.returncode == 0
    assert [line.strip() for line in answer.stdout.splitlines()] == [f"-m {command}".strip() for command in commands]


def test_lint_checks_style_types_and_imports(ready):
    lines = make(ready, "lint").stdout.splitlines()
    assert [line.strip() for line in lines[:3]] == ["-m ruff check .", "-m ruff format --check .", "-m mypy"]
    assert "lint_imports" in lines[3]


def test_a_verb_asks_for_the_pipeline_that_it_is_about(ready):
    answer = make(ready, "history")
    assert answer.returncode == 2
    assert "make history NAME=fraud" in answer.stderr


def test_the_port_of_the_ui_reaches_every_command_that_prints_a_link(ready):
    script(ready / ".venv" / "bin" / "python", '#!/bin/sh\necho "$*, port ${MLFLOW_PORT:-of the program}"\n')
    assert make(ready, "ui").stdout == "-m pipelines ui, port of the program\n"
    for target in ("ui", "fraud", "doctor"):
        assert make(ready, target, "PORT=6001").stdout.endswith(f"{target}, port 6001\n")


@pytest.mark.parametrize("target", ["fruad", "bench-stocks"])
def test_an_unknown_target_is_answered_with_the_known_ones(tree, target):
    answer = make(tree, target)
    complaint = answer.stderr.splitlines()[0]
    assert answer.returncode == 2
    assert complaint.startswith("error: ")
    assert f'"{target}"' in complaint
    assert "fraud stocks" in complaint
    assert "No rule" not in answer.stderr
    assert log(tree) == []


def test_files_are_no_targets(ready):
    for name in ("Makefile", "requirements.lock"):
        answer = make(ready, name)
        assert (answer.returncode, answer.stdout.count("\n")) == (0, 1)  # make says that there is nothing to do


def test_the_first_call_sets_everything_up_and_the_second_nothing(tree):
    first = make(tree, "fraud")
    assert first.stdout.splitlines()[-1] == "-m pipelines train fraud"
    assert log(tree) == ["venv", "pip uv==2 \\", "    --hash=sha256:b", f"{SYNC} requirements.lock [] []"]
    (tree / "log").unlink()
    assert make(tree, "fraud").stdout == "-m pipelines train fraud\n"
    assert log(tree) == []


def test_a_changed_lock_is_installed(ready):
    change_lock(ready)
    assert make(ready, "lint").returncode == 0
    assert log(ready) == [f"{SYNC} requirements.lock [] []"]


def test_an_interrupted_set_up_starts_again_from_scratch(tree):
    (tree / "no-network").touch()
    assert make(tree, "fraud").returncode == 2
    (tree / "no-network").unlink()
    (tree / "log").unlink()
    assert make(tree, "fraud").returncode == 0
    assert log(tree)[0] == "venv"


def test_an_interrupted_update_starts_again_from_scratch(ready):
    change_lock(ready)
    (ready / "no-network").touch()
    assert make(ready, "fraud").returncode == 2
    (ready / "no-network").unlink()
    (ready / "log").unlink()
    assert make(ready, "fraud").returncode == 0
    assert log(ready)[0] == "venv"


def test_a_gpu_adds_its_lock_and_jax_on_a_gpu_a_third(ready):
    (ready / "gpu").touch()
    make(ready, "lint")
    make(ready, "lint", KERAS_BACKEND="jax")
    make(ready, "lint")
    assert log(ready) == [
        f"{SYNC} requirements.lock requirements-gpu.lock [] []",
        f"{SYNC} requirements.lock requirements-gpu.lock requirements-jax.lock [] []",
    ]


def test_uv_installs_from_the_main_index_of_pip_and_from_no_extra_one(tree):
    """Of a release on several indexes uv takes the first one's wheels, which may be the wrong ones."""
    settings = "global.extra-index-url='file:///a\\nfile:///b'\nglobal.index-url='https://mirror.example/simple'\n"
    (tree / "pip-settings").write_text(f":env:.no-index='0'\n{settings}")
    make(tree, "lint")
    assert log(tree)[-1] == f"{SYNC} requirements.lock [https://mirror.example/simple] []"


def test_indexes_that_uv_was_given_win(tree):
    (tree / "pip-settings").write_text("global.index-url='https://mirror.example/simple'\n")
    make(tree, "lint", UV_DEFAULT_INDEX="https://other.example/simple")
    assert log(tree)[-1] == f"{SYNC} requirements.lock [https://other.example/simple] []"


@pytest.mark.parametrize(("version", "found"), [("3.10", "found 3.10"), ("3.14", "found 3.14")])
def test_a_wrong_python_is_answered_with_the_right_ones(tree, version, found):
    answer = make(tree, "fraud", "PYTHON=python3", VERSION=version)
    complaint, *_ = answer.stderr.splitlines()
    assert answer.returncode == 2
    assert complaint.startswith("error: Python 3.11, 3.12 or 3.13 is needed, ")
    assert found in complaint
    assert log(tree) == []


def test_no_python_at_all_is_said(tree):
    assert "found none" in make(tree, "fraud", "PYTHON=no-such-python").stderr


def test_a_python_that_cannot_start_is_passed_over(tree):
    script(tree / "bin" / "python3", "#!/bin/sh\nexit 127\n")
    assert make(tree, "fraud").returncode == 0
    assert log(tree)[0] == "venv"


def test_a_missing_venv_module_is_answered_with_its_package(tree):
    (tree / "no-venv").touch()
    answer = make(tree, "fraud")
    assert answer.returncode == 2
    assert answer.stderr.startswith("error: Python 3.12 lacks its venv module: sudo apt install python3.12-venv\n")


def test_clean_leaves_data_and_runs(ready):
    assert make(ready, "clean").returncode == 0
    assert not (ready / ".venv").exists()
    assert (ready / "data" / "fraud" / "__init__.py").exists()
    assert (ready / "mlruns" / "__init__.py").exists()


@pytest.mark.parametrize("real", [True, False])
def test_ci_lints_and_tests_and_names_real_data_that_lies_beside(tmp_path, real):
    checkout = tmp_path / "checkout"
    (checkout / ".ci").mkdir(parents=True)
    shutil.copy(ROOT / ".ci" / "run", checkout / ".ci")
    script(tmp_path / "bin" / "make", '#!/bin/sh\necho "$1 in $PWD: $PIPELINES_REAL_DATA"\n')
    if real:
        (tmp_path / "shared" / "data").mkdir(parents=True)
    environment = {"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin"}
    answer = subprocess.run([checkout / ".ci" / "run"], env=environment, capture_output=True, text=True, check=True)
    folder = tmp_path / "shared" / "data" if real else ""
    assert answer.stdout == f"lint in {checkout}: {folder}\ntest in {checkout}: {folder}\n"
