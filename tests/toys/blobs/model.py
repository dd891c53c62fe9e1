"""Build."""

import keras

LOSS = keras.losses.BinaryCrossentropy()


def build(facts, settings, x, y):
    normalise = keras.layers.Normalization(dtype="float32")
    normalise.adapt(x["point"])
    point = keras.Input((2,), name="point")
    hidden = keras.layers.Dense(8, activation="relu")(normalise(point))
    return keras.Model({"point": point}, keras.layers.Dense(1, activation="sigmoid", dtype="float32")(hidden))
