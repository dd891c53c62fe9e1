"""The pipeline's own commands: `python -m pipelines speech_commands listen FILE`."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True)
class Listen:
    """Prints the commands in a long recording, each with the time of its detection."""

    file: Annotated[Path, tyro.conf.Positional]
    """Recording to listen to: WAV, FLAC or OGG, of up to a day."""
    name: str = ""
    """Registered model to listen with; by default the one named as the pipeline, or its only one."""
    version: str = "champion"
    """Number of the version, or its alias."""
    threshold: float = 0.0
    """Mean probability from which on a word is detected; 0 for the one that was learnt in training."""


def listen(arguments: Sequence[str]) -> int:
    """Slide a registered network over a recording; see `Listen`."""
    asked = tyro.cli(Listen, args=arguments, prog="pipelines speech_commands listen")

    from pipelines.core.training import device

    with device.quiet():
        from pipelines.core.store import isolation, registry, tracking
        from pipelines.speech_commands import PIPELINE, audio, mixing, task

        tracking.connect()
        scorer = isolation.load(registry.find_version(PIPELINE, asked.version, asked.name).uri)
    facts = scorer.facts
    detector = facts.detector or task.Detector(threshold=facts.sure)
    detector = replace(detector, threshold=asked.threshold or detector.threshold)
    started = time.perf_counter()
    minutes: mixing.Minutes = ((block, ()) for block in audio.streamed(asked.file, facts.sample_rate))
    stream = task.score(scorer.network, facts, minutes)
    detections = stream.detections(detector)
    for second, label in detections:
        print(f"{second // 3600:02.0f}:{second // 60 % 60:02.0f}:{second % 60:04.1f}  {facts.classes[label]}")
    length, elapsed = stream.end(len(stream.probability) - 1), time.perf_counter() - started
    print(f"{len(detections):,} commands in {length:,.1f} s, scored in {elapsed:,.1f} s.", file=sys.stderr)
    return 0


COMMANDS = {"listen": listen}
