"""Spoken commands: which word a recording holds, with what probability, and whether it is none that was learnt."""

from dataclasses import dataclass
from typing import Literal

from pipelines.core import contract
from pipelines.core.contract import Gate, Metric, Pipeline
from pipelines.speech_commands.sources import SOURCES


@dataclass(frozen=True)
class Settings(contract.Settings):
    """Settings of the speech command pipeline."""

    epochs: int = 30
    """Most passes over the training clips; see `patience`."""
    patience: int = 0
    """Epochs without a better validation loss before training stops; 0 trains them all and keeps the last weights."""
    batch_size: int = 64
    """Clips in one training step."""
    learning_rate: float = 2e-3
    """Peak learning rate."""
    size: Literal["tiny", "small", "base"] = "small"
    """Size of the network: tiny for small devices, base for many recordings."""
    sample_rate: int = 16_000
    """Sample rate to which recordings are resampled, in Hz."""
    seconds: float = 1.0
    """Length of a clip; longer recordings are cut to their loudest part, shorter ones are padded."""
    name_pattern: str = ""
    """Regular expression with groups (?P<word>…) and (?P<speaker>…) for file names; known schemes need none."""
    non_keywords: tuple[str, ...] = ()
    """Words held out from training, on which false accepts in running speech are counted."""
    voices: int = 0
    """Synthetic voices, speaking the words as English, to add to training; for recordings of few speakers."""
    wanted_error: float = 0.02
    """Highest share of errors wanted among accepted words."""
    stream_minutes: int = 20
    """Minutes of running speech to choose a detector on, and as many to evaluate it on; 0 for none."""
    false_accepts: float = 10.0
    """Most false accepts per hour of the detector in running speech."""
    max_bad: float = 0.01
    """Largest share of unreadable files, which are left out and listed; with more, the run is refused."""


PIPELINE = Pipeline(
    name="speech_commands",
    title="Speech commands: the word in each recording with its probability, or none",
    settings=Settings,
    headline=Metric("accuracy", implausible=0.998),  # the best on twelve English commands: .987
    gates=(Gate("prevalence", shown=True), Gate("logistic_regression"), Gate("trees")),
    demos={"demo": "The voices are synthetic (eSpeak NG): figures say nothing about people."},
    sources=SOURCES,
)
