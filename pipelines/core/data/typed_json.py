"""Dataclasses to JSON and back, with their types: what a version keeps of facts, instead of a pickle."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import TypeAdapter

T = TypeVar("T")


def to_json(value: Any) -> Any:
    """The dataclass as dicts, lists, texts and numbers."""
    return TypeAdapter(type(value)).dump_python(value, mode="json")


def from_json(kind: type[T], content: Any) -> T:
    """The dataclass that `to_json` wrote, tuples and nested dataclasses included.

    Raises:
        pydantic.ValidationError: for a missing field, or one of another type.
    """
    return TypeAdapter(kind).validate_python(content)
