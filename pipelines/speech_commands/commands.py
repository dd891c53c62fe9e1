"""The pipeline's own verbs: `python -m pipelines speech_commands listen FILE`."""

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
    """Prints the commands in a long recording, each with the second at which it is recognised."""

    file: Annotated[Path, tyro.conf.Positional]
    """Recording to listen to: WAV, FLAC or OGG, of up to a day."""
    name: str = "speech_commands"
    """Registered model to listen with; the demo's is speech_commands-demo."""
    version: str = "champion"
    """Number of the version, or its alias."""
    threshold: float = 0.0
    """Mean probability from which on a word is detected; 0 takes what was learnt in training."""


def listen(arguments: Sequence[str]) -> int:
    """Slides a registered recogniser over a recording; see `Listen`."""
    asked = tyro.cli(Listen, args=arguments, prog="pipelines speech_commands listen")

    from pipelines.core.training import device

    with device.quiet():
        from pipelines.core.store import isolation, registry, tracking
        from pipelines.speech_commands import audio, report, stream

        tracking.connect()
        recogniser = isolation.load(registry.find(asked.name, asked.version).uri)
    facts = recogniser.facts
    rate, samples = facts["sample_rate"], facts["samples"]

    learnt = stream.Detector(**facts["detector"]) if "detector" in facts else stream.Detector(threshold=facts["sure"])
    detector = replace(learnt, threshold=asked.threshold or learnt.threshold)
    started = time.perf_counter()
    blocks = ((block, []) for block in audio.streamed(asked.file, rate))
    probability = report.hear(recogniser.network, facts, blocks).probability
    found = detector.detect(detector.smoothed(probability), report.commands(facts["classes"]))
    for window, label in found:
        at = stream.seconds(window, samples, rate)
        print(f"{at // 3600:02.0f}:{at // 60 % 60:02.0f}:{at % 60:04.1f}  {facts['classes'][label]}")
    heard = stream.seconds(len(probability) - 1, samples, rate)
    took = time.perf_counter() - started
    print(f"{len(found):,} commands in {heard:,.1f} s, heard in {took:,.1f} s.", file=sys.stderr)
    return 0


COMMANDS = {"listen": listen}
