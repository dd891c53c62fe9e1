"""The image network: residual blocks of plain convolutions, sized to the images, with its augmentation inside.

Pre-activation residual blocks (He, Zhang, Ren and Sun 2016, Identity mappings in deep residual networks). Images of 28
pixels pass three stages and 0.3 million weights; larger ones are first halved by strided convolutions until the stages
can end at about 7 pixels. Images come in as they are, uint8; what is random acts in training alone.
"""

from __future__ import annotations

import keras
import numpy as np
from keras import KerasTensor, layers

from pipelines.medical_images import Settings
from pipelines.medical_images.data import Facts

LOSS = keras.losses.SparseCategoricalCrossentropy()

LAST = 8  # pixels at which the last stage ends, at most
STAGES = 3


def build(facts: Facts, settings: Settings, x: dict[str, np.ndarray], y: np.ndarray) -> keras.Model:
    """Build the network from `image`, uint8 (n, size, size, channels), to probabilities (n, classes).

    Args:
        facts: `size`, `channels` and `classes`, as learnt from the training records.
        settings: `width`, `dropout` and `flips` shape the network.
        x: some training images, whose mean and deviation standardise all images.
        y: their labels; not used.
    """
    image = keras.Input((facts.size, facts.size, facts.channels), name="image", dtype="uint8")
    pixels = x["image"].reshape(-1, facts.channels).astype(np.float32)
    scale = layers.Normalization(mean=pixels.mean(axis=0), variance=pixels.var(axis=0) + 1, dtype="float32")
    hidden = scale(_augmented(image, settings.flips))

    width = settings.width
    hidden = layers.Conv2D(width, 3, padding="same", use_bias=False)(hidden)
    while hidden.shape[1] > LAST * 2 ** (STAGES - 1):
        hidden = layers.Conv2D(width, 3, strides=2, padding="same", use_bias=False)(_activated(hidden))
    for stage in range(STAGES):
        hidden = _block(hidden, width * 2**stage, strides=1 if stage == 0 else 2)
    hidden = layers.GlobalAveragePooling2D()(_activated(hidden))
    hidden = layers.Dropout(settings.dropout)(hidden)
    probability = layers.Dense(len(facts.classes), activation="softmax", dtype="float32")(hidden)
    return keras.Model({"image": image}, probability, name="medical_images")


def _augmented(image: KerasTensor, flips: str) -> KerasTensor:
    """Small shifts, turns, zooms and changes of exposure, none of which changes what an image shows."""
    exact = {"fill_mode": "nearest", "dtype": "float32"}  # bfloat16 would round where pixels move to
    image = layers.RandomBrightness(0.1, dtype="float32")(image)
    if flips != "none":
        mode = "horizontal" if flips == "horizontal" else "horizontal_and_vertical"
        image = layers.RandomFlip(mode, dtype="float32")(image)
    image = layers.RandomTranslation(0.03, 0.03, **exact)(image)
    image = layers.RandomRotation(0.02, **exact)(image)
    return layers.RandomZoom(0.04, **exact)(image)


def _activated(hidden: KerasTensor) -> KerasTensor:
    # Keras's momentum of 0.99 takes hundreds of steps to settle, which is all that a thousand images give.
    return layers.ReLU()(layers.BatchNormalization(momentum=0.9)(hidden))


def _block(hidden: KerasTensor, width: int, strides: int) -> KerasTensor:
    """Two convolutions beside a short cut, which is a mean and a 1 x 1 convolution where the shape changes.

    The mean loses less than a strided 1 x 1 convolution, which reads one pixel of four (He, Zhang, Zhang et al. 2019,
    Bag of tricks for image classification); besides, TensorFlow 2.21 can crash in the latter's gradient on a CPU.
    """
    found = _activated(hidden)
    if strides > 1 or hidden.shape[-1] != width:
        hidden = layers.AveragePooling2D(strides, padding="same")(found) if strides > 1 else found
        hidden = layers.Conv2D(width, 1, use_bias=False)(hidden)
    found = layers.Conv2D(width, 3, strides=strides, padding="same", use_bias=False)(found)
    found = layers.Conv2D(width, 3, padding="same", use_bias=False)(_activated(found))
    return hidden + found
