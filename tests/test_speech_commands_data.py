"""Recordings as people have them: folders, tables, names; speakers, sides, words held out; requests."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from pipelines.core.contract import InputError
from pipelines.core.data import leakage, typed_json
from pipelines.core.data.arrays import Part
from pipelines.core.data.dataset import Dataset
from pipelines.core.data.splits import SHARES, halves
from pipelines.core.evaluation.calibration import Calibration
from pipelines.core.training.batches import Batches
from pipelines.speech_commands import Settings, audio, data, demo
from pipelines.speech_commands.data import Facts
from pipelines.speech_commands.task import Detector

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


def read(path: Path, **settings: object) -> Dataset:
    return data.read(path, replace(SETTINGS, **settings))


def sides(given: Dataset) -> dict[str, pd.DataFrame]:
    return {side: given.records.iloc[rows] for side, rows in data.split(given, SETTINGS).sides().items()}


def noted(given: Dataset, *texts: str) -> bool:
    """Whether one note holds all of the texts."""
    return any(all(text in note for text in texts) for note in given.notes)


def clips_of(given: Dataset) -> np.ndarray:
    return np.asarray(data.encode(given, data.learn(given, SETTINGS)).inputs["clip"][np.arange(len(given))])


# --------------------------------------------------------------------------------------------------------------- read


def test_a_folder_of_words_is_read_with_what_it_holds():
    given = read(folder(FOUR))
    assert given.records["id"].tolist() == sorted(FOUR)
    assert given.about.classes == ("go", "no")
    assert [given.about.classes[label] for label in given.records["label"]] == [name[:2] for name in sorted(FOUR)]
    assert given.records["word"].tolist() == [name[:2] for name in sorted(FOUR)]
    assert given.records["command"].all()
    assert given.labelled.all()
    clip = clips_of(given)[given.records["id"].tolist().index(FOUR[7])]
    np.testing.assert_array_equal(clip, audio.convert(sound(7), RATE, SAMPLES)[0])


def test_a_recording_keeps_its_identity_in_another_format_and_subset_and_beside_other_words():
    whole = read(folder(FOUR))
    identity = dict(zip(whole.records["id"], whole.identity, strict=True))
    assert len(set(identity.values())) == len(FOUR)
    folder([f"up/{who}_nohash_0.wav" for who in "abcd"], "other")
    for name in FOUR[:40]:
        samples, rate = soundfile.read(Path("words", name), dtype="int16")
        path = Path("other", name).with_suffix(".flac")
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, samples, rate)
    for path in Path("other", "up").iterdir():
        path.write_bytes(sound(int.from_bytes(path.name.encode()[:1]) + 500))
    again = read(Path("other"), non_keywords=("up",))
    names = again.records.loc[again.labelled, "id"].str.replace(".flac", ".wav")
    assert again.identity[again.labelled].tolist() == [identity[name] for name in names]
    assert not set(again.identity[~again.labelled]) & set(identity.values())


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
def test_known_schemes_of_names_are_recognised_and_noted(names, words, speaker):
    given = read(folder(names))
    assert given.about.classes == tuple(words)
    assert given.records["group"].nunique() == 4
    first = given.records[given.records["id"] == names[0]].iloc[0]
    assert (first["word"], first["group"]) == (words[0], speaker)
    assert noted(given, f"{sorted(names)[0]} is of", speaker)


def test_spoken_digits_come_with_a_warning_of_their_published_split():
    names = [f"{n}_{who}_{k}.wav" for n in range(2) for who in "abcd" for k in range(2)]
    assert noted(read(folder(names)), "BEWARE", "published split", "shares its speakers")


def test_a_pattern_of_the_users_own_takes_words_and_speakers():
    names = [f"rec-{who}-{word}-{k}.wav" for who in ("p1", "p2", "p3", "p4") for word in ("ja", "nee") for k in (0, 1)]
    given = read(folder(names), name_pattern=r"rec-(?P<speaker>\w+)-(?P<word>\w+)-")
    assert given.about.classes == ("ja", "nee")
    assert set(given.records["group"]) == {"p1", "p2", "p3", "p4"}


@pytest.mark.parametrize(
    ("pattern", "message"),
    [("(", "regular expression"), ("(nohash)", r"\(\?P<word>"), ("(?P<speaker>zz)", r"does not fit .*\(48 such files")],
)
def test_a_pattern_that_does_not_work_is_refused(pattern, message):
    with pytest.raises(InputError, match=message):
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
    given = read(path)
    assert {side: len(frame) for side, frame in sides(given).items()} == {"train": 18, "validation": 6, "test": 6}
    assert given.records["group"].tolist() == who


def test_speakers_and_words_that_are_numbers_stay_as_they_are_written():
    root = folder([f"{n}.wav" for n in range(30)])
    who, words = ["007", "08", "9", "1e1", "10"] * 6, ["01", "1"] * 15
    given = read(tabled(root, "all.csv", file=[f"{n}.wav" for n in range(30)], speaker=who, **{"class": words}))
    assert given.records["group"].tolist() == who
    assert given.records["word"].tolist() == words


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
    ("change", "message"),
    [
        ({"class": None}, "expected the column 'class'"),
        ({"class": [""] * 10}, "row 2, column 'class': expected a class"),
        ({"speaker": ["x"] * 9 + [""]}, "row 11, column 'speaker': expected a speaker"),
        ({"file": ["0.wav"] * 10}, "each identifier once"),
        ({"split": ["train"] * 9 + ["later"]}, "row 11, column 'split'.*'later'"),
        ({"file": [f"gone/{n}.wav" for n in range(10)]}, r"gone/0\.wav, not found there"),
    ],
)
def test_a_table_with_a_fault_is_refused_by_row_and_column(change, message):
    root = folder([f"{n}.wav" for n in range(10)])
    columns = {"file": [f"{n}.wav" for n in range(10)], "class": ["a", "b"] * 5} | change
    path = tabled(root, "t.csv", **{name: values for name, values in columns.items() if values is not None})
    with pytest.raises(InputError, match=message):
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
    given = read(path)
    assert given.about.classes == (
        "down", "go", "left", "no", "off", "on", "right", "stop", "up", "yes", "_unknown_", "_silence_",
    )  # fmt: skip
    for side, frame in sides(given).items():
        spoken = frame[frame["word"] != "_silence_"]
        assert set(spoken["id"]) <= set(names[side])
        counts = spoken["label"].value_counts()
        assert counts[10] == counts[0] == len(names[side]) // 12  # of the two unknown words, as many as of a command
        assert not spoken.loc[spoken["label"] == 10, "command"].any()
    assert set(given.records.loc[given.records["label"] == 10, "word"]) == {"bed", "zero"}


# --------------------------------------------------------------------------------------------------- notes, refusals


def test_without_speakers_or_with_too_few_a_note_says_what_that_means():
    unknown = read(folder([f"{word}/{n}.wav" for word in ("go", "no") for n in range(20)], "u"))
    few = read(folder([f"{word}/{who}_nohash_{n}.wav" for word in ("go", "no") for who in "ab" for n in range(9)], "f"))
    for given, message in ((unknown, "no speaker is known"), (few, "2 speakers are too few")):
        assert noted(given, "BEWARE", message)
        assert "group" not in given
        assert {side: set(frame["label"]) for side, frame in sides(given).items()} == {
            side: {0, 1} for side in ("train", "validation", "test")
        }


def test_a_given_split_that_shares_speakers_is_said_loudly_and_does_not_pass():
    names = [f"{side}/{word}/{who}_nohash_{n}.wav" for n, side in enumerate(("train", "val", "test"))
             for word in ("go", "no") for who in "abcd"]  # fmt: skip
    given = read(folder(names))
    assert noted(given, "BEWARE", "4 of 4 speakers", "more than one side")
    with pytest.raises(InputError, match="on one side"):
        leakage.refuse_leaks(given, data.split(given, SETTINGS), given.about.classes)


def test_silent_clipped_short_cut_and_padded_recordings_are_counted():
    root = folder(FOUR)
    (root / "go" / "a_nohash_0.wav").write_bytes(audio.wav(np.zeros(SAMPLES, np.int16), RATE))
    (root / "go" / "a_nohash_1.wav").write_bytes(audio.wav(np.full(3 * SAMPLES, 32_767, np.int16), RATE))
    (root / "go" / "a_nohash_2.wav").write_bytes(sound(5, 800))
    assert noted(read(root), "1 cut, 1 padded", "1 silent, 1 clipped, 1 shorter")


def test_unreadable_files_are_left_out_by_name_up_to_the_limit_and_refused_beyond():
    root = folder(FOUR)
    (root / "go" / "b_nohash_9.wav").write_bytes(sound(0)[:30])
    given = read(root, max_bad=0.05)
    assert len(given) == len(FOUR)
    assert noted(given, "b_nohash_9.wav is left out: truncated")
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
    given = read(folder(names))
    splits = data.split(given, SETTINGS)
    groups = [set(given.records["group"].iloc[rows]) for rows in splits.sides().values()]
    assert sum(map(len, groups)) == len(set.union(*groups)) == 20
    assert len(splits.test) / len(given) == pytest.approx(SHARES["test"], abs=0.06)
    assert len(splits.validation) / len(given) == pytest.approx(SHARES["validation"], abs=0.06)
    assert sum(map(len, splits.sides().values())) == len(given)
    assert splits.clusters == ("group",)
    for rows in (splits.train, splits.test, *halves(given, splits.validation)):
        assert set(given.records["label"].iloc[rows]) == {0, 1}
    leakage.refuse_leaks(given, splits, given.about.classes)


@pytest.mark.parametrize(("count", "expected"), [(4, (1, 2, 1)), (6, (3, 2, 1)), (10, (6, 2, 2))])
def test_few_speakers_still_give_two_to_validation_and_one_to_test(count, expected):
    names = [f"{word}/p{who}_nohash_{n}.wav" for word in ("go", "no") for who in range(count) for n in range(3)]
    given = read(folder(names))
    assert tuple(frame["group"].nunique() for frame in sides(given).values()) == expected
    assert "BEWARE" in data.split(given, SETTINGS).rule


def test_a_word_of_few_speakers_is_named_when_no_draw_serves_it():
    names = [f"go/p{who}_nohash_0.wav" for who in range(8)] + [f"no/p{who}_nohash_0.wav" for who in range(3)]
    with pytest.raises(InputError, match="Received: 3 of 'no'"):
        data.split(read(folder(names)), SETTINGS)
    names = [f"go/{n}.wav" for n in range(30)] + [f"no/{n}.wav" for n in range(3)]
    with pytest.raises(InputError, match=r"'no' is too small.*Received: 3"):
        data.split(read(folder(names, "unnamed")), SETTINGS)


def test_the_draw_depends_neither_on_the_seed_nor_on_the_order():
    given = read(folder(FOUR))
    turned = given.take(np.arange(len(given))[::-1])
    found = [
        set(one.records["group"].iloc[data.split(one, replace(SETTINGS, seed=seed)).test])
        for one, seed in ((given, 0), (given, 1), (turned, 0))
    ]
    assert found[0] == found[1] == found[2]


def test_a_side_that_is_missing_is_drawn_from_train_and_test_stays_as_it_is():
    names = [f"{side}/{word}/{who}_nohash_0.wav" for side, people in (("train", "abcdefgh"), ("test", "ij"))
             for word in ("go", "no") for who in people]  # fmt: skip
    found = sides(read(folder(names)))
    assert set(found["test"]["group"]) == {"i", "j"}
    assert found["validation"]["group"].nunique() == 2
    assert found["train"]["group"].nunique() == 6


# ------------------------------------------------------------------------------------------------- words, voices, demo


def test_words_held_out_are_on_no_side_and_in_no_training_batch():
    names = [f"{word}/{who}_nohash_{n}.wav" for word in ("go", "no", "bird") for who in "abcdefgh" for n in (0, 1)]
    given = read(folder(names), non_keywords=("bird",))
    assert given.about.classes == ("go", "no")
    held_out = (given.records["word"] == "bird").to_numpy()
    assert held_out.sum() == 16
    assert (given.labelled == ~held_out).all()
    assert (given.records["label"][held_out] == -1).all()
    assert not given.records["command"][held_out].any()
    splits = data.split(given, SETTINGS)
    assert not held_out[np.concatenate(list(splits.sides().values()))].any()
    encoded = data.encode(given, data.learn(given, SETTINGS))
    batches = Batches(Part(given, splits.train, encoded), 8, seed=0)
    seen = {audio.digest(clip) for n in range(len(batches)) for clip in batches[n][0]["clip"]}
    assert len(seen) == len(splits.train)
    assert not seen & set(given.records["digest"][held_out])
    with pytest.raises(InputError, match=r"expected some of bird, go, no\. Received: fish"):
        read(folder(names), non_keywords=("fish",))


def test_synthetic_voices_join_training_alone_and_speak_the_words():
    given = read(folder(FOUR, noise_seconds=10), voices=3, seconds=0.5)
    without = read(Path("words"), seconds=0.5)
    made = given.records[given.records["group"].str.startswith("voice ")]
    assert made["group"].nunique() == 3
    assert set(made["word"]) == {"go", "no"}
    found, before = sides(given), sides(without)
    assert set(made["id"]) <= set(found["train"]["id"])
    assert len(found["train"]) == len(before["train"]) + len(made)
    for side in ("validation", "test"):
        assert found[side]["id"].tolist() == before[side]["id"].tolist()
    shown = clips_of(given)
    spoken, _ = demo.speak(["go", "no"], demo.voices(3), demo.TAKES, RATE, RATE // 2)[::-1]
    np.testing.assert_array_equal(shown[made.index], spoken)
    assert np.array_equal([audio.digest(clip) for clip in shown], given.records["digest"])


def test_the_demo_has_voices_enough(monkeypatch):
    monkeypatch.setattr(demo, "voices", lambda count=None: [f"en-us+m{n}" for n in range(1, 9)])
    with pytest.raises(InputError, match="the demo consists of them already"):
        data.read(None, replace(SETTINGS, voices=2))


# ------------------------------------------------------------------------------------------------- requests, features


def test_a_request_is_encoded_as_training_records_are():
    given = read(folder(FOUR, noise_seconds=10))
    facts = data.learn(given, SETTINGS)
    asked = data.parse(data.example(given, facts), facts)
    assert not asked.labelled.any()
    assert not data.encode(asked, facts).targets
    np.testing.assert_array_equal(data.encode(asked, facts).inputs["clip"], clips_of(given))
    original = [(Path("words") / name).read_bytes() for name in given.records["id"][: len(FOUR)]]
    asked = data.parse(pd.DataFrame({"audio": original, "id": given.records["id"][: len(FOUR)]}), facts)
    np.testing.assert_array_equal(data.encode(asked, facts).inputs["clip"], clips_of(given)[: len(FOUR)])


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"sound": [b"x"]}, "expected the column 'audio'"),
        ({"audio": ["text"]}, "row 0, column 'audio': expected the bytes"),
        ({"audio": [sound(0), b"no sound"]}, "row 1, column 'audio'"),
        ({"audio": [sound(0), sound(1)], "id": ["a", "a"]}, "each identifier once"),
    ],
)
def test_a_request_with_a_fault_is_refused_by_row(table, message):
    with pytest.raises(InputError, match=message):
        data.parse(pd.DataFrame(table), Facts(("a", "b"), RATE, SAMPLES))


def test_records_of_other_classes_or_lengths_do_not_fit_a_network():
    given = read(folder(FOUR))
    facts = data.learn(given, SETTINGS)
    for other in ({"classes": ("ant", "bee")}, {"samples": 99}, {"sample_rate": 16_000}):
        with pytest.raises(InputError, match=f"Expected {next(iter(other))}"):
            data.encode(given, replace(facts, **other))


def test_facts_survive_json_with_what_is_learnt_after_training():
    facts = Facts(("a", "b"), RATE, SAMPLES, notes=("n",), calibration=Calibration("temperature", slope=1.5), sure=0.7,
                  detector=Detector(2, 0.5, 0.9))  # fmt: skip
    assert typed_json.from_json(Facts, json.loads(json.dumps(typed_json.to_json(facts)))) == facts


def test_a_network_that_starts_from_another_keeps_the_order_of_its_classes():
    names = [f"{word}/{who}_nohash_0.wav" for word in ("go", "no", "up", "yes") for who in "abcd"]
    given = read(folder(names), non_keywords=("yes",))
    adopted = data.adopt(given, Facts(("up", "go"), RATE, SAMPLES))
    assert adopted.about.classes == ("up", "go", "no")
    words = [adopted.about.classes[label] for label in adopted.records["label"][adopted.labelled]]
    assert words == adopted.records["word"][adopted.labelled].tolist()
    assert (adopted.records["label"][~adopted.labelled] == -1).all()


# ---------------------------------------------------------------------------------------------------------- real data


@pytest.mark.real
def test_the_arabic_commands_keep_their_official_sides(real_data):
    settings = Settings()
    given = data.read(real_data / "speech_commands" / "arabic_commands", settings)
    splits = data.split(given, settings)
    assert [int(given.records["command"].iloc[rows].sum()) for rows in splits.sides().values()] == [1440, 480, 480]
    assert given.records.loc[given.records["command"], "group"].nunique() == 30
    leakage.refuse_leaks(given, splits, given.about.classes)


@pytest.mark.real
def test_the_spoken_digits_split_by_their_six_speakers(real_data):
    given = data.read(real_data / "speech_commands" / "spoken_digits", Settings())
    splits = data.split(given, Settings())
    assert len(given) == 3_000
    assert [given.records["group"].iloc[rows].nunique() for rows in splits.sides().values()] == [3, 2, 1]
    leakage.refuse_leaks(given, splits, given.about.classes)
