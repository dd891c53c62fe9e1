"""Recordings as people have them: folders, tables, names; speakers, sides, silence, synthetic voices, augmentation."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.core.contract import InputError
from pipelines.core.data import leakage
from pipelines.core.data.arrays import Part
from pipelines.core.data.splits import halves
from pipelines.core.training.batches import Batches
from pipelines.speech_commands import PIPELINE, Settings, audio, data, demo

RATE = 8_000
SETTINGS = Settings(sample_rate=RATE, seconds=0.2)
SAMPLES = 1_600
FOUR = [f"{word}/{who}_nohash_{n}.wav" for word in ("go", "no") for who in "abcdefgh" for n in range(3)]


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def sound(seed: int, samples: int = SAMPLES) -> bytes:
    """A WAV file of quiet noise, different for each seed."""
    return audio.wav(np.random.default_rng(seed).integers(-9_000, 9_000, samples).astype(np.int16), RATE)


def folder(names: list[str], root: str = "words", noise_seconds: float = 0) -> Path:
    """A folder with a recording under each name, and one of background noise where a length is given."""
    for seed, name in enumerate(names):
        path = Path(root, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(sound(seed))
    if noise_seconds:
        Path(root, "_background_noise_").mkdir()
        Path(root, "_background_noise_", "fan.wav").write_bytes(sound(999, round(noise_seconds * RATE)))
    return Path(root)


def tabled(root: Path, name: str, **columns: list) -> Path:
    pd.DataFrame(columns).to_csv(root / name, index=False)
    return root / name


def read(path: Path, **settings: object) -> pd.DataFrame:
    return data.read(path, replace(SETTINGS, **settings))


def sides(records: pd.DataFrame) -> dict[str, pd.DataFrame]:
    return {side: records.iloc[rows] for side, rows in data.split(records, SETTINGS).sides().items()}


def told(records: pd.DataFrame, *texts: str) -> bool:
    """Whether one note holds all of the texts."""
    return any(all(text in note for text in texts) for note in records.attrs["notes"])


# --------------------------------------------------------------------------------------------------------------- read


def test_a_folder_of_words_is_read_with_what_it_holds():
    records = read(folder(FOUR))
    assert records["id"].tolist() == sorted(FOUR)
    assert records.attrs["classes"] == ["go", "no"]
    assert [records.attrs["classes"][label] for label in records["label"]] == [name[:2] for name in sorted(FOUR)]
    assert records["word"].tolist() == [name[:2] for name in sorted(FOUR)]
    assert records["command"].all()
    clip = data.decode(records, data.learn(records, SETTINGS))["clip"][
        np.array([records["id"].tolist().index(FOUR[7])])
    ]
    np.testing.assert_array_equal(clip, audio.convert(sound(7), RATE, SAMPLES)[:1])


@pytest.mark.parametrize(
    ("names", "words", "speaker"),
    [
        ([f"{n}_{who}_{k}.wav" for n in range(3) for who in ("ann", "bob", "cy", "di") for k in range(3)],
         ["0", "1", "2"], "ann"),
        ([f"{who}/{n}_{who}_{k}.wav" for n in range(3) for who in ("01", "02", "03", "04") for k in range(3)],
         ["0", "1", "2"], "01"),
        ([f"{word}/{who}_nohash_{k}.wav" for word in ("on", "up") for who in ("0a7c", "1b", "2c", "3d") for k in "01"],
         ["on", "up"], "0a7c"),
        ([f"{word}/{who}/{k}.wav" for word in ("on", "up") for who in ("ann", "bob", "cy", "di") for k in (0, 1)],
         ["on", "up"], "ann"),
    ],
)  # fmt: skip
def test_known_layouts_of_names_are_recognised_and_told(names, words, speaker):
    records = read(folder(names))
    assert records.attrs["classes"] == words
    assert records["group"].nunique() == 4
    first = records[records["id"] == names[0]].iloc[0]
    assert (first["word"], first["group"]) == (words[0], speaker)
    assert told(records, f"{sorted(names)[0]} is of", speaker)


def test_spoken_digits_come_with_a_warning_of_their_published_split():
    names = [f"{n}_{who}_{k}.wav" for n in range(2) for who in "abcd" for k in range(2)]
    assert told(read(folder(names)), "BEWARE", "published split", "shares its speakers")


def test_a_pattern_of_the_users_own_takes_words_and_speakers():
    names = [f"rec-{who}-{word}-{k}.wav" for who in ("p1", "p2", "p3", "p4") for word in ("ja", "nee") for k in (0, 1)]
    records = read(folder(names), name_pattern=r"rec-(?P<speaker>\w+)-(?P<word>\w+)-")
    assert records.attrs["classes"] == ["ja", "nee"]
    assert set(records["group"]) == {"p1", "p2", "p3", "p4"}


@pytest.mark.parametrize(
    ("pattern", "told"),
    [("(", "regular expression"), ("(go)", r"\(\?P<word>"), ("(?P<speaker>zz)", r"does not fit .*\(48 such files\)")],
)
def test_a_pattern_that_does_not_work_is_refused(pattern, told):
    with pytest.raises(InputError, match=told):
        read(folder(FOUR), name_pattern=pattern)


def test_a_flat_folder_whose_names_tell_no_word_is_refused():
    with pytest.raises(InputError, match="--name-pattern"):
        read(folder([f"take{n}.wav" for n in range(8)]))
    with pytest.raises(InputError, match="holds no recordings"):
        read(folder(["a/notes.txt"], "texts"))


def test_a_table_names_words_speakers_and_sides():
    root = folder([f"{n}.wav" for n in range(30)])
    who, split = [f"p{n // 3}" for n in range(30)], ["train"] * 18 + ["val"] * 6 + ["test"] * 6
    path = tabled(root, "all.csv", file=[f"{n}.wav" for n in range(30)], speaker=who, split=split,
                  **{"class": ["a", "b"] * 15})  # fmt: skip
    records = read(path)
    assert {side: len(frame) for side, frame in sides(records).items()} == {"train": 18, "validation": 6, "test": 6}
    assert records["group"].tolist() == who


def test_speakers_and_words_that_are_numbers_stay_as_they_are_written():
    root = folder([f"{n}.wav" for n in range(30)])
    who, words = ["007", "07", "7", "1e1", "10"] * 6, ["01", "1"] * 15
    records = read(tabled(root, "all.csv", file=[f"{n}.wav" for n in range(30)], speaker=who, **{"class": words}))
    assert records["group"].tolist() == who
    assert records["word"].tolist() == words


@pytest.mark.parametrize("below", ["", "recordings/"])
def test_a_table_for_each_side_finds_its_files_where_they_lie(below):
    root = folder([f"{below}{n}.wav" for n in range(30)])
    for side, rows in (("train", range(18)), ("val", range(18, 24)), ("test", range(24, 30))):
        tabled(root, f"{side}.csv", file=[f"{n}.wav" for n in rows], speaker=[f"p{n // 3}" for n in rows],
               **{"class": ["ab"[n % 2] for n in rows]})  # fmt: skip
    found = sides(read(root))
    assert found["test"]["id"].tolist() == [f"{n}.wav" for n in range(24, 30)]
    assert len(found["validation"]) == 6


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"class": None}, "expected the column 'class'"),
        ({"class": [""] * 10}, "row 2, column 'class': expected a word"),
        ({"speaker": ["x"] * 9 + [""]}, "row 11, column 'speaker': expected a speaker"),
        ({"file": ["0.wav"] * 10}, "each identifier once"),
        ({"split": ["train"] * 9 + ["later"]}, "row 11, column 'split'.*'later'"),
        ({"file": [f"gone/{n}.wav" for n in range(10)]}, r"gone/0\.wav, not found there"),
    ],
)
def test_a_table_with_a_fault_is_refused_by_row_and_column(change, told):
    root = folder([f"{n}.wav" for n in range(10)])
    columns = {"file": [f"{n}.wav" for n in range(10)], "class": ["a", "b"] * 5} | change
    path = tabled(root, "t.csv", **{name: values for name, values in columns.items() if values is not None})
    with pytest.raises(InputError, match=told):
        read(path)


def google(root: str = "gsc") -> tuple[Path, dict[str, list[str]]]:
    """A folder laid out as Google Speech Commands: the ten commands, two other words and the lists."""
    words = ["yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go", "bed", "zero"]
    takes = {"train": "abcd", "validation": "efg", "test": "hi"}
    names = {side: [f"{word}/{who}_nohash_0.wav" for word in words for who in people] for side, people in takes.items()}
    path = folder([name for side in names.values() for name in side], root, noise_seconds=10)
    (path / "validation_list.txt").write_text("\n".join(names["validation"]))
    (path / "testing_list.txt").write_text("\n".join(names["test"]))
    return path, names


def test_google_speech_commands_become_the_official_task_of_twelve_classes():
    path, names = google()
    records = read(path)
    assert records.attrs["classes"] == [
        "down", "go", "left", "no", "off", "on", "right", "stop", "up", "yes", "_unknown_", "_silence_",
    ]  # fmt: skip
    for side, frame in sides(records).items():
        spoken = frame[frame["word"] != "_silence_"]
        assert set(spoken["id"]) <= set(names[side])
        counts = spoken["label"].value_counts()
        assert counts[10] == counts[0] == len(names[side]) // 12  # of the two unknown words, as many as of a command
        assert not spoken.loc[spoken["label"] == 10, "command"].any()
    assert set(records.loc[records["label"] == 10, "word"]) == {"bed", "zero"}


# ------------------------------------------------------------------------------------------- what is said, and left out


def test_without_speakers_or_with_too_few_the_user_is_told_what_that_means():
    unknown = read(folder([f"{word}/{n}.wav" for word in ("go", "no") for n in range(20)], "u"))
    few = read(folder([f"{word}/{who}_nohash_{n}.wav" for word in ("go", "no") for who in "ab" for n in range(9)], "f"))
    for records, said in ((unknown, "no speaker is known"), (few, "2 where it takes 4")):
        assert told(records, "BEWARE", said)
        assert "group" not in records
        assert {side: set(frame["label"]) for side, frame in sides(records).items()} == {
            side: {0, 1} for side in ("train", "validation", "test")
        }


def test_a_given_split_that_shares_speakers_is_said_loudly_and_does_not_pass():
    names = [f"{side}/{word}/{who}_nohash_{n}.wav" for n, side in enumerate(("train", "val", "test"))
             for word in ("go", "no") for who in "abcd"]  # fmt: skip
    records = read(folder(names))
    assert told(records, "BEWARE", "shares 4 of 4 speakers")
    with pytest.raises(InputError, match="on one side"):
        leakage.refuse_leaks(PIPELINE, records, data.split(records, SETTINGS))


def test_silent_clipped_short_cut_and_padded_recordings_are_counted():
    root = folder(FOUR)
    (root / "go" / "a_nohash_0.wav").write_bytes(audio.wav(np.zeros(SAMPLES, np.int16), RATE))
    (root / "go" / "a_nohash_1.wav").write_bytes(audio.wav(np.full(3 * SAMPLES, 32_767, np.int16), RATE))
    (root / "go" / "a_nohash_2.wav").write_bytes(sound(5, 800))
    assert told(read(root), "1 cut, 1 padded", "1 are silent, 1 clipped, 1 shorter")


def test_unreadable_files_are_left_out_by_name_up_to_the_limit_and_refused_beyond():
    root = folder(FOUR)
    (root / "go" / "b_nohash_9.wav").write_bytes(sound(0)[:30])
    records = read(root, max_bad=0.05)
    assert len(records) == len(FOUR)
    assert told(records, "b_nohash_9.wav is left out: truncated")
    with pytest.raises(InputError, match=r"1 of 49 recordings are bad.*b_nohash_9\.wav"):
        read(root)


def test_one_word_alone_is_refused_even_with_silence():
    with pytest.raises(InputError, match="at least two words"):
        read(folder([name for name in FOUR if name.startswith("go")], noise_seconds=10))


@pytest.mark.parametrize("wrong", [{"sample_rate": 100}, {"seconds": 0.0}, {"voices": -1}])
def test_settings_that_make_no_clips_are_refused(wrong):
    with pytest.raises(InputError, match="Expected --sample-rate"):
        read(folder(FOUR), **wrong)


# -------------------------------------------------------------------------------------------------------------- split


def test_no_speaker_is_on_two_sides_and_every_word_is_everywhere():
    names = [f"{word}/{who:02d}_nohash_{n}.wav" for word in ("go", "no") for who in range(20)
             for n in range(1 + who % 3)]  # fmt: skip
    records = read(folder(names))
    splits = data.split(records, SETTINGS)
    groups = [set(records["group"].iloc[rows]) for rows in splits.sides().values()]
    assert sum(map(len, groups)) == len(set.union(*groups)) == 20
    assert len(splits.test) / len(records) == pytest.approx(data.SHARES["test"], abs=0.06)
    assert len(splits.validation) / len(records) == pytest.approx(data.SHARES["validation"], abs=0.06)
    assert sum(map(len, splits.sides().values())) == len(records)
    assert splits.clusters == ("group",)
    for rows in (splits.train, splits.test, *halves(records, splits.validation)):
        assert set(records["label"].iloc[rows]) == {0, 1}
    leakage.refuse_leaks(PIPELINE, records, splits)


@pytest.mark.parametrize(("count", "expected"), [(4, (1, 2, 1)), (6, (3, 2, 1)), (10, (6, 2, 2))])
def test_few_speakers_still_give_two_to_validation_and_one_to_test(count, expected):
    names = [f"{word}/p{who}_nohash_{n}.wav" for word in ("go", "no") for who in range(count) for n in range(3)]
    records = read(folder(names))
    assert tuple(frame["group"].nunique() for frame in sides(records).values()) == expected
    assert "BEWARE" in data.split(records, SETTINGS).rule


def test_a_word_of_few_speakers_is_named_when_no_draw_serves_it():
    names = [f"go/p{who}_nohash_0.wav" for who in range(8)] + [f"no/p{who}_nohash_0.wav" for who in range(3)]
    with pytest.raises(InputError, match="Received: 3 of 'no'"):
        data.split(read(folder(names)), SETTINGS)
    names = [f"go/{n}.wav" for n in range(30)] + [f"no/{n}.wav" for n in range(4)]
    with pytest.raises(InputError, match=r"'no' has too few clips.*Received: 4"):
        data.split(read(folder(names, "unnamed")), SETTINGS)


def test_the_draw_depends_neither_on_the_seed_nor_on_the_order():
    records = read(folder(FOUR))
    turned = records.iloc[::-1].reset_index(drop=True)
    found = [
        set(frame["group"].iloc[data.split(frame, replace(SETTINGS, seed=seed)).test])
        for frame, seed in ((records, 0), (records, 1), (turned, 0))
    ]
    assert found[0] == found[1] == found[2]


def test_a_side_that_is_missing_is_drawn_from_train_and_test_stays_as_it_is():
    names = [f"{side}/{word}/{who}_nohash_0.wav" for side, people in (("train", "abcdefgh"), ("test", "ij"))
             for word in ("go", "no") for who in people]  # fmt: skip
    found = sides(read(folder(names)))
    assert set(found["test"]["group"]) == {"i", "j"}
    assert found["validation"]["group"].nunique() == 2
    assert found["train"]["group"].nunique() == 6


# ------------------------------------------------------------------------------------------------------------- silence


def clips_of(records: pd.DataFrame) -> np.ndarray:
    return np.asarray(data.decode(records, data.learn(records, SETTINGS))["clip"][np.arange(len(records))])


def test_silence_of_each_side_is_cut_from_a_time_of_its_own():
    """The ratio of neighbouring samples tells when they were recorded, and no gain changes it."""
    root, length = folder(FOUR, noise_seconds=10), 10 * RATE
    wave = np.where(np.arange(length) % 2, np.linspace(2_000, 30_000, length), -20_000)
    (root / "_background_noise_" / "fan.wav").write_bytes(audio.wav(wave.astype(np.int16), RATE))
    records = read(root)
    assert records.attrs["classes"] == ["go", "no", "_silence_"]
    clips = clips_of(records).astype(float)
    for side, frame in sides(records).items():
        silence = frame[frame["word"] == "_silence_"]
        assert not silence["command"].any()
        heard = clips[silence.index]
        heard = heard[heard.min(axis=1) < -2_000]  # in quieter ones rounding hides the ratio
        assert len(heard) > 0
        ends = (heard.max(axis=1) / -heard.min(axis=1) * 20_000 - 2_000) / 28_000  # of the recording
        low, high = data.NOISE_PARTS[side]
        assert (ends - SAMPLES / length > low - 0.01).all()
        assert (ends < high + 0.01).all()


def test_pieces_of_silence_are_groups_that_never_share_a_sample():
    names = [f"{word}/p{who}_nohash_{n}.wav" for word in ("go", "no") for who in range(20) for n in range(2)]
    records = read(folder(names, noise_seconds=10))
    silence = records[records["word"] == "_silence_"]
    begins = silence["id"].str.split("/").str[2].astype(int)
    for group, rows in begins.groupby(silence["group"]):
        others = begins[silence["group"] != group].to_numpy()
        assert (np.abs(others[:, None] - rows.to_numpy()) >= SAMPLES).all()
    splits = data.split(records, SETTINGS)
    leakage.refuse_leaks(PIPELINE, records, splits)
    for rows in splits.sides().values():
        counts = records["word"].iloc[rows].value_counts()
        assert counts["_silence_"] == pytest.approx(counts["go"], abs=2)


def test_noise_that_is_too_short_makes_no_silence_and_says_so():
    records = read(folder(FOUR, noise_seconds=0.5))
    assert records.attrs["classes"] == ["go", "no"]
    assert told(records, "too short to cut _silence_")


# ------------------------------------------------------------------------------------------------- words, voices, demo


def test_words_held_out_are_on_no_side_and_in_no_training_batch():
    names = [f"{word}/{who}_nohash_{n}.wav" for word in ("go", "no", "bird") for who in "abcdefgh" for n in (0, 1)]
    records = read(folder(names), non_keywords=("bird",))
    assert records.attrs["classes"] == ["go", "no"]
    held = (records["word"] == "bird").to_numpy()
    assert held.sum() == 16
    assert (records["label"][held] == -1).all()
    assert not records["command"][held].any()
    splits = data.split(records, SETTINGS)
    assert not held[np.concatenate(list(splits.sides().values()))].any()
    inputs = data.decode(records, data.learn(records, SETTINGS))
    batches = Batches(Part(records, splits.train, inputs), 8, seed=0)
    seen = {audio.digest(clip) for n in range(len(batches)) for clip in batches[n][0]["clip"]}
    assert len(seen) == len(splits.train)
    assert not seen & set(records["digest"][held])
    with pytest.raises(InputError, match=r"expected some of bird, go, no\. Received: fish"):
        read(folder(names), non_keywords=("fish",))


def test_synthetic_voices_join_training_alone_and_speak_the_words():
    records = read(folder(FOUR, noise_seconds=10), voices=3, seconds=0.5)
    without = read(Path("words"), seconds=0.5)
    made = records[records["group"].str.startswith("voice ")]
    assert made["group"].nunique() == 3
    assert set(made["word"]) == {"go", "no"}
    found, before = sides(records), sides(without)
    assert set(made["id"]) <= set(found["train"]["id"])
    assert len(found["train"]) == len(before["train"]) + len(made)
    for side in ("validation", "test"):
        assert found[side]["id"].tolist() == before[side]["id"].tolist()
    shown = clips_of(records)
    spoken, _ = demo.speak(["go", "no"], demo.voices(3), demo.TAKES, RATE, RATE // 2)[::-1]
    np.testing.assert_array_equal(shown[made.index], spoken)
    assert np.array_equal([audio.digest(clip) for clip in shown], records["digest"])


def test_the_demo_has_voices_enough(monkeypatch):
    monkeypatch.setattr(demo, "voices", lambda count=None: [f"en-us+m{n}" for n in range(1, 9)])
    with pytest.raises(InputError, match="the demo is made of them already"):
        data.read(None, replace(SETTINGS, voices=2))


# ------------------------------------------------------------------------------------------------- requests, features


def test_a_request_decodes_to_what_training_saw():
    records = read(folder(FOUR, noise_seconds=10))
    facts = data.learn(records, SETTINGS)
    asked = data.parse(data.request(records, facts), facts)
    assert (asked["label"] == -1).all()
    np.testing.assert_array_equal(data.decode(asked, facts)["clip"], clips_of(records))
    original = [(Path("words") / name).read_bytes() for name in records["id"][: len(FOUR)]]
    asked = data.parse(pd.DataFrame({"audio": original, "id": records["id"][: len(FOUR)]}), facts)
    np.testing.assert_array_equal(data.decode(asked, facts)["clip"], clips_of(records)[: len(FOUR)])


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ({"sound": [b"x"]}, "expected the column 'audio'"),
        ({"audio": ["text"]}, "row 0, column 'audio': expected the bytes"),
        ({"audio": [sound(0), b"no sound"]}, "row 1, column 'audio'"),
        ({"audio": [sound(0), sound(1)], "id": ["a", "a"]}, "each identifier once"),
    ],
)
def test_a_request_with_a_fault_is_refused_by_row(table, told):
    with pytest.raises(InputError, match=told):
        data.parse(pd.DataFrame(table), {"sample_rate": RATE, "samples": SAMPLES, "classes": ["a", "b"]})


def test_records_of_other_classes_or_lengths_do_not_fit_a_network():
    records = read(folder(FOUR))
    facts = data.learn(records, SETTINGS)
    for other in ({"classes": ["ant", "bee"]}, {"samples": 99}, {"sample_rate": 16_000}):
        with pytest.raises(InputError, match=f"Expected {next(iter(other))}"):
            data.decode(records, facts | other)


# --------------------------------------------------------------------------------------------------------- augmentation


@pytest.fixture
def train():
    """The training part of a folder with noise, 1 s clips at 8 kHz: long enough to measure powers."""
    settings = replace(SETTINGS, seconds=1.0)
    records = data.read(folder(FOUR, noise_seconds=30), settings)
    splits = data.split(records, settings)
    return Part(records, splits.train, data.decode(records, data.learn(records, settings)))


def test_augmentation_is_drawn_anew_for_each_clip_and_epoch_and_repeats_for_a_seed(train):
    twice = train.take(np.zeros(6, int))
    augment = data.augmentation(train, SETTINGS)

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
    augmented, labels = data.augmentation(train, SETTINGS)(x, y, np.random.default_rng(0))
    np.testing.assert_array_equal(x["clip"], before)
    np.testing.assert_array_equal(labels, y)
    assert not np.array_equal(augmented["clip"], before)


def test_a_faster_clip_is_shorter_and_higher_about_its_middle():
    time = np.arange(RATE) / RATE
    tone = 10_000 * np.sin(2 * np.pi * 500 * time) * (np.abs(time - 0.5) < 0.25)
    slow, fast = data.played(np.stack([tone, tone]), np.array([0.8, 1.25]), np.array([0.0, 0.1 * RATE]))
    for clip, pitch, begin, end in ((slow, 400, 0.5 - 0.25 / 0.8, 0.5 + 0.25 / 0.8), (fast, 625, 0.4, 0.8)):
        assert np.argmax(np.abs(np.fft.rfft(clip))) == pytest.approx(pitch, abs=2)  # Hz, for a second of sound
        sounding = np.flatnonzero(np.abs(clip) > 100) / RATE
        assert sounding[[0, -1]] == pytest.approx([begin, end], abs=0.002)


@given(st.integers(-4, 4))
def test_at_the_same_pace_a_clip_only_moves(later):
    clip = np.arange(1, 6)
    found = data.played(clip[None], np.ones(1), np.array([float(later)]))[0]
    assert found.tolist() == [clip[at - later] if 0 <= at - later < 5 else 0 for at in range(5)]


def test_clips_move_by_a_tenth_of_a_second_at_most_and_their_gain_stays_in_range(train, monkeypatch):
    monkeypatch.setattr(data, "NOISY", 0.0)
    monkeypatch.setattr(data, "PACE", 1.0)
    x = {"clip": np.zeros((400, RATE), np.int16)}
    x["clip"][:, RATE // 2] = 10_000
    found = data.augmentation(train, SETTINGS)(x, np.zeros(400), np.random.default_rng(0))[0]["clip"]
    moved = found.argmax(axis=1) - RATE // 2
    assert (np.count_nonzero(found, axis=1) == 1).all()
    assert -800 <= moved.min() < -700
    assert 700 < moved.max() <= 800
    gain = 20 * np.log10(found.max(axis=1) / 10_000)
    assert -12.01 < gain.min() < -11
    assert 5 < gain.max() < 6.01


def test_noise_comes_at_the_wanted_ratios_for_most_clips(train, monkeypatch):
    monkeypatch.setattr(data, "SHIFT", 0.0)
    monkeypatch.setattr(data, "PACE", 1.0)
    monkeypatch.setattr(data, "GAINS", (0.0, 0.0))
    clip = 3_000 * np.sin(np.arange(RATE) / 5)
    x = {"clip": np.tile(np.rint(clip).astype(np.int16), (1_000, 1))}
    added = data.augmentation(train, SETTINGS)(x, np.zeros(1_000), np.random.default_rng(0))[0]["clip"] - clip
    ratio = 10 * np.log10((clip**2).mean() / (added**2).mean(axis=1))
    noisy = ratio < 40  # the others have the rounding alone
    assert noisy.mean() == pytest.approx(data.NOISY, abs=0.05)
    assert -0.1 < ratio[noisy].min() < 1
    assert 29 < ratio[noisy].max() < 30.1
    assert np.median(ratio[noisy]) == pytest.approx(15, abs=2)


def test_the_noise_of_training_is_its_own_part_of_the_recordings(train, monkeypatch):
    """A recording that is silent in its training part and loud behind it must add nothing."""
    wave = np.zeros(30 * RATE, np.int16)
    wave[data.noise_part(len(wave), "train").stop :] = 20_000
    np.save("late.npy", wave)
    train.records.attrs["noise"] = [["late", "late.npy"]]
    monkeypatch.setattr(audio, "noise", lambda rng, count, samples, colour: np.zeros((count, samples), np.float32))
    monkeypatch.setattr(data, "SHIFT", 0.0)
    monkeypatch.setattr(data, "PACE", 1.0)
    monkeypatch.setattr(data, "GAINS", (0.0, 0.0))
    x = {"clip": np.full((300, RATE), 1_000, np.int16)}
    found = data.augmentation(train, SETTINGS)(x, np.zeros(300), np.random.default_rng(0))[0]["clip"]
    np.testing.assert_array_equal(found, x["clip"])


def test_the_parts_of_a_recording_follow_one_another():
    parts = [data.noise_part(1_001, side) for side in ("train", "validation", "test")]
    assert [np.arange(1_001)[part].size for part in parts] == pytest.approx([600, 200, 200], abs=1)
    assert np.concatenate([np.arange(1_001)[part] for part in parts]).tolist() == list(range(1_001))


# ---------------------------------------------------------------------------------------------------------- real data


@pytest.mark.real
def test_the_arabic_commands_keep_their_official_sides(real_data):
    settings = Settings()
    records = data.read(real_data / "speech_commands" / "arabic_commands", settings)
    splits = data.split(records, settings)
    assert [int(records["command"].iloc[rows].sum()) for rows in splits.sides().values()] == [1440, 480, 480]
    assert records.loc[records["command"], "group"].nunique() == 30
    leakage.refuse_leaks(PIPELINE, records, splits)


@pytest.mark.real
def test_the_spoken_digits_split_by_their_six_speakers(real_data):
    records = data.read(real_data / "speech_commands" / "spoken_digits", Settings())
    splits = data.split(records, Settings())
    assert len(records) == 3_000
    assert [records["group"].iloc[rows].nunique() for rows in splits.sides().values()] == [3, 2, 1]
    leakage.refuse_leaks(PIPELINE, records, splits)
