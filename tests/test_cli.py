import dataclasses
import importlib
import inspect
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from toys.blobs import PIPELINE as BLOBS

from pipelines import __main__ as cli
from pipelines.core.contract import InputError, Source, UnrecordedError, discover

HEAVY = ("numpy", "pandas", "scipy", "sklearn", "keras", "tensorflow", "jax", "mlflow", "matplotlib")
ROOT = Path(__file__).parents[1]
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


COMMANDS_IN_ONE_PROCESS = f"""
import json, sys
from pipelines.__main__ import main
for arguments in json.loads(sys.argv[1]):
    main(arguments)
print("imported:", *(name for name in {HEAVY} if name in sys.modules))
"""


def test_a_missing_champion_is_said_before_keras_is_imported_with_the_command_that_makes_one(store, tmp_path):
    store.create_registered_model("stocks", {"pipeline": "stocks"})
    run = store.create_run(store.create_experiment("stocks"))
    store.create_model_version("stocks", "nowhere", run.info.run_id)
    (tmp_path / "own.csv").write_text("no prices\n")
    asked = [
        ["evaluate", "stocks", "--data", "own.csv"],
        ["predict", "stocks", "--data", "own.csv", "--out", "out.csv"],
        ["serve", "stocks", "--port", "0"],
        ["train", "stocks", "--data", "own.csv", "--append"],
        ["train", "stocks", "--data", "own.csv", "--from", "champion"],
    ]
    command = [sys.executable, "-c", COMMANDS_IN_ONE_PROCESS, json.dumps(asked)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    sentence = (
        "error: No version of stocks is champion. Its versions: 1. To promote version 1: "
        "make promote NAME=stocks ARGS='--version 1 --why \"...\"'"
    )
    assert answer.stderr.splitlines() == [sentence] * len(asked)
    imported = answer.stdout.splitlines()[-1].split()
    assert imported[0] == "imported:"
    assert not {"keras", "tensorflow", "jax", "sklearn"} & set(imported)


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "--data", "nofile.csv"],
        ["evaluate", "--data", "nofile.csv"],
        ["predict", "--data", "nofile.csv", "--out", "out.csv"],
        ["predict", "--data", "own.csv", "--out", "out.csv", "--history", "nofile.csv"],
        ["evaluate", "--data", "own.csv", "--history", "nofile.csv"],
    ],
    ids=" ".join,
)
def test_every_command_says_the_same_of_a_file_that_does_not_exist(tmp_path, monkeypatch, capsys, arguments):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.csv").write_text("no prices\n")
    command, *flags = arguments
    assert cli.main([command, "stocks", *flags]) == 2
    assert capsys.readouterr().err == "error: No such file: nofile.csv.\n"
    assert [path.name for path in tmp_path.iterdir()] == ["own.csv"]


def test_every_command_on_one_version_names_it_by_the_same_flag():
    flags = {}
    for command, module in cli.ON_VERSIONS.items():
        verb = getattr(importlib.import_module(f"pipelines.core.commands.{module}"), command)
        flags[command] = set(inspect.signature(verb).parameters)
    naming = {command for command, names in flags.items() if "version" in names}
    assert naming == {"evaluate", "predict", "serve", "promote"}
    assert not any("model" in names for names in flags.values())
    assert all("name" in names for command, names in flags.items() if command != "send")


def test_the_ui_on_a_taken_port_is_one_sentence_with_the_link_and_a_free_one(store, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert cli.main(["ui", "--port", str(port)]) == 2
    told = capsys.readouterr().err
    assert f"open http://127.0.0.1:{port}/#/" in told
    free = int(re.search(r"make ui PORT=(\d+)$", told.strip())[1])
    assert port < free < port + 100
    assert told.count("\n") == 1
