"""Encoded images of any kind in, small uint8 arrays out: decode, fit into a square, fingerprint, cache.

Images come from strangers. Sizes are checked in the header, before memory is taken for pixels, and whatever is wrong
with the bytes of one image ends as a BadFile that says it in a few words.
"""

from __future__ import annotations

import hashlib
import struct
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import PHOTOMETRIC_INTERPRETATION, TILELENGTH, TILEWIDTH
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from pydicom.filereader import read_dataset
from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_windowing, convert_color_space, get_decoder

from pipelines.core.data.arrays import Rows
from pipelines.core.reading import media
from pipelines.core.reading.media import BadFile

CACHE = 2  # version of what `load` stores; raise it whenever `decode`, `fitted` or `digest` give something else
MOST_PIXELS = 64_000_000  # of one image; in DICOM, samples count
FACTS = np.dtype([("digest", "u8"), ("width", "i8"), ("height", "i8"), ("grey", "?")])
KIND = media.Kind("images", "an image file", 512_000_000, FACTS)
SMALLEST, LARGEST = 28, 128  # pixels on a side that `load` chooses between
FORMATS = ("PNG", "JPEG", "BMP", "TIFF")
BEGINNINGS = (b"\x89PNG", b"\xff\xd8", b"BM", b"II*\0", b"MM\0*")
UNCOMPRESSED = {uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian}
UNTIL_DELIMITER = 0xFFFFFFFF  # length of a DICOM element that does not tell its length
LEAST_CONTRAST = 2.0  # standard deviation, in grey levels, below which an image shows nothing to compare
BLOCK = 256  # rows handled at once; the comparisons of 256 × 256 hashes stay in the cache of a core


def decode(data: bytes) -> np.ndarray:
    """The one image in a PNG, JPEG, BMP, TIFF or DICOM file, uint8, shape (height, width, 1) if grey, else (…, 3).

    Orientation is applied, transparency dropped. Grey of more than 8 bits is scaled from its own minimum and maximum
    to 0 and 255, and so is grey DICOM, unless it has a window. Raises BadFile.
    """
    with _faults():
        return _dicom(data) if _is_dicom(data) else _picture(data)


def _shorter_side(data: bytes) -> int:
    """In pixels, as the header tells, 0 if it tells none."""
    with suppress(BadFile), _faults():
        if _is_dicom(data):
            dataset, _ = _dicom_header(data)
            return min(dataset.Rows, dataset.Columns)
        return min(_opened(data).size)
    return 0


@contextmanager
def _faults() -> Iterator[None]:
    """Whatever the libraries raise on damaged bytes becomes BadFile; their warnings are dropped."""
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    except BadFile:
        raise
    except Image.DecompressionBombError:
        raise BadFile(f"more than {MOST_PIXELS:,} pixels") from None
    except Exception as error:  # damaged bytes reach every corner of two libraries: no list of classes is complete
        said = str(error) or type(error).__name__
        raise BadFile("truncated" if "truncated" in said.lower() else f"corrupt: {said}") from error


def _is_dicom(data: bytes) -> bool:
    return data[128:132] == b"DICM"


def _opened(data: bytes, formats: Sequence[str] = FORMATS) -> Image.Image:
    """The image, its pixels still encoded."""
    if not data:
        raise BadFile("empty file")
    try:
        image = Image.open(BytesIO(data), formats=tuple(formats))
    except UnidentifiedImageError:
        known = data.startswith(BEGINNINGS)
        raise BadFile("truncated or damaged header" if known else "no PNG, JPEG, BMP, TIFF or DICOM image") from None
    tags = getattr(image, "tag_v2", {})
    tile = tags.get(TILEWIDTH, 0) * tags.get(TILELENGTH, 0)  # libtiff takes memory for it, however small the image
    if max(image.width * image.height, tile) > MOST_PIXELS:
        raise BadFile(f"more than {MOST_PIXELS:,} pixels")
    # The further images of a JPEG (MPO) are a telephone's previews and depth maps of the first.
    if image.format != "MPO" and getattr(image, "is_animated", False):
        raise BadFile("several images: expected one")
    return image


def _picture(data: bytes) -> np.ndarray:
    image = _opened(data)
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        grey = _stretched(np.asarray(image))[..., None]
        white_is_zero = getattr(image, "tag_v2", {}).get(PHOTOMETRIC_INTERPRETATION) == 0
        return 255 - grey if white_is_zero else grey  # which Pillow does up to 8 bits
    pixels = np.asarray(image.convert("L" if image.mode in ("1", "L", "LA") else "RGB"))
    return pixels.reshape(*pixels.shape[:2], -1)


def _stretched(values: np.ndarray) -> np.ndarray:
    """Numbers of any kind as uint8, from their minimum at 0 to their maximum at 255; all 0 if they are constant."""
    low, high = float(values.min()), float(values.max())
    if not np.isfinite(high - low):
        raise BadFile("pixels that are not finite")
    return np.rint((values - low) * (255 / ((high - low) or 1))).astype(np.uint8)


def _dicom(data: bytes) -> np.ndarray:
    dataset, syntax = _dicom_header(data)
    meaning = dataset.PhotometricInterpretation
    pixels = _dicom_pixels(dataset, syntax)
    colour = meaning in ("RGB", "YBR_FULL", "YBR_FULL_422")
    expected = (dataset.Rows, dataset.Columns) + (3,) * colour
    if pixels.shape != expected:
        raise BadFile(f"pixels of shape {pixels.shape}: expected {expected}")
    if colour:
        pixels = pixels.view(np.uint8)  # whatever sign is declared; a JPEG has become RGB on the way
        rgb = meaning == "RGB" or syntax == uid.JPEGBaseline8Bit
        return pixels if rgb else convert_color_space(pixels, meaning, "RGB")

    # Each step from here on maps one stored value to one shade: it is taken for all values that there can be.
    bits = 8 * pixels.itemsize
    if not 0 < dataset.BitsStored <= bits:
        raise BadFile(f"{dataset.BitsStored} bits stored: expected 1 to {bits}")
    unsigned, unused = np.dtype(f"u{pixels.itemsize}"), bits - dataset.BitsStored
    levels = np.arange(2**bits, dtype=unsigned).view(pixels.dtype) << unused >> unused
    stored = pixels.view(unsigned)
    if meaning == "PALETTE COLOR":
        # In segments, which pydicom would take too, a palette may refer to itself and grow without bound.
        if not all(dataset.get(f"{name}PaletteColorLookupTableData") for name in ("Red", "Green", "Blue")):
            raise BadFile("no palette of red, green and blue")
        deep = dataset.RedPaletteColorLookupTableDescriptor[2] > 8
        return (apply_color_lut(levels, dataset)[:, :3] >> 8 * deep).astype(np.uint8)[stored]
    if meaning not in ("MONOCHROME1", "MONOCHROME2"):
        raise BadFile(f"photometric interpretation {meaning!r}: expected grey, RGB, YBR_FULL or a palette")
    values = apply_modality_lut(levels, dataset)
    if None in (dataset.get("WindowCenter"), dataset.get("WindowWidth")):
        grey = _stretched(values[stored])
    else:
        dark, bright = apply_windowing(np.array([-np.inf, np.inf]), dataset)  # the ends of what it gives
        shares = (apply_windowing(values, dataset) - dark) / (bright - dark)
        if not np.isfinite(shares).all():
            raise BadFile("pixels that are not finite")
        grey = np.rint(255 * shares).astype(np.uint8)[stored]
    return (255 - grey if meaning == "MONOCHROME1" else grey)[..., None]


def _dicom_header(data: bytes) -> tuple[Dataset, uid.UID]:
    """The elements that make the image, pixels still encoded, and the transfer syntax."""
    stream = BytesIO(data)  # gives no more than there is, whatever length an element declares
    stream.seek(132)
    meta = read_dataset(stream, is_implicit_VR=False, is_little_endian=True, stop_when=lambda tag, *_: tag.group != 2)
    syntax = uid.UID(meta.get("TransferSyntaxUID", ""))
    if syntax not in UNCOMPRESSED | {uid.RLELossless, uid.JPEGBaseline8Bit}:
        raise BadFile(f"transfer syntax {syntax.name!r}: expected an uncompressed one, RLE Lossless or JPEG Baseline")
    dataset = read_dataset(stream, syntax.is_implicit_VR, syntax.is_little_endian)
    if missing := [name for name in ("Rows", "Columns", "PixelData") if name not in dataset]:
        raise BadFile(f"truncated or not an image: no {missing[0]}")
    pixels = dataset.get_item("PixelData")
    if pixels.length not in (UNTIL_DELIMITER, len(pixels.value or b"")):
        raise BadFile("truncated")
    if (frames := int(dataset.get("NumberOfFrames") or 1)) != 1:
        raise BadFile(f"{frames:,} frames: expected one")
    if dataset.Rows * dataset.Columns * dataset.SamplesPerPixel > MOST_PIXELS:
        raise BadFile(f"more than {MOST_PIXELS:,} pixels")
    if dataset.BitsAllocated not in ((8, 16) if dataset.SamplesPerPixel == 1 else (8,)):
        raise BadFile(f"{dataset.BitsAllocated} bits allocated: expected 8, or 16 in grey")
    return dataset, syntax


def _dicom_pixels(dataset: Dataset, syntax: uid.UID) -> np.ndarray:
    """What is stored, as (u)int8 or (u)int16 of the machine's byte order, shape (rows, columns) or (…, samples)."""
    if syntax in UNCOMPRESSED:
        pixels, _ = get_decoder(syntax).as_array(dataset, index=0, raw=True)
        return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    frame = get_frame(dataset.PixelData, 0, number_of_frames=1)
    if syntax == uid.RLELossless:
        return _unpacked(frame, dataset)
    image = _opened(frame, ["JPEG"])
    if dataset.PhotometricInterpretation == "RGB" and not {"jfif", "adobe_transform"} & image.info.keys():
        image.draft("YCbCr", image.size)  # keeps the samples as they are: unmarked ones would be taken for YCbCr
    return np.asarray(image)


def _unpacked(frame: bytes, dataset: Dataset) -> np.ndarray:
    """RLE as in DICOM PS3.5, annex G: planes of bytes, each sample's most significant first, each in PackBits.

    Pillow unpacks them fast and into no more memory than the image has; pydicom has a loop in Python without a bound.
    """
    samples, depth = dataset.SamplesPerPixel, dataset.BitsAllocated // 8
    count, *starts = struct.unpack("<16L", frame[:64])
    if count != samples * depth:
        raise BadFile(f"corrupt: expected {samples * depth} RLE segments, received {count}")
    bounds = [*starts[:count], len(frame)]
    size = (dataset.Rows * dataset.Columns, 1)  # one line, since runs may cross the ends of lines
    planes = [
        np.asarray(Image.frombytes("L", size, frame[start:end], "packbits", "L"))[0] for start, end in pairwise(bounds)
    ]
    pixels = np.stack(planes, axis=-1).view(f">{'ui'[dataset.PixelRepresentation]}{depth}")
    shape = (dataset.Rows, dataset.Columns) + (samples,) * (samples > 1)
    return pixels.reshape(shape).astype(pixels.dtype.newbyteorder("="))


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
    picture = picture.resize([max(1, round(side * scale)) for side in picture.size], method)
    left, top = (size - picture.width) // 2, (size - picture.height) // 2
    square = np.zeros((size, size, channels), np.uint8)
    pixels = np.asarray(picture).reshape(picture.height, picture.width, -1)
    square[top : top + picture.height, left : left + picture.width] = pixels
    return square


def png(image: np.ndarray) -> bytes:
    """A PNG file of the image, uint8 (height, width, 1 or 3)."""
    file = BytesIO()
    Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).save(file, "PNG")
    return file.getvalue()


def digest(image: np.ndarray) -> int:
    """A 64-bit hash of shape and pixels: equal for equal images, whatever format they were stored in."""
    code = hashlib.blake2b(repr(image.shape).encode(), digest_size=8)
    code.update(np.ascontiguousarray(image))
    return int.from_bytes(code.digest(), "little")


def near_duplicates(thumbnails: Rows, most_distance: int) -> np.ndarray:
    """Pairs (i, j), i < j, of images whose perceptual hashes differ in at most so many bits: int64, shape (pairs, 2).

    The hash is pHash (C. Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions", 2010): which of
    64 low frequencies of the cosine transform are above their median. It survives scaling, brightness and compression,
    not turning or cropping. Half of its bits are set, so that distances are even. Images of almost a single shade are
    in no pair, since their hashes tell of noise alone. `thumbnails` is uint8, shape (n, size, size, channels).

    Every hash is compared with every other, some 20 seconds for 100,000. An index over parts of the hashes would spare
    most comparisons of random images, but images of one kind share their parts.
    """
    count = thumbnails.shape[0]
    parts = [_hashes(thumbnails[np.arange(start, min(start + BLOCK, count))]) for start in range(0, count, BLOCK)]
    hashes, contrasts = (np.concatenate(part) for part in zip(*parts, strict=True))
    rows = np.flatnonzero(contrasts >= LEAST_CONTRAST)
    return rows[_close(hashes[rows], most_distance)]


def _hashes(thumbnails: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Perceptual hash, uint64, and standard deviation, in grey levels, of each image; both of shape (n,)."""
    grey = thumbnails.mean(axis=3, dtype=np.float32)
    places = (np.arange(grey.shape[1]) + 0.5) / grey.shape[1]
    waves = np.cos(np.pi * np.arange(1, 9)[:, None] * places).astype(np.float32)
    strengths = (waves @ grey @ waves.T).reshape(-1, 64)
    bits = strengths > np.median(strengths, axis=1, keepdims=True)
    return np.packbits(bits, axis=1).view(np.uint64)[:, 0], grey.std(axis=(1, 2))


def _close(hashes: np.ndarray, most_distance: int) -> np.ndarray:
    """Pairs (i, j), i < j, of hashes that differ in at most so many bits: int64, shape (pairs, 2)."""
    near = [np.empty((0, 2), np.int64)]
    for top in range(0, len(hashes), BLOCK):
        for left in range(top, len(hashes), BLOCK):
            distances = np.bitwise_count(hashes[top : top + BLOCK, None] ^ hashes[left : left + BLOCK])
            near.append(np.argwhere(distances <= most_distance) + np.array([top, left]))
    pairs = np.concatenate(near)
    return pairs[pairs[:, 0] < pairs[:, 1]]


def convert(data: bytes, size: int, channels: int) -> tuple[np.ndarray, tuple]:
    """The fitted image in a file's bytes, and its FACTS; raises BadFile."""
    image = decode(data)
    height, width = image.shape[:2]
    grey = all(np.array_equal(image[..., 0], image[..., channel]) for channel in range(1, image.shape[2]))
    return fitted(image, size, channels), (digest(image), width, height, grey)


def load(
    files: Sequence[Path], folder: Path, size: int, channels: int, most_bad: float
) -> tuple[np.memmap, pd.DataFrame]:
    """The good images among `files`, in order, and a row of facts on every file, as in `media.load`.

    Args:
        files: image files.
        folder: where the cache lies.
        size: pixels on a side; 0 takes the median of the shorter sides that the headers tell, within 28 and 128.
        channels: 1 or 3; 0 takes 1 if all good images are grey, be it in three equal channels, else 3.
        most_bad: largest share of the files that may be bad.

    Returns:
        A read-only memory map, uint8, shape (good images, size, size, channels), and a table with a row for each file:
        file, reason (text, empty for a good one), digest (uint64), width and height (of the original, in pixels); the
        three numbers are 0 for a bad one.

    Raises:
        InputError: there are no files, or all or more than `most_bad` of them are bad.
    """
    with warnings.catch_warnings(action="ignore"):  # threads undo each other's filters; the outermost keeps them in
        contents, sides = zip(*media.contents(files, KIND, _shorter_side), strict=True)
        size = size or int(np.clip(np.median([side for side in sides if side] or [0]), SMALLEST, LARGEST))

        def trim(images: np.ndarray, table: pd.DataFrame) -> np.ndarray:
            # The first of three equal channels is, to the bit, what fitting to one channel gives.
            return images[..., :1] if not channels and table["grey"].all() else images

        pixels, table = media.load(
            files,
            folder,
            KIND,
            (CACHE, size, channels, contents),
            partial(convert, size=size, channels=channels or 3),
            most_bad,
            trim,
        )
    return pixels, table.drop(columns="grey")
