"""The pipeline's own verbs: `python -m pipelines speech_commands listen FILE`."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

if TYPE_CHECKING:
    import numpy as np


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
    """Probability from which on a word is accepted; 0 takes what was learnt in training."""


def listen(arguments: Sequence[str]) -> int:
    """Slides a registered recogniser over a recording; see `Listen`."""
    asked = tyro.cli(Listen, args=arguments, prog="pipelines speech_commands listen")

    import numpy as np

    from pipelines.core import classes, scorer, tracking
    from pipelines.speech_commands import audio, report, stream

    tracking.connect()
    recogniser = scorer.load(tracking.find(asked.name, asked.version).uri)
    facts = recogniser.facts
    rate, samples = facts["sample_rate"], facts["samples"]

    def predict(clips: np.ndarray) -> np.ndarray:
        outputs = recogniser.network.predict({"clip": clips}, batch_size=512, verbose=0)
        return classes.distribution(report.scores(outputs, facts))

    started = time.perf_counter()
    blocks = audio.streamed(asked.file, rate)
    probability = np.concatenate(list(stream.probabilities(predict, blocks, samples, rate)))
    detector, commands = stream.Detector(), report.commands(facts["classes"])
    found = detector.detect(detector.smoothed(probability), commands, asked.threshold or facts["sure"])
    for window, label in found:
        at = stream.seconds(window, samples, rate)
        print(f"{at // 3600:02.0f}:{at // 60 % 60:02.0f}:{at % 60:04.1f}  {facts['classes'][label]}")
    heard = stream.seconds(len(probability) - 1, samples, rate)
    took = time.perf_counter() - started
    print(f"{len(found):,} commands in {heard:,.1f} s, heard in {took:,.1f} s.", file=sys.stderr)
    return 0


COMMANDS = {"listen": listen}
