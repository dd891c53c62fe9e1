"""Images of every format, damaged and hostile ones among them; squares, hashes, near duplicates, the cache."""

import io
import struct
import subprocess
import sys
import warnings
import zlib
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate

from pipelines.core.contract import InputError
from pipelines.core.reading.media_cache import BadFile
from pipelines.medical_images import decoding, images
from pipelines.medical_images.decoding import decode
from pipelines.medical_images.images import digest, fitted, load

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (7, 5), np.uint8)
COLOUR = RNG.integers(0, 256, (7, 5, 3), np.uint8)
# Smooth, as photographs are, so that JPEG loses little; wider than high, so that a turned one shows.
RAMP = np.add.outer(np.arange(24) * 4, np.arange(40) * 3).astype(np.uint8)
# 5,100 from the least to the largest: 20 to a shade.
DEEP = np.array([[1000, 2000, 3000], [6100, 1020, 6080]], np.uint16)
DEEP_SHADES = np.array([[0, 50, 100], [255, 1, 254]], np.uint8)


def encoded(picture, kind, **options) -> bytes:
    if isinstance(picture, np.ndarray):
        picture = Image.fromarray(picture)
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def dicom(pixels, syntax=uid.ExplicitVRLittleEndian, frame=None, drop=(), **elements) -> bytes:
    """A DICOM file of `pixels`; `frame` is their compressed form, which pydicom can make of RLE alone."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    pack = syntax == uid.RLELossless and frame is None
    dataset.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian if pack else syntax
    dataset.SOPClassUID, dataset.SOPInstanceUID = uid.SecondaryCaptureImageStorage, "1.2.3"
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.SamplesPerPixel = 3 if pixels.ndim == 3 else 1
    dataset.PhotometricInterpretation = "RGB" if pixels.ndim == 3 else "MONOCHROME2"
    if pixels.ndim == 3:
        dataset.PlanarConfiguration = 0
    dataset.BitsAllocated = dataset.BitsStored = 8 * pixels.itemsize
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    order = ">" if syntax == uid.ExplicitVRBigEndian else "<"
    raw = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    dataset.PixelData = encapsulate([frame]) if frame else raw + bytes(len(raw) % 2)
    dataset["PixelData"].VR = "OW" if pixels.itemsize == 2 else "OB"
    for name, value in elements.items():
        setattr(dataset, name, value)
    if pack:
        dataset.compress(uid.RLELossless)
    for name in drop:
        delattr(dataset, name)
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def tiff(width, height, body, **tags) -> bytes:
    """A little-endian TIFF of 8-bit grey made by hand, to hold what no library would write."""
    codes = {"bits": 258, "compression": 259, "photometric": 262, "tile_width": 322, "tile_length": 323}
    place, length = (324, 325) if "tile_width" in tags else (273, 279)
    entries = {256: width, 257: height, 258: 8, 259: 1, 262: 1, 277: 1, place: 0, length: len(body)}
    entries |= {codes[name]: value for name, value in tags.items()}
    entries[place] = 8 + 2 + 12 * len(entries) + 4
    directory = b"".join(struct.pack("<HHLL", code, 4, 1, entries[code]) for code in sorted(entries))
    return b"II*\0" + struct.pack("<LH", 8, len(entries)) + directory + bytes(4) + body


def png(width, height, body=b"") -> bytes:
    """An 8-bit grey PNG that declares any size."""
    header = struct.pack(">LLBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(body)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">L", len(content)) + kind + content + struct.pack(">L", zlib.crc32(kind + content))
        for kind, content in chunks
    )


def resized_jpeg(side) -> bytes:
    """A JPEG whose frame header (SOF0: marker, length, precision, height, width) declares a square of `side`."""
    data = bytearray(encoded(RAMP, "JPEG"))
    start = data.index(b"\xff\xc0") + 5
    data[start : start + 4] = struct.pack(">HH", side, side)
    return bytes(data)


# Files of pictures


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PNG", {}),
        ("BMP", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "tiff_deflate"}),
    ],
)
@pytest.mark.parametrize("pixels", [GREY, COLOUR])
def test_lossless_formats_come_back_to_the_bit(kind, options, pixels):
    image = decode(encoded(pixels, kind, **options))
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, pixels.reshape(7, 5, -1))


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
def test_jpeg(options):
    colour = np.stack([RAMP, RAMP[::-1], RAMP // 2], axis=2)
    for pixels in (RAMP, colour):
        image = decode(encoded(pixels, "JPEG", quality=95, **options))
        assert image.shape == (24, 40, 1 if pixels.ndim == 2 else 3)
        assert np.abs(image.reshape(pixels.shape).astype(int) - pixels).mean() < 2


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_deep_grey_is_scaled_by_its_own_minimum_and_maximum(kind):
    np.testing.assert_array_equal(decode(encoded(DEEP, kind))[..., 0], DEEP_SHADES)
    nearest = decode(encoded(np.array([[0, 1, 3, 1020]], np.uint16), kind))  # four to a shade
    np.testing.assert_array_equal(nearest[0, :, 0], [0, 0, 1, 255])


def test_deep_grey_tiff_in_either_byte_order_signed_or_inverted():
    big = Image.frombytes("I;16B", (3, 2), DEEP.astype(">u2").tobytes())
    np.testing.assert_array_equal(decode(encoded(big, "TIFF"))[..., 0], DEEP_SHADES)
    # Floats: half a unit is one shade.
    floats = np.array([[-1.0, -0.5, 126.5]], np.float32)
    np.testing.assert_array_equal(decode(encoded(floats, "TIFF"))[..., 0], [[0, 1, 255]])
    inverted = tiff(3, 2, DEEP.astype("<u2").tobytes(), bits=16, photometric=0)
    np.testing.assert_array_equal(decode(inverted)[..., 0], 255 - DEEP_SHADES)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_constant_deep_grey_is_black(kind):
    np.testing.assert_array_equal(decode(encoded(np.full((2, 3), 40_000, np.uint16), kind)), np.zeros((2, 3, 1)))


def test_pixels_that_are_no_numbers_are_refused():
    with pytest.raises(BadFile, match="not finite"):
        decode(encoded(np.array([[0.0, np.nan]], np.float32), "TIFF"))


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_palette_and_one_bit(kind):
    palette = Image.frombytes("P", (2, 2), bytes([0, 1, 2, 1]))
    palette.putpalette([255, 0, 0, 0, 255, 0, 10, 20, 30])
    expected = [[[255, 0, 0], [0, 255, 0]], [[10, 20, 30], [0, 255, 0]]]
    np.testing.assert_array_equal(decode(encoded(palette, kind)), expected)
    bits = Image.fromarray(np.array([[True, False], [False, True]]))
    np.testing.assert_array_equal(decode(encoded(bits, kind))[..., 0], [[255, 0], [0, 255]])


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_transparency_is_dropped(kind):
    alpha = RNG.integers(0, 256, (7, 5, 1), np.uint8)
    np.testing.assert_array_equal(decode(encoded(np.concatenate([COLOUR, alpha], axis=2), kind)), COLOUR)
    grey = np.concatenate([GREY[..., None], alpha], axis=2)
    np.testing.assert_array_equal(decode(encoded(grey, kind)), GREY[..., None])


def test_cmyk_jpeg():
    red = Image.new("CMYK", (16, 16), (0, 255, 255, 0))  # all of magenta and yellow
    np.testing.assert_allclose(decode(encoded(red, "JPEG", quality=95))[8, 8], [255, 0, 0], atol=4)


@pytest.mark.parametrize(("kind", "most"), [("PNG", 0), ("TIFF", 0), ("JPEG", 3)])
def test_orientation_is_applied(kind, most):
    exif = Image.Exif()
    exif[0x0112] = 6  # row 0 is the right side, column 0 the top (EXIF 2.3, 4.6.4)
    image = decode(encoded(RAMP, kind, exif=exif))
    expected = RAMP[::-1].T
    assert image.shape == (40, 24, 1)
    assert np.abs(image[..., 0].astype(int) - expected).max() <= most


def test_of_a_telephone_picture_the_first_is_taken_and_of_other_formats_one_is_expected():
    def several(kind):
        return encoded(RAMP, kind, save_all=True, append_images=[Image.fromarray(255 - RAMP)])

    telephone = decode(several("MPO"))
    assert np.abs(telephone[..., 0].astype(int) - RAMP).mean() < 2
    for kind in ("TIFF", "PNG"):
        with pytest.raises(BadFile, match="several images: expected one"):
            decode(several(kind))


# DICOM


@pytest.mark.parametrize(
    "syntax", [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian, uid.RLELossless]
)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16])
def test_grey_dicom_without_a_window_is_scaled_by_its_own_range(syntax, dtype):
    pixels, expected = DEEP.astype(dtype), DEEP_SHADES
    if dtype == np.uint8:
        pixels, expected = np.array([[10, 61], [27, 11]], np.uint8), [[0, 255], [85, 5]]  # 51 values: 5 shades each
    if dtype == np.int16:
        pixels = pixels - 3000
    np.testing.assert_array_equal(decode(dicom(pixels, syntax))[..., 0], expected)


def rle(*segments) -> bytes:
    """A frame of RLE: the number of segments, their offsets, the segments."""
    offsets = [64 + sum(map(len, segments[:n])) for n in range(len(segments))]
    return struct.pack("<16L", len(segments), *offsets, *[0] * (15 - len(segments))) + b"".join(segments)


def test_bits_that_are_not_stored_are_ignored():
    dirty = (DEEP - 1000) | 0xE000  # up to 5,100, in the lower 13 bits
    planes = ((dirty >> 8).astype(np.uint8), dirty.astype(np.uint8))
    frame = rle(*(bytes([dirty.size - 1]) + plane.tobytes() for plane in planes))  # PackBits: n - 1, then n bytes
    bits = {"BitsStored": 13, "HighBit": 12}
    np.testing.assert_array_equal(decode(dicom(dirty, **bits))[..., 0], DEEP_SHADES)
    np.testing.assert_array_equal(decode(dicom(dirty, uid.RLELossless, frame, **bits))[..., 0], DEEP_SHADES)
    # With a sign, the 13th of them takes 8,192 off what is over 4,095: of 5,100 and 5,080, the latter is the least.
    signed = decode(dicom(dirty.astype(np.int16), uid.RLELossless, frame, **bits))
    assert signed[1, 2, 0] == 0
    assert signed[0, 2, 0] == 255


def test_monochrome1_is_inverted():
    np.testing.assert_array_equal(
        decode(dicom(DEEP, PhotometricInterpretation="MONOCHROME1"))[..., 0], 255 - DEEP_SHADES
    )


def test_a_window_is_applied_after_the_rescale():
    # CT: stored 1,000 more than Hounsfield units. PS3.3 C.11.2.1.2.1: with centre 100 and width 101, x is black up
    # to 49.5, white above 149.5 and between them (x - 99.5) / 100 + 1/2 of the way: 50 is 1.3, 100 is 128.8.
    hounsfield = np.array([[-1000, 49, 50, 100, 149, 150, 3000]])
    data = dicom(
        (hounsfield + 1000).astype(np.uint16),
        RescaleSlope=1,
        RescaleIntercept=-1000,
        WindowCenter=[100, 7],
        WindowWidth=[101, 9],
    )
    np.testing.assert_array_equal(decode(data)[0, :, 0], [0, 0, 1, 129, 254, 255, 255])


def test_a_window_without_a_width_is_none():
    np.testing.assert_array_equal(decode(dicom(DEEP, WindowCenter=100))[..., 0], DEEP_SHADES)


def test_a_falling_rescale_turns_the_shades():
    data = dicom(DEEP, RescaleSlope=-2, RescaleIntercept=5)
    np.testing.assert_array_equal(decode(data)[..., 0], 255 - DEEP_SHADES)


@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian])
def test_a_modality_table_is_applied(syntax):
    table = Dataset()
    table.LUTDescriptor, table.ModalityLUTType = [3, 1, 16], "US"
    table.LUTData = np.array([500, 100, 610], "<u2").tobytes()
    data = dicom(np.array([[0, 1, 2, 3, 9]], np.uint8), syntax, ModalityLUTSequence=[table])
    # Values before the first entry take the first, values after the last the last; 510 apart, 2 to a shade.
    np.testing.assert_array_equal(decode(data)[0, :, 0], [200, 200, 0, 255, 255])


@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian, uid.RLELossless])
def test_colour_dicom(syntax):
    np.testing.assert_array_equal(decode(dicom(COLOUR, syntax)), COLOUR)


def test_a_sign_of_colour_is_ignored():
    image = decode(dicom(COLOUR, PixelRepresentation=1))
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, COLOUR)


def test_colour_dicom_in_planes():
    planes = dicom(COLOUR, PlanarConfiguration=1, PixelData=np.moveaxis(COLOUR, 2, 0).tobytes() + b"\0")
    np.testing.assert_array_equal(decode(planes), COLOUR)


@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.RLELossless])
def test_luminance_and_chrominance_become_rgb(syntax):
    # BT.601: red is Y 76, Cb 85, Cr 255; grey has both chrominances at 128.
    pixels = np.array([[[76, 85, 255], [90, 128, 128]]], np.uint8)
    image = decode(dicom(pixels, syntax, PhotometricInterpretation="YBR_FULL"))
    np.testing.assert_allclose(image, [[[254, 0, 0], [90, 90, 90]]], atol=1)


def test_halved_chrominance_becomes_rgb():
    # Two luminances, then the chrominances that they share: of grey.
    pixels = np.zeros((1, 2, 3), np.uint8)
    data = dicom(pixels, PhotometricInterpretation="YBR_FULL_422", PixelData=bytes([50, 90, 128, 128]))
    np.testing.assert_array_equal(decode(data), [[[50] * 3, [90] * 3]])


@pytest.mark.parametrize("bits", [8, 16])
def test_palette_dicom(bits):
    red, green, blue = ([200, 10], [100, 20], [0, 30])
    kinds = {8: np.uint8, 16: np.uint16}
    parts = {
        f"{name}PaletteColorLookupTable{part}": value
        for name, entries in (("Red", red), ("Green", green), ("Blue", blue))
        for part, value in (
            ("Descriptor", [2, 0, bits]),
            ("Data", (np.array(entries, kinds[bits]) << (bits - 8)).tobytes()),
        )
    }
    data = dicom(np.array([[1, 0]], np.uint8), PhotometricInterpretation="PALETTE COLOR", **parts)
    np.testing.assert_array_equal(decode(data), [[[10, 20, 30], [200, 100, 0]]])
    del parts["GreenPaletteColorLookupTableData"]
    with pytest.raises(BadFile, match="no palette of red, green and blue"):
        decode(dicom(np.array([[1, 0]], np.uint8), PhotometricInterpretation="PALETTE COLOR", **parts))


def test_jpeg_dicom():
    colour = np.stack([RAMP, RAMP[::-1], RAMP // 2], axis=2)
    frame = encoded(colour, "JPEG", quality=95)
    data = dicom(colour, uid.JPEGBaseline8Bit, frame, PhotometricInterpretation="YBR_FULL_422")
    np.testing.assert_array_equal(decode(data), np.asarray(Image.open(io.BytesIO(frame))))
    frame = encoded(RAMP, "JPEG", quality=95)
    grey = decode(dicom(RAMP, uid.JPEGBaseline8Bit, frame, WindowCenter=128, WindowWidth=256))
    np.testing.assert_array_equal(grey[..., 0], np.asarray(Image.open(io.BytesIO(frame))))


def test_jpeg_dicom_of_rgb_that_only_the_header_tells():
    colour = np.stack([RAMP, RAMP[::-1], RAMP // 2], axis=2)
    marked = bytearray(encoded(colour, "JPEG", quality=95, keep_rgb=True))
    adobe = marked.index(b"\xff\xee")
    del marked[adobe : adobe + 2 + int.from_bytes(marked[adobe + 2 : adobe + 4], "big")]
    # Components are called R, G and B in the headers of frame and scan; 1, 2 and 3 tell nothing.
    for marker, first, step in ((b"\xff\xc0", 10, 3), (b"\xff\xda", 5, 2)):
        start = marked.index(marker) + first
        assert bytes(marked[start : start + 3 * step : step]) == b"RGB"
        marked[start : start + 3 * step : step] = b"\x01\x02\x03"
    image = decode(dicom(colour, uid.JPEGBaseline8Bit, bytes(marked)))
    assert np.abs(image.astype(int) - colour).mean() < 2


def test_runs_may_cross_the_ends_of_lines():
    # PackBits: 257 - n repeats the next byte n times. Four times 7, then twice 9, in two lines of three.
    frame = rle(bytes([253, 7, 255, 9]))
    image = decode(dicom(np.zeros((2, 3), np.uint8), uid.RLELossless, frame))
    np.testing.assert_array_equal(image[..., 0], [[0, 0, 0], [0, 255, 255]])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (dicom(GREY, uid.JPEG2000Lossless, b"\xff\x4f"), "transfer syntax 'JPEG 2000 Image Compression .*RLE Lossless"),
        (dicom(GREY, uid.JPEGLSLossless, b"\xff\xd8"), "transfer syntax 'JPEG-LS Lossless Image Compression'"),
        (dicom(GREY, uid.DeflatedExplicitVRLittleEndian), "transfer syntax 'Deflated Explicit VR Little Endian'"),
        (dicom(GREY, NumberOfFrames=12), "12 frames: expected one"),
        (dicom(GREY, drop=["PixelData"]), "no PixelData"),
        (dicom(GREY, drop=["Rows"]), "no Rows"),
        (dicom(GREY, drop=["BitsStored"]), "corrupt: .*Bits Stored"),
        (dicom(GREY, BitsStored=12), "corrupt: .*Bits Stored"),
        (dicom(GREY, BitsAllocated=32), "32 bits allocated: expected 8"),
        (dicom(GREY, PhotometricInterpretation="HSV"), "photometric interpretation 'HSV': expected grey, RGB"),
        (dicom(DEEP, uid.RLELossless, rle(b"")), "corrupt: expected 2 RLE segments, received 1"),
        (dicom(GREY, uid.RLELossless, rle(b"\x00\x07")), "corrupt: not enough image data"),
        (dicom(GREY, PhotometricInterpretation="RGB"), r"shape \(7, 5\): expected \(7, 5, 3\)"),
        (dicom(GREY, WindowCenter=1, WindowWidth=0), "corrupt: .*Window Width"),
        (dicom(GREY, RescaleSlope=0, RescaleIntercept=1, WindowCenter=1, WindowWidth=9), "not finite"),
        (dicom(GREY, uid.JPEGBaseline8Bit, encoded(RAMP, "JPEG")), r"shape \(24, 40\): expected \(7, 5\)"),
        (dicom(GREY, uid.JPEGBaseline8Bit, b"none at all "), "no PNG"),
    ],
)
def test_dicom_that_is_refused(data, reason):
    with pytest.raises(BadFile, match=reason):
        decode(data)


# Damage


WHOLE = {
    "png": encoded(COLOUR, "PNG"),
    "jpeg": encoded(RAMP, "JPEG"),
    "bmp": encoded(COLOUR, "BMP"),
    "tiff": encoded(COLOUR, "TIFF"),
    "lzw": encoded(GREY, "TIFF", compression="tiff_lzw"),
    "deep png": encoded(DEEP, "PNG"),
    "deep tiff": encoded(DEEP, "TIFF"),
    "palette": encoded(Image.fromarray(COLOUR).quantize(9), "PNG"),
    "dicom": dicom(DEEP, RescaleSlope=2, RescaleIntercept=1, WindowCenter=100, WindowWidth=50),
    "implicit": dicom(DEEP.astype(np.int16), uid.ImplicitVRLittleEndian),
    "rle": dicom(DEEP, uid.RLELossless),
    "colour rle": dicom(COLOUR, uid.RLELossless),
    "dicom jpeg": dicom(RAMP, uid.JPEGBaseline8Bit, encoded(RAMP, "JPEG")),
}


@pytest.mark.parametrize(("kind", "share"), [("png", 0.5), ("jpeg", 0.7), ("bmp", 0.8), ("tiff", 0.7), ("dicom", 0.99)])
def test_a_file_that_was_cut_is_truncated(kind, share):
    with pytest.raises(BadFile, match=r"^truncated$"):
        decode(WHOLE[kind][: int(share * len(WHOLE[kind]))])


@pytest.mark.parametrize("kind", WHOLE)
def test_a_file_without_its_second_half_is_bad(kind):
    with pytest.raises(BadFile, match=r"truncated|corrupt|transfer syntax '1\.2\.840\.10'"):
        decode(WHOLE[kind][: len(WHOLE[kind]) // 2])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"no image, but a line of text", "no PNG, JPEG, BMP, TIFF or DICOM image"),
        (encoded(GREY, "GIF"), "no PNG, JPEG, BMP, TIFF or DICOM image"),
        (WHOLE["png"][:9] + b"\xff" * 90, "damaged header"),
    ],
)
def test_what_is_no_image_is_said(data, reason):
    with pytest.raises(BadFile, match=reason):
        decode(data)


def huge_element(length) -> bytes:
    """A DICOM file with a private element (OB) of which a few bytes are there and `length` are declared."""
    data = dicom(GREY)
    at = data.index(b"\x28\x00\x02\x00US")  # samples per pixel
    return data[:at] + struct.pack("<HH2sHL", 0x0027, 0x1001, b"OB", 0, length) + bytes(9)


HOSTILE = {
    "png of 3.6 gigapixels": png(60_000, 60_000),
    "png below Pillow's limit": png(9_000, 9_000, bytes(9_001 * 9_000)),
    "jpeg": resized_jpeg(60_000),
    "bmp": encoded(GREY, "BMP").replace(struct.pack("<ll", 5, 7), struct.pack("<ll", 30_000, 30_000)),
    "tiff": tiff(30_000, 30_000, b"x"),
    "tile of a tiff": tiff(
        16, 16, zlib.compress(bytes(3_000_000)), compression=8, tile_width=30_000, tile_length=30_000
    ),
    "dicom": dicom(GREY, Rows=60_000, Columns=60_000),
    "colour dicom": dicom(COLOUR, Rows=5_000, Columns=5_000),
    "frames": dicom(GREY, NumberOfFrames=2_000_000_000),
    "element": huge_element(0xFFFFFFF0),
    "element until a delimiter": huge_element(0xFFFFFFFF),
    "jpeg in dicom": dicom(GREY, uid.JPEGBaseline8Bit, resized_jpeg(60_000)),
    "rle of 256 MB": dicom(GREY, uid.RLELossless, rle(b"\x81\x00" * (2 << 20))),
}

MEASURE = """
import pathlib, resource, sys
from pipelines.core.reading.media_cache import BadFile
from pipelines.medical_images import decoding
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> (20 if sys.platform == "darwin" else 10)
before = peak()
for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    try:
        decoding.decode(path.read_bytes())
    except BadFile:
        pass
    print(path.name, peak() - before)
"""


def test_what_declares_too_much_is_refused_before_it_takes_memory(tmp_path):
    for name, data in HOSTILE.items():
        (tmp_path / name).write_bytes(data)
        if not name.startswith(("rle", "element")):
            with pytest.raises(BadFile, match=r"more than 64,000,000 pixels|2,000,000,000 frames"):
                decode(data)
    # A process of its own, since the peak of this one is long past; 64 megapixels would be 61 MB at the very least.
    ran = subprocess.run([sys.executable, "-c", MEASURE, tmp_path], capture_output=True, text=True, check=True)
    peaks = dict(line.rsplit(" ", 1) for line in ran.stdout.splitlines())
    assert set(peaks) == set(HOSTILE)
    assert max(int(megabytes) for megabytes in peaks.values()) < 50, peaks


PLACES = st.floats(0, 1, exclude_max=True)


@settings(max_examples=1500)
@given(
    kind=st.sampled_from(sorted(WHOLE)),
    changes=st.lists(st.tuples(PLACES, st.booleans(), st.integers(0, 255)), max_size=8),
    gap=st.tuples(PLACES, st.sampled_from([0, 0, 0, 1, 2, 30, 1_000_000])),
)
def test_damaged_bytes_are_an_image_or_a_bad_one_and_nothing_else(kind, changes, gap):
    data = bytearray(WHOLE[kind])
    for place, from_end, value in changes:  # mostly near either end, where formats describe themselves
        at = int(place**2 * len(data))
        data[-1 - at if from_end else at] = value
    start = int(gap[0] * len(data))
    del data[start : start + gap[1]]
    with warnings.catch_warnings(), mock.patch.object(decoding, "MOST_PIXELS", 1_000_000):
        warnings.simplefilter("error")
        try:
            image = decode(bytes(data))
        except BadFile:
            return
    assert image.dtype == np.uint8
    assert image.ndim == 3
    assert image.shape[2] in (1, 3)
    assert fitted(image, 8, 3).shape == (8, 8, 3)


def test_a_phrase_is_short_and_harmless_whatever_the_file_says():
    data = dicom(GREY).replace(b"MONOCHROME2 ", b"\x1b[2Jx\nCHROM ")
    with pytest.raises(BadFile, match=r"' \[2Jx CHROM'") as fault:
        decode(data)
    assert str(fault.value).isprintable()
    assert str(BadFile("a\x1bb\n" + 2_000 * "c")) == "a b " + 196 * "c"


# Squares


def test_an_image_of_the_wanted_shape_comes_back_as_it_is():
    for pixels in (COLOUR[:5], GREY[:5, :, None]):
        np.testing.assert_array_equal(fitted(pixels, 5, pixels.shape[2]), pixels)


@pytest.mark.parametrize(("height", "width"), [(4, 8), (8, 4), (2, 4), (1, 2)])
def test_the_whole_image_is_centred_on_black(height, width):
    image = fitted(np.full((height, width, 1), 200, np.uint8), 4, 1)[..., 0]
    expected = np.zeros((4, 4), np.uint8)
    expected[1:3] = 200
    np.testing.assert_array_equal(image, expected if width > height else expected.T)


def test_channels():
    grey = fitted(GREY[..., None], 7, 3)
    assert (grey == grey[..., :1]).all()
    # BT.601: 0.299, 0.587 and 0.114 of 255.
    primaries = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)
    np.testing.assert_array_equal(fitted(primaries, 3, 1)[1, :, 0], [76, 150, 29])
    equal = np.repeat(GREY[..., None], 3, axis=2)
    np.testing.assert_array_equal(fitted(equal, 6, 1), fitted(GREY[..., None], 6, 1))
    np.testing.assert_array_equal(fitted(equal, 6, 3)[..., :1], fitted(GREY[..., None], 6, 1))


def test_fine_patterns_do_not_alias():
    # Every tenth line is white: sampled at single points, it would be all black or all white.
    lines = np.zeros((200, 200, 1), np.uint8)
    lines[::10] = 250
    inner = fitted(lines, 16, 1)[1:-1]
    assert inner.min() > 10
    assert inner.max() < 40
    assert abs(inner.mean() - 25) < 3


@given(height=st.integers(1, 90), width=st.integers(1, 90), size=st.integers(1, 40))
def test_nothing_is_cut_off_stretched_or_haloed(height, width, size):
    image = np.full((height, width, 3), 60, np.uint8)
    image[: height // 2] = 190
    square = fitted(image, size, 3)
    assert square.shape == (size, size, 3)
    filled = square[..., 0] > 0
    rows, columns = filled.any(axis=1).sum(), filled.any(axis=0).sum()
    longest = max(height, width)
    assert rows == max(1, round(height * size / longest))
    assert columns == max(1, round(width * size / longest))
    assert filled.sum() == rows * columns
    assert square[filled].min() >= 60
    assert square.max() <= 190


# Hashes


def test_equal_pixels_have_equal_digests_whatever_the_format():
    digests = [digest(decode(encoded(COLOUR, kind))) for kind in ("PNG", "BMP", "TIFF")] + [
        digest(decode(dicom(COLOUR)))
    ]
    assert len(set(digests)) == 1
    assert 0 <= digests[0] < 2**64


def test_grey_in_three_channels_has_the_digest_of_one():
    three = np.repeat(GREY[..., None], 3, axis=2)
    assert digest(decode(encoded(three, "BMP"))) == digest(decode(encoded(GREY, "PNG"))) == digest(GREY[..., None])


def test_digests_tell_pixels_and_shapes_apart():
    changed = COLOUR.copy()
    changed[3, 2, 1] ^= 1
    shapes = [np.zeros(shape, np.uint8) for shape in ((2, 3, 1), (3, 2, 1), (1, 2, 3))]
    assert len({digest(image) for image in (COLOUR, changed, *shapes)}) == 5


# Files


def write(folder, **files) -> list[Path]:
    folder.mkdir(exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return [folder / name for name in files]


def refuse_to_decode(data):
    raise AssertionError("decoded again")


def test_files_become_a_memory_map_and_a_table(tmp_path):
    deep = dicom(np.arange(48 * 64, dtype=np.uint16).reshape(48, 64))
    files = write(tmp_path / "in", a=encoded(RAMP, "PNG"), b=b"text", c=encoded(COLOUR, "PNG"), d=deep, e=b"")
    array, table = load(files, tmp_path / "cache", 30, 0.4)
    assert isinstance(array, np.memmap)
    assert not array.flags.writeable
    good = [file.read_bytes() for file in (files[0], files[2], files[3])]
    np.testing.assert_array_equal(array, [fitted(decode(data), 30, 3) for data in good])
    assert list(table.columns) == ["file", "reason", "digest", "patient", *images.FORM]
    assert list(table["file"]) == [str(file) for file in files]
    assert list(table["reason"]) == ["", "no PNG, JPEG, BMP, TIFF or DICOM image", "", "", "empty file"]
    assert table["digest"].dtype == np.uint64
    assert list(table["digest"]) == [digest(decode(good[0])), 0, digest(decode(good[1])), digest(decode(good[2])), 0]


def test_the_second_call_decodes_nothing_and_knows_todays_names(tmp_path, monkeypatch):
    files = write(tmp_path / "in", a=encoded(RAMP, "PNG"), b=b"text")
    array, table = load(files, tmp_path / "cache", 0, 0.5)
    renamed = [file.rename(file.with_suffix(".png")) for file in files]
    monkeypatch.setattr(images, "decode", refuse_to_decode)
    again, names = load(renamed, tmp_path / "cache", 0, 0.5)
    np.testing.assert_array_equal(again, array)
    assert list(names["file"]) == [str(file) for file in renamed]
    assert names.drop(columns="file").equals(table.drop(columns="file"))
    assert sorted(path.suffix for path in (tmp_path / "cache").iterdir()) == [".npy", ".parquet"]


def test_other_content_order_or_size_makes_another_cache(tmp_path):
    files = write(tmp_path / "in", a=encoded(RAMP, "PNG"), b=encoded(255 - RAMP, "PNG"))
    first, _ = load(files, tmp_path / "cache", 28, 0)
    turned, _ = load(files[::-1], tmp_path / "cache", 28, 0)
    np.testing.assert_array_equal(turned, first[::-1])
    assert load(files, tmp_path / "cache", 29, 0)[0].shape == (2, 29, 29, 1)
    files[1].write_bytes(encoded(RAMP, "PNG"))
    changed, _ = load(files, tmp_path / "cache", 28, 0)
    np.testing.assert_array_equal(changed[1], first[0])


@pytest.mark.parametrize(
    ("shapes", "side"),
    [
        ([(40, 60), (120, 100), (30, 31)], 40),
        ([(10, 60)], 28),
        ([(400, 300), (200, 900)], 128),
        ([(40, 60), (41, 60)], 40),
    ],
)
def test_the_side_is_the_median_of_the_shorter_ones_within_bounds(tmp_path, shapes, side):
    pixels = [np.zeros(shape, np.uint8) for shape in shapes]
    data = [dicom(image) if row == 1 else encoded(image, "PNG") for row, image in enumerate(pixels)]
    files = write(tmp_path / "in", bad=b"", **{f"{row}": content for row, content in enumerate(data)})
    assert load(files, tmp_path / "cache", 0, 0.5)[0].shape == (len(shapes), side, side, 1)


def test_grey_is_recognised_also_in_three_channels(tmp_path):
    grey, equal = encoded(GREY, "PNG"), encoded(np.repeat(RAMP[..., None], 3, axis=2), "PNG")
    files = write(tmp_path / "in", a=grey, b=equal, c=b"text")
    array, _ = load(files, tmp_path / "cache", 30, 0.5)
    np.testing.assert_array_equal(array, [fitted(decode(data), 30, 1) for data in (grey, equal)])
    files += write(tmp_path / "in", d=encoded(COLOUR, "PNG"))
    assert load(files, tmp_path / "cache", 30, 0.5)[0].shape == (3, 30, 30, 3)


def test_too_many_bad_images_are_one_sentence(tmp_path):
    good = {f"{n}": encoded(GREY, "PNG") for n in range(12)}
    files = write(tmp_path / "in", **good, w=b"", x=b"text", y=WHOLE["png"][:80], z=b"more text")
    array, table = load(files, tmp_path / "cache", 28, 0.25)
    assert len(array) == 12
    assert (table["reason"] != "").sum() == 4
    with pytest.raises(InputError) as error:
        load(files, tmp_path / "cache", 28, 0.24)
    said = str(error.value)
    assert said.startswith("4 of 16 images are bad: expected at most 24%")
    assert f"{files[12]} (empty file), {files[13]} (no PNG" in said
    assert f"{files[14]} (truncated), {files[15]} (no PNG" in said


def test_without_a_good_image_there_is_no_result(tmp_path):
    with pytest.raises(InputError, match="1 of 1 images are bad"):
        load(write(tmp_path / "in", a=b""), tmp_path / "cache", 0, 1.0)
    with pytest.raises(InputError, match="no images"):
        load([], tmp_path / "cache", 0, 1.0)


def test_decoding_in_threads_leaves_the_filters_of_warnings_alone(tmp_path):
    data = {f"{n}": WHOLE[kind] for n, kind in enumerate(sorted(WHOLE) * 5)}
    before = list(warnings.filters)
    load(write(tmp_path / "in", **data), tmp_path / "cache", 8, 0)
    assert warnings.filters == before
