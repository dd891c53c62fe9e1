"""What every pipeline must do, the toys among them: one test for each promise of CONTRIBUTING.md.

The rules that keep verdicts trustworthy have files for themselves: test_causality, test_sealed and test_baselines.
"""

import ast
import dataclasses
import importlib
import importlib.metadata
import importlib.util
import json
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest

from pipelines.core.contract import Pipeline, discover
from pipelines.core.contract.modules import REQUIRED, check_module
from pipelines.core.data import typed_json
from pipelines.core.data.arrays import Part
from pipelines.core.evaluation.drift import counts, psi
from pipelines.core.review import compatibility
from pipelines.core.store import isolation, registry
from pipelines.core.tasks.task import Task
from pipelines.core.training.batches import predict
from pipelines.core.training.trial import build

PIPELINES = [*discover().values(), *discover("toys").values()]
FILES = {"__init__.py", "data.py", "demo.py", "model.py", "report.py", "task.py"}
COSTLY_ON_JAX = {"medical_images", "fraud"}
OPTIONAL_FILES = {"baselines.py", "commands.py", "inspection.py", "sources.py"}
ROWS = 3_000
"""The last training rows and the first of the other sides: enough to see shapes, and quick."""


class Case:
    """A pipeline on its demo data, up to a network that was built but not trained."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline, self.settings = pipeline, pipeline.settings()
        self.data = pipeline.data.read(None, self.settings)
        self.splits = pipeline.data.split(self.data, self.settings)
        self.facts = pipeline.data.learn(self.data.take(self.splits.train), self.settings)
        self.encoded = pipeline.data.encode(self.data, self.facts)
        self.inputs = self.encoded.inputs
        train, validation, test = self.splits.train[-ROWS:], self.splits.validation[:ROWS], self.splits.test[:ROWS]
        self.train, self.validation, self.test = (
            Part(self.data, rows, self.encoded) for rows in (train, validation, test)
        )
        self.network, self.facts = build(pipeline, self.train, self.settings, self.facts, None)

    @property
    def can(self):
        return self.pipeline.data.CAPABILITIES

    @property
    def records(self):
        return self.data.records

    def predict(self, part: Part) -> np.ndarray:
        return predict(self.network, part)


@pytest.fixture(scope="module", params=PIPELINES, ids=lambda pipeline: pipeline.name)
def case(request):
    return Case(request.param)


def test_a_domain_is_a_folder_with_the_fixed_file_set(case):
    folder = Path(case.pipeline.data.__file__).parent
    assert {path.name for path in folder.glob("*.py")} >= FILES
    assert len({path.name for path in folder.glob("*.py")} - FILES - OPTIONAL_FILES) <= 4
    if case.pipeline.package == "pipelines":
        assert (folder / "README.md").exists()


def test_every_module_meets_the_contract(case):
    for part in REQUIRED:
        check_module(importlib.import_module(f"{case.pipeline.module}.{part}"), part)
    assert dataclasses.is_dataclass(case.pipeline.data.About)
    assert dataclasses.is_dataclass(case.pipeline.data.Facts)
    assert isinstance(case.pipeline.task, Task)


def test_the_demo_can_be_predicted_on(case):
    if case.can.requests is None:
        pytest.skip("`predict` reads it as training does")
    request = next(iter(case.can.requests(None, None, case.facts, case.settings)))
    assert len(request.rows)
    some = request.rows[:3]
    encoded = case.pipeline.data.encode(request.data, case.facts)
    outputs = case.network.predict({name: rows[some] for name, rows in encoded.inputs.items()}, verbose=0)
    assert np.isfinite(outputs).all()
    assert len(outputs) == len(some)


def test_what_is_selected_as_test_does_not_depend_on_the_other_sides(case):
    test = case.splits.test
    alone = case.pipeline.data.select_test(case.data, test)
    assert not len(alone.train)
    assert not len(alone.validation)
    np.testing.assert_array_equal(alone.test, test)
    np.testing.assert_array_equal(alone.counted, case.splits.counted)
    assert alone.clusters == case.splits.clusters


def test_only_the_plumbing_knows_tensorflow_and_mlflow(case):
    for path in Path(case.pipeline.data.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in getattr(node, "names", [])] + [getattr(node, "module", "") or ""]
            if isinstance(node, ast.Import | ast.ImportFrom):
                assert not {name.split(".")[0] for name in names} & {"tensorflow", "jax", "mlflow"}, path


def test_records_have_an_id_and_say_whether_they_are_labelled(case):
    assert {"id", "labelled", *case.data.key} <= set(case.records)
    assert case.records["id"].is_unique
    assert case.records["labelled"].dtype == bool
    assert not case.records.attrs
    if case.pipeline.task.kind == "classes":
        codes = case.records["label"][case.data.labelled]
        assert codes.between(0, len(case.pipeline.task.classes(case.facts)) - 1).all()
    if case.pipeline.task.kind == "quantity":
        assert case.records["label"][case.data.labelled].notna().all()


def test_sides_are_ascending_disjoint_and_labelled(case):
    rows = np.concatenate(list(case.splits.sides().values()))
    assert len(np.unique(rows)) == len(rows)
    assert all((np.diff(side) > 0).all() for side in case.splits.sides().values())
    assert case.data.labelled[rows].all()
    assert case.splits.rule
    assert set(case.splits.clusters) <= set(case.records)


def test_what_was_trained_can_be_stored_and_restored(case):
    """Data, facts and network come back from a file, and `encode` makes the inputs again."""
    data, facts, network = pickle.loads(pickle.dumps((case.data, case.facts, case.network)))
    part = Part(data, case.test.rows[:100], case.pipeline.data.encode(data, facts))
    first = case.test.take(np.arange(min(100, len(case.test))))
    np.testing.assert_allclose(predict(network, part), predict(case.network, first), atol=1e-6)


def test_facts_and_what_was_recognised_survive_json(case):
    for kind, value in ((case.pipeline.data.Facts, case.facts), (case.pipeline.data.About, case.data.about)):
        assert typed_json.from_json(kind, json.loads(json.dumps(typed_json.to_json(value)))) == value
    assert set(case.facts.features) <= set(case.records)


def test_later_data_can_be_compared_with_the_profile_of_these(case):
    """The profile is JSON; the very records that it was made from show no drift; what is fixed is among the facts."""
    train = case.data.take(case.splits.train)
    profile = compatibility.profile(case.pipeline, train, case.facts)
    assert json.loads(json.dumps(profile))["reference"] == profile["reference"]
    measured = compatibility._measured(case.pipeline, train, case.facts)
    assert set(measured) == set(profile["reference"])
    assert set(measured) - {"label"}
    assert ("label" in measured) == (case.pipeline.task.kind != "none")
    for name, bins in profile["reference"].items():
        assert psi(np.array(bins["counts"]), counts(measured[name], bins)) == 0
        assert sum(bins["counts"]) == len(measured[name]) > 0


def test_a_network_started_from_its_own_kind_has_the_same_facts_and_labels(case):
    if case.can.adopt is None:
        pytest.skip("the domain adopts nothing from a version")
    adopted = case.can.adopt(case.data, case.facts)
    assert adopted.records["id"].tolist() == case.records["id"].tolist()
    np.testing.assert_array_equal(adopted.identity, case.data.identity)
    if "label" in case.records:
        np.testing.assert_array_equal(adopted.records["label"], case.records["label"])
    learnt = case.pipeline.data.learn(adopted.take(case.splits.train), case.settings)
    first = case.pipeline.data.learn(case.data.take(case.splits.train), case.settings)
    assert learnt == first


def test_inputs_cover_every_record_and_gather_what_is_asked_for(case):
    assert {tensor.name for tensor in case.network.inputs} == set(case.inputs)
    for values in case.inputs.values():
        assert values.shape[0] == len(case.records)
        gathered = values[np.array([5, 3, 5])]
        assert gathered.shape == (3, *values.shape[1:])
        assert gathered.dtype == values.dtype
        assert np.array_equal(gathered[0], gathered[2], equal_nan=True)


def test_inputs_in_memory_are_the_same(case):
    rows = case.test.rows[:50]
    for name, values in case.encoded.materialised().inputs.items():
        assert (values.shape, values.dtype) == (case.inputs[name].shape, case.inputs[name].dtype)
        assert np.array_equal(values[rows], case.inputs[name][rows], equal_nan=True)


def test_targets_cover_every_record(case):
    assert case.encoded.targets
    for values in case.encoded.targets.values():
        assert values.shape[0] == len(case.records)
        assert len(values[case.test.rows[:5]]) == 5


def test_the_same_records_encode_to_the_same_inputs(case):
    again = case.pipeline.data.encode(replace(case.data, records=case.records.copy()), case.facts).inputs
    rows = case.test.rows[:50]
    assert all(np.array_equal(again[name][rows], case.inputs[name][rows], equal_nan=True) for name in again)


def test_the_network_is_made_of_stock_layers_and_survives_saving(case, tmp_path):
    case.network.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    few = case.test.take(np.arange(64))
    assert predict(loaded, few) == pytest.approx(predict(case.network, few), abs=1e-6)


ON_JAX = """
import sys, keras, numpy
assert keras.backend.backend() == "jax"
for folder in sys.stdin:
    model = keras.saving.load_model(f"{folder.strip()}/model.keras")
    with numpy.load(f"{folder.strip()}/inputs.npz") as stored:
        inputs = dict(stored)
    outputs = model.predict(inputs, verbose=0)
    model.compile("adam", "mse")
    model.fit(inputs, numpy.zeros_like(outputs), epochs=1, verbose=0)
    numpy.save(f"{folder.strip()}/outputs.npy", outputs)
    print("done", flush=True)
"""


@pytest.fixture(scope="module")
def on_jax():
    """A process that runs the network in each folder that it reads on the other backend, and says when it is done."""
    quick = {"KERAS_BACKEND": "jax", "XLA_FLAGS": "--xla_backend_optimization_level=0"}  # compiling is most of the time
    command = [sys.executable, "-c", ON_JAX]
    with subprocess.Popen(
        command, env=os.environ | quick, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process


def test_a_network_answers_and_trains_on_jax_as_on_tensorflow(case, on_jax, tmp_path, request):
    if case.pipeline.name in COSTLY_ON_JAX and "slow" in request.config.option.markexpr:
        pytest.skip("compiling it takes many seconds; runs with `make test-all`")
    few = case.test.take(np.arange(64)).x()
    case.network.save(tmp_path / "model.keras")
    np.savez(tmp_path / "inputs.npz", **few)
    print(tmp_path, file=on_jax.stdin, flush=True)
    assert on_jax.stdout.readline() == "done\n"
    assert np.load(tmp_path / "outputs.npy") == pytest.approx(case.network.predict(few, verbose=0), abs=1e-5)


def test_outputs_are_finite_float32_numbers(case):
    outputs = predict(case.network, case.test)
    assert outputs.dtype == np.float32
    assert outputs.shape[0] == len(case.test)
    assert np.isfinite(outputs).all()


def test_calibration_scores_and_decisions_go_together(case):
    task = case.pipeline.task
    facts = task.calibrate(case.predict, case.validation, case.settings, case.facts)
    assert typed_json.from_json(type(facts), json.loads(json.dumps(typed_json.to_json(facts)))) == facts
    outputs = case.predict(case.test)
    scores = task.scores(outputs, facts)
    assert len(scores) == len(case.test)
    assert np.isfinite(scores).all()
    decisions = task.decide(outputs, facts, case.test)
    assert isinstance(decisions, pd.DataFrame)
    assert len(decisions) == len(case.test)


def test_measures_of_a_row_depend_on_that_row_alone(case):
    """So that they can be computed batch by batch."""
    task, few = case.pipeline.task, case.test.take(np.arange(min(60, len(case.test))))
    together = task.measures(task.scores(case.predict(few), case.facts), few)
    halves = [few.take(np.arange(len(few))[part::2]) for part in (0, 1)]
    apart = [task.measures(task.scores(case.predict(half), case.facts), half) for half in halves]
    for name, values in together.items():
        assert len(values) == len(few)
        for part, measures in enumerate(apart):
            np.testing.assert_allclose(measures[name].astype(float), values[part::2].astype(float), rtol=1e-4)


def test_metrics_include_the_headline_and_prefer_the_truth_to_noise(case):
    task, headline = case.pipeline.task, case.pipeline.headline
    metrics, labels = task.metrics(case.facts), case.test.labels
    scores = task.scores(case.predict(case.test), case.facts)
    noise = np.random.default_rng(0).permutation(scores)
    truth = perfect_scores(case, labels, scores)
    values = [
        {name: metric(task.measures(found, case.test))(case.test.weights) for name, metric in metrics.items()}
        for found in (truth, noise)
    ]
    better, worse = values if headline.higher else values[::-1]
    assert better[headline.name] > worse[headline.name]
    assert np.isfinite([*values[0].values(), *values[1].values()]).all()


def perfect_scores(case, labels, scores):
    """The scores of a model that knows the targets."""
    if case.pipeline.task.kind == "classes":
        return labels.astype(float) if scores.ndim == 1 else np.eye(scores.shape[1])[labels]
    found = np.array(scores, dtype=float if labels.dtype.kind == "f" else scores.dtype)
    width = min(found.shape[-1], labels.shape[-1]) if case.pipeline.task.kind == "none" else 3  # variances
    found[..., :width] = np.where(np.isnan(labels), 0, labels)[..., :width]
    return found


def test_gates_name_baselines_that_exist(case):
    train, validation, test = (
        part.sample(few, 0) for part, few in ((case.train, 300), (case.validation, 100), (case.test, 100))
    )
    names = set()
    for name, baseline in case.pipeline.report.baselines(case.facts, case.settings, train, validation):
        names.add(name)
        scores = baseline(test)
        assert scores.shape[0] == len(test)
        assert np.isfinite(scores).all()
    assert {gate.than for gate in case.pipeline.gates} <= names


def test_the_schema_of_requests_names_every_feature(case):
    columns = case.pipeline.data.columns(case.facts)
    assert set(case.facts.features) <= set(columns)
    kinds = {kind for kind, _ in columns.values()}
    assert kinds <= {"double", "long", "string", "datetime", "binary", "boolean"}


def test_an_example_request_asks_for_its_records(case):
    """Parsed again, records lack their labels alone; columns with a past need more than the records."""
    few = case.test.take(np.arange(5))
    table = case.can.example(few.data.take(few.rows), case.facts)
    required = {column for column, (_, needed) in case.pipeline.data.columns(case.facts).items() if needed}
    assert set(table) == required
    data = case.pipeline.data.parse(table.reset_index(drop=True), case.facts)
    features = [name for name in case.facts.features if name in required]
    pd.testing.assert_frame_equal(data.records[features], few.frame[features].reset_index(drop=True), check_dtype=False)
    if "time" not in case.records:
        assert not data.labelled.any()
        again = case.pipeline.data.encode(data, case.facts).inputs
        assert all(np.array_equal(values[np.arange(5)], few.x()[name]) for name, values in again.items())


def test_the_logged_model_requires_what_its_code_imports(case):
    """Scoring in an environment made from the model's requirements must not end in an ImportError."""
    files = {name.removesuffix(".py").replace("/", "."): path for name, path in shipped(case).items()}
    core, imported = "pipelines.core", set()
    domain = {name for name in files if name.startswith(case.pipeline.module) and not name.endswith(".commands")}
    waiting = {f"{core}.serving.model", *domain}
    while waiting:
        new = {name for module in waiting for name in imports(files[module])}
        waiting = {name for name in new & set(files) if name.startswith(core)} - imported
        imported |= new
    tops = {name.split(".")[0] for name in imported} - sys.stdlib_module_names - {"pipelines", "toys"}
    distributions = importlib.metadata.packages_distributions()
    required = {name.split("==")[0] for name in registry.requirements()}
    assert len(tops) > 3
    assert {top for top in tops if not {found.lower() for found in distributions[top]} & required} == set()


def shipped(case) -> dict[str, Path]:
    return {name: path for name, path in isolation.package_files(case.pipeline).items() if name.endswith(".py")}


def imports(path: Path) -> set[str]:
    """What a module imports as it is loaded, `from a import b` as both a and a.b."""
    nodes = ast.parse(path.read_text()).body
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    origins = [node for node in nodes if isinstance(node, ast.ImportFrom)]
    return plain | {
        name for node in origins for name in (node.module, *(f"{node.module}.{a.name}" for a in node.names))
    }
