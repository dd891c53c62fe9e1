"""The simulated radiographs: physics that a ruler can check, subjects that stay together, lesions that show."""

import numpy as np
import pytest

from pipelines.medical_images import demo

ALONG = (np.arange(demo.RAYS * demo.SIZE) + 0.5) * demo.FIELD / (demo.RAYS * demo.SIZE) - demo.FIELD / 2


@pytest.fixture(scope="module")
def made():
    return demo.make(0)


def through(centre: tuple, axes: tuple, turned: np.ndarray, density: float = 1.0) -> np.ndarray:
    """The ray sums of one ellipsoid, seen without shift and zoom."""
    chords = demo._chords(np.array(centre, float)[None, None], np.array(axes, float)[None, None], turned[None, None])
    return demo._through(chords[0], np.array([density]), np.zeros(2), 1.0)


def test_the_chord_of_a_ball_is_that_of_school():
    x, y = np.meshgrid(ALONG, -ALONG)
    expected = 2 * np.sqrt(np.maximum(9 - (x - 2) ** 2 - (y - 4) ** 2, 0))
    assert through((2, 4, 5), (3, 3, 3), np.eye(3)) == pytest.approx(expected, abs=0.02)


def test_the_mass_of_a_turned_ellipsoid_is_its_volume():
    turned = demo._rotation(1, np.array(0.6)) @ demo._rotation(2, np.array(0.9))
    mass = through((1, -2, 0), (6, 2, 3), turned, density=0.5).sum() * (ALONG[1] - ALONG[0]) ** 2
    assert mass == pytest.approx(0.5 * 4 / 3 * np.pi * 6 * 2 * 3, rel=0.01)


def test_rays_marched_in_steps_meet_the_same_ellipsoid():
    turned = demo._rotation(1, np.array(-0.5)) @ demo._rotation(2, np.array(0.4))
    matrix = turned @ np.diag(np.array([4.0, 1.5, 2.5]) ** -2) @ turned.T
    x, y = np.meshgrid(ALONG, -ALONG)
    steps, found = np.linspace(-6, 6, 1201), np.zeros_like(x)
    for z in steps:
        at = np.stack([x, y, np.full_like(x, z)], axis=-1)
        found += (np.einsum("...i,ij,...j->...", at, matrix, at) <= 1) * (steps[1] - steps[0])
    assert through((0, 0, 0), (4, 1.5, 2.5), turned) == pytest.approx(found, abs=0.05)


def test_a_rotation_keeps_lengths_and_angles():
    turned = demo._rotation(0, np.linspace(0, 3, 7))
    assert turned @ turned.swapaxes(1, 2) == pytest.approx(np.broadcast_to(np.eye(3), (7, 3, 3)))
    assert turned[3] @ [1, 0, 0] == pytest.approx([1, 0, 0])


def test_the_same_seed_gives_the_same_images_and_another_one_others(monkeypatch):
    monkeypatch.setattr(demo, "IMAGES", 40)
    table, pixels = demo.make(0)
    again, same = demo.make(0)
    assert table.equals(again)
    assert np.array_equal(pixels, same)
    assert not np.array_equal(pixels, demo.make(1)[1])


def test_subjects_have_several_images_of_one_class(made):
    table, pixels = made
    assert pixels.shape == (len(table), demo.SIZE, demo.SIZE, 1)
    assert pixels.dtype == np.uint8
    views = table.groupby("subject").size()
    assert views[:-1].between(*demo.VIEWS).all()
    assert (table.groupby("subject")["class"].nunique() == 1).all()
    assert 0.3 < (table["class"] == "lesion").mean() < 0.5


def test_a_lesion_is_brighter_than_what_is_around_it_and_where_the_table_says(made):
    table, pixels = made
    down, right = np.mgrid[: demo.SIZE, : demo.SIZE]
    contrasts = []
    for at, image in zip(table[["row", "column", "radius"]].to_numpy(), pixels[..., 0].astype(float), strict=True):
        distance = np.hypot(down - at[0], right - at[1])
        inside, around = distance < 0.6 * at[2], (distance > 1.3 * at[2]) & (distance < 1.3 * at[2] + 2)
        if inside.any() and around.sum() > 8:
            contrasts.append(image[inside].mean() - np.median(image[around]))
    contrasts = np.array(contrasts)
    assert len(contrasts) > 500
    assert (contrasts > 0).mean() > 0.8
    assert np.median(contrasts) > 10
