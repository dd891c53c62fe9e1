"""Images in, records out: where they come from, their classes and groups, the split, and requests."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from pipelines.core.contract import InputError
from pipelines.core.data.arrays import Gathered, Rows
from pipelines.core.data.dataset import grown, joined, relabelled
from pipelines.core.data.requests import Request
from pipelines.core.data.splits import Splits
from pipelines.core.reading import folders, media, sources, tables
from pipelines.medical_images import Settings, demo, images

SHARES = {"test": 0.2, "validation": 0.15}  # of the images, where the data do not say which are which
FIXED = ("size", "channels")
"""Facts that all data of a model share."""
FEWEST = 4  # groups of a class: one for train, one for test, and two for the halves of validation
SUFFIXES = {".png", ".jpg", ".jpeg", ".jpe", ".bmp", ".tif", ".tiff", ".dcm", ".dicom", ""}
PATIENT = r"(?i)(?:patient|person|subject|case|pat|sub)[-_ ]?\d+"
SOURCE = r"^_?(\d+)_\d+$"
"""How names tell of whom or what an image is: `person12_3`, or the number of a source before that of a copy."""
BLOCK = 256  # images in memory at once
MATCHED = 0.95  # share of the names that must fit before a pattern is taken to be the one
CLASSES = {
    "medmnist:breast": ("malignant", "normal or benign"),
    "medmnist:pneumonia": ("normal", "pneumonia"),
    "medmnist:oct": ("choroidal neovascularization", "diabetic macular edema", "drusen", "normal"),
    "medmnist:derma": (
        "actinic keratosis",
        "basal cell carcinoma",
        "benign keratosis",
        "dermatofibroma",
        "melanoma",
        "melanocytic nevus",
        "vascular lesion",
    ),
    "medmnist:blood": (
        "basophil",
        "eosinophil",
        "erythroblast",
        "immature granulocyte",
        "lymphocyte",
        "monocyte",
        "neutrophil",
        "platelet",
    ),
}
"""What the numbers in public sets stand for, where they are not a grade or one of many organs and tissues."""


# --------------------------------------------------------------------------------------------------------------- read


def read(path: Path | None, settings: Settings) -> pd.DataFrame:
    """One row an image: `id`, `label` (int64, place of the class), `digest`, `image`, and `group` and `side` if known.

    `image` is the image's place among those in the .npy files `attrs["pixels"]`, one after the other, or where there is
    none its pixels, uint8. `attrs` further holds the `classes` by label, `size` and `channels`, and `notes`, a sentence
    for each assumption.

    Raises:
        InputError: where the data cannot be used, with the file and what was expected.
    """
    if path is None:
        records, pixels = demo.make(seed=0)
        if settings.size:
            pixels = np.stack([images.fitted(image, settings.size, 1) for image in pixels])
        records = records.rename(columns={"subject": "group"})
        return _records(records, pixels, "", ["The radiographs are simulated."])
    cache = _cache()
    if path.suffix == ".npz":
        return _from_arrays(path, cache, settings)
    notes: list[str] = []
    listing = _listed(path, notes) if path.is_dir() else _tabled(path)
    if "group" not in listing:
        listing = _grouped(listing, settings.group_pattern, notes)
    pixels, table = images.load([Path(file) for file in listing["file"]], cache, settings.size, 0, settings.max_bad)
    bad = table[table["reason"] != ""]
    notes += [f"{row.file} is left out: {row.reason}." for row in bad.itertuples()]
    good = (table["reason"] == "").to_numpy()
    listing = listing[good].assign(digest=table["digest"].to_numpy()[good])
    return _records(listing.drop(columns=["file", "stem"]), pixels, pixels.filename, notes)


def _cache() -> Path:
    return Path.cwd() / "data" / "medical_images" / "cache"


def _records(listing: pd.DataFrame, pixels: np.ndarray, cache: str, notes: list[str]) -> pd.DataFrame:
    """Records of a listing with `id`, `class` and what else is known; its rows and those of `pixels` correspond."""
    classes = sorted(listing["class"].unique(), key=lambda name: (len(name), name) if name.isdigit() else (0, name))
    if len(classes) < 2:
        raise InputError(f"Images of at least two classes are needed. Received: {', '.join(classes) or 'none'}.")
    records = listing.drop(columns="class").reset_index(drop=True)
    records["label"] = listing["class"].map(classes.index).to_numpy(np.int64)
    if "digest" not in records:
        records["digest"] = np.array([images.digest(image) for image in pixels], np.uint64)
    flat = pixels.reshape(len(pixels), -1)
    records["image"] = np.arange(len(pixels)) if cache else pd.Series(list(flat), dtype=object)
    if "group" not in records:
        notes.append(
            "No patient or source is known: images of one patient may be on both sides, and then the figures flatter; "
            "--group-pattern, or a column 'group' in a table of files, tells."
        )
    _, size, _, channels = pixels.shape
    records.attrs = {"classes": classes, "size": size, "channels": channels, "notes": notes}
    records.attrs |= {"pixels": [str(cache)]} if cache else {}
    return records


def read_all(parts: Sequence[tuple[Path | None, Settings]]) -> pd.DataFrame:
    """The images of several reads as one, with the classes in the order in which they came.

    Raises:
        InputError: where their images differ in size or colour.
    """
    reads = [read(path, settings) for path, settings in parts]
    names = list(dict.fromkeys(name for records in reads for name in records.attrs["classes"]))
    reads = [relabelled(records, names) for records in reads]
    grouped, paths = any("group" in records for records in reads), []
    first, begin = reads[0].attrs, 0
    for (path, _), records in zip(parts, reads, strict=True):
        about = records.attrs
        if (about["size"], about["channels"]) != (first["size"], first["channels"]):
            raise InputError(
                f"{path}: expected images of {first['size']} pixels and {first['channels']} channels, to join others. "
                f"Received: {about['size']} pixels and {about['channels']} channels."
            )
        if grouped and "group" not in records:
            records["group"] = records["id"]
        records["image"] += begin
        begin += sum(len(np.load(file, mmap_mode="r")) for file in about["pixels"])
        paths += about["pixels"]
    records = joined(reads)
    records.attrs |= {"pixels": paths}
    return records


def _listed(folder: Path, notes: list[str]) -> pd.DataFrame:
    """The images in a folder of one folder a class, these perhaps below train, val and test."""
    listing = folders.in_folders(folder, SUFFIXES, "images", notes)
    listing = listing[listing["class"] != ""].reset_index(drop=True)  # a picture beside the folders is none of them
    if listing.empty:
        raise InputError(f"{folder} holds no images in folders: expected one folder for each class.")
    listing["stem"] = [Path(file).stem for file in listing["file"]]
    return listing if (listing["side"] != "").any() else listing.drop(columns="side")


def _tabled(path: Path) -> pd.DataFrame:
    """The images that a table of file, label and perhaps group and split names, files relative to the table."""
    table = tables.load(path, names=("file", "label", "group"))
    for column in ("file", "label"):
        if column not in table:
            raise InputError(f"{path.name}: expected the column '{column}'. Received: {tables.listed(table, column)}.")
        tables.refuse(table[column], table[column].isna(), "a file" if column == "file" else "a class", path.name)
    names = tables.identifiers(table, "file", path.name).astype(str)
    listing = pd.DataFrame({"id": names, "file": [str(path.parent / name) for name in names]})
    listing["class"] = table["label"].astype(str).to_numpy()
    listing["stem"] = [Path(name).stem for name in names]
    if "group" in table:
        tables.refuse(table["group"], table["group"].isna(), "a patient or source", path.name)
        listing["group"] = table["group"].astype(str).to_numpy()
    if "split" in table:
        sides = table["split"].astype("str").map(folders.side)
        tables.refuse(table["split"], sides == "", "train, val or test", path.name)
        listing["side"] = sides.to_numpy()
    return listing


def _grouped(listing: pd.DataFrame, pattern: str, notes: list[str]) -> pd.DataFrame:
    """The listing with the group of each image, told by the name of its file, if anything tells it."""
    if pattern == "-":
        return listing
    if pattern:
        try:
            found = [re.search(pattern, stem) for stem in listing["stem"]]
        except re.error as error:
            raise InputError(
                f"--group-pattern: expected a regular expression. Received: {pattern!r} ({error})."
            ) from None
        missing = [file for file, match in zip(listing["file"], found, strict=True) if match is None]
        if missing:
            raise InputError(
                f"--group-pattern {pattern!r} finds no group in {missing[0]} ({len(missing):,} such files)."
            )
        return listing.assign(group=[match[match.lastindex or 0] for match in found])
    for known, told in ((PATIENT, "patient"), (SOURCE, "number of the source")):
        found = [re.search(known, stem) for stem in listing["stem"]]
        keys = [match[match.lastindex or 0].lower() if match else "" for match in found]
        if known == SOURCE:  # such numbers are given anew in each folder
            keys = [f"{name.rpartition('/')[0]}/{key}" for name, key in zip(listing["id"], keys, strict=True)]
        keys = [key if match else name for key, match, name in zip(keys, found, listing["id"], strict=True)]
        if len(set(keys)) < len(keys) and np.mean([match is not None for match in found]) >= MATCHED:
            example = f"{listing['id'].iloc[0]} is of {keys[0]}"
            notes.append(f"Images belong together by the {told} in the file's name, recognised: {example}.")
            return listing.assign(group=keys)
    return listing


def _from_arrays(path: Path, cache: Path, settings: Settings) -> pd.DataFrame:
    """The images of a MedMNIST-style archive, `train_images` and `train_labels`, and so for val and test."""
    folder = sources.unpack(path, cache)
    parts = {}
    for side, begin in zip(folders.SIDES, ("train", "val", "test"), strict=True):
        for kind in ("images", "labels"):
            try:
                parts[side, kind] = np.load(folder / f"{begin}_{kind}.npy", mmap_mode="r")
            except (OSError, ValueError) as error:
                held = ", ".join(sorted(file.stem for file in folder.glob("*.npy"))) if folder.is_dir() else folder.name
                raise InputError(
                    f"{path.name}: expected an array '{begin}_{kind}'. Received: {held} ({error})."
                ) from None
        pixels, labels = parts[side, "images"], parts[side, "labels"]
        _refuse_shape(pixels, f"{path.name}, '{begin}_images'")
        if labels.dtype.kind not in "iu" or labels.shape not in ((len(pixels),), (len(pixels), 1)):
            raise InputError(
                f"{path.name}, '{begin}_labels': expected one whole number for each of {len(pixels):,} images. "
                f"Received: {labels.dtype} of shape {labels.shape}."
            )
    stored = _stored([parts[side, "images"] for side in folders.SIDES], folder, settings.size)
    labels = np.concatenate([np.ravel(parts[side, "labels"]) for side in folders.SIDES])
    names = CLASSES.get(settings.data, ())
    side = np.repeat(folders.SIDES, [len(parts[side, "images"]) for side in folders.SIDES])
    listing = pd.DataFrame({"id": [f"{side}-{n}" for n, side in enumerate(side)], "side": side})
    listing["class"] = [names[label] if label < len(names) else str(label) for label in labels]
    return _records(listing, stored, stored.filename, [])


def _refuse_shape(pixels: np.ndarray, origin: str) -> None:
    if pixels.dtype != np.uint8 or pixels.ndim not in (3, 4) or (pixels.ndim == 4 and pixels.shape[3] not in (1, 3)):
        raise InputError(
            f"{origin}: expected uint8 of shape (n, height, width), or with 1 or 3 channels behind. "
            f"Received: {pixels.dtype} of shape {pixels.shape}."
        )


def _stored(parts: list[np.ndarray], folder: Path, size: int) -> np.ndarray:
    """The images of all parts one after the other, as a memory map, uint8 (n, size, size, channels)."""
    sides = max(parts[0].shape[1:3])
    size = size or min(sides, images.LARGEST)
    channels = parts[0].shape[3] if parts[0].ndim == 4 else 1
    path = folder / f"images-{size}.npy"
    if not path.exists():
        draft = path.with_suffix(".part")
        shape = (sum(map(len, parts)), size, size, channels)
        whole, at = np.lib.format.open_memmap(draft, "w+", np.uint8, shape), 0
        for part in parts:
            for image in part:
                whole[at] = images.fitted(np.asarray(image).reshape(*image.shape[:2], -1), size, channels)
                at += 1
        whole.flush()
        draft.replace(path)
    return np.load(path, mmap_mode="r")


def describe(records: pd.DataFrame) -> str:
    """What was read, in a few lines: how many images of which class, of how many patients, and what was assumed."""
    about = records.attrs
    counts = records["label"].value_counts().sort_index()
    classes = ", ".join(f"{about['classes'][label]} {count:,}" for label, count in counts.items())
    groups = f" of {records['group'].nunique():,} groups" if "group" in records else ""
    kind = "colour" if about["channels"] == 3 else "grey"
    return "\n".join(
        [
            f"{len(records):,} images{groups}, {about['size']} × {about['size']} pixels, {kind}",
            f"classes: {classes}",
            *about["notes"],
        ]
    )


# -------------------------------------------------------------------------------------------------------------- split


def split(records: pd.DataFrame, settings: Settings) -> Splits:
    """The sides that the data name; else, or for a side that they lack, whole groups drawn at random by class.

    Raises:
        InputError: where a class has too few groups for that, or none on a side.
    """
    classes = records.attrs["classes"]
    group = records["group"] if "group" in records else records["id"]
    named = set(records["side"]) if "side" in records else set()
    if named and "train" not in named:
        raise InputError(f"Images for training are needed. Received: only {' and '.join(sorted(named))}.")
    side = records["side"].to_numpy(object).copy() if named else np.full(len(records), "train", object)
    drawn = [name for name in SHARES if name not in named]
    if drawn:
        _refuse_small(records, side == "train", group, classes)
        _draw(side, records["label"].to_numpy(), group, {name: SHARES[name] for name in drawn})
    for name in folders.SIDES:
        missing = set(range(len(classes))) - set(records["label"][side == name])
        if missing:
            raise InputError(f"No image of class '{classes[min(missing)]}' is in {name}: expected some of every class.")
    rule = f"as the data name {', '.join(name for name in folders.SIDES if name in named)}" if named else ""
    how = "at random by class" + (", whole groups together" if "group" in records else "")
    rule += f"{'; ' if rule else ''}{' and '.join(drawn)} drawn {how}" if drawn else ""
    train, validation, test = (np.flatnonzero(side == name) for name in folders.SIDES)
    return replace(judged(records, test), train=train, validation=validation, rule=rule)


def judged(records: pd.DataFrame, test: np.ndarray) -> Splits:
    """The split that has these rows for test and no others; images of a group are tied."""
    return Splits(test[:0], test[:0], test, clusters=("group",) if "group" in records else ())


def _refuse_small(records: pd.DataFrame, free: np.ndarray, group: pd.Series, classes: list[str]) -> None:
    for label, name in enumerate(classes):
        of_class = group[free & (records["label"] == label).to_numpy()]
        if of_class.nunique() < FEWEST:
            unit = "images" if "group" not in records else "groups of images"
            raise InputError(
                f"Class '{name}' is too small to be on all sides: expected {FEWEST} {unit} or more, "
                f"better a hundred. Received: {of_class.nunique()}."
            )


def _draw(side: np.ndarray, labels: np.ndarray, group: pd.Series, shares: dict[str, float]) -> None:
    """Moves whole groups from train to the sides of `shares`, of every class about that share of its images.

    The draw is the same for every seed, so that networks of several seeds are judged on the same images.
    """
    free = np.flatnonzero(side == "train")
    codes, names = pd.factorize(group.iloc[free])
    size = np.bincount(codes)
    counts = np.zeros((len(names), labels.max() + 1))
    np.add.at(counts, (codes, labels[free]), 1)
    of_group, rng = counts.argmax(axis=1), np.random.default_rng(0)
    for label in np.unique(of_group):
        order = rng.permutation(np.flatnonzero(of_group == label))
        share = size[order].cumsum() / size[order].sum()
        begin = 0.0
        for name, wanted in shares.items():
            first, last = np.searchsorted(share, [begin + 1e-9, begin + wanted - 1e-9])
            least = 2 if name == "validation" else 1
            last = min(max(last, first + least - 1), len(order) - 2)
            side[free[np.isin(codes, order[first : last + 1])]] = name
            begin = share[last]


# ------------------------------------------------------------------------------------------------- learn, decode, ask


def adopt(records: pd.DataFrame, facts: dict) -> pd.DataFrame:
    """The records for a network that starts from another: its classes first, in its order."""
    return grown(records, facts["classes"])


def summary(records: pd.DataFrame, facts: dict) -> pd.DataFrame:
    """What drift is measured on, a row an image: `mean` and `contrast` in grey levels, and `sharpness`.

    Contrast is the standard deviation, sharpness the logarithm of the variance of the Laplacian (Pech-Pacheco,
    Cristobal, Chamorro-Martinez and Fernandez-Valdivia 2000, Diatom autofocusing in brightfield microscopy).
    """
    found, rows = decode(records, facts)["image"], np.arange(len(records))
    parts = [_measured(found[some]) for some in np.array_split(rows, len(rows) // BLOCK + 1)]
    return pd.DataFrame(np.concatenate(parts), columns=["mean", "contrast", "sharpness"])


def _measured(pixels: np.ndarray) -> np.ndarray:
    """Mean, contrast and sharpness of images (n, size, size, channels), float64 (n, 3)."""
    grey = pixels.mean(axis=3)
    beside = grey[:, :-2, 1:-1] + grey[:, 2:, 1:-1] + grey[:, 1:-1, :-2] + grey[:, 1:-1, 2:]
    edges = (beside - 4 * grey[:, 1:-1, 1:-1]).var(axis=(1, 2))
    return np.stack([grey.mean(axis=(1, 2)), grey.std(axis=(1, 2)), np.log(edges + 1)], axis=1)


def learn(train: pd.DataFrame, settings: Settings) -> dict:
    """Facts: the classes, and the size and channels of the images; no column of the records feeds the network."""
    return {"features": []} | {name: train.attrs[name] for name in ("classes", "size", "channels", "notes")}


def decode(records: pd.DataFrame, facts: dict) -> dict[str, Rows]:
    """The network's input: `image`, uint8 (n, size, size, channels), read from the cache when it is asked for.

    Raises:
        InputError: if the images have other classes, or another shape, than those that the facts were learnt from.
    """
    shape = (facts["size"], facts["size"], facts["channels"])
    held = records.attrs
    if held.get("classes", facts["classes"]) != facts["classes"]:
        raise InputError(f"Expected classes {', '.join(facts['classes'])}. Received: {', '.join(held['classes'])}.")
    if "pixels" in held:
        found: Rows = Gathered([np.load(path, mmap_mode="r") for path in held["pixels"]], records["image"].to_numpy())
    else:
        found = np.stack(records["image"].tolist()).reshape(len(records), *shape)
    if found.shape[1:] != shape:
        raise InputError(f"Expected images of shape {shape}. Received: {found.shape[1:]}.")
    return {"image": found}


def parse(table: pd.DataFrame, facts: dict) -> pd.DataFrame:
    """A request as records: column `image` holds the bytes of image files of any known format, `id` may name them.

    Raises:
        InputError: for a missing column, and for the first image that cannot be read.
    """
    convert = partial(images.convert, size=facts["size"], channels=facts["channels"])
    return media.requested(table, "image", "image", images.KIND, convert)


def requests(path: Path | None, history: Path | None, facts: dict, settings: Settings) -> Iterator[Request]:
    """The images of a folder, of a table of files, or of an .npz archive, a thousand at a time.

    Raises:
        InputError: where there are no images.
    """
    size, channels = facts["size"], facts["channels"]
    if path is None:
        table, pixels = demo.make(seed=0)
        fit = partial(images.fitted, size=size, channels=channels)
        yield from media.requests(table["id"], pixels, "image", fit, "All images are scored.")
    elif path.suffix == ".npz":
        stored = _arrays(path)
        places = [(name, n) for name, pixels in stored.items() for n in range(len(pixels))]
        ids = pd.Series([f"{folders.side(name) or name}-{at}" for at, (name, _) in enumerate(places)])

        def stored_image(place: tuple[str, int]) -> np.ndarray:
            image = np.asarray(stored[place[0]][place[1]])
            return images.fitted(image.reshape(*image.shape[:2], -1), size, channels)

        yield from media.requests(ids, places, "image", stored_image, f"All images of {path.name} are scored.")
    else:
        listing, note = folders.listed(path, SUFFIXES, "images", "label")
        convert = partial(images.convert, size=size, channels=channels)
        yield from media.of_files(listing, images.KIND, "image", convert, note)


def _arrays(path: Path) -> dict[str, np.ndarray]:
    """The images of an .npz archive by name: every array whose name ends in "images", those of the sides first."""
    unpacked = sources.unpack(path, _cache())
    folder = unpacked if unpacked.is_dir() else unpacked.parent  # of a single array
    found = {file.stem.removesuffix("_images"): file for file in sorted(folder.glob("*images.npy"))}
    order = sorted(found, key=lambda name: [*folders.SIDES, ""].index(folders.side(name)))
    if not found:
        raise InputError(f"{path.name}: expected an array 'images'. Received: none whose name ends so.")
    arrays = {name: np.load(found[name], mmap_mode="r") for name in order}
    for name, pixels in arrays.items():
        _refuse_shape(pixels, f"{path.name}, '{found[name].stem}'")
    return arrays


def columns(facts: dict) -> dict[str, tuple[str, bool]]:
    """What a request holds: the bytes of each image file, and perhaps a name."""
    return {"image": ("binary", True), "id": ("string", False)}


def request(records: pd.DataFrame, facts: dict) -> pd.DataFrame:
    """These records as a request holds them: the images, as PNG files."""
    pixels = decode(records, facts)["image"][np.arange(len(records))]
    return pd.DataFrame({"image": [images.png(image) for image in pixels]})
