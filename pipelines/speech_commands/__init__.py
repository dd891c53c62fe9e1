"""Spoken commands: which word a recording holds, how surely, and when it is none of those that were learnt."""

from dataclasses import dataclass
from typing import Literal

from pipelines.core import contract
from pipelines.core.contract import Gate, Metric, Pipeline, Source


@dataclass(frozen=True)
class Settings(contract.Settings):
    """What the speech command pipeline can be told."""

    epochs: int = 30
    """Most passes over the training clips; see `patience`."""
    patience: int = 0
    """Epochs without a better validation loss before training stops; 0 trains them all and keeps the last weights."""
    batch_size: int = 64
    """Clips in one training step."""
    learning_rate: float = 2e-3
    """Peak learning rate."""
    size: Literal["tiny", "small", "base"] = "small"
    """How large a network: tiny for small devices, base where there are many recordings."""
    sample_rate: int = 16_000
    """Samples a second that recordings are brought to, in Hz."""
    seconds: float = 1.0
    """Length of a clip; longer recordings are cut to their loudest part, shorter ones padded."""
    name_pattern: str = ""
    """Regular expression with groups (?P<word>…) and (?P<speaker>…) over files' names; by default recognised."""
    non_keywords: tuple[str, ...] = ()
    """Words held out from training, on which false alarms of a running recogniser are counted."""
    voices: int = 0
    """Synthetic voices that speak the words, as English, in training alone; for recordings of few speakers."""
    wanted_error: float = 0.02
    """Share of errors wanted among the words that are accepted."""
    stream_minutes: int = 20
    """Minutes of running speech to choose a detector on, and as many to judge it on; 0 for none."""
    false_accepts: float = 10.0
    """False accepts an hour that the detector may make on running speech."""
    max_bad: float = 0.01
    """Share of files that may be unreadable; these are left out and listed, with more the run is refused."""


PIPELINE = Pipeline(
    name="speech_commands",
    title="Speech commands: the word in each recording, calibrated, and none where there is none",
    settings=Settings,
    headline=Metric("accuracy"),
    gates=(Gate("logistic_regression"), Gate("trees")),
    demos={"demo": "The voices are synthetic (eSpeak NG): figures say nothing about people."},
    sources={
        "speech-commands": Source(
            url="https://storage.googleapis.com/download.tensorflow.org/data/speech_commands_v0.02.tar.gz",
            checksum="sha256:af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58",
            size=0,
            licence="CC BY 4.0",
            citation="Warden (2018), Speech Commands: a dataset for limited-vocabulary speech recognition",
        )
    },
)
