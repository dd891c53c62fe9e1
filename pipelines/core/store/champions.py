"""The champion of a registered model: MLflow's alias `champion`, and a tag with the champions before it."""

from __future__ import annotations

from itertools import groupby

import mlflow
from mlflow.exceptions import MlflowException

from pipelines.core.contract import InputError
from pipelines.core.store import registry, tracking
from pipelines.core.store.registry import CHAMPION, Version

CHAMPIONS = "champions"
"""Tag of a registered model: the numbers of its champions one after the other."""


def current(name: str) -> Version | None:
    """The version of `name` that the alias `champion` points at, or None."""
    try:
        return Version.of(mlflow.MlflowClient().get_model_version_by_alias(name, CHAMPION))
    except MlflowException as error:
        if error.error_code in registry.ABSENT:
            return None
        raise


def history(name: str) -> list[int]:
    """Numbers of the versions that were champion one after the other and still exist, up to the current one."""
    now = current(name)
    stored = mlflow.MlflowClient().get_registered_model(name).tags.get(CHAMPIONS, "").split()
    existing = {version.number for version in registry.versions(name)}
    # The current one is added, since somebody may have moved the alias by hand; repetitions count once.
    numbers = [number for number in map(int, stored) if number in existing] + ([now.number] if now else [])
    return [number for number, _ in groupby(numbers)]


def set_champion(version: Version) -> None:
    """Move the alias `champion` to this version, and remember the champion before it."""
    _point(version.name, [*history(version.name), version.number])


def rollback(name: str) -> tuple[Version, Version]:
    """Give the alias `champion` back to the previous champion.

    Returns:
        The version that lost the alias, and the one that has it again.

    Raises:
        InputError: if there is no previous champion.
    """
    numbers = history(name)
    if len(numbers) < 2:
        raise InputError(f"{name} has no champion to go back to. Received: {_listed(numbers)}.")
    _point(name, numbers[:-1])
    return registry.find(name, str(numbers[-1])), registry.find(name, str(numbers[-2]))


def promote_if_unchanged(version: Version, compared_with: Version | None, promote: bool) -> bool:
    """Make the version champion, if it is to be promoted, unless the champion has changed since the comparison.

    A local store is locked meanwhile; on a server a change in the moment between check and promotion is possible.

    Returns:
        Whether the decision is valid; if not, it has to be made again.
    """
    with tracking.locked():
        now = current(version.name)
        if (now and now.number) != (compared_with and compared_with.number):
            return False
        if promote:
            set_champion(version)
    return True


def _point(name: str, numbers: list[int]) -> None:
    client = mlflow.MlflowClient()
    client.set_registered_model_alias(name, CHAMPION, str(numbers[-1]))
    client.set_registered_model_tag(name, CHAMPIONS, " ".join(map(str, numbers)))


def _listed(numbers: list[int]) -> str:
    return f"version {numbers[0]}, the only champion so far" if numbers else "no champion so far"
