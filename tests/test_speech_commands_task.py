"""Decisions on clips, and detections in running speech compared with the commands spoken."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.core.data.arrays import Encoded, Part
from pipelines.core.data.dataset import Dataset
from pipelines.speech_commands import Settings, report, task
from pipelines.speech_commands.data import About, Facts
from pipelines.speech_commands.mixing import Spoken
from pipelines.speech_commands.task import TASK, Detector, ScoredStream

RATE, SAMPLES = 1_000, 1_000
COMMANDS = [0, 1]  # of three classes, the last of which is silence
FACTS = Facts(("no", "yes", "_silence_"), RATE, SAMPLES)


def part_of(labels: np.ndarray) -> Part:
    data = Dataset(pd.DataFrame({"label": labels}), About(FACTS.classes, RATE, SAMPLES), ("label",))
    return Part(data, np.arange(len(labels)), Encoded({}, {"label": labels}))


# --------------------------------------------------------------------------------------------------------------- clips


def test_silence_is_never_accepted_nor_a_word_that_is_not_sure():
    outputs = np.array([[0.9, 0.05, 0.05], [0.6, 0.3, 0.1], [0.0, 0.05, 0.95]], np.float32)
    part = part_of(np.array([0, 0, 2]))
    table = TASK.decide(outputs, replace(FACTS, sure=0.8), part)
    assert table["word"].tolist() == ["no", "no", "_silence_"]
    assert table["accepted"].tolist() == [True, False, False]
    assert table["probability"].to_numpy() == pytest.approx([0.9, 0.6, 0.95])
    assert not TASK.decide(outputs, FACTS, part)["accepted"].any(), "before the threshold is learnt"


def test_the_threshold_counts_a_word_recognised_in_silence_as_wrong():
    labels = np.repeat([0, 1, 2], 200)
    outputs = np.full((600, 3), 0.02)
    outputs[np.arange(600), labels] = 0.96
    outputs[400:440] = (0.7, 0.2, 0.1)  # silence taken for a word, less surely than true words
    part = part_of(labels)
    outputs = outputs.astype(np.float32)
    learnt = TASK.calibrate(lambda _: outputs, part, Settings(wanted_error=0.02), FACTS)
    assert learnt.calibration is not None
    accepted = TASK.decide(outputs, learnt, part)["accepted"].to_numpy()
    assert accepted[:400].all()
    assert not accepted[400:].any()


# ------------------------------------------------------------------------------------------------------ running speech


def windows_of(words: list[tuple[int, int]], windows: int = 100, high: float = 0.9) -> np.ndarray:
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
    given_ = list(task.probabilities(first_and_last, pieces, SAMPLES, RATE))
    begins = np.arange(0, len(wave) - SAMPLES + 1, round(task.HOP * RATE))
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
    probability = windows_of([(10, 1), (11, 1), (14, 1), (30, 1)])
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
    matches = task.match(found, [Spoken(0, 1.0, 1.5)])
    assert (len(matches.delays), matches.missed, matches.false_accepts) == (hits, 1 - hits, false_accepts)


def test_the_delay_counts_from_the_end_of_the_word():
    assert task.match([(1.9, 0)], [Spoken(0, 1.0, 1.5)]).delays == pytest.approx([0.4])


def test_a_lower_threshold_misses_less_and_accepts_more():
    rng = np.random.default_rng(0)
    probability = rng.dirichlet([0.3, 0.3, 3], 5_000)
    spoken = [Spoken(0, at + 0.2, at + 0.8) for at in range(5, 400, 20)]
    for word in spoken:
        probability[round((word.end - 1) / task.HOP)] = (0.97, 0.02, 0.01)
    table = ScoredStream(probability, spoken, COMMANDS, 1.0).curve(Detector(1, 0.5))
    assert table["threshold"].is_monotonic_decreasing
    assert table["missed"].iloc[-1] < table["missed"].iloc[0] == len(spoken)
    assert table["false_accepts"].iloc[-1] > table["false_accepts"].iloc[0]


def test_rates_that_so_few_hours_cannot_show_are_left_open():
    table = pd.DataFrame(
        {"threshold": [0.9, 0.5, 0.1], "false_accepts": [0, 3, 60], "missed": [8, 4, 1], "delay": [0.3, 0.3, 0.3]}
    )
    points = report.operating_points(table, hours=3, spoken=10).set_index("target")
    assert points.loc[0.5].isna().all(), "1.5 false accepts cannot be measured"
    assert points.loc[1.0, "false_rejections"] == 0.4
    assert points.loc[10.0, "false_rejections"] == 0.4, "60 in 3 hours are more than 10 an hour"
    assert points.loc[1.0, "accepts_low"] < 1 < points.loc[1.0, "accepts_high"]
    # Garwood's interval of a count of 3 is 0.62 to 8.77.
    assert points.loc[1.0, ["accepts_low", "accepts_high"]].to_numpy(float) * 3 == pytest.approx([0.62, 8.77], abs=0.01)


def test_smoothing_is_chosen_where_single_windows_are_mistaken():
    rng = np.random.default_rng(0)
    probability = windows_of([(int(at), 1) for at in rng.integers(0, 40_000, 400)], 40_000, 0.95)
    spoken = []
    for at in range(50, 40_000, 300):
        probability[at : at + 6] = (0.93, 0.02, 0.05)
        end = at * task.HOP + 1.0
        spoken.append(Spoken(0, end - 0.6, end))
    stream = ScoredStream(probability, spoken, COMMANDS, 1.0)
    detector = task.choose(stream, per_hour=1)
    assert detector.smoothing > 1
    matches = task.match(stream.detections(detector), spoken)
    assert matches.false_accepts <= stream.hours
    assert matches.missed < len(spoken)


def test_false_accepts_are_counted_in_hours_of_other_speech():
    hour = windows_of([], windows=round(3600 / task.HOP) - 9)  # the first of them ends after a second
    spoken = [Spoken(0, at, at + 0.75) for at in range(0, 3600, 3)]
    assert ScoredStream(hour, [], COMMANDS, 1.0).hours == pytest.approx(1)
    assert ScoredStream(hour, spoken, COMMANDS, 1.0).hours == pytest.approx(0.5), "1.5 of every 3 s are a command's"
