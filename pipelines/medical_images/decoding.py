"""Decode the bytes of untrusted image files, PNG, JPEG, BMP, TIFF or DICOM, into uint8 pixels.

Sizes are checked in the header, before memory is taken for pixels, and whatever is wrong with the bytes of one image
becomes a BadFile with a short phrase.
"""

from __future__ import annotations

import struct
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from io import BytesIO
from itertools import pairwise
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import PHOTOMETRIC_INTERPRETATION, TILELENGTH, TILEWIDTH
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from pydicom.filereader import read_dataset
from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_windowing, convert_color_space, get_decoder

from pipelines.core.reading.media_cache import BadFile

MOST_PIXELS = 64_000_000  # of one image; in DICOM, samples count
FORMATS = ("PNG", "JPEG", "BMP", "TIFF")
BEGINNINGS = (b"\x89PNG", b"\xff\xd8", b"BM", b"II*\0", b"MM\0*")
UNCOMPRESSED = {uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian}
FORM = ("file_bytes", "file_width", "file_height", "file_format", "file_mode", "file_quality")
"""What `form` says of a file, apart from what its image shows."""
UNTIL_DELIMITER = 0xFFFFFFFF  # length of a DICOM element that ends at a delimiter instead


def decode(data: bytes) -> np.ndarray:
    """Decode the one image in a file: uint8, shape (height, width, 1) if it is stored as grey, else (…, 3).

    Orientation is applied, transparency dropped. Grey of more than 8 bits is scaled from its own minimum and maximum
    to 0 and 255, and so is grey DICOM, unless it has a window.

    Raises:
        BadFile: for anything else than one whole image of these formats.
    """
    with _faults():
        return _dicom(data) if _is_dicom(data) else _picture(data)


def shorter_side(data: bytes) -> int:
    """The shorter side in pixels, as the header has it; 0 where it cannot be read."""
    with suppress(BadFile), _faults():
        if _is_dicom(data):
            dataset, _ = _dicom_header(data)
            return min(dataset.Rows, dataset.Columns)
        return min(_opened(data).size)
    return 0


def form(data: bytes) -> tuple[int, int, int, str, str, float]:
    """What FORM names: bytes, width, height, format, colour mode, the mean step of a JPEG's quantisation or 0."""
    with _faults():
        if _is_dicom(data):
            dataset, _ = _dicom_header(data)
            mode = f"{dataset.PhotometricInterpretation} {dataset.BitsStored}"
            return len(data), dataset.Columns, dataset.Rows, "DICOM", mode[:16], 0.0
        image = _opened(data)
        steps = getattr(image, "quantization", {}).get(0, [0])
        return len(data), *image.size, str(image.format)[:16], image.mode[:16], float(np.mean(steps))


def patient(data: bytes) -> str:
    """The PatientID of a DICOM file; "" without one."""
    with _faults():
        return str(_dicom_header(data)[0].get("PatientID") or "").strip()[:64] if _is_dicom(data) else ""


@contextmanager
def _faults() -> Iterator[None]:
    """Turn whatever the libraries raise on damaged bytes into BadFile, and drop their warnings."""
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    except BadFile:
        raise
    except Image.DecompressionBombError:
        raise BadFile(f"more than {MOST_PIXELS:,} pixels") from None
    except Exception as error:  # damaged bytes reach every corner of two libraries: no list of classes is complete
        message = str(error) or type(error).__name__
        raise BadFile("truncated" if "truncated" in message.lower() else f"corrupt: {message}") from error


def _is_dicom(data: bytes) -> bool:
    return data[128:132] == b"DICM"


def _opened(data: bytes, formats: Sequence[str] = FORMATS) -> Image.Image:
    """Open an image, whose pixels stay encoded."""
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
    """Scale numbers of any kind to uint8, their minimum to 0 and their maximum to 255; constant ones to 0."""
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

    # Each step from here on maps one stored value to one shade: it is applied to all possible values, as a table.
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
    """Read the elements of the image, pixels still encoded, and the transfer syntax."""
    stream = BytesIO(data)  # gives no more bytes than it has, whatever length an element declares
    stream.seek(132)
    meta = read_dataset(stream, is_implicit_VR=False, is_little_endian=True, stop_when=lambda tag, *_: tag.group != 2)
    syntax = uid.UID(meta.get("TransferSyntaxUID", ""))
    if syntax not in UNCOMPRESSED | {uid.RLELossless, uid.JPEGBaseline8Bit}:
        raise BadFile(f"transfer syntax {syntax.name!r}: expected an uncompressed one, RLE Lossless or JPEG Baseline")
    dataset = read_dataset(stream, syntax.is_implicit_VR, syntax.is_little_endian)
    if missing := [name for name in ("Rows", "Columns", "PixelData") if name not in dataset]:
        raise BadFile(f"truncated or not an image: no {missing[0]}")
    pixels: Any = dataset.get_item("PixelData")
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
    """The stored values, (u)int8 or (u)int16 in the machine's byte order, shape (rows, columns) or (…, samples)."""
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
    """Unpack RLE (DICOM PS3.5, annex G): planes of bytes, each sample's most significant first, each in PackBits.

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
