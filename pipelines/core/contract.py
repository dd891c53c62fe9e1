"""The contract between the plumbing and a domain.

A domain is a package `pipelines/NAME/` with a fixed file set. Its `__init__.py` holds `PIPELINE = Pipeline(...)`,
facts only; `data`, `model` and `report` are imported at first use, so that listing the pipelines loads neither NumPy
nor Keras. This module imports the standard library alone, for the same reason.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any, Literal

if TYPE_CHECKING:
    pass


def _flag(name: str) -> Any:
    """What tyro is to call a field whose name Python keeps for itself; asked for only where flags are read."""
    import tyro

    return tyro.conf.arg(name=name)


class InputError(Exception):
    """A user's mistake, said in one sentence; the command line prints it and exits with code 2.

    Where rows of a table are at fault, `faults` holds a sentence for each, by its label in the table's index: training
    refuses the table, predicting goes on without these rows.
    """

    def __init__(self, sentence: str, faults: Mapping[Any, str] | None = None) -> None:
        super().__init__(sentence)
        self.faults = dict(faults or {})


class UnrecordedError(Exception):
    """What was done is kept but not on record yet; the command line prints how to go on and exits with code 1."""


class DivergedError(Exception):
    """Training met a loss that is not finite; the command line prints the sentence and exits with code 1."""


@dataclass(frozen=True)
class Metric:
    """A figure of merit. Its direction is written down, never guessed from its name."""

    name: str
    higher: bool = True
    short: str = ""
    """What the names of runs call it."""


@dataclass(frozen=True)
class Gate:
    """What a version must show before it may be promoted, on the headline metric.

    `than` names a baseline (or is a fixed figure). With `deficit` = how far the network is behind it, the gate holds
    when the upper bound of the deficit's interval is below `margin`, is missed when the lower bound is above it, and
    is undecided in between. A margin of 0 asks the network to be measurably ahead. Where the gate must be `shown`,
    undecided counts as missed: without it a version is of no use at all.
    """

    than: str | float
    margin: float = 0.0
    shown: bool = False


@dataclass(frozen=True)
class Source:
    """A registered public data set.

    `checksum` is `"sha256:…"` or `"md5:…"`, or "" where the publisher gives none; `size` is in bytes, 0 if unknown.
    """

    url: str
    checksum: str
    size: int
    licence: str
    citation: str
    filename: str = ""


@dataclass(frozen=True)
class Settings:
    """What every pipeline can be told. Each field is a flag, a line of --help and a parameter in MLflow."""

    data: str = "demo"
    """What to train on: demo, the name of a registered public set, or the path of your own data."""
    seed: int = 0
    """Seed of everything drawn at random; the same seed gives the same network to the bit on a CPU."""
    epochs: int = 20
    """Most passes over the training rows; see `patience`."""
    patience: int = 3
    """Epochs without a better validation loss before training stops; 0 trains them all and keeps the last weights."""
    batch_size: int = 512
    """Rows in one training step."""
    learning_rate: float = 1e-3
    """Peak learning rate."""
    weight_decay: float = 1e-4
    """Decay of the weights per step, as a share of the learning rate (AdamW)."""
    averaging: float = 0.0
    """Momentum of a running mean of the weights, which is then validated and kept instead of them; 0 for none."""
    examples: Literal["auto", "none", "ids", "full"] = "auto"
    """Whether records may be stored in the run: none, ids, or full; auto is full on demo data and ids on your own."""
    allow_column: tuple[str, ...] = ()
    """Columns that may separate the labels all by themselves, after you have made sure that they are no leak."""
    device: Literal["auto", "cpu", "gpu"] = "auto"
    """What to compute on; auto takes a GPU where there is one."""
    gpus: int = 1
    """GPUs to train on, each with its share of a batch."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of the hidden layers; auto is bfloat16 on GPUs that have it, else float32."""
    name: str = ""
    """Registered model that the version joins; by default the pipeline's name on your own data, else PIPELINE-DATA."""
    from_: Annotated[str, _flag("from")] = ""
    """Version to start from, its number or champion: weights, vocabularies and normalisation as far as they fit."""
    append: bool = False
    """Train on these data and those of the champion, or of the version in --from, read again from where they lay."""


SIMULATED = "The data is simulated: figures say nothing about any real population."


@dataclass(frozen=True)
class Pipeline:
    """A domain's facts: what it is called, what it can be told, what it is judged by.

    `demos` are the embedded data sets, each with the sentence that every verdict made from it says. `duplicates` says
    what happens to a training record that is byte-identical to one on another side: "drop" leaves it out of training
    and counts it, "refuse" ends the run.
    """

    name: str
    title: str
    settings: type[Settings]
    headline: Metric
    gates: tuple[Gate, ...]
    sources: Mapping[str, Source] = field(default_factory=dict)
    demos: Mapping[str, str] = field(default_factory=lambda: {"demo": SIMULATED})
    duplicates: Literal["drop", "refuse"] = "drop"
    package: str = "pipelines"

    @property
    def module(self) -> str:
        """Dotted name of the domain's package."""
        return f"{self.package}.{self.name}"

    def _module(self, part: str) -> ModuleType:
        return importlib.import_module(f"{self.module}.{part}")

    @property
    def data(self) -> Any:
        return self._module("data")

    @property
    def demo(self) -> Any:
        return self._module("demo")

    @property
    def model(self) -> Any:
        return self._module("model")

    @property
    def report(self) -> Any:
        return self._module("report")

    @property
    def verbs(self) -> Mapping[str, Callable[[Sequence[str]], int]]:
        """Commands of the pipeline's own, by name, which take arguments and return an exit code."""
        if importlib.util.find_spec(f"{self.module}.commands") is None:
            return {}
        return self._module("commands").COMMANDS


def discover(package: str = "pipelines") -> dict[str, Pipeline]:
    """Every pipeline found below `package`, by name: a folder whose `__init__` holds a `PIPELINE`."""
    root = importlib.import_module(package)
    found = {}
    for module in pkgutil.iter_modules(root.__path__):
        if module.ispkg and module.name != "core":
            pipeline = getattr(importlib.import_module(f"{package}.{module.name}"), "PIPELINE", None)
            if pipeline is not None:
                found[pipeline.name] = pipeline
    return found
