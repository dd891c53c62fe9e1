"""Images with planted faults: copies, patients on several sides or unknown, files whose form tells the class."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
from PIL import Image as Pillow
from pydicom import uid
from scipy.ndimage import gaussian_filter

from bench.audit.faults import COPIES, LABELS, Domain, Fault
from pipelines.medical_images import PIPELINE

PATIENTS, VIEWS, SIZE = 150, 2, 32
SIDES = ("train", "train", "train", "val", "test")
COPIED = 40


@dataclass(frozen=True, eq=False)
class Image:
    """An image and how its file is written; `patient` begins the file's name, "" where it is not known."""

    label: str
    patient: str
    side: str
    pixels: np.ndarray
    form: str = "png"
    quality: int = 90


def clean(rng: np.random.Generator) -> list[Image]:
    """Two views of each of 150 patients: soft tissue and noise; some have a faint bright spot."""
    images = []
    for number in range(PATIENTS):
        label, side = ("clear", "lesion")[rng.random() < 0.4], SIDES[number % len(SIDES)]
        images += [Image(label, f"patient-{number:03d}", side, _view(rng, label)) for _ in range(VIEWS)]
    return images


def _view(rng: np.random.Generator, label: str) -> np.ndarray:
    """uint8 (SIZE, SIZE)."""
    tissue = gaussian_filter(rng.standard_normal((SIZE, SIZE)), 2)
    row, column = rng.uniform(8, SIZE - 8, 2)
    distance = np.hypot(np.arange(SIZE)[:, None] - row, np.arange(SIZE) - column)
    spot = (label == "lesion") * rng.uniform(0.2, 2) * np.exp(-((distance / 3) ** 2))
    picture = 110 + 25 * tissue / tissue.std() + 25 * spot + rng.normal(0, 6, (SIZE, SIZE))
    return np.clip(picture, 0, 255).astype(np.uint8)


def write(images: Sequence[Image], folder: Path) -> Path:
    """The images in a folder for each side and class."""
    for number, image in enumerate(images):
        place = folder / image.side / image.label
        place.mkdir(parents=True, exist_ok=True)
        _save(image, place / f"{image.patient or 'scan'}_{number:04d}")
    return folder


def _save(image: Image, path: Path) -> None:
    if image.form == "dicom":
        _save_dicom(image, path.with_name(f"scan_{path.name.rpartition('_')[2]}.dcm"))
    elif image.form == "jpeg":
        path.with_suffix(".jpg").write_bytes(_jpeg(image.pixels, image.quality))
    else:
        Pillow.fromarray(image.pixels).save(path.with_suffix(f".{image.form}"))


def _save_dicom(image: Image, path: Path) -> None:
    dataset = pydicom.Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = uid.SecondaryCaptureImageStorage, uid.generate_uid()
    dataset.PatientID = image.patient
    dataset.Rows, dataset.Columns = image.pixels.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PixelRepresentation = 1, "MONOCHROME2", 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
    dataset.WindowCenter, dataset.WindowWidth = 128, 256
    dataset.PixelData = image.pixels.tobytes()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    pydicom.dcmwrite(path, dataset, enforce_file_format=True)


def _write_table(images: Sequence[Image], folder: Path) -> Path:
    """The images in one folder, with a table of file, label, group and split."""
    folder.mkdir()
    rows = []
    for number, image in enumerate(images):
        _save(image, folder / f"scan_{number:04d}")
        rows.append((f"scan_{number:04d}.png", image.label, image.patient, image.side))
    pd.DataFrame(rows, columns=["file", "label", "group", "split"]).to_csv(folder / "images.csv", index=False)
    return folder / "images.csv"


def _jpeg(pixels: np.ndarray, quality: int) -> bytes:
    file = BytesIO()
    Pillow.fromarray(pixels).save(file, "JPEG", quality=quality)
    return file.getvalue()


# ------------------------------------------------------------------------------------------------------------- plants

Change = Callable[[np.ndarray], np.ndarray]
Images = list[Image]
Plant = Callable[[Images, np.random.Generator], Images]


def _copied(change: Change, begin: str = "train", end: str = "test", flipped: bool = False) -> Plant:
    """Plant changed copies of images of one side on another, under new patients."""

    def plant(images: Images, rng: np.random.Generator) -> Images:
        chosen = rng.permutation([image for image in images if image.side == begin])[:COPIED]
        other = {"clear": "lesion", "lesion": "clear"}
        copies = [
            replace(
                image,
                patient=f"patient-{900 + number}",
                side=end,
                pixels=change(image.pixels),
                label=other[image.label] if flipped else image.label,
            )
            for number, image in enumerate(chosen)
        ]
        return [*images, *copies]

    return plant


def _recompressed(quality: int) -> Change:
    return lambda pixels: np.asarray(Pillow.open(BytesIO(_jpeg(pixels, quality))))


def _resized(size: int) -> Change:
    return lambda pixels: np.asarray(Pillow.fromarray(pixels).resize((size, size), Pillow.Resampling.BICUBIC))


def _shifted(rows: int, columns: int) -> Change:
    """Moved as a crop is: what enters at the edge repeats the last line."""
    return lambda pixels: np.pad(pixels, ((rows, 0), (columns, 0)), "edge")[:SIZE, :SIZE]


def _tinted(pixels: np.ndarray) -> np.ndarray:
    """A colour copy with a sepia tint, (SIZE, SIZE, 3)."""
    return np.clip(pixels[..., None] * np.array([1.0, 0.92, 0.8]), 0, 255).astype(np.uint8)


def _brighter(pixels: np.ndarray) -> np.ndarray:
    return np.clip(pixels * 0.8 + 35, 0, 255).astype(np.uint8)


def _noisy(pixels: np.ndarray) -> np.ndarray:
    return np.clip(pixels + np.random.default_rng(0).normal(0, 2, pixels.shape), 0, 255).astype(np.uint8)


def _second_view(rename: Callable[[str], str]) -> Plant:
    """Plant the second view of some training patients on test, the patient's name written in another way."""

    def plant(images: Images, rng: np.random.Generator) -> Images:
        second = {image.patient: image for image in images if image.side == "train"}  # the last of each patient
        moved = set(sorted(second)[:25])
        return [
            replace(image, side="test", patient=rename(image.patient))
            if image is second.get(image.patient) and image.patient in moved
            else image
            for image in images
        ]

    return plant


def _number(patient: str) -> int:
    return int(patient.rpartition("-")[2])


def _of_lesions(change: Callable[[Image], Image]) -> Plant:
    """Plant another form of file for one class."""
    return lambda images, rng: [change(image) if image.label == "lesion" else image for image in images]


def _edged(width: int, value: int) -> Callable[[Image], Image]:
    """Overwrite the outermost pixels."""

    def change(image: Image) -> Image:
        inner = image.pixels[width:-width, width:-width]
        return replace(image, pixels=np.pad(inner, width, constant_values=value))

    return change


def _marked(image: Image) -> Image:
    """A bright token in a corner, as a hospital's devices burn in."""
    pixels = image.pixels.copy()
    pixels[1:4, 1:4] = 250
    return replace(image, pixels=pixels)


def _each(change: Callable[[Image, int], Image]) -> Plant:
    return lambda images, rng: [change(image, number) for number, image in enumerate(images)]


PATIENT, FORM = r"patient|group", r"file|form"
AGAIN, APART = "the network has seen its label", "a patient's views are alike: the network knows the patient"
NARROW = "test seems larger than it is: intervals are too narrow"
SHORTCUT = "the network reads where the file comes from, not what it shows"


def _copies(name: str, change: Change, begin: str = "train", why: str = AGAIN, fast: bool = False) -> Fault:
    """Copies in test of images of the side `begin`, three of four of which must be found."""
    return Fault(name, why, "warned", COPIES, _copied(change, begin), least=3 * COPIED // 4, fast=fast)


FAULTS = (
    _copies("exact copies across sides", lambda pixels: pixels, fast=True),
    _copies("colour copies of grey images", lambda pixels: np.stack([pixels] * 3, axis=2)),
    _copies("tinted copies of grey images", _tinted),
    _copies("copies shifted by two pixels", _shifted(2, 2)),
    _copies("copies mirrored", lambda pixels: pixels[:, ::-1], fast=True),
    _copies("copies upside down", lambda pixels: pixels[::-1]),
    _copies("copies resized to 48 pixels", _resized(48)),
    _copies("copies re-compressed as JPEG", _recompressed(70)),
    _copies("copies mirrored and re-compressed", lambda pixels: _recompressed(60)(pixels[:, ::-1].copy())),
    _copies("copies brighter and of less contrast", _brighter),
    _copies("copies with faint noise", _noisy),
    _copies("shifted copies of validation in test", _shifted(1, 0), "val", "the threshold was chosen on them"),
    _copies("copies within test", _recompressed(85), "test", NARROW),
    Fault("one image under two labels", "at least one of the labels is wrong", "warned", LABELS,
          _copied(lambda pixels: pixels, end="train", flipped=True)),
    Fault("one patient on two sides", APART, "refused", PATIENT, _second_view(lambda name: name), fast=True),
    Fault("patient_7 and patient-007 on two sides", APART, "refused", PATIENT,
          _second_view(lambda name: f"patient_{_number(name)}"), fast=True),
    Fault("Patient 7 and patient-007 on two sides", APART, "refused", PATIENT,
          _second_view(lambda name: f"Patient {_number(name)}")),
    Fault("DICOM: one PatientID on two sides", APART, "refused", PATIENT, lambda images, rng: [
        replace(image, form="dicom") for image in _second_view(lambda name: name)(images, rng)]),
    Fault("groups of one image each", "a number of the image is no patient", "warned",
          r"(group|patient).*\b(one|each|single|record)", _each(
              lambda image, number: replace(image, patient=f"g{number}")), write=_write_table),
    Fault("no patient known", "intervals by image are too narrow where patients recur", "warned", r"patient|group",
          _each(lambda image, number: replace(image, patient=""))),
    Fault("JPEG for one class, PNG for the other", SHORTCUT, "warned", FORM,
          _of_lesions(lambda image: replace(image, form="jpeg")), fast=True),
    Fault("BMP for one class, PNG for the other", SHORTCUT, "warned", FORM,
          _of_lesions(lambda image: replace(image, form="bmp"))),
    Fault("stronger compression for one class", SHORTCUT, "warned", FORM, lambda images, rng: [
        replace(image, form="jpeg", quality=95 if image.label == "clear" else 40) for image in images]),
    Fault("images of one class are larger", SHORTCUT, "warned", r"size|form", _of_lesions(
        lambda image: replace(image, pixels=_resized(40)(image.pixels)))),
    Fault("images of one class are wider than high", SHORTCUT, "warned", r"size|form|border", _of_lesions(
        lambda image: replace(image, pixels=image.pixels[3:-3]))),
    Fault("a dark edge around one class", SHORTCUT, "warned", r"border|edge|form", _of_lesions(_edged(1, 0))),
    Fault("a token in the corner of one class", SHORTCUT, "warned", r"border|edge|corner|form", _of_lesions(_marked)),
)  # fmt: skip

DOMAIN = Domain(PIPELINE, clean, write, FAULTS)
