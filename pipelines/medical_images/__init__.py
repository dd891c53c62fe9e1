"""Classify images of one organ or specimen, with calibrated probabilities and the cases to refer to a person."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pipelines.core import contract
from pipelines.core.contract import Gate, Metric, Pipeline
from pipelines.medical_images.sources import SOURCES


@dataclass(frozen=True)
class Settings(contract.Settings):
    """Settings of the medical image pipeline."""

    epochs: int = 15
    """Most passes over the training images; see `patience`."""
    patience: int = 0
    """Epochs without a better validation loss before training stops; 0 trains them all and keeps the last weights."""
    batch_size: int = 32
    """Images in one training step."""
    learning_rate: float = 2e-3
    """Peak learning rate."""
    weight_decay: float = 0.05
    """Decay of the weights per step, as a share of the learning rate (AdamW)."""
    size: int = 0
    """Side of the network's images in pixels; 0 takes that of the data, 128 at most."""
    width: int = 32
    """Filters of the first stage of the network; each further stage has twice as many."""
    dropout: float = 0.3
    """Share of the pooled features left out at random in training."""
    flips: Literal["none", "horizontal", "both"] = "horizontal"
    """How training images may be mirrored: both for specimens under a microscope, which have no up."""
    group_pattern: str = ""
    """Regular expression that finds the patient or source in a file's name; "" recognises it, "-" is for none."""
    max_bad: float = 0.01
    """Share of files that may be unreadable: these are listed and left out; with more the run is refused."""
    alpha: float = 0.1
    """Share of cases whose prediction set may miss the true class."""
    specificity: float = 0.9
    """Specificity at which sensitivity is reported, for two classes."""
    wanted_error: float = 0.02
    """Share of errors wanted among the cases that are not referred to a person."""


PIPELINE = Pipeline(
    name="medical_images",
    title="Medical images: classes with calibrated probabilities, and the cases to refer to a person",
    settings=Settings,
    # Published on blood cells, the easiest of MedMNIST: .998.
    headline=Metric("roc_auc", short="AUC", title="area under the ROC curve", implausible=0.9995),
    gates=(
        Gate("prevalence", shown=True),
        Gate("logistic_regression"),
        Gate("trees"),
        Gate("nearest_neighbours"),
    ),
    sources=SOURCES,
)
