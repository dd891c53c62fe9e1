"""The word network: log-mel features as its first layers, then residual convolutions over time.

Mel bands are the channels of plain 1-D convolutions, as in Choi, Seo, Shin et al. (2019), Temporal convolution for
real-time keyword spotting on mobile devices, in pre-activation residual blocks (He, Zhang, Ren and Sun 2016). Each
layer thus sees all frequencies at once, and few multiplications are needed, none of them in depthwise convolutions,
which train slowly on CPUs. The input is raw, int16; random layers act in training alone.
"""

from __future__ import annotations

from collections.abc import Mapping

import keras
import numpy as np
from keras import KerasTensor, layers, ops

from pipelines.speech_commands import Settings
from pipelines.speech_commands.data import Facts

LOSS = keras.losses.SparseCategoricalCrossentropy()

WIDTHS = {"tiny": (24, 32, 48), "small": (48, 64, 96), "base": (96, 128, 192)}
"""Filters of each stage; each stage halves the frames."""
KERNEL = 9  # frames
BANDS, LOWEST, HIGHEST = 40, 60.0, 7_600.0  # mel bands; Hz
FRAME, HOP = 0.025, 0.010  # s
FAINT = 1e-6  # power, added before the logarithm: about -60 dB of full scale
DROPOUT = 0.2
MASKED = 0.1  # share of the blocks of frames, and of bands, that are masked
MASKS = {1: 8, 2: 4}  # frames, and bands, in a block
ADAPTED = 2_000  # clips from which mean and deviation of the features are computed


def build(facts: Facts, settings: Settings, x: Mapping[str, np.ndarray], y: np.ndarray) -> keras.Model:
    """The network: `clip`, int16 (n, samples), in; probabilities (n, classes) out.

    Args:
        facts: as learnt from the training records.
        settings: `size` shapes the network.
        x: some training clips; mean and deviation of their features by band standardise all features.
        y: their labels; not used.
    """
    extractor = features(facts)
    frames = extractor.predict({"clip": x["clip"][:: len(x["clip"]) // ADAPTED + 1]}, batch_size=256, verbose=0)
    clip = keras.Input((facts.samples,), name="clip", dtype="int16")
    hidden = layers.Normalization(mean=frames.mean(axis=(0, 1)), variance=frames.var(axis=(0, 1)), dtype="float32")(
        extractor({"clip": clip})
    )
    hidden = _masked(_masked(hidden, axis=1), axis=2)

    first, *_ = widths = WIDTHS[settings.size]
    hidden = layers.Conv1D(first, 3, padding="same", use_bias=False)(hidden)
    for width in widths:
        hidden = _block(hidden, width)
    hidden = layers.GlobalAveragePooling1D()(_activated(hidden))
    hidden = layers.Dropout(DROPOUT)(hidden)
    probability = layers.Dense(len(facts.classes), activation="softmax", dtype="float32")(hidden)
    return keras.Model({"clip": clip}, probability, name="speech_commands")


def features(facts: Facts) -> keras.Model:
    """Log-mel features: `clip`, int16 (n, samples), in; float32 (n, frames, bands) out, one frame each 10 ms."""
    rate = facts.sample_rate
    clip = keras.Input((facts.samples,), name="clip", dtype="int16")
    wave = layers.Rescaling(1 / 32_768, dtype="float32")(clip)
    frame = round(FRAME * rate)
    # The layer's own decibels have a floor relative to the loudest clip of a batch, so that clips would change others.
    power = layers.MelSpectrogram(
        fft_length=1 << (frame - 1).bit_length(), sequence_length=frame, sequence_stride=round(HOP * rate),
        sampling_rate=rate, num_mel_bins=BANDS, min_freq=LOWEST, max_freq=min(HIGHEST, 0.475 * rate),
        power_to_db=False, dtype="float32",
    )(wave)  # fmt: skip
    return keras.Model({"clip": clip}, ops.log(layers.Permute((2, 1), dtype="float32")(power) + FAINT), name="features")


def _masked(hidden: KerasTensor, axis: int) -> KerasTensor:
    """Some blocks of frames (axis 1) or of bands (axis 2) set to their mean (Park et al. 2019, SpecAugment)."""
    length, block = hidden.shape[axis], MASKS[axis]
    one = ops.ones_like(hidden[:, ::block, :1] if axis == 1 else hidden[:, :1, ::block])
    kept = ops.repeat(layers.Dropout(MASKED)(one), block, axis=axis)
    return hidden * (kept[:, :length] if axis == 1 else kept[:, :, :length])


def _activated(hidden: KerasTensor) -> KerasTensor:
    # Keras's momentum of 0.99 takes hundreds of steps to settle, and a thousand clips give no more.
    return layers.ReLU()(layers.BatchNormalization(momentum=0.9)(hidden))


def _block(hidden: KerasTensor, width: int) -> KerasTensor:
    """Two convolutions, the first of which halves the frames, beside a shortcut of average pooling and a 1 x 1 one."""
    inner = _activated(hidden)
    hidden = layers.Conv1D(width, 1, use_bias=False)(layers.AveragePooling1D(2, padding="same")(inner))
    inner = layers.Conv1D(width, KERNEL, strides=2, padding="same", use_bias=False)(inner)
    return hidden + layers.Conv1D(width, KERNEL, padding="same", use_bias=False)(_activated(inner))
