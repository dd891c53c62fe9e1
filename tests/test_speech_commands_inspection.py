"""Leaks in recordings: near copies, one recording under two words, speakers, the form of files, shared noise."""

import functools
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import soxr

from pipelines.core.contract import InputError
from pipelines.core.data import leakage
from pipelines.core.data.arrays import Part
from pipelines.core.data.dataset import Dataset
from pipelines.core.data.splits import Splits
from pipelines.speech_commands import Settings, audio, data
from pipelines.speech_commands.inspection.near_copies import near_copies

RATE, SAMPLES = 8_000, 4_000
SETTINGS = Settings(sample_rate=RATE, seconds=0.5)
WORDS = ("go", "no")


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@functools.cache
def word(seed: int, label: int = 0, rate: int = RATE) -> np.ndarray:
    """A synthetic vowel: harmonics of a gliding pitch under a smooth envelope, in faint noise; float32 from -1 to 1."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(0.45 * rate)) / rate
    pitch = rng.uniform(90, 250) * (1 + rng.uniform(-0.3, 0.3) * time)
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    formants = np.array([[500, 1_500], [800, 2_200]])[label] * rng.uniform(0.9, 1.1, 2)
    wave = sum(
        np.exp(-(((k * pitch.mean() - formants[:, None]) / 250) ** 2)).sum() * np.sin(k * phase + rng.uniform(0, 6.28))
        for k in range(1, 25)
    )
    envelope = np.exp(-(((time - 0.22) / rng.uniform(0.05, 0.08)) ** 2))
    wave = 0.4 * envelope * wave / np.abs(wave).max() + 0.001 * rng.standard_normal(len(time))
    return wave.astype(np.float32)


def encoded(wave: np.ndarray, rate: int = RATE, kind: str = "WAV", subtype: str = "PCM_16") -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, wave, rate, format=kind, subtype=subtype)
    return stream.getvalue()


def write(name: str, content: bytes) -> None:
    path = Path("words", name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def recordings(speakers: int = 8, takes: int = 6, sides: bool = True) -> Path:
    """Recordings of two words: of eight speakers a to h, the last two are in test, the two before in validation."""
    for n in range(len(WORDS) * speakers * takes):
        label, who, take = n % 2, n // 2 % speakers, n // 2 // speakers
        side = {speakers - 4: "val", speakers - 3: "val", speakers - 2: "test", speakers - 1: "test"}.get(who, "train")
        write(f"{f'{side}/' if sides else ''}{WORDS[label]}/{chr(97 + who)}_nohash_{take}.wav", encoded(word(n, label)))
    return Path("words")


def read(path: Path, **settings: object) -> Dataset:
    return data.read(path, replace(SETTINGS, **settings))


def inspected(given: Dataset, **settings: object) -> Splits:
    used = replace(SETTINGS, **settings)
    splits = data.split(given, used)
    splits = leakage.refuse_leaks(given, splits, given.about.classes)
    return data.CAPABILITIES.inspect(given, splits, data.learn(given.take(splits.train), used), used)


def test_clean_recordings_of_one_length_raise_no_alarm_and_stay():
    given = read(recordings())
    splits = inspected(given)
    assert splits.warnings == ()
    assert splits.left_out == {}
    assert sum(map(len, splits.sides().values())) == len(given)
    assert splits.copies is None


COPIES = {
    "trimmed": lambda wave: encoded(wave[700:-700]),
    "shifted": lambda wave: encoded(np.concatenate([np.zeros(300, np.float32), wave])),
    "quieter": lambda wave: encoded(0.25 * wave),
    "inverted": lambda wave: encoded(-wave),
    "clipped": lambda wave: encoded(np.clip(4 * wave, -1, 1)),
    "in 8 bits": lambda wave: encoded(wave, subtype="PCM_U8"),
    "as FLAC and louder": lambda wave: encoded(1.5 * wave, kind="FLAC"),
    "as Vorbis": lambda wave: encoded(wave, kind="OGG", subtype="VORBIS"),
    "resampled": lambda wave: encoded(soxr.resample(wave, RATE, 11_025), 11_025),
    "noisy": lambda wave: encoded(
        wave + 0.1 * wave.std() * np.random.default_rng(0).standard_normal(len(wave)).astype(np.float32)
    ),
}


@pytest.mark.parametrize("how", COPIES)
def test_a_training_clip_that_is_a_near_copy_of_a_test_clip_is_left_out_and_counted(how):
    root = recordings()
    write("train/go/x_nohash_0.wav", COPIES[how](word(12, 0)))  # of g, in test
    given = read(root)
    splits = inspected(given)
    assert splits.left_out == {"train records that are near copies of one of validation or test": 1}
    gone = set(range(len(given))) - {int(row) for rows in splits.sides().values() for row in rows}
    assert given.records["id"].iloc[list(gone)].tolist() == ["train/go/x_nohash_0.wav"]
    assert any("x_nohash_0.wav of test/go/g_nohash_0.wav" in warning for warning in splits.warnings)


def test_copies_within_test_stay_and_are_resampled_together():
    root = recordings()
    write("test/go/y_nohash_0.wav", COPIES["quieter"](word(12, 0)))
    given = read(root)
    splits = inspected(given)
    assert splits.warnings == ()
    test = Part(given, splits.test, data.encode(given, data.learn(given, SETTINGS)))
    codes = dict(zip(test.frame["id"], splits.clusters_of(test)["group"], strict=True))
    assert codes["test/go/y_nohash_0.wav"] == codes["test/go/g_nohash_0.wav"] != codes["test/go/h_nohash_0.wav"]


def test_one_recording_under_two_words_is_named_and_many_are_refused():
    root = recordings()
    write("train/no/a_nohash_9.wav", COPIES["trimmed"](word(0, 0)))
    (warning,) = inspected(read(root)).warnings
    assert "2 records are near copies of one another under two labels" in warning
    assert "train/go/a_nohash_0.wav (go) and train/no/a_nohash_9.wav (no)" in warning
    for take in range(1, 4):
        write(f"train/no/a_nohash_1{take}.wav", COPIES["quieter"](word(16 * take, 0)))
    with pytest.raises(InputError, match=r"Labels contradict one another: 8 records are near copies"):
        inspected(read(root))


def test_too_many_clips_are_compared_with_the_later_sides_alone(monkeypatch):
    clips = np.stack([audio.fitted(word(n), RATE, RATE, SAMPLES) for n in (0, 1, 2, 0, 2)])
    pairs, skipped = near_copies(clips, np.array([4, 1, 0, 2, 3]), RATE)
    assert sorted(map(tuple, np.sort(pairs, axis=1).tolist())) == [(0, 3), (2, 4)]
    assert skipped == 0
    monkeypatch.setitem(near_copies.__globals__, "MOST_PAIRS", 10)
    pairs, skipped = near_copies(clips, np.array([4, 1, 0, 2, 3]), RATE)
    assert (4 in pairs, skipped) == (True, 3)


def test_silent_clips_are_copies_of_nothing():
    pairs, _ = near_copies(np.zeros((4, SAMPLES), np.int16), np.arange(4), RATE)
    assert len(pairs) == 0


# ------------------------------------------------------------------------------------------------------------ speakers


def test_spellings_of_a_speaker_are_one():
    root = recordings(sides=False)
    files = [path.relative_to(root).as_posix() for path in sorted(root.glob("*/*.wav"))]
    spelled = [("speaker_7", "Speaker-007", "SPEAKER 07")[n % 3] if name[3] == "a" else name[3]
               for n, name in enumerate(files)]  # fmt: skip
    pd.DataFrame({"file": files, "class": [name[:2] for name in files], "speaker": spelled}).to_csv(
        root / "all.csv", index=False
    )
    given = read(root / "all.csv")
    assert given.records["group"].nunique() == 8
    assert any("taken for another's" in note for note in given.notes)
    inspected(given)


def test_speakers_one_a_recording_are_as_if_none_were_known():
    root = recordings(sides=False)
    files = [path.relative_to(root).as_posix() for path in sorted(root.glob("*/*.wav"))]
    pd.DataFrame({"file": files, "class": [name[:2] for name in files], "speaker": range(len(files))}).to_csv(
        root / "all.csv", index=False
    )
    given = read(root / "all.csv")
    assert "group" not in given
    assert any("96 speakers of 96 recordings" in note for note in given.notes)
    assert any(warning.startswith("No speaker is known") for warning in inspected(given).warnings)


# ---------------------------------------------------------------------------------------------------------------- form


FORMS = {
    "rate": lambda wave: encoded(soxr.resample(wave, RATE, 16_000), 16_000),
    "channels": lambda wave: encoded(np.stack([wave, wave], axis=1)),
    "encoding": lambda wave: encoded(wave, subtype="PCM_24"),
    "offset": lambda wave: encoded(wave + 0.01),
    "lead": lambda wave: encoded(np.concatenate([np.zeros(80, np.float32), wave[80:]])),
    "seconds": lambda wave: encoded(wave[100:]),
}


@pytest.mark.parametrize("fact", FORMS)
def test_a_fact_of_the_files_that_tells_the_word_is_refused_by_name_unless_allowed(fact):
    root = recordings()
    for n in range(96):
        if n % 2:
            (path,) = root.glob(f"*/no/{chr(97 + n // 2 % 8)}_nohash_{n // 16}.wav")
            path.write_bytes(FORMS[fact](word(n, 1)))
    given = read(root)
    with pytest.raises(InputError, match=rf"form of the files alone tells.*AUC.*--allow-column {fact}"):
        inspected(given)
    assert inspected(given, allow_column=(fact,)).warnings == ()


def test_a_form_of_most_files_of_a_word_is_a_warning_that_names_the_fact():
    root = recordings()
    for n in range(96):
        if n % 2 and n // 16 < 4:
            (path,) = root.glob(f"*/no/{chr(97 + n // 2 % 8)}_nohash_{n // 16}.wav")
            path.write_bytes(FORMS["channels"](word(n, 1)))
    (warning,) = inspected(read(root)).warnings
    assert "AUC" in warning
    assert "channels" in warning


# --------------------------------------------------------------------------------------------------------------- noise


def test_silence_of_different_sides_shares_no_sample_of_a_recording_of_noise():
    root = recordings()
    wave = 0.2 * np.random.default_rng(0).standard_normal(60 * RATE)
    write("_background_noise_/fan.wav", encoded(wave.astype(np.float32)))
    given = read(root)
    silence = given.records[given.records["word"] == "_silence_"]
    first = silence["id"].str.split("/").str[2].astype(int)
    begin, end = first.groupby(silence["side"]).min(), first.groupby(silence["side"]).max() + SAMPLES
    assert end["train"] <= begin["validation"]
    assert end["validation"] <= begin["test"]
    assert inspected(given).warnings == ()


@pytest.mark.real
@pytest.mark.parametrize("name", ["arabic_commands", "spoken_digits"])
def test_real_recordings_raise_no_alarm(real_data, name):
    given = data.read(real_data / "speech_commands" / name, Settings())
    splits = data.split(given, Settings())
    found = data.CAPABILITIES.inspect(given, splits, data.learn(given, Settings()), Settings())
    assert found.warnings == ()
    assert found.left_out == {}
