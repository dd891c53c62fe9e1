"""Images on disk as a listing and a memory map: files in folders or tables, and the arrays of an .npz archive.

Each image is decoded once, fitted into a square and kept in a cache, from which rows are read as they are needed.
"""

from __future__ import annotations

import hashlib
import tempfile
import warnings
from collections.abc import Sequence
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from pipelines.core.contract import InputError
from pipelines.core.reading import downloads, folders, media_cache
from pipelines.medical_images.decoding import FORM, decode, form, patient, shorter_side

CACHE = 4  # version of what `load` stores; raise it whenever `decode`, `fitted`, `digest` or `form` give something else
FORM_TYPES = ("i8", "i8", "i8", "U16", "U16", "f8")
FACTS = np.dtype([("digest", "u8"), ("grey", "?"), ("patient", "U64"), *zip(FORM, FORM_TYPES, strict=True)])
KIND = media_cache.Kind("images", "an image file", 512_000_000, FACTS)
SMALLEST, LARGEST = 28, 128  # pixels on a side that `load` chooses between
SUFFIXES = {".png", ".jpg", ".jpeg", ".jpe", ".bmp", ".tif", ".tiff", ".dcm", ".dicom", ""}
PATIENT = r"(?i)(?:patient|person|subject|case|pat|sub)[-_ ]?\d+"
SOURCE = r"^_?(\d+)_\d+$"
"""Naming schemes of files: `person12_3`, or the number of a source before that of its copy."""


def fitted(image: np.ndarray, size: int, channels: int) -> np.ndarray:
    """The whole image, centred on a black square of `size` pixels, uint8, shape (size, size, channels).

    Nothing is cut off or stretched. One channel is luminance (ITU-R BT.601); grey becomes colour by repetition. An
    image that has the shape already comes back as it is.
    """
    picture = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
    if channels == 1:
        picture = picture.convert("L")
    scale = size / max(picture.size)
    # Pillow widens both filters over all pixels that become one, so that fine patterns do not alias. Neither has
    # negative weights, as Lanczos has, which draw halos along edges. Hamming is the sharper, but only for shrinking.
    method = Image.Resampling.HAMMING if scale < 1 else Image.Resampling.BILINEAR
    width, height = (max(1, round(side * scale)) for side in picture.size)
    picture = picture.resize((width, height), method)
    left, top = (size - width) // 2, (size - height) // 2
    square = np.zeros((size, size, channels), np.uint8)
    square[top : top + height, left : left + width] = np.asarray(picture).reshape(height, width, -1)
    return square


def png(image: np.ndarray) -> bytes:
    """A PNG file of the image, uint8 (height, width, 1 or 3)."""
    file = BytesIO()
    Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).save(file, "PNG")
    return file.getvalue()


def digest(image: np.ndarray) -> int:
    """A 64-bit hash of shape and pixels, uint8 (height, width, 1 or 3), before the image is fitted.

    It is the same in every lossless format; grey in three equal channels counts as one channel.
    """
    image = image[..., :1] if is_grey(image) else image
    code = hashlib.blake2b(repr(image.shape).encode(), digest_size=8)
    code.update(np.ascontiguousarray(image).data)
    return int.from_bytes(code.digest(), "little")


def digests(pixels: np.ndarray) -> np.ndarray:
    """The digest of each image, uint8 (n, height, width, 1 or 3); uint64 (n,)."""
    return np.array([digest(image) for image in pixels], np.uint64)


def is_grey(image: np.ndarray) -> bool:
    """Whether all channels of the image, (height, width, channels), are equal."""
    return all(np.array_equal(image[..., 0], image[..., channel]) for channel in range(1, image.shape[2]))


# -------------------------------------------------------------------------------------------------------------- files


def convert(data: bytes, size: int, channels: int) -> tuple[np.ndarray, tuple]:
    """Decode and fit the image in a file's bytes; returns it with its FACTS, and raises BadFile."""
    image = decode(data)
    return fitted(image, size, channels), (digest(image), is_grey(image), patient(data), *form(data))


def load(files: Sequence[Path], folder: Path, size: int, most_bad: float) -> tuple[np.memmap, pd.DataFrame]:
    """Decode the good images among `files`, in order, into a cached memory map, as `media_cache.load` does.

    They have one channel if all are grey, be it in three equal channels, else three.

    Args:
        files: image files.
        folder: of the cache.
        size: pixels on a side; 0 takes the median of the shorter sides in the headers, within 28 and 128.
        most_bad: largest share of the files that may be bad.

    Returns:
        A read-only memory map, uint8, shape (good images, size, size, channels), and a table with a row for each file:
        file, reason (text, empty for a good one), digest (uint64, 0 for a bad one), patient (of DICOM, or "") and FORM.

    Raises:
        InputError: if there are no files, or all or more than `most_bad` of them are bad.
    """
    with warnings.catch_warnings(action="ignore"):  # threads undo each other's filters; the outermost keeps them in
        contents, sides = zip(*media_cache.contents(files, KIND, shorter_side), strict=True)
        size = size or int(np.clip(np.median([side for side in sides if side] or [0]), SMALLEST, LARGEST))

        def trim(pixels: np.ndarray, table: pd.DataFrame) -> np.ndarray:
            # The first of three equal channels is, to the bit, what fitting to one channel gives.
            return pixels[..., :1] if table["grey"].all() else pixels

        colour = partial(convert, size=size, channels=3)
        pixels, table = media_cache.load(files, folder, KIND, (CACHE, size, contents), colour, most_bad, trim)
    return pixels, table.drop(columns="grey")


def in_folders(folder: Path, notes: list[str]) -> pd.DataFrame:
    """List the images in a folder of one folder a class, these perhaps below train, val and test.

    See `core.reading.folders.in_folders`; without sides there is no column `side`.
    """
    listing = folders.in_folders(folder, SUFFIXES, "images", notes)
    listing = listing[listing["class"] != ""].reset_index(drop=True)  # a picture beside the folders has no class
    if listing.empty:
        raise InputError(f"{folder} holds no images in folders: expected one folder for each class.")
    return listing if (listing["side"] != "").any() else listing.drop(columns="side")


def grouped(listing: pd.DataFrame, pattern: str, notes: list[str]) -> pd.DataFrame:
    """Add the column `group` to a listing with `file` and `id`, where the names of the files tell it.

    Args:
        listing: of image files.
        pattern: the user's regular expression, whose first group or whole match is the group of a file; "-" for no
            groups; "" tries PATIENT and SOURCE.
        notes: gets a sentence on what was recognised.
    """
    if pattern == "-":
        return listing
    files, ids = listing["file"].tolist(), listing["id"]
    if pattern:
        asked = folders.matches(files, pattern, "--group-pattern")
        return listing.assign(group=[match[match.lastindex or 0] for match in asked])
    for scheme, meaning in ((PATIENT, "patient"), (SOURCE, "number of the source")):
        likely = folders.likely_matches(files, scheme)
        if likely is None:
            continue
        keys = [match[match.lastindex or 0].lower() if match else "" for match in likely]
        if scheme == SOURCE:  # such numbers are given anew in each folder
            keys = [f"{name.rpartition('/')[0]}/{key}" for name, key in zip(ids, keys, strict=True)]
        keys = [key if match else name for key, match, name in zip(keys, likely, ids, strict=True)]
        if len(set(keys)) < len(keys):
            example = f"{ids.iloc[0]} is of {keys[0]}"
            notes.append(f"Images are grouped by the {meaning}, recognised in the names of files: {example}.")
            return listing.assign(group=keys)
    return listing


def by_patient(listing: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """The listing with `patient`, of DICOM files, as its `group` if every file names one; without it otherwise."""
    named = (listing["patient"] != "").all()
    if named:
        notes.append(
            f"Images are grouped by DICOM's PatientID: {listing['id'].iloc[0]} is of {listing['patient'].iloc[0]}."
        )
    return listing.rename(columns={"patient": "group"}) if named else listing.drop(columns="patient")


# ----------------------------------------------------------------------------------------------------------- archives


def from_archive(path: Path, cache: Path, size: int, names: Sequence[str]) -> tuple[pd.DataFrame, np.memmap]:
    """Read a MedMNIST-style archive, `train_images` and `train_labels`, and so for val and test.

    Args:
        path: of the .npz file.
        cache: folder to unpack it in.
        size: pixels on a side; 0 takes the longer side of the images, 128 at most.
        names: of the classes by code; a code without one is its own name.

    Returns:
        A listing with `id`, `class`, `side` and `digest`, and a read-only memory map of the fitted images, uint8 (n,
        size, size, channels), cached beside the arrays.

    Raises:
        InputError: for an array that is missing or of another type or shape.
    """
    folder, parts, codes = _unpacked(path, cache), [], []
    for side in ("train", "val", "test"):
        parts.append(_images(folder, f"{side}_images", path.name))
        codes.append(_array(folder, f"{side}_labels", path.name))
        count, labels = len(parts[-1]), codes[-1]
        if labels.dtype.kind not in "iu" or labels.shape not in ((count,), (count, 1)):
            raise InputError(
                f"{path.name}, '{side}_labels': expected one whole number for each of {count:,} images. "
                f"Received: {labels.dtype} of shape {labels.shape}."
            )
    sides, known = np.repeat(folders.SIDES, [len(part) for part in parts]), dict(enumerate(names))
    listing = pd.DataFrame({"id": [f"{side}-{row}" for row, side in enumerate(sides)], "side": sides})
    listing["class"] = [known.get(code, str(code)) for code in np.concatenate([labels.ravel() for labels in codes])]
    listing["digest"] = np.concatenate([digests(part) for part in parts])
    return listing, _fitted(parts, folder, size or min(max(parts[0].shape[1:3]), LARGEST))


def in_archive(path: Path, cache: Path) -> dict[str, np.ndarray]:
    """The images of an .npz archive, unpacked in `cache`: arrays whose names end in "images", those of sides first.

    Returns:
        Memory maps, uint8 (n, height, width, channels), by their names without that ending.
    """
    folder = _unpacked(path, cache)
    arrays = {file.stem.removesuffix("_images"): file.stem for file in sorted(folder.glob("*images.npy"))}
    if not arrays:
        raise InputError(f"{path.name}: expected an array 'images'. Received: none whose name ends so.")
    order = sorted(arrays, key=lambda name: [*folders.SIDES, ""].index(folders.side(name)))
    return {name: _images(folder, arrays[name], path.name) for name in order}


def _unpacked(path: Path, cache: Path) -> Path:
    unpacked = downloads.unpack(path, cache)
    return unpacked if unpacked.is_dir() else unpacked.parent  # of a single array


def _array(folder: Path, name: str, origin: str) -> np.ndarray:
    try:
        return np.load(folder / f"{name}.npy", mmap_mode="r")
    except (OSError, ValueError) as error:
        received = ", ".join(sorted(file.stem for file in folder.glob("*.npy")))
        raise InputError(f"{origin}: expected an array '{name}'. Received: {received} ({error}).") from None


def _images(folder: Path, name: str, origin: str) -> np.ndarray:
    pixels = _array(folder, name, origin)
    if pixels.dtype != np.uint8 or pixels.ndim not in (3, 4) or (pixels.ndim == 4 and pixels.shape[3] not in (1, 3)):
        raise InputError(
            f"{origin}, '{name}': expected uint8 of shape (n, height, width), or with 1 or 3 channels as a fourth axis."
            f" Received: {pixels.dtype} of shape {pixels.shape}."
        )
    return pixels if pixels.ndim == 4 else pixels[..., None]


def _fitted(parts: Sequence[np.ndarray], folder: Path, size: int) -> np.memmap:
    """The images of all parts, one after the other, fitted once."""
    path, channels = folder / f"images-{CACHE}-{size}.npy", parts[0].shape[3]
    if not path.exists():
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            draft, shape = Path(scratch, path.name), (sum(map(len, parts)), size, size, channels)
            whole = np.lib.format.open_memmap(draft, "w+", np.uint8, shape)
            for row, image in enumerate(image for part in parts for image in part):
                whole[row] = fitted(np.asarray(image), size, channels)
            whole.flush()
            draft.replace(path)
    return np.load(path, mmap_mode="r")
