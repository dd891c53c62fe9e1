"""Names of registered models: which are allowed, and which model and version a command uses."""

import re
import shlex
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.utils.validation import _validate_model_name
from toys.blobs import PIPELINE
from toys.blobs import data as blobs

from pipelines import __main__ as cli
from pipelines.core.contract import InputError, Settings, discover
from pipelines.core.reading.downloads import Origin
from pipelines.core.store import champions, registry
from pipelines.core.store.model_names import _ALLOWED, LONGEST, check_name, registered_name

OWN, DEMO, IRIS = Origin("own", "may"), Origin("demo", "demo"), Origin("public", "uci:iris")
REFUSED = ("a:b", "a/b", "bob's", 'say "x"', "`x`", "50%", "a?b", "a#b", "a@b", "a\\b", "a\nb", " ", "a ", "-x", ".x")


@pytest.fixture
def toys(store, monkeypatch):
    """The toy pipeline in place of the real ones, and an empty store."""
    monkeypatch.setattr(cli, "discover", lambda: {"blobs": PIPELINE})
    return store


def arguments(command: str, *flags: str) -> list[str]:
    """A command line that lacks nothing."""
    needed = {"predict": ["--data", "own.csv", "--out", "out.csv"], "evaluate": ["--data", "own.csv"]}
    needed |= {"train": ["--data", "own.csv"], "promote": ["--version", "1", "--why", "because"]}
    return [command, "blobs", *needed.get(command, []), *flags]


# ------------------------------------------------------------------------------------------------- which are allowed


@given(st.text(max_size=300), st.sampled_from(["demo", "public"]))
def test_a_name_that_data_give_is_always_allowed(data, kind):
    name = registered_name(PIPELINE, Settings(), Origin(kind, data))
    check_name(name)
    _validate_model_name(name)


@given(st.text(string.ascii_letters + string.digits + "_-.", max_size=40))
def test_a_name_that_data_give_holds_what_is_allowed_as_it_is(data):
    assert registered_name(PIPELINE, Settings(), Origin("public", data)) == f"blobs-{data}"


def test_characters_that_are_not_allowed_become_dashes():
    images = discover()["medical_images"]
    origin = Origin("public", "medmnist:pneumonia")
    assert registered_name(images, images.settings(), origin) == "medical_images-medmnist-pneumonia"


@pytest.mark.parametrize("pipeline", discover().values(), ids=lambda pipeline: pipeline.name)
def test_each_data_set_of_a_pipeline_has_a_model_of_its_own(pipeline):
    origins = [Origin("demo", name) for name in pipeline.demos] + [Origin("public", name) for name in pipeline.sources]
    names = [registered_name(pipeline, pipeline.settings(), origin) for origin in [None, *origins]]
    assert len(set(names)) == len(names)


@given(st.from_regex(_ALLOWED, fullmatch=True).filter(lambda name: len(name) <= LONGEST))
def test_mlflow_accepts_every_name_that_is_allowed(name):
    check_name(name)
    _validate_model_name(name)


@pytest.mark.parametrize("name", ["a", "a b", "Größe_1.5-beta", "x" * LONGEST])
def test_an_allowed_name_is_found_again_in_searches_and_addresses(store, name):
    check_name(name)
    store.create_registered_model(name)
    run_id = store.create_run(store.create_experiment("blobs")).info.run_id
    version = registry.Version.of(store.create_model_version(name, "nowhere", run_id))
    champions.set_champion(version)
    assert registry.find(name).uri == f"models:/{name}/1"
    assert [found.number for found in registry.versions(name)] == [1]
    assert registry.of_run(name, run_id).number == 1


def test_a_name_with_a_quote_that_was_registered_elsewhere_breaks_no_search(store):
    store.create_registered_model("bob's")
    run_id = store.create_run(store.create_experiment("blobs")).info.run_id
    store.create_model_version("bob's", "nowhere", run_id)
    assert [found.number for found in registry.versions("bob's")] == [1]
    assert registry.of_run("bob's", run_id).number == 1


@pytest.mark.parametrize("command", ["train", *(command for command in cli.ON_VERSIONS if command != "send")])
def test_every_command_refuses_a_name_that_is_not_allowed_before_it_reads_data(toys, monkeypatch, capsys, command):
    def untouched(*_):
        raise AssertionError("data were read")

    PIPELINE.demo.make(1).to_csv("own.csv", index=False)
    monkeypatch.setattr(blobs, "read", untouched)
    monkeypatch.setattr(blobs, "parse", untouched)
    for name in (*REFUSED, "x" * (LONGEST + 1)):
        assert cli.main(arguments(command, f"--name={name}")) == 2
        told = capsys.readouterr().err
        assert told.startswith("error: --name: expected up to 256 letters, digits, '_', '-', '.' and spaces"), told
        assert told.count("\n") == 1
    assert toys.search_registered_models() == []
    assert toys.get_experiment_by_name("blobs") is None


# ------------------------------------------------------------------------------------------- which one a command uses


@pytest.mark.parametrize(
    ("models", "name", "origin", "expected"),
    [
        (["blobs", "blobs-demo", "mine"], "mine", OWN, "mine"),
        (["blobs", "blobs-demo"], "", None, "blobs"),
        (["blobs", "blobs-demo"], "", OWN, "blobs"),
        (["blobs", "blobs-demo"], "", DEMO, "blobs-demo"),
        (["blobs", "blobs-uci-iris"], "", IRIS, "blobs-uci-iris"),
        (["blobs-demo", "other"], "", None, "blobs-demo"),
        (["blobs-demo", "other"], "", OWN, "blobs-demo"),
        (["mine"], "", DEMO, "mine"),
        (["blobs-demo", "mine"], "", None, "several registered models.*--name.* blobs-demo, mine"),
        (["blobs-demo", "mine"], "", OWN, "several registered models.*--name.* blobs-demo, mine"),
        (["blobs"], "mine", OWN, r"no registered model mine\. Those of blobs are: blobs"),
        ([], "mine", None, """no registered model mine: `make blobs ARGS='--name "mine"'` trains one"""),
        ([], "", OWN, "blobs has no registered model yet: `make blobs` trains one"),
        (["other"], "", None, "blobs has no registered model yet: `make blobs` trains one"),
    ],
)
def test_a_command_uses_the_named_model_or_that_of_its_data_or_the_only_one(store, models, name, origin, expected):
    for model in models:
        store.create_registered_model(model, {"pipeline": "other" if model == "other" else "blobs"})
    if " " in expected:
        with pytest.raises(InputError, match=expected):
            registry.model_name(PIPELINE, name, origin)
    else:
        assert registry.model_name(PIPELINE, name, origin) == expected


@pytest.mark.parametrize(
    "command",
    ["evaluate", "predict", "promote", "serve"],
)
def test_every_command_on_a_version_finds_the_only_model(toys, capsys, command):
    toys.create_registered_model("blobs-demo", {"pipeline": "blobs"})
    PIPELINE.demo.make(1).to_csv("own.csv", index=False)
    assert cli.main(arguments(command)) == 2
    assert "The registered model blobs-demo has no versions: `make blobs" in capsys.readouterr().err


# ---------------------------------------------------------------------------------------------------- which version


@pytest.fixture
def registered(toys):
    """Three versions of a model and no champion; the newest was refused."""
    toys.create_registered_model("blobs-demo", {"pipeline": "blobs"})
    experiment = toys.create_experiment("blobs")
    for decision in ("refused", "challenger", "refused"):
        made = toys.create_model_version("blobs-demo", "nowhere", toys.create_run(experiment).info.run_id)
        registry.tag_version(registry.Version.of(made), {"decision": decision})


@pytest.mark.parametrize("which", ["4", "0", "9" * 30, "latest-but-one", "a b", "²", ""])
def test_a_version_that_does_not_exist_is_answered_with_those_that_do(registered, which):
    with pytest.raises(InputError) as refused:
        registry.find("blobs-demo", which)
    assert str(refused.value) == f"There is no version {which} of blobs-demo. Its versions: 1, 2, 3."


def test_without_a_champion_the_command_that_makes_one_is_given_and_works(registered, capsys):
    assert cli.main(["serve", "blobs", "--port", "0"]) == 2
    told = capsys.readouterr().err
    assert "No version of blobs-demo is champion. Its versions: 1, 2, 3." in told
    name, flags = re.search(r"make promote NAME=(\S+) ARGS='(.*)'$", told.strip()).groups()
    assert cli.main(["promote", name, *shlex.split(flags)]) == 0
    assert registry.find("blobs-demo").number == 2
