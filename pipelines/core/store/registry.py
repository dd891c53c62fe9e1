"""Registered models and versions in MLflow: register one, look one up."""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import json
import shutil
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema

from pipelines.core.contract import InputError, Pipeline, Settings
from pipelines.core.reading.downloads import Origin
from pipelines.core.serving.model import SCORE
from pipelines.core.store import isolation, tags, tracking, views
from pipelines.core.store.model_names import check_name, registered_name

CHAMPION = "champion"
CONTRACT = "3"
"""Tag of a version: the contract that its code follows, raised when a release can no longer run earlier versions."""
ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
"""What MLflow answers where a model, a version or an alias does not exist."""
REQUIRED = (
    *("tensorflow", "keras", "numpy", "pandas", "pyarrow", "scikit-learn", "scipy", "matplotlib", "mlflow"),
    *("pillow", "pydantic", "pydicom", "soundfile", "soxr", "requests", "rich"),
)
"""Distributions that a logged model is pinned to."""


@dataclass(frozen=True)
class Version:
    """A registered version, as promotion needs it; `created` is in milliseconds since 1970."""

    name: str
    number: int
    run_id: str
    tags: Mapping[str, str]
    created: int = 0

    @property
    def uri(self) -> str:
        return f"models:/{self.name}/{self.number}"

    def same_code(self, pipeline: Pipeline) -> bool:
        """Whether the code that the version carries decides about scores as today's does."""
        return self.digest("code_sha256") == isolation.code_sha256(pipeline)

    def digest(self, name: str) -> str:
        """A tag that ends in `_sha256`, "" if there is none: of the version's run, or of itself in earlier releases."""
        if name in self.tags or not self.run_id:
            return self.tags.get(name, "")
        return tracking.fingerprints(self.run_id).get(name, "") if tracking.holds(self.run_id) else ""

    @staticmethod
    def of(found: ModelVersion) -> Version:
        return Version(found.name, int(found.version), found.run_id or "", dict(found.tags), found.creation_timestamp)


def signature(columns: Mapping[str, tuple[str, bool]]) -> ModelSignature:
    """The model's input schema from {column: (type, required)}, with the optional column `score`."""
    specs = [ColSpec(kind, name, required=required) for name, (kind, required) in columns.items()]
    return ModelSignature(inputs=Schema([*specs, ColSpec("boolean", SCORE, required=False)]))


def register(
    pipeline: Pipeline,
    name: str,
    network: Any,
    learnt: Mapping[str, Any],
    columns: Mapping[str, tuple[str, bool]],
    example: pd.DataFrame | None = None,
) -> Version:
    """Log the network, what it learnt and its code as a pyfunc model, and register it as a new version of `name`.

    `columns` are the input schema, as `signature` takes them; `example` holds a few rows of them, if any may be stored.
    """
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")  # as the error output, in which MLflow announces what `announce` says as well
        stage = Path(folder, "code")
        for inside, path in isolation.package_files(pipeline).items():
            (stage / inside).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, stage / inside)
        network.save(Path(folder, "model.keras"))
        Path(folder, "facts.json").write_text(json.dumps(learnt))
        logged = mlflow.pyfunc.log_model(
            name="model",
            python_model=str(stage / "pipelines" / "core" / "serving" / "model.py"),
            artifacts={"network": str(Path(folder, "model.keras")), "facts": str(Path(folder, "facts.json"))},
            code_paths=[str(path) for path in stage.iterdir()],
            signature=signature(columns),
            input_example=example,
            pip_requirements=requirements(),
            registered_model_name=name,
        )
    client = mlflow.MlflowClient()
    client.set_registered_model_tag(name, tags.PIPELINE, pipeline.name)
    introduce(pipeline)
    number = str(logged.registered_model_version)
    client.set_model_version_tag(name, number, "contract", CONTRACT)
    return Version.of(client.get_model_version(name, number))


def introduce(pipeline: Pipeline) -> None:
    """Give the pipeline's registered models a description where they have none."""
    client = mlflow.MlflowClient()
    for name in own_models(pipeline):
        if not client.get_registered_model(name).description:
            client.update_registered_model(name, views.model_description(pipeline))


def requirements() -> list[str]:
    """Pinned requirements of a logged model: what loading and scoring it imports."""
    installed = {d.metadata["Name"].lower() for d in importlib.metadata.distributions()}
    return [f"{name}=={importlib.metadata.version(name)}" for name in REQUIRED if name in installed]


def tag_version(version: Version, tags: Mapping[str, str], description: str = "") -> Version:
    """Write tags and, if there is one, the description on a registered version; return it with them."""
    client = mlflow.MlflowClient()
    for key, value in tags.items():
        client.set_model_version_tag(version.name, str(version.number), key, value)
    if description:
        client.update_model_version(version.name, str(version.number), description)
    return replace(version, tags={**version.tags, **tags})


def of_run(name: str, run_id: str) -> Version | None:
    """The version of `name` that the run has registered, if it has."""
    found = mlflow.MlflowClient().search_model_versions(f"name = {_quoted(name)} and run_id = '{run_id}'")
    return Version.of(found[0]) if found else None


def _quoted(name: str) -> str:
    """The name as a text in MLflow's filters, which have no escapes; people register names with quotes elsewhere."""
    return f'"{name}"' if "'" in name else f"'{name}'"


def model_name(pipeline: Pipeline, name: str = "", origin: Origin | None = None) -> str:
    """The registered model that a command on existing versions uses.

    That is the one with this name; without a name the one that the data give, see `registered_name`; if there is none,
    the only one of the pipeline.

    Args:
        pipeline: whose model it is.
        name: from --name, "" if there is none.
        origin: of the data that the command reads; None if it reads none.

    Raises:
        InputError: for a name that is not allowed, where the model does not exist, or where several are left.
    """
    wanted = registered_name(pipeline, pipeline.settings(name=name), origin)
    if _exists(wanted):
        return wanted
    own = own_models(pipeline)
    if len(own) == 1 and not name:
        return own[0]
    if name and own:
        raise InputError(f"There is no registered model {name}. Those of {pipeline.name} are: {', '.join(own)}.")
    if not own:
        missing = f"There is no registered model {name}" if name else f"{pipeline.name} has no registered model yet"
        raise InputError(f"{missing}: {_training(pipeline.name, name)}.")
    raise InputError(f"{pipeline.name} has several registered models: expected --name with one of {', '.join(own)}.")


def own_models(pipeline: Pipeline) -> list[str]:
    """Names of the pipeline's registered models."""
    query = f"tags.{tags.PIPELINE} = '{pipeline.name}'"
    return sorted(model.name for model in mlflow.MlflowClient().search_registered_models(query, max_results=1000))


def _exists(name: str) -> bool:
    try:
        mlflow.MlflowClient().get_registered_model(name)
    except MlflowException as error:
        if error.error_code in ABSENT:
            return False
        raise
    return True


def versions(name: str) -> list[Version]:
    """Every version of the model, newest first."""
    query = f"name = {_quoted(name)}"
    found = mlflow.MlflowClient().search_model_versions(query, order_by=["version_number DESC"])
    return [Version.of(version) for version in found]


def aliases(name: str) -> dict[int, list[str]]:
    """The aliases of the model, by the number of the version that each points at."""
    found: dict[int, list[str]] = {}
    for alias, number in mlflow.MlflowClient().get_registered_model(name).aliases.items():
        found.setdefault(int(number), []).append(alias)
    return found


def find_version(pipeline: Pipeline, which: str, name: str = "", origin: Origin | None = None) -> Version:
    """The existing version that a command scores records with.

    Args:
        pipeline: whose version it is.
        which: its number or alias.
        name: from --name, "" if there is none.
        origin: of the data that the command reads; None if it reads none.

    Raises:
        InputError: for a name that is not allowed, where the model or the version does not exist, or where an earlier
            release registered the version.
    """
    version = find(model_name(pipeline, name, origin), which)
    check_contract(version)
    return version


def require_base(pipeline: Pipeline, settings: Settings, origin: Origin) -> None:
    """Refuse a training that builds on a version, by --append or --from, which does not exist.

    Raises:
        InputError: says which version to promote, where there is no champion.
    """
    tracking.connect()
    find(registered_name(pipeline, settings, origin), settings.from_ or CHAMPION)


def check_contract(version: Version) -> None:
    """Refuse a version whose code follows another contract than this release's.

    Raises:
        InputError: says what to do.
    """
    if version.tags.get("contract") != CONTRACT:
        raise InputError(
            f"Version {version.number} of {version.name} was registered by an earlier release of this project, whose "
            "code this one cannot run: train a new version, or use a checkout of the commit that its run names."
        )


def find(name: str, which: str = CHAMPION) -> Version:
    """The version of the registered model `name` with this number or alias.

    Raises:
        InputError: for a name that is not allowed, or where the model or the version does not exist.
    """
    check_name(name)
    client = mlflow.MlflowClient()
    try:
        is_number = which.isdecimal() and len(which) < 10  # a longer one fits no database
        found = client.get_model_version if is_number else client.get_model_version_by_alias
        return Version.of(found(name, which))
    except MlflowException as error:
        if error.error_code not in ABSENT:
            raise
    raise InputError(_no_version(name, which))


def _no_version(name: str, which: str) -> str:
    """Why there is no such version, and what to do about it."""
    client = mlflow.MlflowClient()
    if not _exists(name):
        listed = ", ".join(sorted(model.name for model in client.search_registered_models(max_results=1000)))
        return f"There is no registered model {name}. Registered models: {listed or 'none'}."
    own = client.get_registered_model(name).tags.get(tags.PIPELINE, "")
    existing = versions(name)
    if not existing:
        return f"The registered model {name} has no versions: {_training(own or 'PIPELINE', name)}."
    listed = ", ".join(str(version.number) for version in reversed(existing))
    if which != CHAMPION:
        return f"There is no version {which} of {name}. Its versions: {listed}."
    best = next((version for version in existing if version.tags.get(tags.DECISION) != "refused"), existing[0])
    return (
        f"No version of {name} is champion. Its versions: {listed}. To promote version {best.number}: "
        f"{promotion_command(best, own or 'PIPELINE')}"
    )


def promotion_command(version: Version, pipeline: str) -> str:
    """What to type to make the version champion; the reason is left open."""
    arguments = f'--version {version.number} --why "..."' + (f' --name "{version.name}"' * (version.name != pipeline))
    return f"make promote NAME={pipeline} ARGS='{arguments}'"


def _training(pipeline: str, name: str) -> str:
    """Which command trains a version of this registered model."""
    arguments = f""" ARGS='--name "{name}"'""" if name and name != pipeline else ""
    return f"`make {pipeline}{arguments}` trains one"
