"""Images as people have them: folders, tables of files, arrays; their groups, their sides, and requests."""

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipelines.core.contract import InputError
from pipelines.core.data import typed_json
from pipelines.core.data.dataset import Dataset
from pipelines.core.data.splits import SHARES
from pipelines.core.evaluation.calibration import Calibration
from pipelines.core.reading import folders
from pipelines.medical_images import PIPELINE, Settings, data, demo
from pipelines.medical_images.sources import CLASSES

SETTINGS = Settings(size=16)


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def picture(seed: int, side: int = 16) -> bytes:
    """A grey PNG of noise, different for each seed."""
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def folder(names: list[str], root: str = "images") -> Path:
    """A folder with an image under each name."""
    for seed, name in enumerate(names):
        path = Path(root, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(seed))
    return Path(root)


def arrays(path: str = "set.npz", **changed: np.ndarray) -> Path:
    """A MedMNIST-style archive of 8 by 8 pixels, with the arrays of `changed` in place of its own."""
    rng = np.random.default_rng(0)
    held = {}
    for side, count in (("train", 40), ("val", 12), ("test", 20)):
        held[f"{side}_images"] = rng.integers(0, 256, (count, 8, 8), dtype=np.uint8)
        held[f"{side}_labels"] = np.arange(count, dtype=np.uint8)[:, None] % 2
    held |= changed
    np.savez_compressed(path, **{name: values for name, values in held.items() if values is not None})
    return Path(path)


def read(path: Path, **settings: object) -> Dataset:
    return data.read(path, replace(SETTINGS, **settings))


def sides(images: Dataset) -> dict[str, set]:
    ids = images.records["id"]
    return {side: set(ids.iloc[rows]) for side, rows in data.split(images, SETTINGS).sides().items()}


def pixels(images: Dataset, facts: data.Facts, rows: np.ndarray | None = None) -> np.ndarray:
    """The network's input for these rows, all by default."""
    found = data.encode(images, facts).inputs["image"]
    return found[np.arange(len(images)) if rows is None else rows]


MANY = [f"{label}/{n}.png" for label in ("cat", "dog") for n in "abcdefghijklmnopqrst"]


def test_a_folder_of_classes_is_read_in_order_with_what_it_holds():
    found = read(folder(MANY))
    records = found.records
    assert records["id"].tolist() == sorted(MANY)
    assert [found.about.classes[label] for label in records["label"]] == [name[:3] for name in sorted(MANY)]
    assert found.labelled.all()
    row = records["id"].tolist().index("dog/c.png")
    expected = np.asarray(Image.open(io.BytesIO(picture(MANY.index("dog/c.png")))))
    assert np.array_equal(pixels(found, data.learn(found, SETTINGS))[row, ..., 0], expected)


def test_folders_name_the_sides_in_any_case():
    names = [f"{top}/{label}/{n}.png" for top in ("TRAIN", "Val", "TEST_SIMPLE") for label in "ab" for n in range(6)]
    found = sides(read(folder(names)))
    assert {side: {name.split("/")[0] for name in ids} for side, ids in found.items()} == {
        "train": {"TRAIN"},
        "validation": {"Val"},
        "test": {"TEST_SIMPLE"},
    }


@pytest.mark.parametrize(
    ("name", "side"),
    [("test", "test"), ("TEST_SIMPLE", "test"), ("Training", "train"), ("valid", "validation"), ("testis", ""),
     ("trainer", ""), ("validation-2", "validation"), ("tests", "")],
)  # fmt: skip
def test_only_names_of_sides_are_sides(name, side):
    assert folders.side(name) == side


def test_a_side_that_is_missing_is_drawn_from_train_and_test_stays_as_it_is():
    names = [
        f"{top}/{label}/{n}.png" for top, count in (("train", 40), ("test", 5)) for label in "ab" for n in range(count)
    ]
    found = sides(read(folder(names)))
    assert found["test"] == {name for name in names if name.startswith("test")}
    assert len(found["validation"]) == pytest.approx(0.15 * 80, abs=2)
    assert not any(name.startswith("test") for name in found["validation"])


@pytest.mark.parametrize(
    ("names", "groups"),
    [
        ([f"a/person{n}_{k}.png" for n in range(8) for k in range(3)], 8),
        ([f"a/scan-Patient_{n:03d}-view{k}.png" for n in range(8) for k in range(3)], 8),
        ([f"a/_{n}_{100 + k}.png" for n in range(8) for k in range(3)], 8),
    ],
)
def test_patients_and_sources_are_recognised_in_names(names, groups):
    found = read(folder([*names, *(name.replace("a/", "b/") for name in names)]))
    one_class = found.records[found.records["label"] == 0]
    assert one_class["group"].nunique() == groups
    assert any("recognised" in note for note in found.notes)


def test_patients_are_one_group_across_classes_but_numbers_of_sources_are_not():
    of_patients = [f"{label}/person{n}_{k}.png" for label in "ab" for n in range(6) for k in range(2)]
    of_sources = [f"{label}/_{n}_{k}.png" for label in "ab" for n in range(6) for k in range(2)]
    assert read(folder(of_patients, "p")).records["group"].nunique() == 6
    assert read(folder(of_sources, "s")).records["group"].nunique() == 12


def test_names_that_never_recur_make_no_groups():
    assert "group" not in read(folder([f"{label}/_{n}_1.png" for label in "ab" for n in range(20)]))


def test_a_pattern_of_the_users_own_takes_its_first_group_and_a_dash_none():
    root = folder([f"{label}/x{n % 5}y{n}.png" for label in "ab" for n in range(20)])
    assert read(root, group_pattern=r"x(\d)y").records["group"].nunique() == 5
    assert "group" not in read(root, group_pattern="-")


@pytest.mark.parametrize(("pattern", "told"), [("x(", "regular expression"), ("nowhere", "does not fit")])
def test_a_pattern_that_does_not_work_is_refused(pattern, told):
    with pytest.raises(InputError, match=told):
        read(folder(MANY), group_pattern=pattern)


def test_folders_below_a_class_are_groups():
    found = read(folder([f"{label}/p{n}/{k}.png" for label in "ab" for n in range(5) for k in range(3)]))
    assert found.records["group"].nunique() == 5


def test_no_group_is_on_two_sides_and_each_class_is_on_all():
    names = [
        f"{label}/person{n + 100 * (label == 'b')}_{k}.png"
        for label in "ab"
        for n in range(30)
        for k in range(1 + n % 4)
    ]
    found = read(folder(names))
    records, splits = found.records, data.split(found, SETTINGS)
    groups = {side: set(records["group"].iloc[rows]) for side, rows in splits.sides().items()}
    assert not groups["train"] & groups["test"]
    assert not groups["train"] & groups["validation"]
    assert not groups["validation"] & groups["test"]
    assert all(set(records["label"].iloc[rows]) == {0, 1} for rows in splits.sides().values())
    assert len(splits.test) / len(records) == pytest.approx(SHARES["test"], abs=0.06)
    assert sum(map(len, splits.sides().values())) == len(records)


def test_the_split_does_not_depend_on_the_seed():
    found = read(folder(MANY))
    one, other = (data.split(found, replace(SETTINGS, seed=seed)) for seed in (0, 1))
    assert np.array_equal(one.test, other.test)


def test_a_table_of_files_names_labels_groups_and_sides():
    root = folder([f"{n}.png" for n in range(30)])
    table = pd.DataFrame({"file": [f"{n}.png" for n in range(30)], "label": ["ill", "well"] * 15})
    table["group"], table["split"] = [f"p{n // 2}" for n in range(30)], ["train"] * 18 + ["val"] * 6 + ["test"] * 6
    table.to_csv(root / "labels.csv", index=False)
    found = read(root / "labels.csv")
    assert found.about.classes == ("ill", "well")
    assert found.records["group"].nunique() == 15
    assert {side: len(ids) for side, ids in sides(found).items()} == {"train": 18, "validation": 6, "test": 6}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"label": None}, "expected the column 'label'"),
        ({"label": [""] * 10}, "expected a class"),
        ({"file": ["0.png"] * 10}, "each identifier once"),
        ({"split": ["train"] * 9 + ["later"]}, "row 11, column 'split'.*'later'"),
    ],
)
def test_a_table_with_a_fault_is_refused_by_row_and_column(change, told):
    root = folder([f"{n}.png" for n in range(10)])
    table = pd.DataFrame({"file": [f"{n}.png" for n in range(10)], "label": ["a", "b"] * 5} | change)
    table.drop(columns=[name for name, values in change.items() if values is None]).to_csv(root / "t.csv", index=False)
    with pytest.raises(InputError, match=told):
        read(root / "t.csv")


def test_groups_that_are_numbers_stay_as_they_are_written():
    root = folder([f"{n}.png" for n in range(30)])
    table = pd.DataFrame({"file": [f"{n}.png" for n in range(30)], "label": ["ill", "well"] * 15})
    table["group"] = ["007", "07", "7", "1e1", "10"] * 6
    table.to_csv(root / "labels.csv", index=False)
    assert read(root / "labels.csv").records["group"].tolist() == table["group"].tolist()


@pytest.mark.parametrize("size", [0, 16, 48])
def test_the_demo_has_the_size_that_is_asked_for(monkeypatch, size):
    monkeypatch.setattr(demo, "IMAGES", 30)
    found = data.read(None, Settings(size=size))
    wanted = size or demo.SIZE
    assert found.about.size == wanted
    assert pixels(found, data.learn(found, Settings(size=size))).shape == (30, wanted, wanted, 1)


def test_arrays_keep_their_official_sides_and_their_size():
    found = data.read(arrays(), Settings())
    assert found.about.size == 8
    assert {side: len(ids) for side, ids in sides(found).items()} == {"train": 40, "validation": 12, "test": 20}
    stored = np.load("set.npz")
    shown = pixels(found, data.learn(found, SETTINGS), np.arange(40, 52))
    assert np.array_equal(shown[..., 0], stored["val_images"])
    assert np.array_equal(found.records["label"].to_numpy()[52:], stored["test_labels"].ravel())


def test_public_sets_have_the_names_of_their_classes():
    found = data.read(arrays(), Settings(data="medmnist:pneumonia"))
    assert found.about.classes == ("normal", "pneumonia")
    assert set(CLASSES) <= set(PIPELINE.sources)


def test_more_than_ten_numbered_classes_stand_in_the_order_of_their_numbers():
    labels = np.arange(40) % 12
    found = data.read(arrays(train_labels=labels), Settings())
    assert found.about.classes == tuple(str(n) for n in range(12))


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"val_images": None}, "expected an array 'val_images'"),
        ({"train_images": np.zeros((40, 8, 8))}, "'train_images': expected uint8.*float64"),
        ({"test_labels": np.zeros(3, int)}, "'test_labels': expected one whole number"),
        ({"train_images": np.array([object()] * 40)}, "expected an array 'train_images'"),
    ],
)
def test_arrays_with_a_fault_are_refused(changed, told):
    with pytest.raises(InputError, match=told):
        data.read(arrays(**changed), Settings())


def test_classes_too_small_to_split_get_a_sentence():
    with pytest.raises(InputError, match=r"Class 'b' is too small.*Received: 3"):
        data.split(read(folder([f"a/{n}.png" for n in range(20)] + [f"b/{n}.png" for n in range(3)])), SETTINGS)


def test_a_class_that_is_missing_from_an_official_side_is_named():
    names = [f"{top}/{label}/{n}.png" for top in ("train", "val", "test") for label in "ab" for n in range(5)]
    with pytest.raises(InputError, match="class 'b' is in test"):
        data.split(read(folder([name for name in names if not name.startswith("test/b")])), SETTINGS)


def test_one_class_alone_is_refused():
    with pytest.raises(InputError, match="at least two classes"):
        read(folder(["a/1.png", "a/2.png"]))


def test_images_outside_a_class_are_refused_with_what_was_expected():
    with pytest.raises(InputError, match="one folder for each class"):
        read(folder(["1.png", "2.png"]))


def test_bad_images_are_left_out_by_name_up_to_the_limit_and_refused_beyond():
    root = folder(MANY)
    (root / "cat" / "broken.png").write_bytes(picture(99)[:60])
    found = read(root, max_bad=0.05)
    assert len(found) == len(MANY)
    assert any("broken.png" in note for note in found.notes)
    with pytest.raises(InputError, match=r"1 of 41 images are bad.*broken\.png"):
        read(root)


def identities(images: Dataset) -> pd.Series:
    """The identity of each image by its name, without folder and suffix."""
    return pd.Series(images.identity, [Path(name).stem for name in images.records["id"]])


def test_an_image_is_recognised_in_every_format_and_at_every_size():
    root = folder([f"{label}/{label}{n}.png" for label in "ab" for n in range(10)])
    whole = identities(read(root))
    assert whole.nunique() == len(whole) == 20
    for label in "ab":
        for n in range(10):
            image = Image.open(root / label / f"{label}{n}.png")
            path = Path("again", label, f"{label}{n}").with_suffix((".bmp", ".tif", ".png")[n % 3])
            path.parent.mkdir(parents=True, exist_ok=True)
            (image.convert("RGB") if n % 2 else image).save(path)
    again = identities(read(Path("again"), size=32))
    assert again.equals(whole.loc[again.index])


def test_an_image_is_recognised_in_a_subset_of_other_folders_in_another_order():
    names = [f"{label}/{label}{n}.png" for label in "ab" for n in range(10)]
    whole = identities(read(folder(names)))
    moved = [f"train/{'z' if name[0] == 'a' else 'c'}/{name[2:]}" for name in names[::-1][3:17]]
    for name, new in zip(names[::-1][3:17], moved, strict=True):
        path = Path("part", new)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(Path("images", name).read_bytes())
    part = identities(read(Path("part"), group_pattern="-"))
    assert 0 < len(part) < len(whole)
    assert part.equals(whole.loc[part.index])


@pytest.mark.parametrize("size", [0, 8, 24])
def test_an_image_is_recognised_in_an_archive_at_every_size(size):
    stored = np.load(arrays())
    for side in ("train", "val", "test"):
        for row, (image, label) in enumerate(zip(stored[f"{side}_images"], stored[f"{side}_labels"], strict=True)):
            path = Path("files", side, str(label[0]), f"{row}.png")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
    archived = data.read(Path("set.npz"), Settings(size=size))
    assert set(archived.identity) == set(read(Path("files")).identity)


def test_several_sets_are_joined_with_their_classes_and_pixels():
    one, two = folder([f"{label}/{n}.png" for label in "bc" for n in range(5)], "one"), Path("two")
    folder([f"a/patient{n % 3}_{n}.png" for n in range(20)] + ["b/patient9_1.png"], "two")
    both = data.append([(path, SETTINGS) for path in (one, two)])
    records = both.records
    assert both.about.classes == ("b", "c", "a")
    # The twenty-one images of the second set begin like the ten of the first: equal pixels are kept once.
    assert [both.about.classes[label] for label in records["label"]] == ["b"] * 5 + ["c"] * 5 + ["a"] * 10 + ["b"]
    assert records["group"].nunique() == 10 + 3 + 1
    separate = {}
    for part in (read(one), read(two)):
        separate |= dict(zip(part.identity, pixels(part, data.learn(part, SETTINGS)), strict=True))
    shown = pixels(both, data.learn(both, SETTINGS))
    assert all(np.array_equal(image, separate[code]) for image, code in zip(shown, both.identity, strict=True))


def test_a_network_that_starts_from_another_keeps_its_classes_first():
    found = read(folder(MANY))
    adopted = data.adopt(found, data.Facts(("dog",), 16, 1))
    assert adopted.about.classes == ("dog", "cat")
    assert np.array_equal(adopted.records["label"], 1 - found.records["label"])
    with pytest.raises(InputError, match="none of bird"):
        data.adopt(found, data.Facts(("bird",), 16, 1))


def test_facts_and_what_was_recognised_survive_json():
    found = read(folder(MANY))
    facts = replace(data.learn(found, SETTINGS), calibration=Calibration("isotonic", (0.1, 0.9), (0.2, 0.8)), sure=0.9)
    for value in (facts, found.about):
        assert typed_json.from_json(type(value), json.loads(json.dumps(typed_json.to_json(value)))) == value


def test_other_files_are_ignored_and_counted():
    root = folder(MANY)
    (root / "cat" / "notes.txt").write_text("seen")
    (root / "cat" / ".hidden.png").write_text("no image")
    found = read(root)
    assert len(found) == len(MANY)
    assert any(note.startswith("1 other files are ignored") for note in found.notes)


def test_a_request_decodes_to_what_training_saw():
    root = folder(MANY)
    found = read(root)
    facts = data.learn(found, SETTINGS)
    table = pd.DataFrame({"image": [(root / name).read_bytes() for name in found.records["id"]]})
    asked = data.parse(table.set_axis(table.index + 7), facts)
    assert np.array_equal(pixels(asked, facts), pixels(found, facts))
    assert asked.records.index.equals(table.index + 7)
    assert not asked.labelled.any()
    assert not data.encode(asked, facts).targets


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ({"picture": [b"x"]}, "expected the column 'image'"),
        ({"image": ["text"]}, "row 0, column 'image': expected the bytes"),
        ({"image": [picture(0), b"no image"]}, "row 1, column 'image'"),
        ({"image": [picture(0), picture(1)], "id": ["a", "a"]}, "each identifier once"),
    ],
)
def test_a_request_with_a_fault_is_refused_by_row(table, told):
    with pytest.raises(InputError, match=told):
        data.parse(pd.DataFrame(table), data.Facts(("a", "b"), size=16, channels=1))


def test_records_of_other_classes_or_sizes_do_not_fit_a_network():
    found = read(folder(MANY))
    facts = data.learn(found, SETTINGS)
    with pytest.raises(InputError, match="Expected classes"):
        data.encode(found, replace(facts, classes=("ant", "bee")))
    with pytest.raises(InputError, match="Expected images of shape"):
        data.encode(found, replace(facts, size=32))


@pytest.mark.real
def test_the_blood_cells_split_by_source_and_test_on_the_unaugmented(real_data):
    found = data.read(real_data / "medical_images" / "blood_cells", Settings())
    records, splits = found.records, data.split(found, Settings())
    assert len(splits.test) == 71
    assert records["group"].iloc[np.concatenate([splits.train, splits.validation])].nunique() == 277
    assert records["group"].iloc[0].startswith("TEST_SIMPLE/")
    assert not set(records["group"].iloc[splits.train]) & set(records["group"].iloc[splits.validation])


@pytest.mark.real
def test_the_pneumonia_set_is_read_as_it_is_published(real_data):
    found = data.read(real_data / "medical_images" / "pneumonia.npz", Settings())
    records, splits = found.records, data.split(found, Settings())
    assert [len(side) for side in splits.sides().values()] == [4708, 524, 624]
    assert records["label"].iloc[splits.test].mean() == pytest.approx(0.625, abs=0.001)
    assert records["digest"].iloc[splits.train].duplicated().sum() == 18
