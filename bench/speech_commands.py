"""Published protocols on spoken commands: `make bench-speech_commands DATA=…`.

- Recordings with an official split (`DATA=arabic_commands`): single networks of several seeds beside the DS-CNN of
  MLPerf Tiny (Banbury et al. 2021; Zhang, Suda, Lai and Chandra 2017, Hello edge), on the same clips with the same
  augmentation and its own optimiser and schedule; accuracy in noise of three draws.
- Recordings of few speakers without one (`DATA=spoken_digits`): one speaker left out at a time, the next in
  alphabetical order for validation; with `--voices N` synthetic voices join training; then the published split, which
  shares its speakers.

Expected figures and times: see the model card.
"""

import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import tyro
from keras import layers

from pipelines.core.contract import InputError
from pipelines.core.data import leakage
from pipelines.core.data.arrays import Part
from pipelines.core.data.dataset import Dataset
from pipelines.core.data.splits import Splits
from pipelines.core.reading import downloads
from pipelines.core.serving import litert
from pipelines.core.training import device
from pipelines.core.training.batches import Batches, predict
from pipelines.core.training.trial import NETWORK, Outcome, trial
from pipelines.speech_commands import PIPELINE, Settings, demo, mixing, model, report
from pipelines.speech_commands.data import Facts

FEW = 12  # speakers, up to which each is left out in turn
PUBLISHED_TAKES = 5  # of each speaker and digit, the first of which are test in the published split of spoken digits


@dataclass(frozen=True)
class Options(Settings):
    """Settings of the speech pipeline, and what to run."""

    seeds: int = 3
    """Networks to train on data with an official split."""
    peers: int = 1
    """Of these seeds, how many also train the DS-CNN."""


def splits(data: Dataset[Any], options: Options) -> Iterator[tuple[str, Splits]]:
    """The split that the data name or that is drawn; or one for each speaker left out, and the published one."""
    records = data.records
    speakers = records["group"][~records["id"].str.startswith(demo.VOICE)].unique() if "group" in records else []
    if options.data == "demo" or len(speakers) > FEW or (records["side"] == "test").any():
        yield "test", leakage.refuse_leaks(data, PIPELINE.data.split(data, options), data.about.classes)
        return
    names = sorted(speakers)
    group, command = records["group"].to_numpy(str), records["command"].to_numpy(bool)
    for at, name in enumerate(names):
        other = names[(at + 1) % len(names)]
        sides = [~np.isin(group, [name, other]), group == other, group == name]
        yield name, Splits(*map(np.flatnonzero, sides), "one speaker left out", headline=command)
    take = pd.to_numeric(records["id"].str.extract(r"_(\d+)\.\w+$")[0], errors="coerce").to_numpy()
    real, test = np.isin(group, names), take < PUBLISHED_TAKES
    validation = np.random.default_rng(0).random(len(records)) < 0.1
    sides = [real & ~test & ~validation, real & ~test & validation, real & test]
    yield "published split (speakers shared)", Splits(*map(np.flatnonzero, sides), "published", headline=command)


def halvable(data: Dataset[Any], validation: np.ndarray) -> Dataset[Any]:
    """The data, in which each clip of a lone validation speaker counts as a speaker, so that it can be halved."""
    records = data.records
    if "group" not in data or records["group"].iloc[validation].nunique() > 1:
        return data
    alone = np.isin(np.arange(len(records)), validation)
    return replace(data, records=records.assign(group=np.where(alone, records["id"], records["group"])))


def row(outcome: Outcome) -> dict[str, float]:
    """The figures of one network and what they cost."""
    part = outcome.headline
    right = outcome.outputs[outcome.counted].argmax(axis=1) == part.labels
    return {
        "accuracy": float(right.mean()),
        "parameters": outcome.network.count_params(),
        "kept_epoch": outcome.fitted.kept_epoch,
        "training_seconds": outcome.fitted.seconds,
        "clips_per_second": outcome.fitted.examples_per_second,
        "milliseconds_per_clip": litert.litert(outcome.network, part.sample(100, 0))[2],
        "seconds": sum(outcome.cost.values()),
    }


def ds_cnn(facts: Facts, x: Mapping[str, np.ndarray]) -> keras.Model:
    """The DS-CNN of MLPerf Tiny, 24.9 thousand parameters for 12 classes, written from its description.

    49 frames of 40 ms every 20 ms, 10 coefficients; a convolution of 10 x 4 with a stride of 2, four separable ones of
    3 x 3 with 64 filters, dropout 0.2 and 0.4.
    """
    rate = facts.sample_rate
    clip = keras.Input((facts.samples,), name="clip", dtype="int16")
    wave = layers.Rescaling(1 / 32_768, dtype="float32")(clip)
    power = layers.MelSpectrogram(
        fft_length=1 << (rate * 40 // 1000 - 1).bit_length(), sequence_length=rate * 40 // 1000,
        sequence_stride=rate * 20 // 1000, sampling_rate=rate, num_mel_bins=40, min_freq=20.0,
        max_freq=min(4_000.0, rate / 2), power_to_db=False, dtype="float32",
    )(wave)  # fmt: skip
    mel = keras.ops.log(layers.Permute((2, 1), dtype="float32")(power) + 1e-6)
    # Mel-frequency cepstral coefficients: the first ten of a cosine transform.
    bands = np.arange(40) + 0.5
    cosines = np.cos(np.pi / 40 * bands[:, None] * np.arange(10)) * np.sqrt(2 / 40)
    coefficients = keras.ops.matmul(mel, cosines.astype(np.float32))
    frames = keras.Model({"clip": clip}, coefficients).predict({"clip": x["clip"][: model.ADAPTED]}, verbose=0)
    hidden = layers.Normalization(mean=frames.mean(axis=(0, 1)), variance=frames.var(axis=(0, 1)))(coefficients)
    decay = keras.regularizers.L2(1e-4)

    def activated(hidden: keras.KerasTensor) -> keras.KerasTensor:
        # Keras's momentum of 0.99, as published, would not settle in the few steps of small data.
        return layers.ReLU()(layers.BatchNormalization(momentum=0.9)(hidden))

    hidden = layers.Reshape((*hidden.shape[1:], 1))(hidden)
    hidden = activated(layers.Conv2D(64, (10, 4), 2, padding="same", kernel_regularizer=decay)(hidden))
    hidden = layers.Dropout(0.2)(hidden)
    for _ in range(4):
        hidden = activated(layers.DepthwiseConv2D(3, padding="same", depthwise_regularizer=decay)(hidden))
        hidden = activated(layers.Conv2D(64, 1, padding="same", kernel_regularizer=decay)(hidden))
    hidden = layers.GlobalAveragePooling2D()(layers.Dropout(0.4)(hidden))
    probability = layers.Dense(len(facts.classes), activation="softmax", dtype="float32")(hidden)
    return keras.Model({"clip": clip}, probability, name="ds_cnn")


class Clocked(keras.callbacks.Callback):
    """Records after each epoch the seconds passed, the validation accuracy and the weights."""

    def on_train_begin(self, logs: dict | None = None) -> None:
        self.started, self.epochs = time.perf_counter(), []

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self.epochs.append((time.perf_counter() - self.started, logs["val_accuracy"], self.model.get_weights()))


def peer(outcome: Outcome, seed: int) -> dict[str, float]:
    """The DS-CNN on the same sides with the same augmentation, trained as published, with its best validation epoch.

    Adam, batches of 100, rates of 5e-4, 1e-4, 2e-5 and 1e-5. Published are 12 epochs of each, some ten thousand steps;
    here each lasts until validation accuracy has not improved for 12 epochs, so that small data get enough steps.
    `at_equal_time` is the test accuracy of its best epoch within the network's training time.
    """
    keras.utils.set_random_seed(seed)
    train, stopping, test = outcome.parts["train"], outcome.parts["stopping"], outcome.headline
    network = ds_cnn(outcome.facts, train.x())
    network.compile(keras.optimizers.Adam(5e-4), "sparse_categorical_crossentropy", metrics=["accuracy"])
    augment = mixing.augmentation(train, outcome.settings)
    clock = Clocked()
    callbacks = [
        keras.callbacks.ReduceLROnPlateau("val_accuracy", mode="max", factor=0.2, patience=12, min_lr=1e-5),
        keras.callbacks.EarlyStopping("val_accuracy", mode="max", patience=48, restore_best_weights=True),
        clock,
    ]
    network.fit(
        Batches(train, 100, seed, augment), validation_data=Batches(stopping, 1024), epochs=200, verbose=0,
        callbacks=callbacks, shuffle=False,
    )  # fmt: skip
    within = [epoch for epoch in clock.epochs if epoch[0] <= outcome.fitted.seconds] or clock.epochs[:1]
    full = accuracy(network, test)
    network.set_weights(max(within, key=lambda epoch: epoch[1])[2])
    return {
        "accuracy": full,
        "at_equal_time": accuracy(network, test),
        "parameters": network.count_params(),
        "training_seconds": clock.epochs[-1][0],
        "milliseconds_per_clip": litert.litert(network, test.sample(100, 0))[2],
    }


def accuracy(network: keras.Model, part: Part) -> float:
    """Share of the part's clips whose likeliest class is the right one."""
    return float((predict(network, part).argmax(axis=1) == part.labels).mean())


def main(options: Options) -> None:
    """Print each network's figures, the baselines, and what else the protocol asks for."""
    origin = downloads.resolve(options.data, PIPELINE, Path.cwd())
    data = PIPELINE.data.read(origin.path, options)
    print(PIPELINE.data.describe(data))
    found, peers, noises, baselines = {}, {}, [], {}
    protocol = list(splits(data, options))
    for name, sides in protocol:
        for seed in range(options.seeds if len(protocol) == 1 else 1):
            settings = replace(options, seed=seed)
            machine = device.setup(seed, options.device, options.precision, options.gpus)
            outcome = trial(PIPELINE, halvable(data, sides.validation), sides, settings, machine, resamplings=0)
            found[name, seed] = row(outcome)
            print(
                f"{name}, seed {seed}: " + "  ".join(f"{k} {v:,.4g}" for k, v in found[name, seed].items()), flush=True
            )
            if len(protocol) == 1:
                noises.append(report.accuracy_in_noise(outcome.network, outcome.headline, draws=3))
                if seed < options.peers:
                    peers[name, seed] = peer(outcome, seed)
                    print("  DS-CNN: " + "  ".join(f"{k} {v:,.4g}" for k, v in peers[name, seed].items()), flush=True)
        baselines[name] = {model: values["accuracy"] for model, values in by_model(outcome).items()}
    table = pd.DataFrame(found).T
    print("\nNetworks\n" + table.round(4).to_string())
    apart = table[~table.index.get_level_values(0).str.startswith("published")]
    print(f"mean {apart['accuracy'].mean():.4f}, lowest {apart['accuracy'].min():.4f}")
    print("\nBaselines, accuracy on the same clips\n" + pd.DataFrame(baselines).T.round(4).to_string())
    if peers:
        print("\nDS-CNN of MLPerf Tiny\n" + pd.DataFrame(peers).T.round(4).to_string())
    if noises:
        print(
            "\nAccuracy in noise, mean of seeds and of three draws\n" + (sum(noises) / len(noises)).round(4).to_string()
        )


def by_model(outcome: Outcome) -> dict[str, dict[str, float]]:
    """Metrics of each baseline."""
    table = pd.Series(outcome.resampled.values).unstack().drop(index=NETWORK)
    return table.to_dict(orient="index")


if __name__ == "__main__":
    try:
        main(tyro.cli(Options, description=__doc__))
    except InputError as error:
        sys.exit(f"error: {error}")
