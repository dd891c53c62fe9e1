"""What MLflow's UI shows of a pipeline: descriptions and the saved view, on new and on old stores."""

import base64
import json
import zlib
from urllib.parse import parse_qs, urlsplit

import pytest
from toys.blobs import PIPELINE

from pipelines.core.commands import ui
from pipelines.core.contract import InputError
from pipelines.core.store import registry, tracking, views


def experiment(store):
    return store.get_experiment_by_name("blobs")


def columns(tag: str) -> list[str]:
    """The columns of a saved view, unpacked as the UI does."""
    envelope = json.loads(tag)
    assert isinstance(envelope["name"], str)
    assert isinstance(envelope["createdAt"], int)
    kind, packed = envelope["state"].split(";")
    assert kind == "deflate"
    state = json.loads(zlib.decompress(base64.b64decode(packed)))
    assert state["columnOrder"] == state["selectedColumns"] == list(state["columnWidths"])
    return state["selectedColumns"]


def test_a_new_experiment_has_a_description_and_a_view_whose_link_is_that_of_the_list(store):
    with tracking.run(PIPELINE, "demo"):
        pass
    tags = experiment(store).tags
    assert PIPELINE.title in tags["mlflow.note.content"]
    link = urlsplit(tracking.runs_at(PIPELINE))
    page, _, query = link.fragment.partition("?")
    assert page == f"/experiments/{experiment(store).experiment_id}/runs"
    (key,) = parse_qs(query)["viewStateShareKey"]
    shown = columns(tags[f"mlflow.sharedViewState.{key}"])
    assert [name for name in shown if "tags." in name or "params." in name] == [
        "tags.`headline`",
        "tags.`best_baseline`",
        "tags.`decision`",
        "tags.`data`",
        "params.`seed`",
    ]
    assert link.netloc == f"127.0.0.1:{tracking.PORT}"


def test_an_experiment_of_an_earlier_release_gets_what_it_lacks_and_keeps_what_somebody_wrote(store):
    store.create_experiment("blobs", tags={views.NOTE: "Ours."})
    store.create_registered_model("blobs", {"pipeline": "blobs"})
    store.create_registered_model("mine", {"pipeline": "blobs"}, description="Mine.")
    store.create_registered_model("other", {"pipeline": "other"})
    (line,) = ui.links({"blobs": PIPELINE})
    assert line == f"blobs: {tracking.runs_at(PIPELINE)}"
    assert experiment(store).tags[views.NOTE] == "Ours."
    view = experiment(store).tags[views.SAVED]
    assert columns(view)
    described = {model.name: model.description or "" for model in store.search_registered_models()}
    assert PIPELINE.title in described["blobs"]
    assert (described["mine"], described["other"]) == ("Mine.", "")
    tracking.introduce(PIPELINE)
    assert experiment(store).tags[views.SAVED] == view


def test_without_runs_the_first_command_is_given(store):
    (line,) = ui.links({"blobs": PIPELINE})
    assert "make blobs" in line
    assert tracking.home() in line


def test_every_link_has_the_port_of_the_ui(store, monkeypatch):
    monkeypatch.setenv("MLFLOW_PORT", "6001")
    with tracking.run(PIPELINE, "demo") as run_id:
        pass
    for link in (tracking.home(), tracking.runs_at(PIPELINE), tracking.report_at(run_id).splitlines()[-1]):
        assert link.startswith("http://127.0.0.1:6001/#/")
        assert link.endswith("workflowType=machine_learning")


@pytest.mark.parametrize("port", ["x", "0", "65536", "-1"])
def test_what_is_no_port_is_refused(store, monkeypatch, port):
    monkeypatch.setenv("MLFLOW_PORT", port)
    with pytest.raises(InputError, match=f"65535. Received: {port}"):
        tracking.home()


def test_a_digest_is_read_from_the_run_or_from_a_version_of_an_earlier_release(store):
    store.create_registered_model("blobs")
    run_id = store.create_run(store.create_experiment("blobs"), tags={"code_sha256": "of the run"}).info.run_id
    version = registry.Version.of(store.create_model_version("blobs", "nowhere", run_id))
    assert version.digest("code_sha256") == "of the run"
    assert version.digest("data_sha256") == ""
    assert registry.tag_version(version, {"code_sha256": "its own"}).digest("code_sha256") == "its own"
    assert registry.Version("blobs", 1, "0" * 32, {}).digest("code_sha256") == ""
