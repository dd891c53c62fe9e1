"""The word network and its report."""

import importlib
from dataclasses import replace

import keras
import numpy as np
import pytest
from matplotlib.figure import Figure

from pipelines import __main__ as cli
from pipelines.core.report.items import Item
from pipelines.core.report.sections import sections
from pipelines.core.serving import litert
from pipelines.core.training import device
from pipelines.core.training.batches import predict
from pipelines.core.training.trial import trial
from pipelines.speech_commands import PIPELINE, Settings, audio, demo, model, report
from pipelines.speech_commands.data import Facts
from tests.builders import contents, without_words

FACTS = Facts(("no", "yes", "_silence_"), 8_000, 8_000)
RNG = np.random.default_rng(0)


def tones(hertz: np.ndarray, rate: int = 8_000) -> np.ndarray:
    time = np.arange(rate) / rate
    return audio.integers(0.3 * np.sin(2 * np.pi * hertz[:, None] * time))


def test_a_tone_lights_up_the_mel_band_of_its_frequency():
    frames = model.features(FACTS).predict({"clip": tones(np.array([300.0, 1_000.0, 3_000.0]))}, verbose=0)
    assert frames.shape[0] == 3
    assert frames.shape[2] == model.BANDS
    loudest = frames.mean(axis=1).argmax(axis=1)
    mel = 2595 * np.log10(1 + np.array([300, 1_000, 3_000, model.LOWEST, 3_800]) / 700)
    expected = (mel[:3] - mel[3]) / (mel[4] - mel[3]) * (model.BANDS + 1) - 1
    assert loudest == pytest.approx(expected, abs=1)


def test_the_features_of_a_clip_do_not_depend_on_others():
    extractor = model.features(FACTS)
    quiet, loud = tones(np.array([500.0])) // 50, tones(np.array([700.0]))
    alone = extractor.predict({"clip": quiet}, verbose=0)[0]
    beside = extractor.predict({"clip": np.concatenate([quiet, loud])}, verbose=0)[0]
    assert beside == pytest.approx(alone, abs=1e-4)


def test_features_are_standardised_by_what_training_holds():
    clips = audio.integers(0.1 * audio.noise(RNG, 50, 8_000, 1.0))
    network = model.build(FACTS, Settings(size="tiny"), {"clip": clips}, np.zeros(50))
    (scale,) = [layer for layer in network.layers if isinstance(layer, keras.layers.Normalization)]
    frames = keras.Model(network.input, scale.output).predict({"clip": clips}, verbose=0)
    assert frames.mean(axis=(0, 1)) == pytest.approx(np.zeros(model.BANDS), abs=0.02)
    assert frames.std(axis=(0, 1)) == pytest.approx(np.ones(model.BANDS), abs=0.02)


def test_masks_act_in_training_alone_and_on_whole_blocks():
    hidden = keras.Input((40, 12))
    masked = keras.Model(hidden, model._masked(model._masked(hidden, axis=1), axis=2))
    ones = np.ones((64, 40, 12), np.float32)
    assert np.array_equal(masked(ones, training=False), ones)
    seen = np.asarray(masked(ones, training=True)) > 0
    frames, bands = seen.any(axis=2), seen.any(axis=1)
    assert 0 < (~frames).mean() < 0.3
    blocks = frames.reshape(64, 5, model.MASKS[1])
    assert (blocks.all(axis=2) | ~blocks.any(axis=2)).all()
    assert 0 < (~bands).mean() < 0.3
    assert len(np.unique(seen, axis=0)) > 10, "each clip has masks of its own"


@pytest.mark.parametrize("size", ["tiny", "small", "base"])
def test_sizes_go_up(size):
    network = model.build(FACTS, Settings(size=size), {"clip": tones(np.array([500.0]))}, np.zeros(1))
    most = {"tiny": 100_000, "small": 300_000, "base": 1_200_000}[size]
    assert most / 4 < network.count_params() < most
    assert network.output.shape == (None, 3)


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    """A trial on the clips of a few voices, hardly trained."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("speech"))
        every = demo.voices()
        patch.setattr(demo, "voices", lambda count=None: every[:14])
        patch.setattr(demo, "NOISE_SECONDS", 30)
        settings = Settings(epochs=1, size="tiny", examples="full")
        data = PIPELINE.data.read(None, settings)
        yield trial(PIPELINE, data, PIPELINE.data.split(data, settings), settings, device.setup(0), resamplings=20)


@pytest.fixture(scope="module")
def reported(outcome):
    """The items of the report, without the LiteRT file, which takes seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(litert, "available", lambda: False)
        return [Item(*item) for item in report.report(outcome)]


def test_the_report_has_what_a_reviewer_looks_for(outcome, reported):
    items = contents(reported)
    assert {name for name, item in items.items() if isinstance(item, Figure)} == {
        "confusion", "accuracy in noise", "reliability", "spectrograms of the worst mistakes",
    }  # fmt: skip
    words, speakers = items["table of words"], items["table of speakers"]
    assert words["test clips"].sum() == len(outcome.parts["test"])
    assert speakers["test clips"].sum() == outcome.counted.sum()
    share = np.average(speakers["accuracy"], weights=speakers["test clips"])
    assert share == pytest.approx(outcome.resampled.values["network", "accuracy"])
    assert all(np.isfinite(item) for item in items.values() if isinstance(item, float))
    used, *others = items["table of running speech"].to_dict("records")
    assert used["most false accepts per hour"].startswith("10 on validation")
    assert used["measured"].startswith(f"{items['stream_false_accepts_per_hour']:.3g} [")
    assert used["commands missed"].startswith(f"{items['stream_false_rejections']:.3g} [")
    assert [row["most false accepts per hour"] for row in others] == ["0.5", "1", "10"]
    sounds = [item for name, item in items.items() if name.startswith("sounds/")]
    assert len(sounds) == report.PLAYED
    clip, rate = audio.decode(sounds[0])
    assert rate == outcome.facts.sample_rate
    assert len(clip) == outcome.facts.samples


def test_every_item_says_what_it_is_and_how_to_read_it(outcome, reported):
    assert without_words(reported) == []
    if litert.available():
        assert without_words(report._litert(outcome)) == []


def test_the_verdict_begins_with_what_a_user_asks(outcome, reported):
    items, said = contents(reported), report.remarks(outcome)[0]
    right = outcome.resampled.values["network", "accuracy"]
    assert said.startswith(f"Of 100 clips {100 * right:.0f} are recognised (")
    assert f"of the worst speaker's {100 * items['accuracy_of_worst_speaker']:.0f}." in said
    assert f"{items['stream_false_accepts_per_hour']:.2g} false accepts an hour" in said
    assert f"{100 * items['stream_false_rejections']:.0f} of 100 commands are missed" in said
    silent = replace(outcome, facts=replace(outcome.facts, detector=None))
    assert "running speech" not in report.remarks(silent)[0]


def test_the_sounds_of_the_worst_mistakes_can_be_played_on_the_page(reported):
    page = sections(reported)
    (sounds,) = [section for section in page if section.title == "Sounds of the worst mistakes"]
    assert len(sounds.items) == report.PLAYED
    assert all(", true: " in sound.caption for sound in sounds.items)
    assert sum(len(sound.address) for sound in sounds.items) < 1e6, "the page stays small"


@pytest.mark.parametrize(("examples", "sounds", "tables"), [("none", 0, False), ("ids", 0, True)])
def test_recordings_are_stored_only_as_far_as_allowed(outcome, examples, sounds, tables, monkeypatch):
    monkeypatch.setattr(litert, "available", lambda: False)
    items = contents(report.report(replace(outcome, settings=replace(outcome.settings, examples=examples))))
    assert sum(name.startswith("sounds/") for name in items) == sounds
    assert ("worst mistakes" in items) == tables
    assert "spectrograms of the worst mistakes" not in items


def test_noise_is_as_loud_as_its_ratio_says(outcome):
    """A network that looks at loudness alone."""
    part = outcome.headline.sample(60, 0)
    power = []

    class Loudness:
        def predict_on_batch(self, x):
            power.append(np.square(x["clip"].astype(float)).mean(axis=1))
            return np.tile(np.eye(12)[0], (len(x["clip"]), 1))

    table = report.accuracy_in_noise(Loudness(), part)
    assert list(table.index) == [0, 5, 10, 20, 30]
    assert set(table) == {"white noise", "air", "fan", "rain"}
    clean, twenty, *_, equal = power[:5]
    assert np.median(equal / clean) == pytest.approx(2, rel=0.1), "at 0 dB noise is as strong as the clip"
    assert np.median(twenty / clean) == pytest.approx(1.01, rel=0.02)


@pytest.mark.skipif(not litert.available(), reason="needs the extra `export` and TensorFlow")
def test_the_litert_file_gives_what_the_network_gives(outcome):
    few = outcome.headline.sample(8, 0)
    content, given, milliseconds = litert.litert(outcome.network, few)
    assert given == pytest.approx(predict(outcome.network, few), abs=1e-4)
    assert content[4:8] == b"TFL3"
    assert milliseconds > 0


def test_verbs_are_known_by_name(capsys):
    assert cli.main(["speech_commands", "--help"]) == 0
    assert "listen" in capsys.readouterr().out
    assert cli.main(["speech_commands", "liste"]) == 2
    assert "perhaps listen" in capsys.readouterr().err
    assert cli.main(["fraud", "listen"]) == 2
    assert "no commands beyond the common ones" in capsys.readouterr().err


def test_listening_needs_a_model_and_a_recording(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    assert cli.main(["speech_commands", "listen", "nothing.wav"]) == 2
    assert "speech_commands has no registered model yet: `make speech_commands` trains one." in capsys.readouterr().err
    commands = importlib.import_module("pipelines.speech_commands.commands")
    assert set(commands.COMMANDS) == {"listen"}
