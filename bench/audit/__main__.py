"""`make audit`: plant faults one by one, print which are caught, and show that clean data raise no alarm.

`--clean` adds data sets that are known to be clean to the second part, with their flags: `make audit ARGS="--clean
'fraud=payments.parquet' --clean 'fraud=default.csv --label default'"`. The exit code is 1 if a clean set is refused or
warned of a leak, or if fewer than 55 of 60 faults are caught. Two cores take about five minutes.
"""

from __future__ import annotations

import re
import shlex
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import tyro

from bench.audit import fraud, medical_images, speech_commands, stocks, trained
from bench.audit.faults import Checked, Result, attempt, check, clean_check
from pipelines.core.contract import InputError, Pipeline, discover

DOMAINS = {one.DOMAIN.pipeline.name: one.DOMAIN for one in (fraud, medical_images, speech_commands, stocks)}
LEAST = 55 / 60
"""Share of the faults that must be caught."""
TRUE_OF_PUBLIC_DATA = (
    r"\bcop(y|ies)|equal in all but id|identical|duplicate|no (patient|speaker|source|group)|known|two labels|left out"
)
"""Warnings that hold of clean data that others collected: copies in them, and groups that nobody recorded."""
BY_RULE = r"whose (label|targets)|within the first|without all of the next"
"""Records that the rule of a split leaves out of any data."""
COLUMNS = (16, 52, 10, 12)


@dataclass(frozen=True)
class Options:
    """What to try."""

    clean: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """PIPELINE=PATH, perhaps with flags of `train`, of data that are known to be clean; may be given several times."""
    only: str = ""
    """Regular expression: plant only faults whose pipeline and name it is found in."""
    training: bool = True
    """Plant the faults, too, that show in a trained network alone."""
    demos: bool = True
    """Check the demos for false alarms."""


def results(options: Options) -> Iterator[Result]:
    """What became of each fault."""
    for name, domain in DOMAINS.items():
        for fault in domain.faults:
            if re.search(options.only, f"{name} {fault.name}"):
                yield attempt(domain, fault)
    for domain, fault in trained.FAULTS if options.training else ():
        if re.search(options.only, f"{domain.pipeline.name} {fault.name}"):
            yield attempt(domain, fault, trained.judge)


def clean_sets(options: Options) -> Iterator[tuple[Pipeline, Any, bool]]:
    """Pipelines with the settings of clean data, and whether these are demos.

    Raises:
        InputError: for an entry that is no PIPELINE=PATH.
    """
    pipelines = discover()
    for name in DOMAINS if options.demos else ():
        for demo in pipelines[name].demos:
            yield pipelines[name], pipelines[name].settings(data=demo), True
    for entry in options.clean:
        name, _, rest = entry.partition("=")
        if name not in pipelines or not rest:
            raise InputError(f"--clean: expected PIPELINE=PATH, of {', '.join(pipelines)}. Received: {entry!r}.")
        path, *flags = shlex.split(rest)
        yield pipelines[name], tyro.cli(pipelines[name].settings, args=["--data", path, *flags]), False


def alarms(checked: Checked, demo: bool) -> list[str]:
    """The sentences that are false alarms on clean data; a demo has not even copies."""
    warnings = (
        checked.warnings if demo else [w for w in checked.warnings if not re.search(TRUE_OF_PUBLIC_DATA, w, re.I)]
    )
    return [*filter(None, [checked.refusal]), *(one for one in warnings if not re.search(BY_RULE, one))]


def main(options: Options) -> int:
    """Print both tables; returns the exit code."""
    width = shutil.get_terminal_size((160, 24)).columns
    print(_row("pipeline", "fault", "expected", "found", "sentence", width=width))
    found = []
    for result in results(options):
        found.append(result)
        status = result.found if result.caught else "NOT CAUGHT"
        print(_row(result.domain, result.fault.name, result.fault.expected, status, result.sentence, width=width))
    caught = sum(result.caught for result in found)
    print(f"\n{caught} of {len(found)} caught\n")

    false = 0
    for name, domain in DOMAINS.items():
        false += _report(f"{name}, the data that faults are planted in", clean_check(domain), demo=True)
    for pipeline, settings, demo in clean_sets(options):
        begin = time.perf_counter()
        checked = check(pipeline, settings)
        false += _report(f"{pipeline.name}, {settings.data}", checked, demo, time.perf_counter() - begin)
    print(f"\n{false} false alarms" if false else "\nNo false alarm")
    return int(false > 0 or caught < LEAST * len(found))


def _row(*cells: str, width: int) -> str:
    """A line of the table, flushed by a print at its end, cut to the width."""
    *first, last = (" ".join(cell.split()) for cell in cells)
    return ("".join(f"{cell[: size - 1]:{size}}" for cell, size in zip(first, COLUMNS, strict=True)) + last)[:width]


def _report(name: str, checked: Checked, demo: bool, seconds: float = 0.0) -> int:
    """Print what the checks say of clean data; returns the number of false alarms."""
    false = alarms(checked, demo)
    print(f"{'FALSE ALARM' if false else 'ok':12}{name}" + (f" ({seconds:.0f} s)" if seconds else ""), flush=True)
    for kind, sentence in checked.sentences():
        if kind != "noted":
            print(f"            {'alarm' if sentence in false else 'said'}: {sentence}")
    return len(false)


if __name__ == "__main__":
    try:
        sys.exit(main(tyro.cli(Options, description=__doc__)))
    except InputError as mistake:
        sys.exit(f"error: {mistake}")
