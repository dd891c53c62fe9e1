"""Near copies among images: shifted, mirrored, resized and re-compressed ones, in grey or in colour.

Candidates are the nearest in a descriptor that ignores shifts and mirror images; each is aligned and correlated after a
band-pass filter. Images of one organ look alike, so that a correlation says little by itself: a pair is a copy if it is
far closer than each is to its other neighbours.

Measured, as the distance of a pair over that of its neighbours (see `RATIO`), on 60 images each of PneumoniaMNIST and
the demo: mirrored, resized to .6 or saved as JPEG at quality 50 to 70, copies are at .09 or below. Of genuine pairs,
those of different subjects of the demo are at .21 or more, those of 3,000 images of PneumoniaMNIST at .27 or more but
for true copies; the whole of it has two pairs below .15. Often missed: half the size and JPEG at 28 pixels (up to
.26), shifts by fractions of a pixel of the grid, and shifts that bring in a black strip, of which a quarter do not
become candidates.
"""

from __future__ import annotations

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter1d

from pipelines.core.data.arrays import Rows

GRID = 32  # pixels on a side at which images are compared, at most
SHIFT = 3  # pixels of the grid by which copies are shifted, at most
NEIGHBOURS = 12  # candidates of each image, of which the median says how alike images are that are no copies
RATIO = 0.15  # distance of copies, at most, as a share of that of the neighbours
CORRELATION = 0.9  # of copies, at least
BLOCK = 1024  # images compared with all others at once
BATCH = 8192  # pairs aligned at once
FLIPS = ((1, 1), (-1, 1), (1, -1), (-1, -1))  # steps along rows and columns: both reversed is a turn by 180 degrees


def near_copies(pixels: Rows) -> np.ndarray:
    """Pairs (i, j), i < j, of images that are copies of one another, int64 (pairs, 2).

    The time grows with the square of the number of images for the candidates, linearly for their comparison.

    Args:
        pixels: uint8 (n, size, size, channels), each image once: exact copies would crowd out the neighbours.
    """
    count = pixels.shape[0]
    if count <= 2 * NEIGHBOURS:
        return np.empty((0, 2), np.int64)
    grey = _grey(pixels)
    near = _neighbours(_descriptors(_band(grey, 1, 3)))
    pairs, place = np.unique(
        np.sort(np.stack([np.arange(count).repeat(NEIGHBOURS), near.ravel()], axis=1), axis=1),
        axis=0,
        return_inverse=True,
    )
    levelled = _levelled(_band(grey, 0.7, 2))
    batches = (pairs[at : at + BATCH] for at in range(0, len(pairs), BATCH))
    found = np.concatenate([_correlations(grey, levelled, batch) for batch in batches])
    usual = np.median(found[place.ravel()].reshape(count, NEIGHBOURS), axis=1)
    usual = np.minimum(usual, np.quantile(usual, 0.95))  # an image with many copies has no other neighbours
    distance = 1 - np.maximum(usual[pairs[:, 0]], usual[pairs[:, 1]])
    return pairs[(found >= CORRELATION) & (1 - found <= RATIO * distance)].astype(np.int64)


def _grey(pixels: Rows) -> np.ndarray:
    """Luminance (ITU-R BT.601), of large images the means of squares, float32 (n, side, side)."""
    count, size = pixels.shape[:2]
    side, grey = min(size, GRID), np.empty((count, min(size, GRID), min(size, GRID)), np.float32)
    for begin in range(0, count, BLOCK):
        rows = np.arange(begin, min(begin + BLOCK, count))
        for row, image in zip(rows, pixels[rows], strict=True):
            picture = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).convert("L")
            grey[row] = np.asarray(picture if size == side else picture.resize((side, side), Image.Resampling.BOX))
    return grey


def _band(grey: np.ndarray, fine: float, coarse: float) -> np.ndarray:
    """Detail between two scales, in pixels: what is left of JPEG's noise, and what all images of a kind share."""
    return _blurred(grey, fine) - _blurred(grey, coarse)


def _blurred(images: np.ndarray, scale: float) -> np.ndarray:
    """A Gaussian filter as two products of matrices: some ten times as fast as one image after another."""
    down, right = (
        gaussian_filter1d(np.eye(side, dtype=np.float32), scale, axis=0, mode="nearest") for side in images.shape[1:]
    )
    return down @ images @ right.T


def _descriptors(detail: np.ndarray) -> np.ndarray:
    """Unit vectors that shifts and mirror images leave as they are, from low frequencies' strengths, float32 (n, m)."""
    side = detail.shape[1]
    window = np.hanning(side + 2)[1:-1]
    strength = np.abs(np.fft.fft2(detail * np.outer(window, window))).astype(np.float32)
    mirrored = strength[:, :, -np.arange(side) % side]
    last = side // 4
    both = (strength + mirrored)[:, :last, :last], np.abs(strength - mirrored)[:, 1:last, 1:last]
    found = _unit(np.sqrt(np.concatenate([part.reshape(len(detail), -1) for part in both], axis=1)))
    return _unit(found - found.mean(axis=0))


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / (np.linalg.norm(vectors, axis=1, keepdims=True) + 1e-6)


def _neighbours(descriptors: np.ndarray) -> np.ndarray:
    """The nearest others of each image, int64 (n, NEIGHBOURS)."""
    near = []
    for begin in range(0, len(descriptors), BLOCK):
        likeness = descriptors[begin : begin + BLOCK] @ descriptors.T
        likeness[np.arange(len(likeness)), begin + np.arange(len(likeness))] = -2
        near.append(np.argpartition(-likeness, NEIGHBOURS, axis=1)[:, :NEIGHBOURS])
    return np.concatenate(near)


def _correlations(grey: np.ndarray, levelled: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """The correlation of each pair under the mirror image and shift that fit best, (pairs,)."""
    one, other = grey[pairs[:, 0]], grey[pairs[:, 1]]
    placed, found = _alignments(levelled[pairs[:, 0]], levelled[pairs[:, 1]]), np.zeros(len(pairs))
    side = grey.shape[1]
    for flip, down, right in np.unique(placed, axis=0):
        here = (placed == (flip, down, right)).all(axis=1)
        up, across = FLIPS[flip]
        a, b = one[here], other[here][:, ::up, ::across]
        # What both show, alone: the strip that a shift brought in is in neither, nor in the filter's reach.
        a = a[:, max(0, -down) : side - max(0, down), max(0, -right) : side - max(0, right)]
        b = b[:, max(0, down) : side + min(0, down), max(0, right) : side + min(0, right)]
        found[here] = _correlation(_band(a, 1, 3), _band(b, 1, 3))
    return found


def _alignments(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(number of the flip, shift down, shift right) that fits the other image to the one, int64 (pairs, 3)."""
    side, shifts = one.shape[1], np.arange(-SHIFT, SHIFT + 1)
    spectrum = np.conj(np.fft.rfft2(one))
    fits = []
    for up, across in FLIPS:
        product = np.fft.irfft2(spectrum * np.fft.rfft2(other[:, ::up, ::across]), s=(side, side))
        fits.append(product[:, shifts][:, :, shifts].reshape(len(one), -1))
    best = np.concatenate(fits, axis=1).argmax(axis=1)
    flip, place = np.divmod(best, len(shifts) ** 2)
    down, right = np.divmod(place, len(shifts))
    return np.stack([flip, down - SHIFT, right - SHIFT], axis=1)


def _levelled(detail: np.ndarray, floor: float = 3.0) -> np.ndarray:
    """Detail over its root mean square nearby, so that a border or a bright mark does not decide on the alignment.

    Below `floor` grey levels it is noise.
    """
    return detail / np.sqrt(_blurred(detail**2, 2) + floor**2)


def _correlation(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Pearson's of each pair of images, (n,); 0 where one shows nothing."""
    one, other = (image.reshape(len(image), -1) for image in (one, other))
    one, other = (image - image.mean(axis=1, keepdims=True) for image in (one, other))
    strengths = (one**2).sum(axis=1) * (other**2).sum(axis=1)
    return (one * other).sum(axis=1) / np.sqrt(strengths + 1e-6)
