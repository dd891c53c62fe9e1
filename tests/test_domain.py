"""The check of a domain's modules: whatever breaks the contract is refused in one sentence that names the module."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from toys.blobs import PIPELINE

from pipelines.core.contract import InputError, discover

TOY = Path(__file__).parent / "toys" / "blobs"


@pytest.fixture
def changed(tmp_path, monkeypatch):
    """The pipeline of a copy of the toy domain in which a text of one module is another one."""
    package = f"copies_{tmp_path.name}"  # of its own, since imported modules are remembered
    folder = tmp_path / package / "blobs"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)

    def change(part: str, old: str, new: str):
        for path in TOY.glob("*.py"):
            (folder / path.name).write_text(path.read_text().replace("toys.blobs", f"{package}.blobs"))
        file = folder / f"{part}.py"
        assert old in file.read_text()
        file.write_text(file.read_text().replace(old, new))
        return replace(PIPELINE, package=package)

    yield change
    for name in [name for name in sys.modules if name.startswith(package)]:
        del sys.modules[name]


def refusal(pipeline, part: str) -> str:
    with pytest.raises(InputError) as error:
        getattr(pipeline, part)
    assert "\n" not in str(error.value)
    assert f"{pipeline.module}.{part}" in str(error.value)
    return str(error.value)


def test_a_domain_that_meets_the_contract_is_accepted(changed):
    pipeline = changed("report", "def report(", "def remarks(outcome):\n    return []\n\n\ndef report(")
    assert pipeline.data.__name__.endswith("blobs.data")
    assert pipeline.report.baselines is not None
    assert pipeline.remarks(None) == []
    assert pipeline.deficit is None


@pytest.mark.parametrize(
    ("part", "old", "new", "told"),
    [
        ("data", "def describe(data)", "def descripe(data)", ["'describe'", "'descripe', perhaps a misspelling"]),
        ("data", "def select_test(data, test)", "def judged(data, test)", ["'select_test'", "a module without it"]),
        ("data", "CAPABILITIES = ", "CAPABILITY = ", ["'CAPABILITIES'", "'CAPABILITY', perhaps a misspelling"]),
        ("model", "LOSS = ", "LOS = ", ["'LOSS'", "'LOS', perhaps a misspelling"]),
        ("report", "def baselines(", "def ladder(", ["'baselines'", "a module without it"]),
    ],
)
def test_a_missing_name_is_told_with_the_one_that_it_may_be(changed, part, old, new, told):
    message = refusal(changed(part, old, new), part)
    assert all(words in message for words in told), message


def test_a_misspelt_name_that_a_module_may_have_is_no_longer_passed_over(changed):
    pipeline = changed("report", "def report(outcome)", "def remark(outcome):\n    return []\n\n\ndef report(outcome)")
    assert "expected 'remarks'" in refusal(pipeline, "report")
    pipeline = changed("model", "def build(", "def adapts(facts, settings, x, y):\n    return facts\n\n\ndef build(")
    assert "expected 'adapt'" in refusal(pipeline, "model")


@pytest.mark.parametrize(
    ("part", "old", "new", "expected", "received"),
    [
        ("data", "def split(data, settings)", "def split(settings, data)", "(data, settings)", "(settings, data)"),
        ("data", "def encode(data, facts)", "def encode(data)", "(data, facts)", "(data)"),
        ("data", "def learn(train, settings)", "def learn(train, settings, more)", "(train, settings)", "more)"),
        ("data", "def columns(facts)", "def columns(facts, *, of)", "(facts)", "(facts, of)"),
        ("model", "def build(facts, settings, x, y)", "def build(facts, x, y)", "(facts, settings, x, y)", "(facts, x"),
        ("data", "CAPABILITIES =", "describe = 'two clouds'\nCAPABILITIES =", "a function of (data)", "'two clouds'"),
    ],
)
def test_a_function_of_other_parameters_is_refused_with_both(changed, part, old, new, expected, received):
    message = refusal(changed(part, old, new), part)
    assert f"expected {expected}" in message or f"expected the parameters {expected}" in message
    assert received in message.partition("Received: ")[2]


def test_further_parameters_with_defaults_are_the_domains_own(changed):
    pipeline = changed("data", "def parse(table, facts)", "def parse(table, facts, origin='request', **more)")
    assert pipeline.data.parse is not None


@pytest.mark.parametrize("capability", ["exmaple", "colour"])
def test_an_unknown_capability_is_refused_with_those_that_exist(changed, capability):
    message = refusal(changed("data", "Capabilities(example=", f"Capabilities({capability}="), "data")
    assert f"'{capability}'" in message
    assert "history, example, requests" in message


def test_capabilities_are_one_table(changed):
    message = refusal(changed("data", "Capabilities(example=example)", "{'example': example}"), "data")
    assert "expected a Capabilities" in message


def test_a_missing_module_is_told_by_its_file_and_a_missing_dependency_as_itself(changed, tmp_path):
    pipeline = changed("data", "import numpy", "import numpy")
    (tmp_path / pipeline.package / "blobs" / "task.py").unlink()
    with pytest.raises(InputError, match=r"blobs: expected a file task.py, see pipelines/core/contract/modules.py"):
        _ = pipeline.task
    pipeline = changed("report", "import numpy", "import numpi")
    with pytest.raises(ModuleNotFoundError, match="numpi"):
        _ = pipeline.report


def test_a_mistake_of_the_domains_own_is_not_taken_for_one_of_the_contract(changed):
    pipeline = changed("data", "CAPABILITIES =", "len(3)\nCAPABILITIES =")
    with pytest.raises(TypeError, match="has no len"):
        _ = pipeline.data


@pytest.mark.parametrize("package", ["pipelines", "toys"])
def test_every_domain_is_found_by_the_name_of_its_folder(package):
    for name, pipeline in discover(package).items():
        assert pipeline.name == name == pipeline.module.rpartition(".")[2]


@pytest.mark.parametrize("pipeline", discover().values(), ids=str)
def test_every_pipeline_must_be_shown_to_beat_a_trivial_baseline(pipeline):
    assert any(gate.shown for gate in pipeline.gates)
    assert pipeline.headline.implausible is not None
