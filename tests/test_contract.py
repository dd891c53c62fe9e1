"""What every pipeline must do, the toy among them: one test for each promise of CONTRIBUTING.md."""

import ast
import importlib.metadata
import importlib.util
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest

from pipelines.core.contract import Gate, Pipeline, discover
from pipelines.core.data.arrays import Part, held
from pipelines.core.evaluation.drift import counts, psi
from pipelines.core.review import compatibility
from pipelines.core.store import isolation, registry
from pipelines.core.training.batches import predict

PIPELINES = [*discover().values(), *discover("toys").values()]
FILES = {"__init__.py", "data.py", "demo.py", "model.py", "report.py"}
ROWS = 3_000
"""The last training rows and the first of the other sides: enough to see shapes, and quick."""


class Case:
    """A pipeline on its demo data, up to a network that was built but not trained."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline, self.settings = pipeline, pipeline.settings()
        self.records = pipeline.data.read(None, self.settings)
        self.splits = pipeline.data.split(self.records, self.settings)
        self.facts = pipeline.data.learn(self.records.iloc[self.splits.train], self.settings)
        self.inputs = pipeline.data.decode(self.records, self.facts)
        train, validation, test = self.splits.train[-ROWS:], self.splits.validation[:ROWS], self.splits.test[:ROWS]
        self.train, self.validation, self.test = (
            Part(self.records, rows, self.inputs) for rows in (train, validation, test)
        )
        if adapt := getattr(pipeline.model, "adapt", None):
            self.facts |= adapt(self.facts, self.settings, self.train.x(), self.train.labels)
        self.network = pipeline.model.build(self.facts, self.settings, self.train.x(), self.train.labels)


@pytest.fixture(scope="module", params=PIPELINES, ids=lambda pipeline: pipeline.name)
def case(request):
    return Case(request.param)


def test_a_domain_is_a_folder_with_the_fixed_file_set(case):
    folder = Path(case.pipeline.data.__file__).parent
    assert {path.name for path in folder.glob("*.py")} >= FILES
    assert len({path.name for path in folder.glob("*.py")} - FILES - {"commands.py"}) <= 3
    if case.pipeline.package == "pipelines":
        assert (folder / "README.md").exists()


def test_the_demo_can_be_predicted_on(case):
    if not hasattr(case.pipeline.data, "requests"):
        return  # then `predict` reads it as training does
    request = next(iter(case.pipeline.data.requests(None, None, case.facts, case.settings)))
    assert len(request.rows)
    some = request.rows[:3]
    given = {name: rows[some] for name, rows in case.pipeline.data.decode(request.records, case.facts).items()}
    outputs = case.network.predict(given, verbose=0)
    assert np.isfinite(outputs).all()
    assert len(outputs) == len(some)


def test_what_is_judged_of_test_does_not_depend_on_the_other_sides(case):
    test = case.splits.test
    alone = case.pipeline.data.judged(case.records, test)
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


def test_records_carry_an_id_and_a_label_and_nothing_is_missing_from_them(case):
    assert {"id", "label", *case.records.attrs.get("targets", [])} <= set(case.records)
    assert case.records["id"].is_unique
    assert case.records["label"].notna().all()


def test_sides_are_ascending_disjoint_and_labelled(case):
    rows = np.concatenate(list(case.splits.sides().values()))
    assert len(np.unique(rows)) == len(rows)
    assert all((np.diff(side) > 0).all() for side in case.splits.sides().values())
    assert (case.records["label"].iloc[rows] >= 0).all()
    assert case.splits.rule
    assert set(case.splits.clusters) <= set(case.records)


def test_what_was_trained_can_be_put_aside_and_taken_up_again(case):
    """Records, facts and network come back from a file, and `decode` makes the inputs again."""
    records, facts, network = pickle.loads(pickle.dumps((case.records, case.facts, case.network)))
    part = Part(records, case.test.rows[:100], case.pipeline.data.decode(records, facts))
    first = case.test.take(np.arange(min(100, len(case.test))))
    np.testing.assert_allclose(predict(network, part), predict(case.network, first), atol=1e-6)


def test_facts_survive_json(case):
    assert json.loads(json.dumps(case.facts)) == case.facts
    assert set(case.facts["features"]) <= set(case.records)


def test_later_data_can_be_held_against_what_is_kept_of_these(case):
    """The profile is JSON; the very records that it was made from show no drift; what is fixed is among the facts."""
    train = case.records.iloc[case.splits.train]
    profile = compatibility.profile(case.pipeline, train, case.facts)
    assert json.loads(json.dumps(profile))["reference"] == profile["reference"]
    measured = compatibility._measured(case.pipeline, train, case.facts)
    assert set(measured) == set(profile["reference"]) > {"label"}
    for name, bins in profile["reference"].items():
        assert psi(np.array(bins["counts"]), counts(measured[name], bins)) == 0
        assert sum(bins["counts"]) == len(measured[name]) > 0


def test_a_network_started_from_its_own_kind_has_the_same_facts_and_labels(case):
    adopt = getattr(case.pipeline.data, "adopt", lambda records, facts: records)
    adopted = adopt(case.records, case.facts)
    assert adopted["id"].tolist() == case.records["id"].tolist()
    assert adopted["label"].tolist() == case.records["label"].tolist()
    again = case.pipeline.data.learn(adopted.iloc[case.splits.train], case.settings)
    assert again == {name: case.facts[name] for name in again}


def test_inputs_cover_every_record_and_gather_what_is_asked_for(case):
    assert {tensor.name for tensor in case.network.inputs} == set(case.inputs)
    for values in case.inputs.values():
        assert values.shape[0] == len(case.records)
        gathered = values[np.array([5, 3, 5])]
        assert gathered.shape == (3, *values.shape[1:])
        assert gathered.dtype == values.dtype
        assert np.array_equal(gathered[0], gathered[2], equal_nan=True)


def test_inputs_held_in_memory_are_the_same(case):
    rows = case.test.rows[:50]
    for name, values in held(case.inputs).items():
        assert (values.shape, values.dtype) == (case.inputs[name].shape, case.inputs[name].dtype)
        assert np.array_equal(values[rows], case.inputs[name][rows], equal_nan=True)


def test_the_same_records_decode_to_the_same_inputs(case):
    again = case.pipeline.data.decode(case.records.copy(), case.facts)
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
    model.fit(inputs, numpy.zeros((len(outputs), 1)), epochs=1, verbose=0)
    numpy.save(f"{folder.strip()}/outputs.npy", outputs)
    print("done", flush=True)
"""


@pytest.fixture(scope="module")
def on_jax():
    """A process that runs the network in each folder it is told on the other backend, and says when it is done."""
    if importlib.util.find_spec("jax") is None:
        pytest.skip("JAX is not installed")
    quick = {"KERAS_BACKEND": "jax", "XLA_FLAGS": "--xla_backend_optimization_level=0"}  # compiling is most of the time
    command = [sys.executable, "-c", ON_JAX]
    with subprocess.Popen(
        command, env=os.environ | quick, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process


def test_a_network_answers_and_trains_on_jax_as_on_tensorflow(case, on_jax, tmp_path):
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
    outputs = predict(case.network, case.validation)
    facts = case.facts | case.pipeline.report.calibrate(outputs, case.validation, case.settings)
    assert json.loads(json.dumps(facts)) == facts
    tested = predict(case.network, case.test)
    scores = case.pipeline.report.scores(tested, facts)
    assert len(scores) == len(case.test)
    assert np.isfinite(scores).all()
    decisions = case.pipeline.report.decide(tested, facts, case.test)
    assert isinstance(decisions, pd.DataFrame)
    assert len(decisions) == len(case.test)


def test_metrics_include_the_headline_and_prefer_the_truth_to_noise(case):
    labels = case.test.labels
    metrics = case.pipeline.report.metrics(case.test)
    headline = case.pipeline.headline
    noise = np.random.default_rng(0).random(labels.shape)
    truth = metrics[headline.name](labels, labels.astype(float))(case.test.weights)
    chance = metrics[headline.name](labels, noise)(case.test.weights)
    assert (truth > chance) == headline.higher
    assert all(np.isfinite(metric(labels, noise)(case.test.weights)) for metric in metrics.values())


def test_gates_name_baselines_that_exist(case):
    train, validation, test = (
        part.sample(few, 0) for part, few in ((case.train, 300), (case.validation, 100), (case.test, 100))
    )
    ladder = {}
    for name, score in case.pipeline.report.baselines(case.facts, case.settings, train, validation):
        ladder[name] = score(test)
        assert ladder[name].shape[0] == len(test)
        assert np.isfinite(ladder[name]).all()
    named = {gate.than for gate in case.pipeline.gates if isinstance(gate, Gate) and isinstance(gate.than, str)}
    assert named <= set(ladder)


def test_the_schema_of_requests_names_every_feature(case):
    columns = case.pipeline.data.columns(case.facts)
    assert set(case.facts["features"]) <= set(columns)
    kinds = {kind for kind, _ in columns.values()}
    assert kinds <= {"double", "long", "string", "datetime", "binary", "boolean"}


def test_a_request_for_a_record_asks_for_it(case):
    """Read back as a request, records lack their labels alone; columns with a past need more than the records."""
    few = case.test.take(np.arange(5))
    table = case.pipeline.data.request(few.frame, case.facts)
    required = {column for column, (_, needed) in case.pipeline.data.columns(case.facts).items() if needed}
    assert set(table) == required
    records = case.pipeline.data.parse(table.reset_index(drop=True), case.facts)
    assert (records["label"] == -1).all()
    features = [name for name in case.facts["features"] if name in required]
    pd.testing.assert_frame_equal(records[features], few.frame[features].reset_index(drop=True), check_dtype=False)
    if "time" not in case.records:
        again = case.pipeline.data.decode(records, case.facts)
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


def test_a_later_record_changes_no_earlier_input(case):
    """Whatever is appended after the last test record, with any label, must leave every earlier input as it was."""
    if "time" not in case.records:
        pytest.skip("the records have no time")
    last = case.records.iloc[-500:].copy()
    last["time"] += case.records["time"].max() - last["time"].min() + pd.Timedelta(seconds=1)
    last["label"] = 1 - last["label"]
    longer = pd.concat([case.records, last], ignore_index=True)
    longer.attrs = case.records.attrs
    again = case.pipeline.data.decode(longer, case.facts)
    rows = case.test.rows
    assert all(np.array_equal(again[name][rows], case.inputs[name][rows], equal_nan=True) for name in again)
