"""Detections on a running stream, and how they are judged."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.core.data.arrays import Part
from pipelines.speech_commands import Settings, stream
from pipelines.speech_commands.stream import Detector, Heard, Spoken

RATE, SAMPLES = 1_000, 1_000
COMMANDS = [0, 1]  # of three classes, the last of which is silence


def heard(words: list[tuple[int, int]], windows: int = 100, high: float = 0.9) -> np.ndarray:
    """Probabilities of windows, all silence but for (window, class)."""
    probability = np.tile([0.05, 0.05, 0.9], (windows, 1))
    for window, label in words:
        probability[window] = 0.05
        probability[window, label] = high
    return probability


@given(st.lists(st.integers(1, 4_000), min_size=1, max_size=12), st.integers(0, 100))
def test_windows_do_not_depend_on_the_pieces_in_which_a_stream_comes(lengths, seed):
    wave = np.random.default_rng(seed).integers(-99, 99, sum(lengths)).astype(np.int16)

    def first_and_last(clips):
        return np.stack([clips[:, 0], clips[:, -1]], axis=1)

    pieces = np.split(wave, np.cumsum(lengths)[:-1])
    given_ = list(stream.probabilities(first_and_last, pieces, SAMPLES, RATE))
    begins = np.arange(0, len(wave) - SAMPLES + 1, round(stream.HOP * RATE))
    expected = np.stack([wave[begins], wave[begins + SAMPLES - 1]], axis=1)
    assert np.array_equal(np.concatenate([np.zeros((0, 2)), *given_]), expected)


def test_smoothing_is_the_mean_of_a_window_and_those_before_it():
    probability = np.array([[0.0], [3.0], [6.0], [0.0]])
    assert Detector(smoothing=3).smoothed(probability).ravel() == pytest.approx([0, 1, 3, 3])
    assert Detector(smoothing=1).smoothed(probability) == pytest.approx(probability)


@given(st.integers(0, 60), st.integers(1, 5))
def test_what_comes_later_changes_no_detection(cut, smoothing):
    probability = np.random.default_rng(cut).dirichlet(np.ones(3), 80)
    detector = Detector(smoothing, 0.5, 0.4)
    found = detector.detect(detector.smoothed(probability), COMMANDS)
    early = detector.detect(detector.smoothed(probability[:cut]), COMMANDS)
    assert early == [(window, label) for window, label in found if window < cut]


def test_a_word_is_detected_once_within_the_time_of_rest_and_silence_never():
    probability = heard([(10, 1), (11, 1), (14, 1), (30, 1)])
    assert Detector(1, 0.5, 0.5).detect(probability, COMMANDS) == [(10, 1), (30, 1)]
    assert Detector(1, 0.2, 0.5).detect(probability, COMMANDS) == [(10, 1), (14, 1), (30, 1)]
    assert Detector(1, 0.5, 0.95).detect(probability, COMMANDS) == []


@pytest.mark.parametrize(
    ("found", "hits", "false_accepts"),
    [
        ([(1.2, 0)], 1, 0),  # within the word
        ([(2.24, 0)], 1, 0),  # within 0.75 s after its end
        ([(2.26, 0)], 0, 1),  # too late
        ([(0.9, 0)], 0, 1),  # before its begin
        ([(1.2, 1)], 0, 1),  # another word
        ([(1.2, 1), (1.4, 0)], 0, 2),  # only the first counts
        ([(1.2, 0), (1.4, 0)], 1, 1),  # the second is one too many
        ([], 0, 0),
    ],
)
def test_a_hit_is_the_first_detection_and_all_others_are_false(found, hits, false_accepts):
    judged = stream.judge(found, [Spoken(0, 1.0, 1.5)])
    assert (len(judged.delays), judged.missed, judged.false_accepts) == (hits, 1 - hits, false_accepts)


def test_the_delay_counts_from_the_end_of_the_word():
    assert stream.judge([(1.9, 0)], [Spoken(0, 1.0, 1.5)]).delays == pytest.approx([0.4])


def test_a_lower_threshold_misses_less_and_accepts_more():
    rng = np.random.default_rng(0)
    probability = rng.dirichlet([0.3, 0.3, 3], 5_000)
    spoken = [Spoken(0, at + 0.2, at + 0.8) for at in range(5, 400, 20)]
    for word in spoken:
        probability[round((word.end - 1) / stream.HOP)] = (0.97, 0.02, 0.01)
    table = Heard(probability, spoken, COMMANDS, SAMPLES, RATE).curve(Detector(1, 0.5))
    assert table["threshold"].is_monotonic_decreasing
    assert table["missed"].iloc[-1] < table["missed"].iloc[0] == len(spoken)
    assert table["false_accepts"].iloc[-1] > table["false_accepts"].iloc[0]


def test_rates_that_so_few_hours_cannot_show_are_left_open():
    table = pd.DataFrame(
        {"threshold": [0.9, 0.5, 0.1], "false_accepts": [0, 3, 60], "missed": [8, 4, 1], "delay": [0.3, 0.3, 0.3]}
    )
    points = stream.operating_points(table, hours=3, spoken=10).set_index("asked")
    assert points.loc[0.5].isna().all(), "1.5 false accepts cannot be measured"
    assert points.loc[1.0, "false_rejections"] == 0.4
    assert points.loc[10.0, "false_rejections"] == 0.4, "60 in 3 hours are more than 10 an hour"
    assert points.loc[1.0, "accepts_low"] < 1 < points.loc[1.0, "accepts_high"]
    # Garwood's interval of a count of 3 is 0.62 to 8.77.
    assert points.loc[1.0, ["accepts_low", "accepts_high"]].to_numpy(float) * 3 == pytest.approx([0.62, 8.77], abs=0.01)


def test_smoothing_is_chosen_where_single_windows_are_mistaken():
    rng = np.random.default_rng(0)
    probability = heard([(int(at), 1) for at in rng.integers(0, 40_000, 400)], 40_000, 0.95)
    spoken = []
    for at in range(50, 40_000, 300):
        probability[at : at + 6] = (0.93, 0.02, 0.05)
        end = stream.seconds(at, SAMPLES, RATE)
        spoken.append(Spoken(0, end - 0.6, end))
    heard_ = Heard(probability, spoken, COMMANDS, SAMPLES, RATE)
    detector = stream.chosen(heard_, per_hour=1)
    assert detector.smoothing > 1
    judged = heard_.judged(detector)
    assert judged.false_accepts <= heard_.hours
    assert judged.missed < len(spoken)


# ------------------------------------------------------------------------------------------------------ what to hear


def clips(words: list[str], sides: list[str], speakers: list[str] | None = None) -> tuple[pd.DataFrame, dict]:
    """Records of tones, one frequency a word, in the middle of silence."""
    classes = ["no", "yes", "_unknown_"]
    label = [classes.index(word) if word in classes else -1 for word in words]
    records = pd.DataFrame({"word": words, "label": label, "side": sides})
    records["command"] = records["label"].isin([0, 1])
    if speakers:
        records["group"] = speakers
    records.attrs |= {"classes": classes, "sample_rate": RATE, "samples": SAMPLES, "noise": []}
    tone = np.sin(2 * np.pi * np.arange(400) * (1 + np.arange(len(words))[:, None]) / 50)
    waves = np.zeros((len(words), SAMPLES), np.int16)
    waves[:, 300:700] = 9_000 * tone
    return records, {"clip": waves}


def heard_from(records: pd.DataFrame, clip: dict, side: str, minutes: int = 30) -> list:
    part = Part(records, np.flatnonzero((records["side"] == side) & (records["label"] >= 0)), clip)
    return stream.of(part, side, Settings(data="mine", stream_minutes=minutes))


def test_a_composed_stream_holds_its_commands_where_it_says():
    records, clip = clips(["no", "yes", "_unknown_"], ["test"] * 3)
    minutes = list(heard_from(records, clip, "test"))
    wave, spoken = np.concatenate([minute for minute, _ in minutes]), [word for _, placed in minutes for word in placed]
    assert len(wave) == 30 * 60 * RATE
    assert len(spoken) > 50
    assert {word.label for word in spoken} == {0, 1}
    for word in spoken:
        inside = wave[round(word.begin * RATE) : round(word.end * RATE)].astype(float)
        assert len(inside) == pytest.approx(400, abs=20)
        power = np.abs(np.fft.rfft(inside, 400)) ** 2
        assert power.argmax() == 8 * (1 + word.label), "the tone of this word, as many cycles in 400 samples"
    ends, begins = (np.array([getattr(word, name) for word in spoken]) for name in ("end", "begin"))
    assert (begins[1:] - ends[:-1]).min() >= stream.TOLERANCE, "no word before the one before it is judged"


def test_a_stream_repeats_itself_and_differs_from_side_to_side():
    records, clip = clips(["no", "yes", "_unknown_"] * 2, ["test"] * 3 + ["validation"] * 3)
    first, again = (list(heard_from(records, clip, "test", 1)) for _ in range(2))
    assert np.array_equal(first[0][0], again[0][0])
    assert not np.array_equal(first[0][0], next(iter(heard_from(records, clip, "validation", 1)))[0])


@pytest.mark.parametrize("speakers", [["a", "a", "a", "b", "b", "b"], None])
def test_words_held_out_are_heard_on_the_side_of_their_speaker_or_file(speakers, monkeypatch):
    records, clip = clips(["no", "yes", "bird"] * 2, ["test"] * 3 + ["validation"] * 3, speakers)
    used = {}
    monkeypatch.setattr(stream, "composed", lambda commands, others, *_: used.update(c=commands, o=others))
    for side, mine in (("test", 0), ("validation", 3)):
        heard_from(records, clip, side)
        assert used["c"].rows.tolist() == [mine, mine + 1]
        assert used["o"].rows.tolist() == [mine + 2]


def test_without_other_words_there_is_nothing_to_count_false_alarms_on():
    records, clip = clips(["no", "yes"], ["test"] * 2)
    assert heard_from(records, clip, "test") is None
    records, clip = clips(["no", "yes", "bird"], ["test"] * 3)
    assert heard_from(records, clip, "test") is not None
    assert heard_from(records, clip, "test", minutes=0) is None


def test_false_accepts_are_counted_in_hours_of_other_speech():
    hour = heard([], windows=round(3600 / stream.HOP) - 9)  # the first of them ends after a second
    spoken = [Spoken(0, at, at + 0.75) for at in range(0, 3600, 3)]
    assert Heard(hour, [], COMMANDS, SAMPLES, RATE).hours == pytest.approx(1)
    assert Heard(hour, spoken, COMMANDS, SAMPLES, RATE).hours == pytest.approx(0.5), "1.5 of every 3 s are a command's"
