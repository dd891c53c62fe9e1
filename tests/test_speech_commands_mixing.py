"""Sound composed from clips and noise: silence, augmentation, running speech."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given as over
from hypothesis import strategies as st

from pipelines.core.data import leakage
from pipelines.core.data.arrays import Encoded, Part
from pipelines.core.data.dataset import Dataset
from pipelines.core.training.batches import Batches
from pipelines.speech_commands import Settings, audio, data, mixing
from pipelines.speech_commands.data import About

RATE, SAMPLES = 8_000, 1_600
SETTINGS = Settings(sample_rate=RATE, seconds=0.2)


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def folder(speakers: int, takes: int, noise: np.ndarray) -> Path:
    """Recordings of two words by so many speakers, and one of background noise."""
    rng = np.random.default_rng(0)
    for word in ("go", "no"):
        for name in (f"p{who}_nohash_{n}.wav" for who in range(speakers) for n in range(takes)):
            path = Path("words", word, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(audio.wav(rng.integers(-9_000, 9_000, SAMPLES).astype(np.int16), RATE))
    Path("words", "_background_noise_").mkdir()
    Path("words", "_background_noise_", "fan.wav").write_bytes(audio.wav(noise.astype(np.int16), RATE))
    return Path("words")


def white(seconds: float) -> np.ndarray:
    return np.random.default_rng(1).integers(-9_000, 9_000, round(seconds * RATE))


# ------------------------------------------------------------------------------------------------------------- silence


def clips_of(records: pd.DataFrame) -> np.ndarray:
    return np.asarray(data.decode(records, data.learn(records, SETTINGS))["clip"][np.arange(len(records))])


def test_silence_of_each_side_is_cut_from_a_time_of_its_own():
    """The ratio of neighbouring samples tells when they were recorded, and no gain changes it."""
    length = 10 * RATE
    wave = np.where(np.arange(length) % 2, np.linspace(2_000, 30_000, length), -20_000)
    given = data.read(folder(8, 3, wave), SETTINGS)
    assert given.about.classes == ("go", "no", "_silence_")
    inputs = data.encode(given, data.learn(given, SETTINGS)).inputs
    for side, rows in data.split(given, SETTINGS).sides().items():
        silence = rows[given.records["word"].iloc[rows] == "_silence_"]
        assert not given.records["command"].iloc[silence].any()
        clips = inputs["clip"][silence].astype(float)
        clips = clips[clips.min(axis=1) < -2_000]  # in quieter ones rounding hides the ratio
        assert len(clips) > 0
        ends = (clips.max(axis=1) / -clips.min(axis=1) * 20_000 - 2_000) / 28_000  # of the recording
        low, high = mixing.NOISE_PARTS[side]
        assert (ends - SAMPLES / length > low - 0.01).all()
        assert (ends < high + 0.01).all()


def test_pieces_of_silence_are_groups_that_never_share_a_sample():
    given = data.read(folder(20, 2, white(10)), SETTINGS)
    silence = given.records[given.records["word"] == "_silence_"]
    begins = silence["id"].str.split("/").str[2].astype(int)
    for group, rows in begins.groupby(silence["group"]):
        others = begins[silence["group"] != group].to_numpy()
        assert (np.abs(others[:, None] - rows.to_numpy()) >= SAMPLES).all()
    splits = data.split(given, SETTINGS)
    leakage.refuse_leaks(given, splits, given.about.classes)
    for rows in splits.sides().values():
        counts = given.records["word"].iloc[rows].value_counts()
        assert counts["_silence_"] == pytest.approx(counts["go"], abs=2)


def test_noise_that_is_too_short_makes_no_silence_and_says_so():
    given = data.read(folder(8, 3, white(0.5)), SETTINGS)
    assert given.about.classes == ("go", "no")
    assert any("too short to cut _silence_" in note for note in given.notes)


# --------------------------------------------------------------------------------------------------------- augmentation


@pytest.fixture
def train():
    """The training part of a folder with noise, 1 s clips at 8 kHz: long enough to measure powers."""
    settings = replace(SETTINGS, seconds=1.0)
    given = data.read(folder(8, 3, white(30)), settings)
    splits = data.split(given, settings)
    return Part(given, splits.train, data.encode(given, data.learn(given, settings)))


def test_augmentation_is_drawn_anew_for_each_clip_and_epoch_and_repeats_for_a_seed(train):
    twice = train.take(np.zeros(6, int))
    augment = mixing.augmentation(train, SETTINGS)

    def epochs(seed: int) -> list[np.ndarray]:
        batches, found = Batches(twice, 6, seed=seed, augment=augment), []
        for _ in range(2):
            found.append(batches[0][0]["clip"])
            batches.on_epoch_end()
        return found

    first, second = epochs(0)
    assert len({audio.digest(clip) for clip in [*first, *second]}) == 12
    assert all(np.array_equal(one, other) for one, other in zip((first, second), epochs(0), strict=True))
    assert not np.array_equal(first, epochs(1)[0])
    assert first.dtype == np.int16
    assert first.shape == (6, RATE)


def test_labels_and_the_clips_themselves_stay_as_they_are(train):
    x, y = train.x(np.arange(8)), train.labels[:8]
    before = x["clip"].copy()
    augmented, labels = mixing.augmentation(train, SETTINGS)(x, y, np.random.default_rng(0))
    np.testing.assert_array_equal(x["clip"], before)
    np.testing.assert_array_equal(labels, y)
    assert not np.array_equal(augmented["clip"], before)


def test_a_faster_clip_is_shorter_and_higher_about_its_middle():
    time = np.arange(RATE) / RATE
    tone = 10_000 * np.sin(2 * np.pi * 500 * time) * (np.abs(time - 0.5) < 0.25)
    slow, fast = mixing.resampled_clips(np.stack([tone, tone]), np.array([0.8, 1.25]), np.array([0.0, 0.1 * RATE]))
    for clip, pitch, begin, end in ((slow, 400, 0.5 - 0.25 / 0.8, 0.5 + 0.25 / 0.8), (fast, 625, 0.4, 0.8)):
        assert np.argmax(np.abs(np.fft.rfft(clip))) == pytest.approx(pitch, abs=2)  # Hz, for a second of sound
        sounding = np.flatnonzero(np.abs(clip) > 100) / RATE
        assert sounding[[0, -1]] == pytest.approx([begin, end], abs=0.002)


@over(st.integers(-4, 4))
def test_at_the_same_pace_a_clip_only_moves(later):
    clip = np.arange(1, 6)
    found = mixing.resampled_clips(clip[None], np.ones(1), np.array([float(later)]))[0]
    assert found.tolist() == [clip[at - later] if 0 <= at - later < 5 else 0 for at in range(5)]


def test_clips_move_by_a_tenth_of_a_second_at_most_and_their_gain_stays_in_range(train, monkeypatch):
    monkeypatch.setattr(mixing, "NOISY", 0.0)
    monkeypatch.setattr(mixing, "PACE", 1.0)
    x = {"clip": np.zeros((400, RATE), np.int16)}
    x["clip"][:, RATE // 2] = 10_000
    found = mixing.augmentation(train, SETTINGS)(x, np.zeros(400), np.random.default_rng(0))[0]["clip"]
    moved = found.argmax(axis=1) - RATE // 2
    assert (np.count_nonzero(found, axis=1) == 1).all()
    assert -800 <= moved.min() < -700
    assert 700 < moved.max() <= 800
    gain = 20 * np.log10(found.max(axis=1) / 10_000)
    assert -12.01 < gain.min() < -11
    assert 5 < gain.max() < 6.01


def test_noise_comes_at_the_wanted_ratios_for_most_clips(train, monkeypatch):
    monkeypatch.setattr(mixing, "SHIFT", 0.0)
    monkeypatch.setattr(mixing, "PACE", 1.0)
    monkeypatch.setattr(mixing, "GAINS", (0.0, 0.0))
    clip = 3_000 * np.sin(np.arange(RATE) / 5)
    x = {"clip": np.tile(np.rint(clip).astype(np.int16), (1_000, 1))}
    added = mixing.augmentation(train, SETTINGS)(x, np.zeros(1_000), np.random.default_rng(0))[0]["clip"] - clip
    ratio = 10 * np.log10((clip**2).mean() / (added**2).mean(axis=1))
    noisy = ratio < 40  # the others have the rounding alone
    assert noisy.mean() == pytest.approx(mixing.NOISY, abs=0.05)
    assert -0.1 < ratio[noisy].min() < 1
    assert 29 < ratio[noisy].max() < 30.1
    assert np.median(ratio[noisy]) == pytest.approx(15, abs=2)


def test_the_noise_of_training_is_its_own_part_of_the_recordings(train, monkeypatch):
    """A recording that is silent in its training part and loud behind it must add nothing."""
    wave = np.zeros(30 * RATE, np.int16)
    wave[mixing.noise_part(len(wave), "train").stop :] = 20_000
    np.save("late.npy", wave)
    noise = replace(train.data.about, noise=(("late", "late.npy"),))
    train = replace(train, data=replace(train.data, about=noise))
    monkeypatch.setattr(audio, "noise", lambda rng, count, samples, colour: np.zeros((count, samples), np.float32))
    monkeypatch.setattr(mixing, "SHIFT", 0.0)
    monkeypatch.setattr(mixing, "PACE", 1.0)
    monkeypatch.setattr(mixing, "GAINS", (0.0, 0.0))
    x = {"clip": np.full((300, RATE), 1_000, np.int16)}
    found = mixing.augmentation(train, SETTINGS)(x, np.zeros(300), np.random.default_rng(0))[0]["clip"]
    np.testing.assert_array_equal(found, x["clip"])


def test_the_parts_of_a_recording_follow_one_another():
    parts = [mixing.noise_part(1_001, side) for side in ("train", "validation", "test")]
    assert [np.arange(1_001)[part].size for part in parts] == pytest.approx([600, 200, 200], abs=1)
    assert np.concatenate([np.arange(1_001)[part] for part in parts]).tolist() == list(range(1_001))


# ------------------------------------------------------------------------------------------------------ running speech


RATE_OF_TONES = 1_000


def tones(words: list[str], sides: list[str], speakers: list[str] | None = None) -> tuple[Dataset, Encoded]:
    """Records of tones, one frequency a word, in the middle of silence."""
    classes = ("no", "yes", "_unknown_")
    label = [classes.index(word) if word in classes else -1 for word in words]
    records = pd.DataFrame({"id": range(len(words)), "word": words, "label": label, "side": sides})
    records["labelled"], records["command"] = records["label"] != -1, records["label"].isin([0, 1])
    if speakers:
        records["group"] = speakers
    waves = np.zeros((len(words), RATE_OF_TONES), np.int16)
    waves[:, 300:700] = 9_000 * np.sin(2 * np.pi * np.arange(400) * (1 + np.arange(len(words))[:, None]) / 50)
    about = About(classes, RATE_OF_TONES, RATE_OF_TONES)
    return Dataset(records, about, ("id",)), Encoded({"clip": waves}, {"label": records["label"].to_numpy()})


def stream_of(given: Dataset, encoded: Encoded, side: str, minutes: int = 30) -> list:
    part = Part(given, np.flatnonzero((given.records["side"] == side).to_numpy() & given.labelled), encoded)
    return mixing.running_speech(part, side, Settings(data="mine", stream_minutes=minutes))


def test_a_composed_stream_holds_its_commands_where_it_says():
    given = tones(["no", "yes", "_unknown_"], ["test"] * 3)
    minutes = list(stream_of(*given, "test"))
    wave, spoken = np.concatenate([minute for minute, _ in minutes]), [word for _, placed in minutes for word in placed]
    assert len(wave) == 30 * 60 * RATE_OF_TONES
    assert len(spoken) > 50
    assert {word.label for word in spoken} == {0, 1}
    for word in spoken:
        inside = wave[round(word.begin * RATE_OF_TONES) : round(word.end * RATE_OF_TONES)].astype(float)
        assert len(inside) == pytest.approx(400, abs=20)
        power = np.abs(np.fft.rfft(inside, 400)) ** 2
        assert power.argmax() == 8 * (1 + word.label), "the tone of this word, as many cycles in 400 samples"
    ends, begins = (np.array([getattr(word, name) for word in spoken]) for name in ("end", "begin"))
    assert (begins[1:] - ends[:-1]).min() >= mixing.TOLERANCE, "no word before the one before it is judged"


def test_a_stream_repeats_itself_and_differs_from_side_to_side():
    given = tones(["no", "yes", "_unknown_"] * 2, ["test"] * 3 + ["validation"] * 3)
    first, again = (list(stream_of(*given, "test", 1)) for _ in range(2))
    assert np.array_equal(first[0][0], again[0][0])
    assert not np.array_equal(first[0][0], next(iter(stream_of(*given, "validation", 1)))[0])


@pytest.mark.parametrize("speakers", [["a", "a", "a", "b", "b", "b"], None])
def test_words_held_out_are_on_the_side_of_their_speaker_or_file(speakers, monkeypatch):
    given = tones(["no", "yes", "bird"] * 2, ["test"] * 3 + ["validation"] * 3, speakers)
    used = {}
    monkeypatch.setattr(mixing, "composed", lambda commands, others, *_: used.update(c=commands, o=others))
    for side, mine in (("test", 0), ("validation", 3)):
        stream_of(*given, side)
        assert used["c"].rows.tolist() == [mine, mine + 1]
        assert used["o"].rows.tolist() == [mine + 2]


def test_without_other_words_there_is_nothing_to_count_false_alarms_on():
    given = tones(["no", "yes"], ["test"] * 2)
    assert stream_of(*given, "test") is None
    given = tones(["no", "yes", "bird"], ["test"] * 3)
    assert stream_of(*given, "test") is not None
    assert stream_of(*given, "test", minutes=0) is None
