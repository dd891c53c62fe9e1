"""MedMNIST's protocol on one of its sets: `make bench-medical_images DATA=pneumonia.npz`.

The official split; single networks of several seeds, each stopped on half of the validation images; on test the area
under the ROC curve and the accuracy at 0.5 or argmax of the uncalibrated network, as MedMNIST counts them. `--folds 4`
is for choices: instead of the test images, it judges by cross-validation on the training and validation images, and
never looks at test. Whole clusters of images that look alike are held out, since other people's images will look
different from those at hand, which folds drawn at random would not show.

Expected on PneumoniaMNIST: see the model card. Two cores take three to four minutes a seed.
"""

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import tyro
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.model_selection import GroupKFold, train_test_split

from pipelines.core.contract import InputError
from pipelines.core.data import leakage
from pipelines.core.data.arrays import Part
from pipelines.core.data.dataset import Dataset
from pipelines.core.data.splits import Splits
from pipelines.core.reading import downloads
from pipelines.core.training import device
from pipelines.core.training.batches import Batches, predict
from pipelines.core.training.trial import NETWORK, Outcome, trial
from pipelines.medical_images import PIPELINE, Settings
from pipelines.medical_images.data import About

CLUSTERS = 8  # of images that look alike
PUBLISHED = pd.DataFrame(
    [
        ("pneumonia", "ResNet-18, 11 M weights", 0.944, 0.854),
        ("pneumonia", "AutoKeras", 0.947, 0.878),
        ("pneumonia", "Google AutoML Vision", 0.991, 0.946),
        ("blood", "ResNet-18, 11 M weights", 0.998, 0.958),
        ("breast", "ResNet-18, 11 M weights", 0.901, 0.863),
        ("derma", "ResNet-18, 11 M weights", 0.917, 0.735),
    ],
    columns=["set", "model", "roc_auc", "accuracy"],
).set_index(["set", "model"])
"""Yang, Shi, Wei et al. (2023), MedMNIST v2, from images of the same 28 pixels."""


@dataclass(frozen=True)
class Options(Settings):
    """The settings of the image pipeline, and what to run."""

    data: str = "medmnist:pneumonia"
    """A public set by name, or a file in its format."""
    seeds: int = 3
    """Networks to train."""
    folds: int = 0
    """Folds of a cross-validation on train and validation, by likeness; 0 judges on test."""


def splits(data: Dataset[About], options: Options) -> Iterator[tuple[str, Splits]]:
    """The official split; or the folds that choices are made on, without any image of test."""
    official = leakage.refuse_leaks(data, PIPELINE.data.split(data, options), data.about.classes)
    if not options.folds:
        yield "test", official
        return
    rows = np.sort(np.concatenate([official.train, official.validation]))
    labels = data.records["label"].to_numpy()[rows]
    alike = clusters(Part(data, rows, PIPELINE.data.encode(data, PIPELINE.data.learn(data, options))))
    for number, (rest, judged) in enumerate(GroupKFold(options.folds).split(rows, groups=alike)):
        train, validation = train_test_split(rest, test_size=0.1, random_state=0, stratify=labels[rest])
        train, validation, judged = (np.sort(rows[side]) for side in (train, validation, judged))
        yield f"fold {number}", Splits(train, validation, judged, "cross-validation")


def clusters(part: Part) -> np.ndarray:
    """The cluster that each image belongs to, by its pixels, int (n,)."""
    pixels = part.x()["image"].reshape(len(part), -1) / 255
    return KMeans(CLUSTERS, n_init=4, random_state=0).fit_predict(PCA(20, random_state=0).fit_transform(pixels))


def input_share(outcome: Outcome) -> float:
    """The share of an epoch that its batches take to be made: training waits no longer."""
    batches = Batches(outcome.parts["train"], outcome.settings.batch_size, seed=0)
    started = time.perf_counter()
    for number in range(len(batches)):
        batches[number]
    return (time.perf_counter() - started) / (outcome.fitted.seconds / len(outcome.fitted.epochs))


def scored_per_second(outcome: Outcome) -> float:
    """Training images scored in a second, once the network has been compiled for it."""
    part = outcome.parts["train"].sample(4096, 0)
    predict(outcome.network, part)
    started = time.perf_counter()
    predict(outcome.network, part)
    return len(part) / (time.perf_counter() - started)


def row(outcome: Outcome) -> dict[str, float]:
    """The figures of one network: as MedMNIST counts them, and what they cost."""
    labels, outputs = outcome.parts["test"].labels, outcome.outputs
    return {
        "roc_auc": outcome.resampled.values[NETWORK, "roc_auc"],
        "accuracy": float((outputs.argmax(axis=1) == labels).mean()),
        "kept_epoch": outcome.fitted.kept_epoch,
        "images_per_second": outcome.fitted.examples_per_second,
        "input_share": input_share(outcome),
        "scored_per_second": scored_per_second(outcome),
        "seconds": sum(outcome.cost.values()),
    }


def main(options: Options) -> None:
    """Print each network's figures, their mean and spread, the baselines and the published table."""
    origin = downloads.resolve(options.data, PIPELINE, Path.cwd())
    data = PIPELINE.data.read(origin.path, options)
    print(PIPELINE.data.describe(data))
    found, baselines = {}, {}
    for name, sides in splits(data, options):
        for seed in range(options.seeds):
            settings = replace(options, seed=seed)
            machine = device.setup(seed, options.device, options.precision, options.gpus)
            outcome = trial(PIPELINE, data, sides, settings, machine, resamplings=0)
            found[name, seed] = row(outcome)
            figures = "  ".join(f"{figure} {value:,.4g}" for figure, value in found[name, seed].items())
            print(f"{name}, seed {seed}: {figures}", flush=True)
        baselines[name] = pd.Series(outcome.resampled.values).unstack().drop(index=NETWORK)
    table = pd.DataFrame(found).T
    print(f"\nMean of {len(table)} networks, and standard deviation")
    print(table.agg(["mean", "std"]).round(4).to_string())
    print("\nBaselines, on the same images")
    print(pd.concat(baselines).groupby(level=1).mean().round(4).to_string())
    for name in PUBLISHED.index.unique("set"):
        if name in origin.name:
            print(f"\nPublished for {name} (Yang et al. 2023)")
            print(PUBLISHED.loc[name].to_string())


if __name__ == "__main__":
    try:
        main(tyro.cli(Options, description=__doc__))
    except InputError as error:
        sys.exit(f"error: {error}")
