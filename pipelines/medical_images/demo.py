"""Demo data: 2,000 simulated chest radiographs of some 570 subjects, made offline in seconds.

A radiograph is made as a real one is: rays run in parallel through a body of ellipsoids, each of which weakens them by
its density times the length of the chord (Kak and Slaney 1988, Principles of computerized tomographic imaging, chapter
3), the photons that are left are counted with Poisson noise, and the detector blurs. Bodies differ from subject to
subject, and a subject is seen several times: turned, shifted and exposed differently. Some lungs hold a lesion, a
nodule of soft tissue whose size and density vary down to what ribs and vessels hide. Healed foci, smaller and denser,
are in the lungs of many and mean nothing.

The constants were set once, before any network was trained on the data. Results on it say nothing clinical.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.ndimage import gaussian_filter

IMAGES, SIZE = 2_000, 32  # images, and pixels on a side: about as coarse as MedMNIST's 28
RAYS = 2  # per pixel and direction
FIELD = 30.0  # cm on a side
VIEWS = (2, 5)  # fewest and most images of a subject
ILL = 0.4  # share of subjects with a lesion
PHOTONS = (8_000, 60_000)  # per ray before the body; one in fifty passes the middle of the chest
BLUR = 1.0  # rays, standard deviation of the detector's point spread

# Attenuation per cm at some 60 keV, as far as it differs from what it lies in: tissue from air, and so on.
TISSUE, LUNG, NODULE, BONE, CALCIFIED = 0.20, -0.15, 0.15, 0.20, 0.35
RIBS, VESSELS, FOCI = 8, 10, 2  # on each side; in each lung; in the lungs of a subject, at most


def make(seed: int) -> tuple[pd.DataFrame, np.ndarray]:
    """Simulate records and their pixels, the same for the same seed.

    Returns:
        A table with `id` and `subject` (text), `class` ("clear" or "lesion") and where the lesion is: `row`, `column`
        and `radius` in pixels, NaN without one. The images, uint8 (IMAGES, SIZE, SIZE, 1), bright where dense.
    """
    rng = np.random.default_rng(seed)
    views = rng.integers(*VIEWS, IMAGES, endpoint=True)
    subject = np.repeat(np.arange(IMAGES), views)[:IMAGES]
    ill = rng.random(subject[-1] + 1) < ILL
    centre, axes, angle, density = (values[subject] for values in _bodies(rng, ill))

    shift, zoom = rng.normal(0, 0.8, (2, IMAGES)), rng.normal(1, 0.04, IMAGES)
    turned = _rotation(1, rng.normal(0, np.radians(6), IMAGES)) @ _rotation(2, rng.normal(0, np.radians(3), IMAGES))
    centre = np.einsum("nij,nej->nei", turned, centre)
    chords = _chords(centre, axes, turned[:, None] @ _rotation(2, angle))
    least, most = np.log(PHOTONS)
    photons = np.exp(rng.uniform(least, most, IMAGES))
    pixels = np.empty((IMAGES, SIZE, SIZE, 1), np.uint8)
    for n in range(IMAGES):
        thickness = _through(chords[n], density[n], shift[:, n], zoom[n])
        pixels[n, ..., 0] = _exposed(rng, thickness, photons[n])

    lesion, pixel = centre[:, -1] * zoom[:, None], FIELD / SIZE
    place = {
        "row": (FIELD / 2 - lesion[:, 1] - shift[1]) / pixel - 0.5,
        "column": (FIELD / 2 + lesion[:, 0] + shift[0]) / pixel - 0.5,
        "radius": axes[:, -1].mean(axis=1) * zoom / pixel,
    }
    table = {
        "id": [f"image-{n:04d}" for n in range(IMAGES)],
        "subject": [f"subject-{n:03d}" for n in subject],
        "class": np.where(ill, "lesion", "clear")[subject],
    }
    return pd.DataFrame(table | {name: np.where(ill[subject], at, np.nan) for name, at in place.items()}), pixels


def _bodies(rng: np.random.Generator, ill: np.ndarray) -> list[np.ndarray]:
    """Ellipsoids of each subject: centres and half axes in cm (n, E, 3), angles (n, E), densities per cm (n, E).

    The axes point to the subject's left, up, and to the front; angles turn an ellipsoid within the plane of the image.
    The last ellipsoid is the lesion, without density where there is none.
    """
    n = len(ill)
    parts: list[tuple[np.ndarray, ...]] = []

    def add(centre: tuple, axes: tuple, angle: ArrayLike, density: ArrayLike, spread: float = 0.06) -> None:
        shape = np.broadcast_shapes(*(np.shape(value) for value in (*centre, *axes, angle, density)), (n, 1))
        place, size = (
            np.stack([np.broadcast_to(value, shape) for value in three], axis=-1) for three in (centre, axes)
        )
        size = size * rng.normal(1, spread, size.shape).clip(0.6, 1.4)
        parts.append((place, size, np.broadcast_to(angle, shape), np.broadcast_to(density, shape)))

    side = np.array([-1.0, 1.0])
    stout = rng.normal(1, 0.06, (n, 1))
    add((0, 0, 0), (16 * stout, 26, 10 * stout), 0, TISSUE, 0.02)
    add((6.8 * side * stout, 1, 0), (4.9 * stout, 11.5, 7), 0.09 * side, LUNG)
    add((2.2, -4.5, 2), (4.8, 5.5, 4), rng.normal(0.5, 0.1, (n, 1)), 0.06)
    add((0, 0, -6), (1.6, 30, 1.8), rng.normal(0, 0.03, (n, 1)), BONE)
    add((7 * side, rng.normal(-13, 1, (n, 1)), 0), (7, 4.5, 8), 0, 0.12)
    height = np.linspace(10, -9, RIBS).repeat(2) + rng.normal(0, 0.25, (n, 2 * RIBS))
    sides = np.tile(side, RIBS)
    add((7.2 * sides, height, -4), (6.5, 0.42, 0.7), -0.3 * sides + rng.normal(0, 0.06, (n, 2 * RIBS)), BONE)

    sides = np.tile(side, VESSELS)
    length, way = rng.uniform(1.2, 3.2, (n, 2 * VESSELS)), rng.uniform(-1.3, 1.3, (n, 2 * VESSELS))
    along = length * rng.uniform(0.9, 1.6, way.shape)
    centre = (sides * (3 + along * np.cos(way)), along * np.sin(way), rng.normal(0, 1.5, way.shape))
    width = rng.uniform(0.2, 0.45, way.shape)
    add(centre, (length, width, width), way * sides, NODULE)

    place, radius = _in_lungs(rng, n, FOCI), rng.uniform(0.25, 0.6, (n, FOCI))
    add(place, (radius, radius, radius), 0, np.where(rng.random((n, FOCI)) < 0.4, CALCIFIED, 0.0))
    radius = rng.uniform(1.2, 3.2, (n, 1))
    density = NODULE * rng.uniform(0.8, 1.6, (n, 1)) * ill[:, None]
    add(_in_lungs(rng, n, 1), (radius, radius, radius), rng.uniform(-1.5, 1.5, (n, 1)), density, 0.15)
    return [np.concatenate(kind, axis=1) for kind in zip(*parts, strict=True)]


def _in_lungs(rng: np.random.Generator, n: int, count: int) -> tuple[np.ndarray, ...]:
    """Places in either lung, cm, each coordinate (n, count)."""
    way = rng.normal(size=(3, n, count))
    x, y, z = way / np.linalg.norm(way, axis=0) * rng.random((n, count)) ** (1 / 3) * 0.75
    return rng.choice([-6.8, 6.8], (n, count)) + 4.9 * x, 1 + 11.5 * y, 7 * z


def _rotation(axis: int, angle: np.ndarray) -> np.ndarray:
    """Rotations about an axis of space, (..., 3, 3)."""
    one, two = (np.eye(3)[(axis + k) % 3] for k in (1, 2))
    cosine, sine = np.cos(angle)[..., None, None], np.sin(angle)[..., None, None]
    plane = np.outer(one, one) + np.outer(two, two)
    return np.eye(3) - plane + cosine * plane + sine * (np.outer(two, one) - np.outer(one, two))


def _chords(centre: np.ndarray, axes: np.ndarray, turned: np.ndarray) -> np.ndarray:
    """Of each ellipsoid, the squared length of the chord of the ray at (x, y): (n, E, 6), for 1, x, y, x², xy, y².

    With the ellipsoid (p - c)' A (p - c) <= 1, the ray along z cuts it where a quadratic equation has its two roots.
    """
    matrix = np.einsum("neij,nej,nekj->neik", turned, axes**-2.0, turned)
    depth, cross = matrix[..., 2, 2], matrix[..., :2, 2]
    form = depth[..., None, None] * matrix[..., :2, :2] - cross[..., :, None] * cross[..., None, :]
    at = centre[..., :2]
    slope = np.einsum("neij,nej->nei", form, at)
    terms = [
        depth - (slope * at).sum(axis=-1),
        2 * slope[..., 0],
        2 * slope[..., 1],
        -form[..., 0, 0],
        -2 * form[..., 0, 1],
        -form[..., 1, 1],
    ]
    return (4 * np.stack(terms, axis=-1) / depth[..., None] ** 2).astype(np.float32)


def _through(chords: np.ndarray, density: np.ndarray, shift: np.ndarray, zoom: float) -> np.ndarray:
    """The density along each ray, summed over the ellipsoids, (RAYS * SIZE, RAYS * SIZE); row 0 is up."""
    along = (np.arange(RAYS * SIZE) + 0.5) * FIELD / (RAYS * SIZE) - FIELD / 2
    x, y = np.meshgrid((along - shift[0]) / zoom, (-along - shift[1]) / zoom)
    x, y = x.ravel(), y.ravel()
    squared = chords @ np.stack([np.ones_like(x), x, y, x * x, x * y, y * y]).astype(np.float32)
    return (density.astype(np.float32) @ np.sqrt(np.maximum(squared, 0))).reshape(RAYS * SIZE, -1)


def _exposed(rng: np.random.Generator, thickness: np.ndarray, photons: float) -> np.ndarray:
    """What the detector makes of it, uint8 (SIZE, SIZE): logarithm of the counts, windowed as a console does."""
    counts = rng.poisson(gaussian_filter(photons * np.exp(-thickness), BLUR))
    pixels = counts.reshape(SIZE, RAYS, SIZE, RAYS).sum(axis=(1, 3))
    dense = -np.log((pixels + 1) / (RAYS**2 * photons))
    low, high = np.percentile(dense, [1, 99])
    return np.clip(np.rint(255 * (dense - low) / (high - low)), 0, 255).astype(np.uint8)
