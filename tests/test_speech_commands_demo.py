"""Synthetic speech: voices that repeat themselves and differ, a demo of fair difficulty, streams with placed words."""

import sys
from itertools import pairwise

import numpy as np
import pytest
from scipy import fft
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from pipelines.core.contract import InputError
from pipelines.core.data import leakage
from pipelines.speech_commands import Settings, data, demo

RATE = 16_000
FEW = ["en-us+m1", "en-us+f2", "en-us+klatt", "en-us+grandma"]


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("demo"))
        yield data.read(None, Settings())


def features(clips: np.ndarray) -> np.ndarray:
    """Mean and deviation over time of the log power in 40 bands."""
    frames = np.lib.stride_tricks.sliding_window_view(clips / np.float32(32_768), 512, axis=1)[:, ::512] * np.hanning(
        512
    ).astype(np.float32)
    power = np.abs(fft.rfft(frames)) ** 2
    edges = np.unique(np.geomspace(3, 257, 42).astype(int))
    bands = np.log(np.add.reduceat(power, edges[:-1], axis=2) + 1e-4)
    return np.concatenate([bands.mean(axis=1), bands.std(axis=1)], axis=1)


# -------------------------------------------------------------------------------------------------------------- voices


def test_the_same_seed_says_the_same_whatever_was_said_before():
    table, clips = demo.speak(["yes", "no"], FEW, 2, RATE, RATE, seed=3)
    demo.speak(["something", "else"], FEW[:1], 1, RATE, RATE)
    again, same = demo.speak(["yes", "no"], FEW, 2, RATE, RATE, seed=3)
    assert table.equals(again)
    np.testing.assert_array_equal(clips, same)
    assert not np.array_equal(clips, demo.speak(["yes", "no"], FEW, 2, RATE, RATE, seed=4)[1])


def test_the_breath_of_a_voice_is_drawn_with_the_seed_too(monkeypatch):
    """Left to itself the library draws it by the clock."""
    monkeypatch.setattr(demo, "RATES", (150, 151))
    monkeypatch.setattr(demo, "PITCHES", (50, 51))
    first, same, other = (
        demo.Synthesiser().say("yes", "en-us+whisper", RATE, np.random.default_rng(seed)) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, same)
    assert not np.array_equal(first, other)


def test_every_voice_says_every_word_as_often_as_asked_and_never_alike():
    table, clips = demo.speak(["yes", "no", "3"], FEW, 2, RATE, RATE)
    assert (table.value_counts() == 2).all()
    assert len(table.value_counts()) == 12
    assert clips.shape == (24, RATE)
    assert clips.dtype == np.int16
    assert (np.abs(clips.astype(int)).max(axis=1) > 500).all()
    assert len({clip.tobytes() for clip in clips}) == 24


def test_digits_are_spoken_as_words_and_underscores_as_spaces():
    figures = demo.speak(["7", "turn_on"], FEW[:1], 1, RATE, RATE)[1]
    spelt = demo.speak(["seven", "turn on"], FEW[:1], 1, RATE, RATE)[1]
    np.testing.assert_array_equal(figures, spelt)


def test_the_rate_of_the_clips_keeps_the_pitch_of_the_voice():
    rng = (np.random.default_rng(0) for _ in range(2))
    slow, fast = (demo.Synthesiser().say("aaaah", "en-us+m1", rate, next(rng)) for rate in (8_000, 16_000))
    assert len(fast) == pytest.approx(2 * len(slow), abs=2)
    peaks = [np.abs(np.fft.rfft(wave)).argmax() * rate / len(wave) for wave, rate in ((slow, 8_000), (fast, 16_000))]
    assert peaks[0] == pytest.approx(peaks[1], abs=3)


def test_there_are_about_a_hundred_voices_and_more_in_other_accents():
    names = demo.voices()
    assert len(set(names)) == len(names) > 90
    assert all(name.startswith("en-us+") for name in names)
    more = demo.voices(300)
    assert more[: len(names)] == names
    assert len(set(more)) == 300
    speaker = demo.Synthesiser()
    accents = {name.split("+")[0]: name for name in demo.voices(len(names) * len(demo.ACCENTS))}
    assert set(accents) == set(demo.ACCENTS)
    for name in accents.values():
        assert len(speaker.say("yes", name, RATE, np.random.default_rng(0))) > 1_000
    with pytest.raises(InputError, match="at most"):
        demo.voices(100_000)


def test_what_cannot_be_said_and_who_cannot_say_it_get_a_sentence():
    speaker, rng = demo.Synthesiser(), np.random.default_rng(0)
    with pytest.raises(InputError, match=r"words that can be spoken\. Received: ' '"):
        speaker.say(" ", "en-us+m1", RATE, rng)
    with pytest.raises(InputError, match=r"Expected a voice of eSpeak NG.*'nobody'"):
        speaker.say("yes", "nobody", RATE, rng)


def test_without_the_extra_the_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(InputError, match=r"pip install 'pipelines\[voices\]'"):
        demo.speak(["yes"], FEW, 1, RATE, RATE)


# ---------------------------------------------------------------------------------------------------------------- demo


def test_the_same_seed_makes_the_same_demo_and_another_one_another(monkeypatch):
    monkeypatch.setattr(demo, "voices", lambda: FEW)
    monkeypatch.setattr(demo, "NOISE_SECONDS", 2)
    (table, clips, noise), (again, same, hiss) = (demo.make(RATE, RATE, seed=0) for _ in range(2))
    assert table.equals(again)
    np.testing.assert_array_equal(clips, same)
    assert all(np.array_equal(noise[name], hiss[name]) for name in noise)
    assert not np.array_equal(clips, demo.make(RATE, RATE, seed=1)[1])


def test_the_demo_has_the_wanted_size_and_classes_and_says_that_it_is_synthetic(given):
    assert 3_000 <= len(given) <= 4_500
    assert given.about.classes == (*sorted(demo.COMMANDS), "_unknown_", "_silence_")
    assert given.records.loc[given.records["label"] == 10, "word"].nunique() >= 25
    assert any("synthetic" in note for note in given.notes)
    counts = given.records["label"].value_counts()
    assert counts.min() > 0.9 * counts.max()
    assert not set(demo.COMMANDS + demo.OTHERS) & set(demo.UNHEARD["validation"] + demo.UNHEARD["test"])
    assert not set(demo.UNHEARD["validation"]) & set(demo.UNHEARD["test"])


def test_the_voices_of_the_demo_are_apart_and_every_class_is_everywhere(given):
    splits = data.split(given, Settings())
    leakage.refuse_leaks(given, splits, given.about.classes)
    groups = [set(given.records["group"].iloc[rows]) for rows in splits.sides().values()]
    assert sum(map(len, groups)) == len(set.union(*groups))
    assert len(groups[2]) > 15
    assert all(set(given.records["label"].iloc[rows]) == set(range(12)) for rows in splits.sides().values())


def test_the_second_reading_of_the_demo_synthesises_nothing(given, monkeypatch):
    monkeypatch.chdir(given.about.clips[0].split("/data/")[0])
    monkeypatch.setattr(demo, "Synthesiser", None)
    again = data.read(None, Settings())
    assert again.records.equals(given.records)
    assert (again.about, again.notes) == (given.about, given.notes)


def test_the_demo_is_neither_trivial_nor_hopeless(given):
    splits = data.split(given, Settings())
    encoded, labels = data.encode(given, data.learn(given, Settings())), given.records["label"].to_numpy()
    inputs = encoded.inputs["clip"]
    test = splits.test[splits.counted]
    learnt = LinearDiscriminantAnalysis().fit(features(inputs[splits.train]), labels[splits.train])
    assert 0.5 < learnt.score(features(inputs[test]), labels[test]) < 0.9


# -------------------------------------------------------------------------------------------------------------- stream


def minutes(seed: int = 0, hours: float = 0.05, **changed: object) -> list:
    asked = {"commands": demo.COMMANDS, "others": demo.UNHEARD["test"], "names": FEW, "sample_rate": 8_000} | changed
    return list(demo.stream(hours=hours, seed=seed, **asked))


def test_a_stream_comes_in_minutes_and_repeats_for_a_seed():
    first, second, other = minutes(), minutes(), minutes(1)
    assert [block.shape for block, _ in first] == [(60 * 8_000,)] * 3
    assert all(block.dtype == np.int16 for block, _ in first)
    assert all(np.array_equal(one, same) for (one, _), (same, _) in zip(first, second, strict=True))
    assert [placed for _, placed in first] == [placed for _, placed in second]
    assert not np.array_equal(first[0][0], other[0][0])


def test_placed_commands_lie_in_their_minute_apart_from_others_and_as_often_as_asked():
    found = minutes(hours=0.2, per_hour=300)
    placed = [command for _, words in found for command in words]
    assert len(placed) == pytest.approx(60, abs=25)
    for minute, (_, words) in enumerate(found):
        assert all(60 * minute <= word.begin < word.end <= 60 * (minute + 1) - demo.AFTER for word in words)
    assert all(after.begin - before.end >= demo.AFTER for before, after in pairwise(placed))
    assert {word.word for word in placed} <= set(demo.COMMANDS)
    assert len({word.word for word in placed}) > 5
    assert all(0.1 < word.end - word.begin < 1.5 for word in placed)


def test_a_placed_command_is_where_the_stream_says(monkeypatch):
    """Without echoes and noise, and with no other word, sound is where commands were placed and nowhere else."""
    monkeypatch.setattr(demo, "NOISES", (80.0, 80.0))
    monkeypatch.setattr(demo, "DIRECT", (80.0, 80.0))
    monkeypatch.setattr(demo, "LEVELS", (-1.0, -1.0))
    for minute, (block, words) in enumerate(minutes(per_hour=1e9)):
        loud = np.abs(block.astype(int)) > 500
        at = np.arange(len(block)) / 8_000 + 60 * minute
        inside = np.zeros(len(block), bool)
        for word in words:
            here = (at >= word.begin - 1e-3) & (at <= word.end + 1e-3)
            assert loud[here].any()
            inside |= here
        assert not loud[~inside].any()


def test_a_stream_of_other_words_alone_places_nothing():
    assert all(not placed for _, placed in minutes(per_hour=0))
    assert all(not placed for _, placed in minutes(commands=()))
