"""Images of one organ or specimen: which class each belongs to, how surely, and which to refer to a person."""

from dataclasses import dataclass
from typing import Literal

from pipelines.core import contract
from pipelines.core.contract import Gate, Metric, Pipeline, Source


@dataclass(frozen=True)
class Settings(contract.Settings):
    """What the medical image pipeline can be told."""

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
    """Regular expression that takes the patient or source from a file's name; by default recognised, "-" for none."""
    max_bad: float = 0.01
    """Share of files that may be unreadable; these are left out and listed, with more the run is refused."""
    alpha: float = 0.1
    """Share of cases whose prediction set may miss the true class."""
    specificity: float = 0.9
    """Specificity at which sensitivity is reported, for two classes."""
    wanted_error: float = 0.02
    """Share of errors wanted among the cases that are not referred to a person."""


_MEDMNIST = {
    "path": "a8b06965200029087d5bd730944a56c1",
    "derma": "0744692d530f8e62ec473284d019b0c7",
    "oct": "c68d92d5b585d8d81f7112f81e2d0842",
    "pneumonia": "28209eda62fecd6e6a2d98b1501bb15f",
    "retina": "bd4c0672f1bba3e3a89f0e4e876791e4",
    "breast": "750601b1f35ba3300ea97c75c52ff8f6",
    "blood": "7053d0359d879ad8a5505303e11de1dc",
    "tissue": "ebe78ee8b05294063de985d821c1c34b",
    "organa": "866b832ed4eeba67bfb9edee1d5544e6",
    "organc": "0afa5834fb105f7705a7d93372119a21",
    "organs": "e5c39f1af030238290b9557d9503af9d",
}
"""MD5 of the 28-pixel sets that have one class an image; ChestMNIST has several."""

PIPELINE = Pipeline(
    name="medical_images",
    title="Medical images: the class of each, calibrated, with the cases to refer to a person",
    settings=Settings,
    headline=Metric("roc_auc", short="AUC"),
    gates=(Gate("logistic_regression"), Gate("trees"), Gate("nearest_neighbours")),
    sources={
        f"medmnist:{name}": Source(
            url=f"https://zenodo.org/record/6496656/files/{name}mnist.npz?download=1",
            checksum=f"md5:{md5}",
            size=0,
            licence="CC BY-NC 4.0" if name == "derma" else "CC BY 4.0",
            citation="Yang, Shi, Wei et al. (2023), MedMNIST v2: a large-scale lightweight benchmark for 2D and 3D "
            "biomedical image classification",
        )
        for name, md5 in _MEDMNIST.items()
    },
)
