"""Noisy pictures of 8 × 8 pixels with a bright or a dark square, three of each scene."""

import numpy as np

SIZE = 8


def make(seed=0, scenes=200):
    rng = np.random.default_rng(seed)
    masks = np.zeros((3 * scenes, SIZE, SIZE), np.uint8)
    for number in range(scenes):
        row, column = rng.integers(0, SIZE - 3, 2)
        masks[3 * number : 3 * number + 3, row : row + 4, column : column + 4] = 1 + number % 2
    images = np.array([0.5, 1.0, 0.0])[masks] + rng.normal(0, 0.2, masks.shape)
    return np.arange(scenes).repeat(3), images.astype(np.float32), masks
