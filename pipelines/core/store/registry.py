"""Registered versions in MLflow: what they hold, which one is champion, and which ones were before it."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema

from pipelines.core.contract import InputError, Pipeline, Settings
from pipelines.core.reading.sources import Origin
from pipelines.core.serving.model import SCORE
from pipelines.core.store import isolation, tracking


def registered_name(pipeline: Pipeline, settings: Settings, origin: Origin) -> str:
    """The registered model that a new version joins.

    Demo and public data have models of their own, so that a rehearsal never stands in the way of the user's data.
    """
    return settings.name or (pipeline.name if origin.kind == "own" else f"{pipeline.name}-{origin.name}")


CHAMPION = "champion"
CHAMPIONS = "champions"
"""Tag of a registered model: the numbers of its champions one after the other."""
ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
"""What MLflow answers where a model, a version or an alias does not exist."""
REQUIRED = (
    *("tensorflow", "keras", "numpy", "pandas", "pyarrow", "scikit-learn", "scipy", "matplotlib", "mlflow"),
    *("pillow", "pydicom", "soundfile", "soxr", "requests", "rich"),
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

    @staticmethod
    def of(found: ModelVersion) -> Version:
        return Version(found.name, int(found.version), found.run_id, dict(found.tags), found.creation_timestamp)


def signature(columns: Mapping[str, tuple[str, bool]]) -> ModelSignature:
    """The model's input schema from {column: (type, required)}, with the optional column `score`."""
    specs = [ColSpec(kind, name, required=required) for name, (kind, required) in columns.items()]
    return ModelSignature(inputs=Schema([*specs, ColSpec("boolean", SCORE, required=False)]))


def register(
    pipeline: Pipeline,
    name: str,
    network: Any,
    facts: Mapping[str, Any],
    columns: Mapping[str, tuple[str, bool]],
    example: pd.DataFrame | None = None,
) -> Version:
    """Logs the network with its facts and code as a pyfunc model and registers it as a new version of `name`.

    `columns` are the input schema, as `signature` takes them; `example` holds a few rows of them, if any may be stored.
    """
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stage = Path(folder, "code")
        for inside, path in isolation.package_files(pipeline).items():
            (stage / inside).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, stage / inside)
        network.save(Path(folder, "model.keras"))
        Path(folder, "facts.json").write_text(json.dumps(facts))
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
    client.set_registered_model_tag(name, "pipeline", pipeline.name)
    return Version.of(client.get_model_version(name, str(logged.registered_model_version)))


def requirements() -> list[str]:
    """Pinned requirements of a logged model: what loading and scoring it imports."""
    installed = {d.metadata["Name"].lower() for d in importlib.metadata.distributions()}
    return [f"{name}=={importlib.metadata.version(name)}" for name in REQUIRED if name in installed]


def tag_version(version: Version, tags: Mapping[str, str], description: str = "") -> Version:
    """Writes tags and, if there is one, the description on a registered version; returns it with them."""
    client = mlflow.MlflowClient()
    for key, value in tags.items():
        client.set_model_version_tag(version.name, str(version.number), key, value)
    if description:
        client.update_model_version(version.name, str(version.number), description)
    return replace(version, tags={**version.tags, **tags})


def of_run(name: str, run_id: str) -> Version | None:
    """The version of `name` that the run has registered, if it has."""
    found = mlflow.MlflowClient().search_model_versions(f"name = '{name}' and run_id = '{run_id}'")
    return Version.of(found[0]) if found else None


def model_name(pipeline: Pipeline, name: str = "") -> str:
    """The registered model that is meant: `name`, else the one named as the pipeline, else the pipeline's only one.

    Raises:
        InputError: where there is no such model, or several to choose from.
    """
    client = mlflow.MlflowClient()
    everything = [model.name for model in client.search_registered_models(max_results=1000)]
    if (name or pipeline.name) in everything:
        return name or pipeline.name
    own = client.search_registered_models(f"tags.pipeline = '{pipeline.name}'", max_results=1000)
    if name or not own:
        held = ", ".join(sorted(everything)) or "none"
        raise InputError(f"There is no registered model {name or pipeline.name}. Registered models: {held}.")
    if len(own) > 1:
        listed = ", ".join(sorted(model.name for model in own))
        raise InputError(f"{pipeline.name} has several registered models: expected --name with one of {listed}.")
    return own[0].name


def versions(name: str) -> list[Version]:
    """Every version of the model, newest first."""
    found = mlflow.MlflowClient().search_model_versions(f"name = '{name}'", order_by=["version_number DESC"])
    return [Version.of(version) for version in found]


def aliases(name: str) -> dict[int, list[str]]:
    """The aliases of the model, by the number of the version that each points at."""
    found: dict[int, list[str]] = {}
    for alias, number in mlflow.MlflowClient().get_registered_model(name).aliases.items():
        found.setdefault(int(number), []).append(alias)
    return found


def champion(name: str) -> Version | None:
    """The version of `name` that the alias `champion` points at, or None."""
    try:
        return Version.of(mlflow.MlflowClient().get_model_version_by_alias(name, CHAMPION))
    except MlflowException as error:
        if error.error_code in ABSENT:
            return None
        raise


def find(name: str, which: str = CHAMPION) -> Version:
    """The version of `name` with this number or alias; raises InputError where there is none."""
    client = mlflow.MlflowClient()
    try:
        found = client.get_model_version if which.isdigit() else client.get_model_version_by_alias
        return Version.of(found(name, which))
    except MlflowException as error:
        if error.error_code not in ABSENT:
            raise
        held = ", ".join(sorted(model.name for model in client.search_registered_models())) or "none"
        raise InputError(f"There is no version {which} of a model {name}. Registered models: {held}.") from None


def champions(name: str) -> list[int]:
    """Numbers of the versions that were champion one after the other and still exist, up to today's."""
    now = champion(name)
    held = mlflow.MlflowClient().get_registered_model(name).tags.get(CHAMPIONS, "").split()
    existing = {version.number for version in versions(name)}
    # Today's is added, since somebody may have moved the alias by hand; the same one twice running counts once.
    numbers = [number for number in map(int, held) if number in existing] + ([now.number] if now else [])
    return [number for number, _ in groupby(numbers)]


def crown(version: Version) -> None:
    """Moves the alias `champion` to this version, and remembers the champion before it."""
    _point(version.name, [*champions(version.name), version.number])


def rollback(name: str) -> tuple[Version, Version]:
    """Gives the alias `champion` back to the champion before; returns (the version that lost it, the one before).

    Raises:
        InputError: where there was none before.
    """
    numbers = champions(name)
    if len(numbers) < 2:
        raise InputError(f"{name} has no champion to go back to. Received: {_told(numbers)}.")
    _point(name, numbers[:-1])
    return find(name, str(numbers[-1])), find(name, str(numbers[-2]))


def settle(version: Version, judged_against: Version | None, crowned: bool) -> bool:
    """Crowns the version, if it is to be, unless the champion is another one by now than it was judged against.

    On a local store nobody can come in between, since a lock is held; on a server only a moment is left for it.

    Returns:
        Whether the decision stands; if not, it has to be made again.
    """
    with tracking.locked():
        now = champion(version.name)
        if (now and now.number) != (judged_against and judged_against.number):
            return False
        if crowned:
            crown(version)
    return True


def _point(name: str, numbers: list[int]) -> None:
    client = mlflow.MlflowClient()
    client.set_registered_model_alias(name, CHAMPION, str(numbers[-1]))
    client.set_registered_model_tag(name, CHAMPIONS, " ".join(map(str, numbers)))


def _told(numbers: list[int]) -> str:
    return f"version {numbers[0]}, the only champion so far" if numbers else "no champion so far"
