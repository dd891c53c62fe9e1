"""A linear network, and a loss that leaves missing cells out."""

import keras
from keras import ops


def LOSS(y_true, y_pred):  # noqa: N802
    known = ops.logical_not(ops.isnan(y_true))
    missed = ops.where(known, ops.where(known, y_true, 0.0) - y_pred, 0.0)
    return ops.sum(missed**2, axis=-1) / ops.maximum(ops.sum(ops.cast(known, "float32"), axis=-1), 1.0)


def build(facts, settings, x, y):
    descriptors = keras.Input((3,), name="descriptors")
    outputs = keras.layers.Dense(2, dtype="float32", bias_initializer=keras.initializers.Constant(-1.0))(descriptors)
    return keras.Model({"descriptors": descriptors}, outputs)
