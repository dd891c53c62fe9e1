"""Baselines on the same images, from trivial to strong."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.ndimage import gaussian_filter
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pipelines.core.data.arrays import Part
from pipelines.core.tasks import classification
from pipelines.medical_images import Settings
from pipelines.medical_images.data import Facts

MOST = 20_000
"""Training images that a baseline is fitted on."""
COMPONENTS = 100  # principal components of the pixels
PIXELS = 32  # on a side, from the double of which on images are made smaller first
REGULARISATIONS = (1e-4, 1e-3, 1e-2, 1e-1)  # inverse, of the logistic regression
NEIGHBOURS = (5, 15, 45)
RATES = (0.05, 0.1)  # learning rates of the trees
SCALES = (1.0, 2.0, 4.0)  # pixels of a 32-pixel image, of the blobs among the features of trees
CELLS, DIRECTIONS = 4, 8  # cells on a side, and directions of a gradient, in the histograms of gradients
BLOCK = 2_000  # images at once


def baselines(
    facts: Facts, settings: Settings, train: Part, validation: Part
) -> Iterator[tuple[str, classification.Predict]]:
    """Fit each in several settings, of which the validation images choose one, as they do for the network.

    Yields:
        Name and predict, which gives scores: probabilities, (n,) of the second of two classes, else (n, classes).
    """
    train = train.sample(MOST, settings.seed)
    yield "prevalence", classification.prevalence(train, len(facts.classes))

    pixels = _pixels(train)
    components = PCA(min(COMPONENTS, *pixels.shape, len(train) - 1), random_state=0)
    reduce = make_pipeline(StandardScaler(), components).fit(pixels)

    def reduced(part: Part) -> np.ndarray:
        return reduce.transform(_pixels(part))

    regressions = [LogisticRegression(C=strength, max_iter=1000) for strength in REGULARISATIONS]
    yield "logistic_regression", classification.best_on_validation(regressions, reduced, train, validation)
    nearest = [KNeighborsClassifier(count, weights="distance") for count in NEIGHBOURS if count < len(train)]
    yield "nearest_neighbours", classification.best_on_validation(nearest, reduced, train, validation)
    boosted = classification.boosted_trees(RATES, 300, 15, 20, settings.seed)
    yield "trees", classification.best_on_validation(boosted, _features, train, validation)


def _blocks(part: Part) -> Iterator[np.ndarray]:
    """The images of the part, float32, a block at a time."""
    for rows in np.array_split(part.rows, len(part) // BLOCK + 1):
        yield part.inputs["image"][rows].astype(np.float32)


def _pixels(part: Part) -> np.ndarray:
    """Flat pixels of each image, float32 (n, pixels); of a large one the means of squares, 63 on a side at most."""
    square = max(part.inputs["image"].shape[1] // PIXELS, 1)
    return np.concatenate([_means(block, square).reshape(len(block), -1) for block in _blocks(part)])


def _means(images: np.ndarray, square: int) -> np.ndarray:
    n, size, _, channels = images.shape
    side = size // square
    cut = images[:, : side * square, : side * square]
    return cut.reshape(n, side, square, side, square, channels).mean(axis=(2, 4))


def _features(part: Part) -> np.ndarray:
    """A few hundred numbers for each image, float32 (n, features).

    Quantiles and a histogram of each channel; of its grey, histograms of the directions of gradients in cells (Dalal
    and Triggs 2005, Histograms of oriented gradients for human detection), and how strongly blobs of several sizes
    stand out (differences of Gaussians, as in Lowe 2004, Distinctive image features from scale-invariant keypoints).
    """
    return np.concatenate([_descriptors(block) for block in _blocks(part)])


def _descriptors(images: np.ndarray) -> np.ndarray:
    n, size = len(images), images.shape[1]
    quantiles = np.quantile(images, [0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99], axis=(1, 2)).transpose(1, 0, 2)
    levels = np.stack([((images >= low) & (images < low + 16)).mean(axis=(1, 2)) for low in range(0, 256, 16)], axis=1)
    grey = images.mean(axis=3)
    down, right = np.gradient(grey, axis=(1, 2))
    strength, direction = np.hypot(down, right), np.arctan2(down, right) % np.pi * DIRECTIONS / np.pi
    cell = np.arange(size) * CELLS // size
    place = (cell[:, None] * CELLS + cell) * DIRECTIONS + np.minimum(direction.astype(int), DIRECTIONS - 1)
    width = CELLS * CELLS * DIRECTIONS
    place = place + width * np.arange(n)[:, None, None]
    gradients = np.bincount(place.ravel(), strength.ravel(), n * width).reshape(n, width) / size**2
    blobs = []
    for scale in SCALES:
        sigma = scale * size / 32
        blob = gaussian_filter(grey, (0, sigma, sigma)) - gaussian_filter(grey, (0, 1.6 * sigma, 1.6 * sigma))
        blobs.append(np.quantile(blob, [0, 0.02, 0.1, 0.9, 0.98, 1], axis=(1, 2)).T)
    parts = [quantiles.reshape(n, -1), levels.reshape(n, -1), gradients, *blobs]
    return np.concatenate(parts, axis=1).astype(np.float32)
