"""The volatility network: begins as the linear forecast, cannot cross quantiles, and its loss is right."""

import keras
import numpy as np
import pytest
from scipy.special import expit
from test_stocks_baselines import facts_of

from pipelines.stocks import Settings, model

CHANNELS, WINDOW, TICKERS, ROWS = 10, 44, 3, 400
EXCESS = (0.4, 0.2, 0.1)


@pytest.fixture(scope="module")
def drawn() -> tuple[dict[str, np.ndarray], np.ndarray]:
    rng = np.random.default_rng(0)
    past = rng.normal(size=(ROWS, WINDOW, CHANNELS)).astype(np.float32)
    past[..., 0] = 1
    past[:20, :30] = 0  # young tickers
    x = {
        "past": past,
        "linear": rng.normal(-9, 1, (ROWS, 8)).astype(np.float32),
        "har": rng.normal(-9, 0.5, (ROWS, 9)).astype(np.float32),
        "ticker": rng.integers(0, TICKERS + 1, ROWS).astype(np.int32),
    }
    variance = np.exp(rng.normal(-9, 1, (ROWS, 3)))
    return x, np.concatenate([variance, rng.standard_t(4, (ROWS, 3)) * np.sqrt(variance)], axis=1)


@pytest.fixture
def network(drawn) -> keras.Model:
    return model.build(facts_of(tickers=tuple("ABC"), excess=EXCESS), Settings(), *drawn)


def disturbed(network: keras.Model) -> keras.Model:
    rng = np.random.default_rng(1)
    for weight in network.trainable_variables:
        weight.assign(weight.numpy() + rng.normal(0, 0.1, weight.shape))
    return network


def parts(outputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return outputs[..., :3], outputs[..., 3:].reshape(*outputs.shape[:-1], 3, 7)


def test_it_starts_exactly_at_the_linear_forecast_and_the_training_quantiles(network, drawn):
    x, y = drawn
    log_variance, quantiles = parts(network.predict(x, verbose=0))
    start = x["har"][:, 6:] - np.array(EXCESS, np.float32)
    assert np.array_equal(log_variance, start)
    scale = np.exp(start / 2) * np.sqrt([1, 5, 21])
    expected = np.quantile(y[:, 3:] / scale, model.LEVELS, axis=0).T * scale[..., None]
    np.testing.assert_allclose(quantiles, expected, rtol=1e-4, atol=1e-6)


def test_quantiles_ascend_whatever_the_weights(network, drawn):
    _, quantiles = parts(disturbed(network).predict(drawn[0], verbose=0))
    assert (np.diff(quantiles, axis=-1) > 0).all()


def test_the_correction_is_read_from_the_past(network, drawn):
    x, _ = drawn
    before = disturbed(network).predict(x, verbose=0)
    other = x["past"].copy()
    other[:, -10] += 1
    assert (np.abs(network.predict(x | {"past": other}, verbose=0) - before)[20:].max(axis=1) > 1e-6).mean() > 0.99


def test_days_that_do_not_exist_say_nothing(network, drawn):
    x, _ = drawn
    before = disturbed(network).predict(x, verbose=0)
    other = x["past"].copy()
    other[:20, :30, 1:] = 7  # `exists`, the first channel, stays 0
    np.testing.assert_allclose(network.predict(x | {"past": other}, verbose=0), before, rtol=1e-5, atol=1e-6)


def test_an_unseen_ticker_is_no_ticker_of_its_own(network, drawn):
    x, _ = drawn
    disturbed(network)
    unseen = x | {"ticker": np.zeros_like(x["ticker"])}
    before, known = network.predict(unseen, verbose=0), network.predict(x, verbose=0)
    for layer in network.layers:
        if isinstance(layer, keras.layers.Embedding):
            layer.embeddings.assign(layer.embeddings.numpy() + 1)
    assert np.array_equal(network.predict(unseen, verbose=0), before)
    assert not np.array_equal(network.predict(x, verbose=0)[x["ticker"] > 0], known[x["ticker"] > 0])


def test_the_loss_equals_a_computation_by_hand():
    rng = np.random.default_rng(2)
    variance, returns = np.exp(rng.normal(-9, 1, (5, 3))), rng.normal(0, 0.01, (5, 3))
    log_h, quantiles = rng.normal(-9, 1, (5, 3)), np.sort(rng.normal(0, 0.01, (5, 3, 7)))
    outputs = np.concatenate([log_h, quantiles.reshape(5, 21)], axis=1).astype(np.float32)
    expected = np.zeros(5)
    for row in range(5):
        for place, horizon in enumerate((1, 5, 21)):
            h = np.exp(log_h[row, place])
            expected[row] += np.log(variance[row, place] / h) ** 2 / 2 / 3
            for level, quantile in zip(model.LEVELS, quantiles[row, place], strict=True):
                error = (returns[row, place] - quantile) / np.sqrt(h * horizon)
                expected[row] += (level * error if error > 0 else (level - 1) * error) / 21
    loss = model.LOSS(np.concatenate([variance, returns], axis=1), outputs)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(loss), expected, rtol=1e-4)


def test_the_loss_stays_finite_where_a_network_strays():
    y = np.array([[1e-6] * 3 + [0.0] * 3, [0.5] * 3 + [0.3] * 3])
    for stray in (-60.0, 60.0):
        outputs = np.concatenate([np.full((2, 3), stray), np.zeros((2, 21))], axis=1).astype(np.float32)
        assert np.isfinite(keras.ops.convert_to_numpy(model.LOSS(y, outputs))).all()


def test_the_inverse_of_ascending_quantiles():
    quantiles = np.sort(np.random.default_rng(3).normal(size=(3, 7)))
    unordered = model._unordered(quantiles)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(model._ascending(unordered)), quantiles, rtol=1e-5)
    np.testing.assert_allclose(1 - np.exp(-np.diff(quantiles))[:, 0], expit(unordered[:, 0]), rtol=1e-6)
