import dataclasses
import importlib
import inspect
import os
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest
from toys.blobs import PIPELINE as BLOBS

from pipelines import __main__ as cli
from pipelines.core.contract import InputError, Source, UnrecordedError, discover

HEAVY = ("numpy", "pandas", "scipy", "sklearn", "keras", "tensorflow", "jax", "mlflow", "matplotlib")
IMPORTS = f"""
import sys
from pipelines.__main__ import main
try:
    main(sys.argv[1:])
except SystemExit:
    pass
print("imported:", *(name for name in {HEAVY} if name in sys.modules))
"""


@pytest.fixture
def settings_seen(monkeypatch):
    """The toy pipeline in place of the real ones, and a `train` that notes its settings instead of training."""
    seen = []
    monkeypatch.setattr(cli, "discover", lambda: {"blobs": BLOBS})
    stub = SimpleNamespace(train=lambda pipeline, settings: seen.append((pipeline, settings)))
    monkeypatch.setitem(sys.modules, "pipelines.core.commands.train", stub)
    return seen


def train_raises(monkeypatch, error):
    def train(pipeline, settings):
        raise error

    monkeypatch.setitem(sys.modules, "pipelines.core.commands.train", SimpleNamespace(train=train))


@pytest.mark.parametrize(
    "arguments", [["list"], ["--help"], ["train"], *(["train", name, "--help"] for name in discover())], ids=" ".join
)
def test_looking_around_imports_nothing_heavy(arguments):
    answer = subprocess.run([sys.executable, "-c", IMPORTS, *arguments], capture_output=True, text=True, check=True)
    assert answer.stdout.splitlines()[-1] == "imported:"
    assert len(answer.stdout.splitlines()) > 1


def test_list_shows_every_pipeline_with_its_data(monkeypatch, capsys):
    fetched = dataclasses.replace(BLOBS, sources={"iris": Source("https://data.example/iris", "", 0, "", "")})
    monkeypatch.setattr(cli, "discover", lambda: {"blobs": fetched})
    assert cli.main(["list"]) == 0
    assert capsys.readouterr().out == f"blobs  {BLOBS.title}; --data demo | iris | PATH\n"


def test_flags_reach_the_training_as_settings(settings_seen):
    assert cli.main(["train", "blobs", "--data", "my.csv", "--epochs", "7", "--allow-column", "a", "b"]) == 0
    expected = BLOBS.settings(data="my.csv", epochs=7, allow_column=("a", "b"))
    assert settings_seen == [(BLOBS, expected)]


def test_help_of_a_pipeline_explains_every_setting(settings_seen, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["train", "blobs", "--help"])
    text = capsys.readouterr().out
    assert end.value.code == 0
    assert BLOBS.title in text
    assert [f for f in BLOBS.settings.__dataclass_fields__ if f"--{f.rstrip('_').replace('_', '-')}" not in text] == []


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (
            ["trian", "blobs"],
            f"error: the command must be one of {', '.join(cli.COMMANDS)}, perhaps train. Received: trian\n",
        ),
        (["train", "blob"], "error: the pipeline must be one of blobs, perhaps blobs. Received: blob\n"),
        (["train", "xyz"], "error: the pipeline must be one of blobs. Received: xyz\n"),
        (["list", "--all"], "error: `list` takes no arguments. Received: --all\n"),
    ],
)
def test_an_unknown_word_is_answered_with_the_known_ones_and_the_close_one(settings_seen, capsys, arguments, complaint):
    assert cli.main(arguments) == 2
    assert capsys.readouterr().err == complaint
    assert settings_seen == []


def test_an_unknown_flag_is_answered_with_the_close_one(settings_seen, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["train", "blobs", "--epoch", "3"])
    assert end.value.code == 2
    assert "--epochs" in capsys.readouterr().err
    assert settings_seen == []


def test_a_users_mistake_ends_in_one_sentence_and_code_2(settings_seen, monkeypatch, capsys):
    train_raises(monkeypatch, InputError("my.csv has no rows"))
    assert cli.main(["train", "blobs"]) == 2
    assert capsys.readouterr().err == "error: my.csv has no rows\n"


def test_what_was_not_recorded_ends_in_one_sentence_and_code_1(settings_seen, monkeypatch, capsys):
    train_raises(monkeypatch, UnrecordedError("It is kept; `pipelines send blobs` records it."))
    assert cli.main(["train", "blobs"]) == 1
    assert capsys.readouterr().err == "It is kept; `pipelines send blobs` records it.\n"


def test_a_training_that_diverges_ends_in_one_sentence_and_code_1_and_its_run_stays_failed(store, monkeypatch, capfd):
    monkeypatch.setattr(cli, "discover", lambda: {"blobs": BLOBS})
    assert cli.main(["train", "blobs", "--learning-rate", "1e38", "--epochs", "2"]) == 1
    told = capfd.readouterr().err
    assert "Traceback" not in told
    assert re.fullmatch(
        r"error: Training diverged: loss is nan after epoch 1\. Lower --learning-rate\.", last_line(told)
    )
    (run,) = store.search_runs([store.get_experiment_by_name("blobs").experiment_id])
    assert run.info.status == "FAILED"
    assert store.search_registered_models() == []


def last_line(text: str) -> str:
    return text.rstrip().splitlines()[-1]


@pytest.mark.parametrize("command", cli.ON_VERSIONS)
def test_help_of_what_is_done_with_versions_explains_each_flag(settings_seen, capsys, command):
    with pytest.raises(SystemExit) as end:
        cli.main([command, "blobs", "--help"])
    assert end.value.code == 0
    told = capsys.readouterr().out
    verb = getattr(importlib.import_module(f"pipelines.core.commands.{cli.ON_VERSIONS[command]}"), command)
    flags = [
        name
        for name, parameter in inspect.signature(verb).parameters.items()
        if parameter.kind == parameter.KEYWORD_ONLY
    ]
    assert [flag for flag in flags if f"--{flag.replace('_', '-')}" not in told] == []
    assert f"pipelines {command}" in cli.USAGE


def test_a_fault_of_ours_keeps_its_stack_trace(settings_seen, monkeypatch):
    train_raises(monkeypatch, ZeroDivisionError("a bug"))
    with pytest.raises(ZeroDivisionError, match="a bug"):
        cli.main(["train", "blobs"])


def test_ctrl_c_ends_in_one_sentence_and_code_130(settings_seen, monkeypatch, capsys):
    train_raises(monkeypatch, KeyboardInterrupt())
    assert cli.main(["train", "blobs"]) == 130
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize(("gpu", "code"), [(True, 0), (False, 1)])
def test_doctor_fails_if_any_check_does(monkeypatch, capsys, gpu, code):
    checks = [("disk", True, "9 GiB free"), ("gpu", gpu, "no CUDA"), ("python", True, "3.12")]
    monkeypatch.setitem(sys.modules, "pipelines.core.commands.doctor", SimpleNamespace(doctor=lambda: iter(checks)))
    assert cli.main(["doctor"]) == code
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == ["disk", "gpu", "python"]
    assert [line.split()[0] for line in lines] == ["ok", "ok" if gpu else "FAULT", "ok"]


def test_what_the_user_set_in_the_environment_wins(monkeypatch):
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
    monkeypatch.delenv("MLFLOW_DISABLE_TELEMETRY", raising=False)
    cli.main(["--help"])
    assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "0"
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"


def test_the_exit_code_reaches_the_shell():
    answer = subprocess.run(
        [sys.executable, "-m", "pipelines", "nonsense"], capture_output=True, text=True, check=False
    )
    assert answer.returncode == 2
    assert answer.stderr.startswith("error: ")
