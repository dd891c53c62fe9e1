"""The facts of a pipeline, and how pipelines are found."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pipelines.core.contract import modules
from pipelines.core.contract.errors import InputError

if TYPE_CHECKING:
    from pipelines.core.contract.modules import DataModule, ModelModule, ReportModule
    from pipelines.core.evaluation.bootstrap import Interval
    from pipelines.core.tasks.task import Task


def _flag(name: str) -> Any:
    """What tyro is to call a field whose name Python keeps for itself; asked for only where flags are read."""
    import tyro

    return tyro.conf.arg(name=name)


@dataclass(frozen=True)
class Metric:
    """A figure of merit. Its direction is written down, never guessed from its name."""

    name: str
    higher: bool = True
    short: str = ""
    """What the names of runs call it."""
    implausible: float | None = None
    """From this value on a result is better than the field would believe: rather a leak than a good model."""

    title: str = ""
    """What sentences call it; by default the name."""

    @property
    def words(self) -> str:
        """The name in words."""
        return self.title or self.name.replace("_", " ")


@dataclass(frozen=True)
class Gate:
    """What a version must show before it may be promoted, on the headline metric.

    `than` names a baseline. With `deficit` = how far the network is behind it, the gate passes when the upper bound of
    the deficit's interval is below `margin`, fails when the lower bound is above it, and is undecided in between. A
    margin of 0 asks the network to be measurably ahead. Where the gate must be `shown`, undecided counts as failed:
    without it a version is of no use at all. With `of_lead_over`, the name of another baseline, the margin is a share
    of the lead of `than` over that one, so that it shrinks with what there is to be learnt.
    """

    than: str
    margin: float = 0.0
    shown: bool = False
    of_lead_over: str = ""


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


@dataclass(frozen=True)
class Settings:
    """Settings of every pipeline. Each field is a flag, a line of --help and a parameter in MLflow."""

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
    """Train on these data and those of the champion, or of the version in --from, read again from their files."""


SIMULATED = "The data is simulated: figures say nothing about any real population."


@dataclass(frozen=True)
class Pipeline:
    """A domain's facts.

    Attributes:
        name: of the folder, the command and the experiment.
        title: what it does, in a line.
        settings: the dataclass of its settings.
        headline: the metric that it is judged by.
        gates: what a version must show against baselines before it may be promoted; one of them, against a trivial
            baseline, must be `shown`.
        sources: public data sets by name.
        demos: the embedded data sets, each with the sentence that every verdict made from it says.
        requires: modules beyond the project's dependencies, such as rdkit, each with an extra of the pipeline's name.
        package: in which the folder lies.
        level: of the intervals by which gates are judged and baselines called better.
    """

    name: str
    title: str
    settings: type[Settings]
    headline: Metric
    gates: tuple[Gate, ...]
    sources: Mapping[str, Source] = field(default_factory=dict)
    demos: Mapping[str, str] = field(default_factory=lambda: {"demo": SIMULATED})
    requires: tuple[str, ...] = ()
    package: str = "pipelines"
    level: float = 0.95

    @property
    def module(self) -> str:
        """Dotted name of the domain's package."""
        return f"{self.package}.{self.name}"

    def _module(self, part: str) -> Any:
        missing = [name for name in self.requires if importlib.util.find_spec(name) is None]
        if missing:
            raise InputError(
                f"{self.name} needs the module '{missing[0]}', which is not installed: `make {self.name}` installs it."
            )
        return modules.load_module(self.module, part)

    @property
    def data(self) -> DataModule:
        return self._module("data")

    @property
    def demo(self) -> ModuleType:
        return self._module("demo")

    @property
    def model(self) -> ModelModule:
        return self._module("model")

    @property
    def task(self) -> Task:
        return self._module("task").TASK

    @property
    def report(self) -> ReportModule:
        return self._module("report")

    def remarks(self, outcome: Any) -> list[str]:
        """The domain's own sentences for the verdict."""
        return getattr(self.report, "remarks", lambda _: [])(outcome)

    @property
    def deficit(self) -> Callable[[Any, str, float], Interval] | None:
        """The domain's own test of how far the network is behind a baseline, if it has one."""
        return getattr(self.report, "deficit", None)

    @property
    def verbs(self) -> Mapping[str, Callable[[Sequence[str]], int]]:
        """Commands that only this pipeline has, by name, which take arguments and return an exit code."""
        if importlib.util.find_spec(f"{self.module}.commands") is None:
            return {}
        return importlib.import_module(f"{self.module}.commands").COMMANDS


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
