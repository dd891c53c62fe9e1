"""What the modules of a domain must provide, as Protocols, and the check of it.

`DataModule`, `ModelModule` and `ReportModule` say what each function takes and returns; `task.py` holds a
`tasks.task.Task`. A missing or misspelt name, or a wrong signature, is refused in one sentence.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

from pipelines.core.contract.errors import InputError

if TYPE_CHECKING:
    import keras
    import numpy as np
    import pandas as pd

    from pipelines.core.data.arrays import Encoded, Part
    from pipelines.core.data.dataset import Dataset
    from pipelines.core.data.requests import Request
    from pipelines.core.data.splits import Splits


class Learnt(Protocol):
    """What every domain's frozen dataclass `data.Facts` has; the rest is the domain's own.

    Facts are what was learnt: from training records by `learn`, from training inputs by `adapt`, from the calibration
    half of validation by `TASK.calibrate`. Fields hold JSON types, tuples and dataclasses of these.
    """

    @property
    def features(self) -> tuple[str, ...]:
        """Columns of the records that feed the network; none where the input is a file."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences for the report: what was assumed, repaired or left out."""


class DataModule(Protocol):
    """`data.py`: from people's files to the network's inputs. `About` and `Facts` are its frozen dataclasses."""

    CAPABILITIES: Capabilities

    @property
    def About(self) -> type[Any]:  # noqa: N802
        """The dataclass of what was recognised, such as the role of each column."""

    @property
    def Facts(self) -> type[Any]:  # noqa: N802
        """The dataclass of what was learnt, see `Learnt`."""

    def read(self, path: Path | None, settings: Any) -> Dataset[Any]:
        """Read a user's file or folder, or the demo where `path` is None.

        Raises:
            InputError: if the data cannot be used, naming file, row, column, what was expected and what was received.
        """

    def parse(self, table: pd.DataFrame, facts: Any) -> Dataset[Any]:
        """Turn raw columns into records, as `read` and a request bring them.

        Where each row makes a record, the records keep the table's index. Which rows a request wants answered is the
        optional boolean column `score` of the records; by default those that are not labelled.

        Raises:
            InputError: for a missing column, or with `faults` for rows that cannot be parsed.
        """

    def split(self, data: Dataset[Any], settings: Any) -> Splits:
        """Assign labelled records to training, validation and test."""

    def select_test(self, data: Dataset[Any], test: np.ndarray) -> Splits:
        """The split whose test side are these rows alone, int64 (n,): what the headline counts, and what clusters."""

    def learn(self, train: Dataset[Any], settings: Any) -> Learnt:
        """Learn the `Facts` from the training records alone, the features among them."""

    def encode(self, data: Dataset[Any], facts: Any) -> Encoded:
        """The network's inputs and targets by name, over every record, context included.

        The same call serves training and the logged model. It reads a label only where it was known in time.
        """

    def columns(self, facts: Any) -> Mapping[str, tuple[str, bool]]:
        """A request's columns: {name: (MLflow type, whether it is required)}."""

    def describe(self, data: Dataset[Any]) -> str:
        """What was read, in a few lines: size, classes, period, what was left out or assumed."""


class ModelModule(Protocol):
    """`model.py`: the network. Optionally `adapt(facts, settings, x, y) -> Facts` fits preprocessing before `build`."""

    LOSS: Any

    def build(self, facts: Any, settings: Any, x: dict[str, np.ndarray], y: Any) -> keras.Model:
        """An untrained network of stock layers.

        Args:
            facts: what was learnt from the training records.
            settings: the pipeline's.
            x: inputs of at most 100,000 training records, to adapt preprocessing layers to.
            y: their targets, an array where there is one target, else arrays by name.
        """


class ReportModule(Protocol):
    """`report.py`: baselines and what a reviewer sees.

    Optionally `remarks(outcome) -> list of sentences` for the verdict, the first of which says in the user's words how
    good the network is, and `deficit(outcome, than, level) -> Interval`, how far it is behind a baseline, where the
    field has its own test.
    """

    def baselines(
        self, facts: Any, settings: Any, train: Part, validation: Part
    ) -> Iterable[tuple[str, Callable[[Part], np.ndarray]]]:
        """Pairs of name and predict, from trivial to strong; predict(part) gives scores as `TASK.scores` does."""

    def report(self, outcome: Any) -> Iterable[tuple[Any, ...]]:
        """Items in reading order, see `report.items.Item`: (name, number, figure, table or bytes, caption)."""


@dataclass(frozen=True)
class History:
    """The domain judges a record by earlier ones.

    Attributes:
        age: (data, rows, facts) -> float32 (n,), age in days of the newest data by which each of the rows is judged.
        context: (part, facts) -> int64 (m,), row numbers of the part's records and of those that they are judged by.
    """

    age: Callable[[Dataset[Any], np.ndarray, Any], np.ndarray | None]
    context: Callable[[Part, Any], np.ndarray]


@dataclass(frozen=True)
class Capabilities:
    """What a domain can do beyond the required, `data.CAPABILITIES`; everything is optional.

    Attributes:
        history: records are judged by earlier ones, see `History`; without it `--history` is refused.
        example: (data, facts) -> raw columns that would ask for these few records: the model's input example.
        requests: (path, history, facts, settings) -> requests of bounded size for `predict`; by default a table is read
            whole.
        names: (table, facts) -> what each raw row is called, by the table's index; by default its `id` or its index.
        append: (pairs of path and settings) -> the records of several files as one, for `--append`; by default
            `core.data.dataset.join`.
        adopt: (data, facts) -> the data with labels and vocabularies in the order of the version that `--from` starts
            from, old ones first.
        drift_summary: (data, facts) -> a table of numbers or texts, one row a record, on which drift is measured; by
            default the features.
        augmentation: (train, settings) -> augment(x, y, rng), which changes a training batch.
        fixed: names of facts that all data of a model share, such as the size of its images.
        inspect: (data, splits, facts, settings) -> the splits after the domain's own checks for leaks: without training
            and validation records that copy one of a later side, with `copies` and `warnings` added. It raises
            InputError for a leak that would make the figures worthless. `facts` are those of the training records.
    """

    history: History | None = None
    example: Callable[[Dataset[Any], Any], pd.DataFrame] | None = None
    requests: Callable[[Path | None, Path | None, Any, Any], Iterator[Request]] | None = None
    names: Callable[[pd.DataFrame, Any], pd.Series] | None = None
    append: Callable[[Sequence[tuple[Path | None, Any]]], Dataset[Any]] | None = None
    adopt: Callable[[Dataset[Any], Any], Dataset[Any]] | None = None
    drift_summary: Callable[[Dataset[Any], Any], pd.DataFrame] | None = None
    augmentation: Callable[[Part, Any], Callable[..., Any]] | None = None
    fixed: tuple[str, ...] = ()
    inspect: Callable[[Dataset[Any], Splits, Any, Any], Splits] | None = None


REQUIRED: Mapping[str, Mapping[str, tuple[str, ...] | None]] = {
    "data": {"About": None, "Facts": None, "CAPABILITIES": None}
    | {
        "read": ("path", "settings"),
        "parse": ("table", "facts"),
        "split": ("data", "settings"),
        "select_test": ("data", "test"),
        "learn": ("train", "settings"),
        "encode": ("data", "facts"),
        "columns": ("facts",),
        "describe": ("data",),
    },
    "model": {"LOSS": None, "build": ("facts", "settings", "x", "y")},
    "task": {"TASK": None},
    "report": {"baselines": ("facts", "settings", "train", "validation"), "report": ("outcome",)},
    "demo": {},
}
"""The names that each module of a domain must have, with the first parameters of its functions."""
OPTIONAL: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "model": {"adapt": ("facts", "settings", "x", "y")},
    "report": {"deficit": ("outcome", "than", "level"), "remarks": ("outcome",)},
}
"""Further names, which a module may have."""


@lru_cache
def load_module(package: str, part: str) -> Any:
    """Import and check a module of a domain, such as `data` of `pipelines.NAME`."""
    try:
        module = importlib.import_module(f"{package}.{part}")
    except ModuleNotFoundError as error:
        if error.name != f"{package}.{part}":
            raise
        raise InputError(f"{package}: expected a file {part}.py, see pipelines/core/contract/modules.py.") from None
    except TypeError as error:
        if "Capabilities.__init__()" in str(error):  # an unknown or misspelt capability
            known = ", ".join(one.name for one in fields(Capabilities))
            raise InputError(f"{package}.{part}: {error}; expected some of {known}.") from None
        raise
    check_module(module, part)
    return module


def check_module(module: ModuleType, part: str) -> None:
    """Raise InputError, in one sentence, for a domain's module that breaks the contract.

    Args:
        module: the imported module.
        part: which of the fixed file set it is: data, model, task, report or demo.
    """
    required, optional = REQUIRED[part], OPTIONAL.get(part, {})
    name = module.__name__
    public = [key for key in vars(module) if not key.startswith("_")]
    for wanted in [*required, *optional]:
        if not hasattr(module, wanted):
            close = difflib.get_close_matches(
                wanted, [key for key in public if key not in {*required, *optional}], n=1, cutoff=0.8
            )
            if wanted in required or close:
                hint = (
                    f" Received: '{close[0]}', perhaps a misspelling." if close else " Received: a module without it."
                )
                raise InputError(f"{name}: expected '{wanted}', see pipelines/core/contract/modules.py.{hint}")
            continue
        if parameters := {**required, **optional}[wanted]:
            _check_parameters(getattr(module, wanted), parameters, f"{name}.{wanted}")
    if part == "data" and not isinstance(module.CAPABILITIES, Capabilities):
        raise InputError(f"{name}.CAPABILITIES: expected a Capabilities. Received: {module.CAPABILITIES!r}.")


def _check_parameters(function: Callable[..., Any], expected: tuple[str, ...], name: str) -> None:
    if not callable(function):
        raise InputError(f"{name}: expected a function of ({', '.join(expected)}). Received: {function!r}.")
    parameters = list(inspect.signature(function).parameters.values())
    received = tuple(parameter.name for parameter in parameters)
    extra = [
        p
        for p in parameters[len(expected) :]
        if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    ]
    if received[: len(expected)] != expected or extra:
        raise InputError(f"{name}: expected the parameters ({', '.join(expected)}). Received: ({', '.join(received)}).")
