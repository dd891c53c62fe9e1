"""The fraud network's encoding of numbers: edges where the frauds are, none in noise, finite whatever is missing."""

import keras
import numpy as np
import pytest

from pipelines.fraud import model


def labels(chance: np.ndarray, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).random(len(chance)) < chance).astype(int)


def test_a_sharp_edge_is_found_where_it_is():
    numbers = np.random.default_rng(1).uniform(0, 100, 5000)
    (edges,) = model._edges(numbers[:, None], labels(np.where(numbers > 70, 0.3, 0.02)), bins=6)
    assert np.abs(edges - 70).min() < 1


def test_a_band_has_both_its_edges():
    numbers = np.random.default_rng(1).uniform(0, 100, 5000)
    (edges,) = model._edges(numbers[:, None], labels(np.where(np.abs(numbers - 50) < 10, 0.3, 0.02)), bins=6)
    assert all(np.abs(edges - end).min() < 1 for end in (40, 60))


def test_noise_has_no_edges():
    rng = np.random.default_rng(2)
    fraud = labels(np.full(5000, 0.05))
    assert not any(map(len, model._edges(rng.normal(size=(5000, 100)), fraud, bins=6)))


def test_there_are_never_more_bins_than_asked_for():
    numbers = np.random.default_rng(1).uniform(0, 100, 20_000)
    fraud = labels(np.where(numbers // 10 % 2 == 0, 0.4, 0.02))
    assert len(model._edges(numbers[:, None], fraud, bins=4)[0]) == 3


@pytest.fixture
def encoded():
    """Standardised numbers, edges passed and missing flags of two columns, the second often missing."""
    rng = np.random.default_rng(3)
    values = rng.lognormal(3, 1, (4000, 2)).astype(np.float32)
    fraud = labels(np.where(values[:, 0] > 40, 0.3, 0.02))
    values[rng.random(4000) < 0.3, 1] = np.nan
    given = keras.Input((2,))
    parts = [
        model._standardised(given, values),
        model._passed(given, model._edges(values, fraud, 4)),
        model._missing(given, [1]),
    ]
    return keras.Model(given, parts), values


def test_numbers_are_standardised_and_passed_edges_grow_with_them(encoded):
    network, values = encoded
    numbers, passed, missing = network.predict(values, verbose=0)
    assert np.abs(numbers.mean(axis=0)).max() < 0.05
    assert numbers[:, 0].std() == pytest.approx(1, abs=0.05)
    assert passed.shape[1] > 0
    order = np.argsort(values[:, 0])
    assert (np.diff(passed[order].sum(axis=1)) >= 0).all()
    assert np.array_equal(missing[:, 0] == 1, np.isnan(values[:, 1]))


def test_what_is_missing_or_extreme_stays_finite(encoded):
    network, _ = encoded
    odd = np.array([[np.nan, np.nan], [1e30, -1e30], [0, -0.0]], np.float32)
    parts = network.predict(odd, verbose=0)
    assert all(np.isfinite(part).all() for part in parts)
    assert np.abs(parts[0]).max() <= model.FARTHEST
    assert parts[1][0].sum() == 0, "a missing value has passed no edge"
