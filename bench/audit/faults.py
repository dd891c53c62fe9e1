"""Faults, the checks that `train` applies before it trains, and what counts as caught."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Mapping
from contextlib import chdir
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from pipelines.core.contract import InputError, Pipeline
from pipelines.core.data import leakage
from pipelines.core.data.dataset import Dataset
from pipelines.core.data.splits import Splits
from pipelines.core.reading import downloads
from pipelines.core.training import device

Found = Literal["refused", "warned", "noted", ""]
Plant = Callable[[Any, np.random.Generator], Any]
"""(clean data, generator) -> the data with the fault; both as the domain's `clean` makes them."""


COPIES = r"\bcop(y|ies)|identical|equal in all but id"
LABELS = r"(two|both|several) (labels|classes|words)|labels contradict|all but their label"
"""What sentences on copies, and on records under two labels, are recognised by."""


@dataclass(frozen=True, eq=False)
class Fault:
    """A fault to plant.

    Attributes:
        name: what is wrong, for the table.
        why: how it makes figures too good, or intervals too narrow.
        expected: whether the data should be refused, or used with a warning.
        names: regular expression, in any case, that the sentence must match: the planted column, records or kind.
        plant: see `Plant`.
        flags: settings by name, where the fault is one of settings.
        write: (data, folder) -> path, where the domain's own `write` cannot hold the fault.
        least: records that must be left out or tied as copies; 0 where a sentence is enough.
        fast: whether `make test` tries it.
    """

    name: str
    why: str
    expected: Literal["refused", "warned"]
    names: str
    plant: Plant
    flags: Mapping[str, Any] = field(default_factory=dict)
    write: Callable[[Any, Path], Path] | None = None
    least: int = 0
    fast: bool = False


@dataclass(frozen=True, eq=False)
class Domain:
    """A pipeline with small clean data and the faults to plant in them.

    Attributes:
        pipeline: whose checks are tried.
        clean: makes the data, the same for the same state of the generator.
        write: (data, folder) -> path of the files that a user would have.
        faults: that the checks on data must catch.
    """

    pipeline: Pipeline
    clean: Callable[[np.random.Generator], Any]
    write: Callable[[Any, Path], Path]
    faults: tuple[Fault, ...]


@dataclass(frozen=True)
class Checked:
    """What the checks say of data: why they are refused, what the verdict warns of, what else was noted.

    `counts` has the number of records for each warning that says how many were left out, or are tied.
    """

    refusal: str = ""
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)

    def sentences(self) -> list[tuple[Found, str]]:
        """All sentences, the gravest first."""
        refusal: list[tuple[Found, str]] = [("refused", self.refusal)] if self.refusal else []
        return [*refusal, *(("warned", one) for one in self.warnings), *(("noted", one) for one in self.notes)]


@dataclass(frozen=True)
class Result:
    """What became of a fault; `found` is "" where no sentence names it, and `sentence` then is the first new one."""

    domain: str
    fault: Fault
    found: Found
    sentence: str

    @property
    def caught(self) -> bool:
        """Whether the user is stopped, or reads of the fault in the verdict; a note alone is too easily missed."""
        return self.found in ("refused", "warned")


def check(pipeline: Pipeline, settings: Any) -> Checked:
    """Apply the checks of `commands.train` to the data that the settings name."""
    try:
        data, splits, facts = prepared(pipeline, settings)
    except InputError as error:
        return Checked(refusal=str(error))
    counts = {f"{count:,} {reason}": count for reason, count in splits.left_out.items()} | _tied(splits)
    notes = dict.fromkeys([*data.notes, *facts.notes, splits.rule])
    return Checked(warnings=(*splits.warnings, *counts), notes=tuple(notes), counts=counts)


def prepared(pipeline: Pipeline, settings: Any) -> tuple[Dataset[Any], Splits, Any]:
    """The data, the checked splits and the facts of the training records, as in `commands.train`.

    Raises:
        InputError: where a check refuses the data.
    """
    data = pipeline.data.read(downloads.resolve(settings.data, pipeline, Path.cwd()).path, settings)
    splits = pipeline.data.split(data, settings)
    facts = pipeline.data.learn(data.take(splits.train), settings)
    classes = pipeline.task.classes(facts)
    splits = leakage.refuse_leaks(data, splits, classes, facts.features, settings.allow_column)
    if inspect := pipeline.data.CAPABILITIES.inspect:
        splits = inspect(data, splits, facts, settings)
    return data, splits, facts


def _tied(splits: Splits) -> dict[str, int]:
    """The number of test records that intervals resample together as copies, by a sentence; empty if there are none."""
    if splits.copies is None:
        return {}
    count = int(pd.Series(splits.copies[splits.test]).duplicated(keep=False).sum())
    return (
        {f"{count:,} test records are copies of one another: intervals resample them together": count} if count else {}
    )


@cache
def clean_data(domain: Domain) -> Any:
    """The clean data of a domain."""
    return domain.clean(np.random.default_rng(0))


@cache
def clean_check(domain: Domain) -> Checked:
    """What the checks say of the clean data."""
    # Caches of decoded files go to the folder too; the progress of reading is kept off the terminal.
    with tempfile.TemporaryDirectory() as folder, chdir(folder), device.quiet():
        return check(domain.pipeline, _settings(domain, domain.write(clean_data(domain), Path(folder, "data")), {}))


def planted(domain: Domain, fault: Fault, folder: Path) -> Any:
    """Write the files with the fault below the folder; returns the settings that name them."""
    data = fault.plant(clean_data(domain), np.random.default_rng(1))
    return _settings(domain, (fault.write or domain.write)(data, folder / "data"), fault.flags)


def _settings(domain: Domain, path: Path, flags: Mapping[str, Any]) -> Any:
    return domain.pipeline.settings(**{"data": str(path)} | dict(flags))


def attempt(domain: Domain, fault: Fault, checker: Callable[[Pipeline, Any], Checked] = check) -> Result:
    """Plant the fault, and look for the sentence that names it among those that the clean data do not get."""
    with tempfile.TemporaryDirectory() as folder, chdir(folder), device.quiet():
        try:
            checked = checker(domain.pipeline, planted(domain, fault, Path(folder)))
        except Exception as error:  # a check that breaks has caught nothing, and the audit goes on
            return Result(domain.pipeline.name, fault, "", f"{type(error).__name__}: {error}")
    return verdict(domain.pipeline.name, fault, checked, clean_check(domain))


def verdict(domain: str, fault: Fault, checked: Checked, clean: Checked) -> Result:
    """Whether a sentence names the fault that is of no kind that the clean data get."""
    known = {_kind(sentence) for _, sentence in clean.sentences()}
    new = [(found, sentence) for found, sentence in checked.sentences() if _kind(sentence) not in known]
    named = [(found, sentence) for found, sentence in new if re.search(fault.names, sentence, re.IGNORECASE)]
    if not named:
        return Result(domain, fault, "", f"({new[0][0]}) {new[0][1]}" if new else "")
    found, sentence = named[0]
    count = sum(checked.counts.get(one, 0) for _, one in named)
    if found != "refused" and count < fault.least:
        return Result(domain, fault, "", f"({count:,} of {fault.least:,} or more) {sentence}")
    return Result(domain, fault, found, sentence)


def _kind(sentence: str) -> str:
    """The sentence without its numbers and names of files."""
    return re.sub(r"\S*/\S*|\w*\d[\w,.:-]*", "#", sentence)
