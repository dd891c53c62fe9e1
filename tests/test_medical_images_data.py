"""Images as people have them: folders, tables of files, arrays; their groups, their sides, and requests."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipelines.core.contract import InputError
from pipelines.core.reading import folders
from pipelines.medical_images import PIPELINE, Settings, data, demo

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


def read(path: Path, **settings: object) -> pd.DataFrame:
    return data.read(path, replace(SETTINGS, **settings))


def sides(records: pd.DataFrame) -> dict[str, set]:
    return {side: set(records["id"].iloc[rows]) for side, rows in data.split(records, SETTINGS).sides().items()}


MANY = [f"{label}/{n}.png" for label in ("cat", "dog") for n in "abcdefghijklmnopqrst"]


def test_a_folder_of_classes_is_read_in_order_with_what_it_holds():
    records = read(folder(MANY))
    assert records["id"].tolist() == sorted(MANY)
    assert [records.attrs["classes"][label] for label in records["label"]] == [name[:3] for name in sorted(MANY)]
    shown = data.decode(records, data.learn(records, SETTINGS))["image"]
    expected = np.asarray(Image.open(io.BytesIO(picture(MANY.index("dog/c.png")))))
    assert np.array_equal(shown[np.array([records["id"].tolist().index("dog/c.png")])][0, ..., 0], expected)


def test_without_a_group_the_user_is_told_what_that_means():
    assert any("No patient or source is known" in note for note in read(folder(MANY)).attrs["notes"])


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
    records = read(folder([*names, *(name.replace("a/", "b/") for name in names)]))
    one_class = records[records["label"] == 0]
    assert one_class["group"].nunique() == groups
    assert any("recognised" in note for note in records.attrs["notes"])


def test_patients_are_one_group_across_classes_but_numbers_of_sources_are_not():
    of_patients = [f"{label}/person{n}_{k}.png" for label in "ab" for n in range(6) for k in range(2)]
    of_sources = [f"{label}/_{n}_{k}.png" for label in "ab" for n in range(6) for k in range(2)]
    assert read(folder(of_patients, "p"))["group"].nunique() == 6
    assert read(folder(of_sources, "s"))["group"].nunique() == 12


def test_names_that_never_recur_make_no_groups():
    assert "group" not in read(folder([f"{label}/_{n}_1.png" for label in "ab" for n in range(20)]))


def test_a_pattern_of_the_users_own_takes_its_first_group_and_a_dash_none():
    root = folder([f"{label}/x{n % 5}y{n}.png" for label in "ab" for n in range(20)])
    assert read(root, group_pattern=r"x(\d)y")["group"].nunique() == 5
    assert "group" not in read(root, group_pattern="-")


@pytest.mark.parametrize(("pattern", "told"), [("x(", "regular expression"), ("nowhere", "finds no group")])
def test_a_pattern_that_does_not_work_is_refused(pattern, told):
    with pytest.raises(InputError, match=told):
        read(folder(MANY), group_pattern=pattern)


def test_folders_below_a_class_are_groups():
    records = read(folder([f"{label}/p{n}/{k}.png" for label in "ab" for n in range(5) for k in range(3)]))
    assert records["group"].nunique() == 5


def test_no_group_is_on_two_sides_and_each_class_is_on_all():
    names = [
        f"{label}/person{n + 100 * (label == 'b')}_{k}.png"
        for label in "ab"
        for n in range(30)
        for k in range(1 + n % 4)
    ]
    records = read(folder(names))
    splits = data.split(records, SETTINGS)
    groups = {side: set(records["group"].iloc[rows]) for side, rows in splits.sides().items()}
    assert not groups["train"] & groups["test"]
    assert not groups["train"] & groups["validation"]
    assert not groups["validation"] & groups["test"]
    assert all(set(records["label"].iloc[rows]) == {0, 1} for rows in splits.sides().values())
    assert len(splits.test) / len(records) == pytest.approx(data.SHARES["test"], abs=0.06)
    assert sum(map(len, splits.sides().values())) == len(records)


def test_the_split_does_not_depend_on_the_seed():
    records = read(folder(MANY))
    one, other = (data.split(records, replace(SETTINGS, seed=seed)) for seed in (0, 1))
    assert np.array_equal(one.test, other.test)


def test_a_table_of_files_names_labels_groups_and_sides():
    root = folder([f"{n}.png" for n in range(30)])
    table = pd.DataFrame({"file": [f"{n}.png" for n in range(30)], "label": ["ill", "well"] * 15})
    table["group"], table["split"] = [f"p{n // 2}" for n in range(30)], ["train"] * 18 + ["val"] * 6 + ["test"] * 6
    table.to_csv(root / "labels.csv", index=False)
    records = read(root / "labels.csv")
    assert records.attrs["classes"] == ["ill", "well"]
    assert records["group"].nunique() == 15
    assert {side: len(ids) for side, ids in sides(records).items()} == {"train": 18, "validation": 6, "test": 6}


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
    assert read(root / "labels.csv")["group"].tolist() == table["group"].tolist()


@pytest.mark.parametrize("size", [0, 16, 48])
def test_the_demo_has_the_size_that_is_asked_for(monkeypatch, size):
    monkeypatch.setattr(demo, "IMAGES", 30)
    records = data.read(None, Settings(size=size))
    wanted = size or demo.SIZE
    assert records.attrs["size"] == wanted
    assert data.decode(records, data.learn(records, Settings(size=size)))["image"].shape == (30, wanted, wanted, 1)


def test_arrays_keep_their_official_sides_and_their_size():
    records = data.read(arrays(), Settings())
    assert records.attrs["size"] == 8
    assert {side: len(ids) for side, ids in sides(records).items()} == {"train": 40, "validation": 12, "test": 20}
    held = np.load("set.npz")
    shown = data.decode(records, data.learn(records, SETTINGS))["image"][np.arange(40, 52)]
    assert np.array_equal(shown[..., 0], held["val_images"])
    assert np.array_equal(records["label"].to_numpy()[52:], held["test_labels"].ravel())


def test_public_sets_have_the_names_of_their_classes():
    records = data.read(arrays(), Settings(data="medmnist:pneumonia"))
    assert records.attrs["classes"] == ["normal", "pneumonia"]
    assert {name.removeprefix("medmnist:") for name in data.CLASSES} <= {
        name.split(":")[1] for name in PIPELINE.sources
    }


def test_more_than_ten_numbered_classes_stand_in_the_order_of_their_numbers():
    labels = np.arange(40) % 12
    records = data.read(arrays(train_labels=labels), Settings())
    assert records.attrs["classes"] == [str(n) for n in range(12)]


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
    records = read(root, max_bad=0.05)
    assert len(records) == len(MANY)
    assert any("broken.png" in note for note in records.attrs["notes"])
    with pytest.raises(InputError, match=r"1 of 41 images are bad.*broken\.png"):
        read(root)


def test_equal_images_have_equal_digests_whatever_their_format():
    root = folder(MANY)
    Image.open(root / "cat" / "a.png").save(root / "dog" / "z.bmp")
    records = read(root).set_index("id")
    assert records.loc["cat/a.png", "digest"] == records.loc["dog/z.bmp", "digest"]
    assert records["digest"].nunique() == len(MANY)


def test_other_files_are_ignored_and_counted():
    root = folder(MANY)
    (root / "cat" / "notes.txt").write_text("seen")
    (root / "cat" / ".hidden.png").write_text("no image")
    records = read(root)
    assert len(records) == len(MANY)
    assert any(note.startswith("1 other files are ignored") for note in records.attrs["notes"])


def test_a_request_decodes_to_what_training_saw():
    root = folder(MANY)
    records = read(root)
    facts = data.learn(records, SETTINGS)
    asked = data.parse(pd.DataFrame({"image": [(root / name).read_bytes() for name in records["id"]]}), facts)
    rows = np.arange(len(records))
    assert np.array_equal(data.decode(asked, facts)["image"][rows], data.decode(records, facts)["image"][rows])
    assert (asked["label"] == -1).all()


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
    facts = {"size": 16, "channels": 1, "classes": ["a", "b"]}
    with pytest.raises(InputError, match=told):
        data.parse(pd.DataFrame(table), facts)


def test_records_of_other_classes_or_sizes_do_not_fit_a_network():
    records = read(folder(MANY))
    facts = data.learn(records, SETTINGS)
    with pytest.raises(InputError, match="Expected classes"):
        data.decode(records, facts | {"classes": ["ant", "bee"]})
    with pytest.raises(InputError, match="Expected images of shape"):
        data.decode(records, facts | {"size": 32})


@pytest.mark.real
def test_the_blood_cells_split_by_source_and_test_on_the_unaugmented(real_data):
    records = data.read(real_data / "medical_images" / "blood_cells", Settings())
    splits = data.split(records, Settings())
    assert len(splits.test) == 71
    assert records["group"].iloc[np.concatenate([splits.train, splits.validation])].nunique() == 277
    assert records["group"].iloc[0].startswith("TEST_SIMPLE/")
    assert not set(records["group"].iloc[splits.train]) & set(records["group"].iloc[splits.validation])


@pytest.mark.real
def test_the_pneumonia_set_is_read_as_it_is_published(real_data):
    records = data.read(real_data / "medical_images" / "pneumonia.npz", Settings())
    splits = data.split(records, Settings())
    assert [len(side) for side in splits.sides().values()] == [4708, 524, 624]
    assert records["label"].iloc[splits.test].mean() == pytest.approx(0.625, abs=0.001)
    assert records["digest"].iloc[splits.train].duplicated().sum() == 18
