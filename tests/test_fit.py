"""Training: best weights, early stopping, divergence, repeatability."""

import re
from dataclasses import replace

import keras
import numpy as np
import pytest

from pipelines.core.contract import DivergedError, Settings
from pipelines.core.data.arrays import Part
from pipelines.core.training import device
from pipelines.core.training.batches import Batches, predict
from pipelines.core.training.fit import fit
from tests.builders import part

SETTINGS = Settings(epochs=3, batch_size=32, learning_rate=0.01)
LOSS = keras.losses.BinaryCrossentropy()


def parts(seed: int = 0, signal: float = 1.0) -> tuple[Part, Part]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(600, 4)).astype(np.float32)
    label = (x[:, 0] * signal + rng.normal(size=600) > 0).astype(int)
    return part({"x": x}, label, np.arange(400)), part({"x": x}, label, np.arange(400, 600))


def network() -> keras.Model:
    given = keras.Input((4,), name="x")
    hidden = keras.layers.Dropout(0.2)(keras.layers.Dense(16, activation="relu")(given))
    return keras.Model({"x": given}, keras.layers.Dense(1, activation="sigmoid")(hidden))


def fitted(settings: Settings = SETTINGS, signal: float = 1.0):
    machine = device.setup(settings.seed)
    model, (train, stopping) = network(), parts(signal=signal)
    return model, fit(model, LOSS, train, stopping, settings, machine), stopping


def test_the_same_seed_gives_the_same_network_to_the_bit_and_another_seed_another():
    def weights(seed):
        return fitted(replace(SETTINGS, seed=seed))[0].get_weights()

    first, again, other = weights(0), weights(0), weights(1)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("averaging", [0.0, 0.9])
def test_the_weights_kept_are_those_of_the_best_validation_loss(averaging):
    noise = replace(SETTINGS, epochs=12, patience=2, learning_rate=0.05, averaging=averaging)
    model, result, stopping = fitted(noise, signal=0.0)
    losses = [figures["val_loss"] for figures in result.epochs]
    assert len(losses) < 12, "pure noise must stop early"
    assert result.kept_epoch == int(np.argmin(losses)) + 1 == len(losses) - 2
    model.compile(loss=LOSS)
    kept = model.evaluate(Batches(stopping, 8192), verbose=0)
    assert kept == pytest.approx(min(losses), rel=1e-5)


def test_a_running_mean_of_the_weights_is_steadier_than_they_are_and_leaves_the_training_alone():
    def losses(averaging):
        settings = replace(SETTINGS, epochs=12, patience=12, learning_rate=0.3, averaging=averaging)
        epochs = fitted(settings)[1].epochs
        return np.array([[figures[name] for name in ("loss", "val_loss")] for figures in epochs]).T

    (single_loss, single), (mean_loss, mean) = losses(0.0), losses(0.98)
    assert mean_loss == pytest.approx(single_loss, abs=1e-5)
    assert np.abs(np.diff(mean[2:])).mean() < np.abs(np.diff(single[2:])).mean() / 2


def test_the_mean_of_the_weights_is_what_is_left_where_nothing_stops_the_training():
    model = fitted_without_stopping(replace(SETTINGS, averaging=0.9))
    single = fitted_without_stopping(replace(SETTINGS, averaging=0.0))
    means = model.optimizer._model_variables_moving_average
    assert all(np.allclose(a, b) for a, b in zip(model.trainable_variables, means, strict=True))
    assert not all(np.allclose(a, b) for a, b in zip(model.get_weights(), single.get_weights(), strict=True))


def fitted_without_stopping(settings: Settings) -> keras.Model:
    machine = device.setup(0)
    train, stopping = parts()
    model = network()
    fit(model, LOSS, train, stopping.take(np.array([], int)), settings, machine)
    return model


def test_without_a_stopping_part_all_epochs_are_trained():
    machine = device.setup(0)
    train, stopping = parts()
    result = fit(network(), LOSS, train, stopping.take(np.array([], int)), SETTINGS, machine)
    assert len(result.epochs) == result.kept_epoch == SETTINGS.epochs


def test_without_patience_the_last_weights_are_kept_and_with_it_the_best():
    overfitting = replace(SETTINGS, epochs=12, learning_rate=0.05)
    machine, (train, stopping), kept = device.setup(0), parts(), {}
    for patience in (12, 0):
        keras.utils.set_random_seed(0)
        model = network()
        kept[patience] = fit(model, LOSS, train, stopping, replace(overfitting, patience=patience), machine)
        assert len(kept[patience].epochs) == 12
        loss = float(np.mean(LOSS(stopping.labels[:, None], predict(model, stopping))))
        assert loss == pytest.approx(kept[patience].epochs[kept[patience].kept_epoch - 1]["val_loss"], rel=1e-4)
    assert kept[12].kept_epoch < kept[0].kept_epoch == 12


def test_a_loss_that_is_not_finite_ends_the_training_with_a_sentence():
    train, stopping = parts()
    labels = np.where(np.arange(600) == 7, np.nan, train.encoded.targets["label"])
    train = part(train.inputs, labels, train.rows)
    with pytest.raises(DivergedError, match=r"loss is nan after epoch 1.*--learning-rate"):
        fit(network(), LOSS, train, stopping, SETTINGS, device.setup(0))


def test_every_epoch_is_handed_on_with_its_number():
    heard = []
    train, stopping = parts()
    fit(network(), LOSS, train, stopping, SETTINGS, device.setup(0), on_epoch=lambda *told: heard.append(told))
    assert [epoch for epoch, _ in heard] == [0, 1, 2]
    assert all({"loss", "val_loss"} <= set(figures) for _, figures in heard)


def test_the_network_learns_what_there_is_to_learn():
    model, _, stopping = fitted(replace(SETTINGS, epochs=10), signal=5.0)
    right = (predict(model, stopping)[:, 0] > 0.5) == stopping.labels
    assert right.mean() > 0.85


def test_a_network_of_several_outputs_is_fitted_to_targets_of_their_names():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 4)).astype(np.float32)
    targets = {"sum": x.sum(axis=1) - 5, "sign": (x[:, 0] > 0).astype(int)}
    train, stopping = (part({"x": x}, targets, rows) for rows in (np.arange(400), np.arange(400, 600)))
    given = keras.Input((4,), name="x")
    outputs = {"sum": keras.layers.Dense(1)(given), "sign": keras.layers.Dense(1, activation="sigmoid")(given)}
    model = keras.Model({"x": given}, outputs)
    settings = replace(SETTINGS, epochs=30, learning_rate=0.1)
    result = fit(model, {"sum": "mse", "sign": "binary_crossentropy"}, train, stopping, settings, device.setup(0))
    assert np.isfinite(result.epochs[-1]["val_loss"])
    found = predict(model, stopping)
    assert np.abs(found["sum"][:, 0] - stopping.y()["sum"]).mean() < 0.5, "targets are negative, and none is left out"
    assert ((found["sign"][:, 0] > 0.5) == stopping.y()["sign"]).mean() > 0.9


def test_progress_fits_the_line_of_a_step_and_names_epoch_losses_and_time_left():
    shown = []
    train, stopping = parts()
    fit(network(), LOSS, train, stopping, SETTINGS, device.setup(0), show=shown.append)
    assert len(shown) == SETTINGS.epochs * (len(Batches(train, 32)) + 1)
    assert re.fullmatch(r"epoch 1/3  at most \d+:\d\d left", shown[0])
    assert re.fullmatch(r"epoch 3/3  loss [\d.]+  val_loss [\d.]+  at most 0:00 left", shown[-1])
    assert max(map(len, shown)) < 60
