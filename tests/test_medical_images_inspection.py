"""Checks of images for leaks: each planted fault is seen, and clean images raise no alarm."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from pipelines.core.contract import InputError
from pipelines.core.data.splits import Splits
from pipelines.core.reading import folders
from pipelines.medical_images import Settings, data
from pipelines.medical_images.inspection.near_copies import near_copies

SIDE, COUNT = 32, 90


def scenes(count: int = COUNT, seed: int = 0) -> np.ndarray:
    """Images of one kind, a bright disc with texture of each image, uint8 (count, SIDE, SIDE, 1)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE / 2
    texture = gaussian_filter(rng.normal(0, 1, (count, SIDE, SIDE)), (0, 1, 1))
    return np.clip(120 + 50 * (np.hypot(x, y) < 12) + 60 * texture, 0, 255).astype(np.uint8)[..., None]


def jpeg(image: np.ndarray, quality: int = 70) -> np.ndarray:
    stream = io.BytesIO()
    Image.fromarray(image[..., 0]).save(stream, "JPEG", quality=quality)
    return np.asarray(Image.open(stream))[..., None]


def resized(image: np.ndarray) -> np.ndarray:
    small = Image.fromarray(image[..., 0]).resize((24, 24), Image.Resampling.BICUBIC)
    return np.asarray(small.resize((SIDE, SIDE), Image.Resampling.BICUBIC))[..., None]


CHANGES = {
    "saved again": jpeg,
    "mirrored": lambda image: jpeg(np.ascontiguousarray(image[:, ::-1])),
    "upside down": lambda image: jpeg(np.ascontiguousarray(image[::-1])),
    "turned": lambda image: np.ascontiguousarray(image[::-1, ::-1]),
    "shifted": lambda image: np.pad(image, ((2, 0), (0, 1), (0, 0)))[:SIDE, 1:],
    "resized": resized,
    "brighter": lambda image: np.clip(image * 0.8 + 30, 0, 255).astype(np.uint8),
}


@pytest.mark.parametrize("change", CHANGES)
def test_copies_are_found_and_others_are_not(change):
    originals = scenes()
    pixels = np.concatenate([originals, [CHANGES[change](image) for image in originals[:10]]])
    assert {tuple(pair) for pair in near_copies(pixels)} == {(n, COUNT + n) for n in range(10)}


def test_grey_copies_of_colour_images_are_found():
    colour = np.repeat(scenes(), 3, axis=3)
    colour[..., 0] = colour[..., 0] * 0.7
    grey = np.stack([np.asarray(Image.fromarray(image).convert("L").convert("RGB")) for image in colour[:5]])
    assert {tuple(pair) for pair in near_copies(np.concatenate([colour, grey]))} == {(n, COUNT + n) for n in range(5)}


def inspected(pixels, labels, settings=None, **columns):
    """The splits after the checks: of each ten images six train, two validate, two test."""
    records = pd.DataFrame({"id": [f"i{n}" for n in range(len(pixels))], "label": labels, "labelled": True, **columns})
    records["digest"] = data.images.digests(pixels)
    records["image"] = pd.Series(list(pixels.reshape(len(pixels), -1)), dtype=object)
    found = data.Dataset(records, data.About(("clear", "lesion"), SIDE, pixels.shape[3]), data.KEY)
    place = np.arange(len(pixels)) % 10
    splits = Splits(*(np.flatnonzero(np.isin(place, of)) for of in ([0, 1, 2, 3, 4, 5], [6, 7], [8, 9])))
    settings = settings or Settings()
    return data.inspect(found, splits, data.learn(found, settings), settings)


def halves(count):
    return np.random.default_rng(1).integers(0, 2, count)


def test_clean_images_of_known_patients_raise_no_alarm():
    pixels = scenes(200)
    labels = halves(200)
    found = inspected(pixels, labels, group=np.arange(200).astype(str), file_bytes=np.arange(200) % 37)
    assert found.warnings == ()
    assert found.left_out == {}
    assert len(found.train) == 120
    assert found.copies is None


def test_copies_of_later_sides_are_dropped_and_those_in_test_tied():
    pixels, labels = scenes(200), halves(200)
    for original, copy in ((8, 0), (9, 6), (7, 1), (18, 19)):
        pixels[copy], labels[copy] = jpeg(np.ascontiguousarray(pixels[original][:, ::-1])), labels[original]
    found = inspected(pixels, labels)
    assert not {0, 1} & set(found.train)
    assert 6 not in found.validation
    assert {8, 9, 18, 19} <= set(found.test)
    assert found.left_out == {
        "validation records that are near copies of one of test": 1,
        "train records that are near copies of one of validation or test": 2,
    }
    assert found.copies[18] == found.copies[19]
    assert any("near copies" in warning for warning in found.warnings)


def test_an_image_under_two_labels_is_named_and_many_are_refused():
    pixels, labels = scenes(200), halves(200)
    pixels[1], labels[:2] = jpeg(pixels[0]), [0, 1]
    assert any("i0 (clear) and i1 (lesion)" in warning for warning in inspected(pixels, labels).warnings)
    for n in range(0, 40, 2):
        pixels[n + 1], labels[n : n + 2] = jpeg(pixels[n]), [0, 1]
    with pytest.raises(
        InputError,
        match=r"40 records are near copies of one another under two labels, such as i0 \(clear\) and i1 \(lesion\)",
    ):
        inspected(pixels, labels)


def test_without_a_group_the_verdict_says_so():
    assert any("No patient or source is known" in warning for warning in inspected(scenes(), halves(COUNT)).warnings)


def test_a_form_that_tells_the_class_is_refused_by_name_unless_it_is_allowed():
    pixels, labels = scenes(300), halves(300)
    columns = {"file_bytes": 900 + np.arange(300) % 37, "file_width": 100 + 50 * labels}
    with pytest.raises(InputError, match=r"form alone tells the class.*file_width"):
        inspected(pixels, labels, **columns)
    allowed = inspected(pixels, labels, Settings(allow_column=("file_width",)), **columns).warnings
    assert not any("form" in warning for warning in allowed)
    blurred = 1000 + 150 * labels + np.random.default_rng(2).normal(0, 50, 300)
    assert any(
        "most of it by file_bytes" in warning for warning in inspected(pixels, labels, file_bytes=blurred).warnings
    )


def test_a_frame_of_one_class_is_seen():
    pixels, labels = scenes(300), halves(300)
    pixels[labels == 1, 0] = 255
    assert any("outermost pixels" in warning for warning in inspected(pixels, labels).warnings)


def test_groups_have_one_name_however_they_are_written():
    names = ["patient_7", "patient-007", "Patient 7", "PATIENT007"]
    assert {folders.group_name(name) for name in names} == {"patient-7"}
    assert len({folders.group_name(name) for name in ("7", "007", "1e1", "patient_70", "person_7")}) == 5


def test_groups_of_one_record_each_are_as_if_there_were_none():
    listing, notes = pd.DataFrame({"id": [*"abc"], "group": ["p1", "p2", "p3"]}), []
    assert "group" not in folders.with_groups(listing, "patient", notes)
    assert "one record only" in notes[0]
    assert folders.with_groups(listing.assign(group=["p1", "P01", "p3"]), "patient", [])["group"].nunique() == 2


def test_patients_of_dicom_files_are_groups_and_the_form_of_files_is_known(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    for n, image in enumerate(scenes(12)):
        meta = FileMetaDataset()
        meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = (
            ExplicitVRLittleEndian, "1.2.840.10008.5.1.4.1.1.1", f"1.2.{n + 1}",
        )  # fmt: skip
        made = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
        made.Rows, made.Columns, made.SamplesPerPixel, made.PhotometricInterpretation = SIDE, SIDE, 1, "MONOCHROME2"
        made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 8, 8, 7, 0
        made.PatientID = f"PAT_{n // 2:03d}" if n % 2 else f"pat {n // 2}"
        made.add_new(0x7FE00010, "OB", image.tobytes())
        path = Path("in", "ab"[n % 2], f"scan{chr(97 + n)}.dcm")
        path.parent.mkdir(parents=True, exist_ok=True)
        made.save_as(path, enforce_file_format=True)
    found = data.read(Path("in"), Settings())
    assert found.records["group"].nunique() == 6
    assert set(found.records["file_format"]) == {"DICOM"}
    assert any("PatientID" in note for note in found.notes)


def test_real_radiographs_raise_no_alarm_but_that_of_patients(real_data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = data.read(real_data / "medical_images" / "pneumonia.npz", Settings()).take(np.arange(4400, 5856))
    found = data.Dataset(found.records.reset_index(drop=True), found.about, found.key)
    pixels = data.encode(found, data.learn(found, Settings())).inputs["image"]
    once = np.sort(np.unique(found.identity, return_index=True)[1])
    assert len(near_copies(data.Gathered([pixels], once))) <= 2
