"""Images in, records out: where they come from, their classes and groups, the split, and requests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from pipelines.core.contract import Capabilities, InputError
from pipelines.core.data.arrays import Encoded, Gathered, Rows
from pipelines.core.data.dataset import Dataset, extended_classes, join, with_classes
from pipelines.core.data.requests import Request
from pipelines.core.data.splits import SHARES, Splits, draw_by_class
from pipelines.core.evaluation.calibration import Calibration
from pipelines.core.reading import folders, media_cache
from pipelines.medical_images import Settings, demo, images, inspection
from pipelines.medical_images.sources import CLASSES

KEY = ("digest",)
"""An image is recognised by its decoded pixels, whatever its name and format."""
BLOCK = 256  # images in memory at once


@dataclass(frozen=True)
class About:
    """What was recognised about the images.

    Attributes:
        classes: names by code.
        size, channels: of the images as the network sees them.
        pixels: paths of .npy files, uint8 (n, size, size, channels); column `image` of the records is the place of an
            image in them, one after the other. Without files the column has the pixels themselves, flat.
    """

    classes: tuple[str, ...]
    size: int
    channels: int
    pixels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Facts:
    """What was learnt; `TASK.calibrate` sets the last four, which say "not sure of anything" until then.

    Attributes:
        classes: names by code.
        size, channels: of the images.
        calibration: of the probabilities.
        quantile: a class is in the prediction set if its probability is at least 1 - quantile.
        sure: lowest confidence of a decision that is not referred to a person.
        threshold: probability of the second of two classes from which on it is reported at the asked specificity.
    """

    classes: tuple[str, ...]
    size: int
    channels: int
    features: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    calibration: Calibration | None = None
    quantile: float = 1.0
    sure: float = 2.0
    threshold: float = 0.5


# --------------------------------------------------------------------------------------------------------------- read


def read(path: Path | None, settings: Settings) -> Dataset[About]:
    """Read a folder, a table of files, an .npz archive, or the demo.

    Records have `id`, `label`, `digest`, `image` (see `About`), and `group` and `side` where they are known.
    """
    if path is None:
        records, pixels = demo.make(seed=0)
        listing = records.rename(columns={"subject": "group"}).assign(digest=images.digests(pixels))
        if settings.size:
            pixels = np.stack([images.fitted(image, settings.size, 1) for image in pixels])
        return _dataset(listing, pixels, "", ["The radiographs are simulated."])
    if path.suffix == ".npz":
        listing, stored = images.from_archive(path, _cache(), settings.size, CLASSES.get(settings.data, ()))
        return _dataset(listing, stored, str(stored.filename), [])
    notes: list[str] = []
    listing = images.in_folders(path, notes) if path.is_dir() else folders.table_of_files(path, "label", "group")
    if "group" not in listing:
        listing = images.grouped(listing, settings.group_pattern, notes)
    stored, table = images.load([Path(file) for file in listing["file"]], _cache(), settings.size, settings.max_bad)
    good = (table["reason"] == "").to_numpy()
    notes += [f"{row.file} is left out: {row.reason}." for row in table[~good].itertuples()]
    facts = ["digest", *images.FORM, *(["patient"] if "group" not in listing and settings.group_pattern != "-" else [])]
    listing = listing[good].assign(**{name: table[name].to_numpy()[good] for name in facts})
    if "patient" in listing:
        listing = images.by_patient(listing, notes)
    return _dataset(listing.drop(columns="file"), stored, str(stored.filename), notes)


def _cache() -> Path:
    return Path.cwd() / "data" / "medical_images" / "cache"


def _dataset(listing: pd.DataFrame, pixels: np.ndarray, stored: str, notes: list[str]) -> Dataset[About]:
    """The dataset of a listing with `id`, `class`, `digest` and more; its rows and those of `pixels` correspond."""
    classes = sorted(listing["class"].unique(), key=lambda name: (len(name), name) if name.isdigit() else (0, name))
    if len(classes) < 2:
        raise InputError(f"Images of at least two classes are needed. Received: {', '.join(classes) or 'none'}.")
    records = folders.with_groups(listing.drop(columns="class"), "patient or source", notes).reset_index(drop=True)
    records["label"] = listing["class"].map(classes.index).to_numpy(np.int64)
    records["labelled"] = True
    flat = pixels.reshape(len(pixels), -1)
    records["image"] = np.arange(len(pixels)) if stored else pd.Series(list(flat), dtype=object)
    _, size, _, channels = pixels.shape
    about = About(tuple(classes), size, channels, (stored,) if stored else ())
    return Dataset(records, about, KEY, tuple(notes))


def append(parts: Sequence[tuple[Path | None, Settings]]) -> Dataset[About]:
    """The images of several reads as one, with the classes in the order in which they came.

    Raises:
        InputError: where their images differ in size or colour.
    """
    reads = [read(path, settings) for path, settings in parts]
    classes = tuple(dict.fromkeys(name for data in reads for name in data.about.classes))
    grouped, first, begin = any("group" in data for data in reads), reads[0].about, 0
    for number, (data, (path, _)) in enumerate(zip(reads, parts, strict=True)):
        about = data.about
        if (about.size, about.channels) != (first.size, first.channels):
            raise InputError(
                f"{path}: expected images of {first.size} pixels and {first.channels} channels, to join others. "
                f"Received: {about.size} pixels and {about.channels} channels."
            )
        records = with_classes(data, classes).records
        records["image"] += begin
        if grouped and "group" not in records:
            records["group"] = records["id"]
        begin += sum(len(np.load(file, mmap_mode="r")) for file in about.pixels)
        reads[number] = replace(data, records=records)
    pixels = tuple(file for data in reads for file in data.about.pixels)
    return replace(join(reads), about=replace(first, classes=classes, pixels=pixels))


def adopt(data: Dataset[About], facts: Facts) -> Dataset[About]:
    """The data for a network that starts from another: the classes of that one first, in its order."""
    return with_classes(data, extended_classes(facts.classes, data.about.classes))


def describe(data: Dataset[About]) -> str:
    """How many images of which class, of how many patients, and what was assumed, in a few lines."""
    about, records = data.about, data.records
    counts = records["label"].value_counts().sort_index()
    groups = f" of {records['group'].nunique():,} groups" if "group" in data else ""
    kind = "colour" if about.channels == 3 else "grey"
    size = f"{len(data):,} images{groups}, {about.size} × {about.size} pixels, {kind}"
    classes = ", ".join(f"{about.classes[label]} {count:,}" for label, count in counts.items())
    return "\n".join([size, f"classes: {classes}", *data.notes])


# -------------------------------------------------------------------------------------------------------------- split


def split(data: Dataset[About], settings: Settings) -> Splits:
    """The sides that the data name; the others drawn at random by class, whole groups together.

    Raises:
        InputError: where a class has too few groups for that, or none on a side.
    """
    records, classes = data.records, data.about.classes
    side = records["side"].to_numpy(object) if "side" in data else np.full(len(data), "train", object)
    named = set(side) if "side" in data else set()
    if named and "train" not in named:
        raise InputError(f"Images for training are needed. Received: only {' and '.join(sorted(named))}.")
    drawn = {name: share for name, share in SHARES.items() if name not in named}
    if drawn:
        side = draw_by_class(side, records["label"].to_numpy(), classes, records.get("group"), drawn)
    for name in folders.SIDES:
        missing = set(range(len(classes))) - set(records["label"][side == name])
        if missing:
            raise InputError(f"No image of class '{classes[min(missing)]}' is in {name}: expected some of every class.")
    how = "at random by class" + (", whole groups together" if "group" in data else "")
    rules = [f"as the data name {', '.join(name for name in folders.SIDES if name in named)}"] if named else []
    rules += [f"{' and '.join(drawn)} drawn {how}"] if drawn else []
    train, validation, test = (np.flatnonzero(side == name) for name in folders.SIDES)
    return replace(select_test(data, test), train=train, validation=validation, rule="; ".join(rules))


def select_test(data: Dataset[About], test: np.ndarray) -> Splits:
    """The split whose test side are these rows alone; images of a group are resampled together."""
    return Splits(test[:0], test[:0], test, clusters=("group",) if "group" in data else ())


# ---------------------------------------------------------------------------------------------- learn, encode, request


def learn(train: Dataset[About], settings: Settings) -> Facts:
    """The classes, and the size and channels of the images; no column of the records feeds the network."""
    return Facts(train.about.classes, train.about.size, train.about.channels, notes=train.notes)


def encode(data: Dataset[About], facts: Facts) -> Encoded:
    """The input `image`, uint8 (n, size, size, channels), read from the cache row by row, and the target `label`.

    Raises:
        InputError: if the images have other classes, or another shape, than those that the facts were learnt from.
    """
    about, records = data.about, data.records
    if about.classes != facts.classes:
        raise InputError(f"Expected classes {', '.join(facts.classes)}. Received: {', '.join(about.classes)}.")
    shape, wanted = (about.size, about.size, about.channels), (facts.size, facts.size, facts.channels)
    if shape != wanted:
        raise InputError(f"Expected images of shape {wanted}. Received: {shape}.")
    if about.pixels:
        stored = [np.load(path, mmap_mode="r") for path in about.pixels]
        pixels: Rows = Gathered(stored, records["image"].to_numpy())
    else:
        pixels = np.stack(records["image"].tolist()).reshape(len(records), *shape)
    return Encoded({"image": pixels}, {"label": records["label"].to_numpy()} if "label" in data else {})


def drift_summary(data: Dataset[About], facts: Facts) -> pd.DataFrame:
    """`mean` and `contrast` in grey levels, and `sharpness` of each image.

    Contrast is the standard deviation, sharpness the logarithm of the variance of the Laplacian (Pech-Pacheco,
    Cristobal, Chamorro-Martinez and Fernandez-Valdivia 2000, Diatom autofocusing in brightfield microscopy).
    """
    pixels, rows = encode(data, facts).inputs["image"], np.arange(len(data))
    parts = [_measured(pixels[block]) for block in np.array_split(rows, len(rows) // BLOCK + 1)]
    return pd.DataFrame(np.concatenate(parts), columns=["mean", "contrast", "sharpness"])


def _measured(pixels: np.ndarray) -> np.ndarray:
    """Mean, contrast and sharpness of images (n, size, size, channels), float64 (n, 3)."""
    grey = pixels.mean(axis=3)
    beside = grey[:, :-2, 1:-1] + grey[:, 2:, 1:-1] + grey[:, 1:-1, :-2] + grey[:, 1:-1, 2:]
    edges = (beside - 4 * grey[:, 1:-1, 1:-1]).var(axis=(1, 2))
    return np.stack([grey.mean(axis=(1, 2)), grey.std(axis=(1, 2)), np.log(edges + 1)], axis=1)


def parse(table: pd.DataFrame, facts: Facts) -> Dataset[About]:
    """A request as records: column `image` holds the bytes of image files of any known format, `id` may name them."""
    convert = partial(images.convert, size=facts.size, channels=facts.channels)
    return Dataset(media_cache.requested(table, "image", "image", images.KIND, convert), _about(facts), ("id",))


def _about(facts: Facts) -> About:
    """Of images in a request."""
    return About(facts.classes, facts.size, facts.channels)


def requests(path: Path | None, history: Path | None, facts: Facts, settings: Settings) -> Iterator[Request]:
    """The images of a folder, of a table of files, of an .npz archive, or of the demo, a thousand at a time."""
    about, fit = _about(facts), partial(images.fitted, size=facts.size, channels=facts.channels)
    if path is None:
        table, pixels = demo.make(seed=0)
        yield from media_cache.requests(table["id"], list(pixels), "image", fit, "All images are scored.", about)
    elif path.suffix == ".npz":
        stored = images.in_archive(path, _cache())
        places = [(name, row) for name, pixels in stored.items() for row in range(len(pixels))]
        ids = pd.Series([f"{folders.side(name) or name}-{number}" for number, (name, _) in enumerate(places)])

        def image(place: tuple[str, int]) -> np.ndarray:
            return fit(np.asarray(stored[place[0]][place[1]]))

        yield from media_cache.requests(ids, places, "image", image, f"All images of {path.name} are scored.", about)
    else:
        listing, note = folders.listed(path, images.SUFFIXES, "images", "label")
        convert = partial(images.convert, size=facts.size, channels=facts.channels)
        yield from media_cache.requests_of_files(listing, images.KIND, "image", convert, note, about)


def columns(facts: Facts) -> dict[str, tuple[str, bool]]:
    """A request's columns: the bytes of each image file, and perhaps a name."""
    return {"image": ("binary", True), "id": ("string", False)}


def example(data: Dataset[About], facts: Facts) -> pd.DataFrame:
    """These records as a request holds them: the images as PNG files."""
    pixels = encode(data, facts).inputs["image"][np.arange(len(data))]
    return pd.DataFrame({"image": [images.png(image) for image in pixels]})


def inspect(data: Dataset[About], splits: Splits, facts: Facts, settings: Settings) -> Splits:
    """The splits after the checks in `inspection`."""
    return inspection.inspect(data, splits, encode(data, facts).inputs["image"], settings)


CAPABILITIES = Capabilities(
    example=example,
    requests=requests,
    append=append,
    adopt=adopt,
    drift_summary=drift_summary,
    fixed=("size", "channels"),
    inspect=inspect,
)
