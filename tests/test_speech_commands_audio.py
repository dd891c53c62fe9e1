"""Recordings of every format, damaged and hostile ones among them; their rate, length and noise; the cache."""

import io
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from pipelines.core.contract import InputError
from pipelines.core.reading.media_cache import BadFile
from pipelines.speech_commands import audio
from pipelines.speech_commands.audio import decode, fitted, load, load_noise, mixed

RATE = 16_000


def tone(hertz: float = 440, rate: int = RATE, seconds: float = 1.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def encoded(wave: np.ndarray, kind: str = "WAV", subtype: str | None = None, rate: int = RATE) -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, wave, rate, subtype=subtype, format=kind)
    return stream.getvalue()


def patched(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


def write(folder: Path, **contents: bytes) -> list[Path]:
    folder.mkdir(exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return [folder / name for name in contents]


def peak_hertz(clip: np.ndarray, rate: int = RATE) -> float:
    return float(np.abs(np.fft.rfft(clip.astype(float))).argmax() * rate / len(clip))


# ------------------------------------------------------------------------------------------------------------- formats


@pytest.mark.parametrize(
    ("kind", "subtype", "error"),
    [("WAV", "PCM_U8", 0.01), ("WAV", "PCM_16", 1e-4), ("WAV", "PCM_24", 1e-6), ("WAV", "PCM_32", 1e-6),
     ("WAV", "FLOAT", 0), ("WAV", "DOUBLE", 0), ("WAV", "ULAW", 0.02), ("WAVEX", "PCM_16", 1e-4),
     ("FLAC", "PCM_16", 1e-4), ("FLAC", "PCM_24", 1e-6), ("OGG", "VORBIS", 0.05)],
)  # fmt: skip
def test_formats_and_widths_give_the_samples_that_were_written(kind, subtype, error):
    wave, rate = decode(encoded(tone(), kind, subtype))
    assert rate == RATE
    assert wave.dtype == np.float32
    np.testing.assert_allclose(wave, tone(), rtol=0, atol=error)


def test_channels_become_their_mean():
    left, right = tone(440), tone(1000)
    wave, _ = decode(encoded(np.stack([left, right], axis=1), subtype="FLOAT"))
    np.testing.assert_allclose(wave, (left + right) / 2, atol=1e-6)


def test_samples_beyond_full_scale_are_clipped():
    wave, _ = decode(encoded(4 * tone(), subtype="FLOAT"))
    np.testing.assert_array_equal(wave, np.clip(4 * tone(), -1, 1))


def test_a_clip_survives_its_wav_to_the_bit():
    clip = np.random.default_rng(0).integers(-32_768, 32_768, 1000).astype(np.int16)
    np.testing.assert_array_equal(audio.convert(audio.wav(clip, RATE), RATE, 1000)[0], clip)


# ------------------------------------------------------------------------------------------------------------- hostile

SOUND = encoded(tone())
FLAC = encoded(tone(), "FLAC")
FRAMES_AT = 22  # the last four bytes of the number of samples in a FLAC file's header
HOSTILE = {
    "no bytes": (b"", "empty file"),
    "zeros": (bytes(1000), "no WAV, FLAC or OGG"),
    "text": (b"yes, no, up, down", "no WAV, FLAC or OGG"),
    "cut in the header": (SOUND[:30], "truncated: 16 bytes declared for 'fmt '"),
    "only a header": (SOUND[:44], "truncated: 32,000 bytes declared for 'data', 0 present"),
    "cut in the samples": (SOUND[:20_000], "truncated: 32,000 bytes declared for 'data', 19,956 present"),
    "four gigabytes": (patched(SOUND, 40, b"\xff\xff\xff\xff"), "4,294,967,295 bytes declared"),
    "no samples": (encoded(tone()[:0]), "no samples"),
    "cut FLAC": (FLAC[: len(FLAC) // 2], "damaged"),
    "cut OGG": (encoded(tone(), "OGG")[:2000], "damaged"),
    "FLAC that declares too much": (patched(FLAC, FRAMES_AT, (20_000).to_bytes(4)), "truncated"),
    "FLAC of two weeks": (patched(FLAC, FRAMES_AT - 1, b"\xff\xff\xff\xff\xff"), "s long: expected at most 60 s"),
    "FLAC without a length": (patched(FLAC, FRAMES_AT - 1, b"\xf0\0\0\0\0"), "does not state its length"),
    "NaN": (encoded(np.array([0, np.nan, 0]), subtype="FLOAT"), "not finite"),
    "infinity": (encoded(np.array([0, np.inf, 0]), subtype="DOUBLE"), "not finite"),
    "overflow of the mean": (encoded(np.full((9, 2), 3e38), subtype="FLOAT"), "not finite"),
    "slow": (encoded(tone(), rate=1000), "1,000 samples a second: expected 4,000 to 192,000"),
    "fast": (patched(SOUND, 24, b"\xff\xff\xff\x7f"), "2,147,483,647 samples a second"),
    "rate of zero": (patched(SOUND, 24, bytes(4)), "damaged"),
    "no channel": (patched(SOUND, 22, bytes(2)), "damaged"),
    "many channels": (encoded(np.zeros((100, 9))), "9 channels: expected at most 8"),
    "another format": (encoded(tone(), "AIFF"), "format AIFF: expected WAV, WAVEX, FLAC, OGG"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_bytes_get_a_sentence(name):
    data, message = HOSTILE[name]
    with pytest.raises(BadFile) as fault:
        decode(data)
    assert message in str(fault.value)
    assert len(str(fault.value)) < 200


@pytest.mark.parametrize(("declared", "message"), [(7200 * 4000, "7,200 s long: expected at most 60 s"), (4000, "")])
def test_hours_of_silence_in_a_small_file_take_little_memory_whatever_they_declare(declared, message):
    data = encoded(np.zeros(7200 * 4000, np.int16), "FLAC", rate=4000)
    assert len(data) < 1_000_000
    tracemalloc.start()
    try:
        wave, _ = decode(patched(data, FRAMES_AT, declared.to_bytes(4)))
        assert len(wave) == declared
    except BadFile as fault:
        assert message and message in str(fault)  # noqa: PT017, PT018  # either end is right for a header that lies
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()


def test_a_wav_that_declares_gigabytes_takes_little_memory():
    tracemalloc.start()
    with pytest.raises(BadFile, match="declared"):
        decode(HOSTILE["four gigabytes"][0])
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()


@given(st.integers(0, 60), st.binary(min_size=1, max_size=8), st.sampled_from([SOUND[:4000], FLAC]))
def test_whatever_the_damage_the_end_is_a_clip_or_a_sentence(at, new, data):
    try:
        wave, rate = decode(patched(data, at, new))
    except BadFile as fault:
        assert str(fault)  # noqa: PT017  # no fault is right too
    else:
        assert np.isfinite(wave).all()
        assert len(wave) <= audio.MOST_SECONDS * rate


def test_a_fault_quotes_nothing_that_a_terminal_obeys():
    assert str(BadFile("a\x1b[2J\nb" + "c" * 5000)) == "a [2J b" + "c" * 193


# -------------------------------------------------------------------------------------------------------- rate, length


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 48_000, 96_000])
def test_a_tone_keeps_its_frequency_and_its_loudness_at_another_rate(rate):
    clip = fitted(tone(440, rate), rate, RATE, RATE)
    assert clip.shape == (RATE,)
    assert peak_hertz(clip) == pytest.approx(440, abs=1)
    assert np.abs(clip[1000:-1000]).max() == pytest.approx(0.5 * 32_768, rel=0.01)


def test_what_the_new_rate_cannot_carry_vanishes_instead_of_folding():
    clip = fitted(tone(12_000, 48_000), 48_000, RATE, RATE)
    assert np.abs(clip[1000:-1000]).max() < 33


def test_a_short_recording_is_padded_at_both_ends():
    clip = fitted(np.full(100, 0.5, np.float32), RATE, RATE, 301)
    assert np.flatnonzero(clip).tolist() == list(range(100, 200))


@pytest.mark.parametrize("begin", [0, 9_000, 30_000])
def test_of_a_long_recording_the_loudest_part_is_kept_with_the_word_in_its_middle(begin):
    wave = np.full(3 * RATE, 1e-4, np.float32)
    wave[begin : begin + 8_000] = tone()[:8_000]
    clip = fitted(wave, RATE, RATE, RATE)
    loud = np.flatnonzero(np.abs(clip.astype(int)) > 100)
    assert loud[-1] - loud[0] > 7_900
    if begin > 4_000:
        assert (loud[0] + loud[-1]) / 2 == pytest.approx(RATE / 2, abs=200)


# --------------------------------------------------------------------------------------------------------------- noise


@pytest.mark.parametrize("scale", [1, 32_768])
def test_mixed_clips_have_the_wanted_ratio_of_mean_powers(scale):
    rng = np.random.default_rng(0)
    clips, noise = rng.normal(0, 0.1 * scale, (5, 8000)), rng.normal(0, 3, (5, 8000))
    decibels = np.array([-5.0, 0.0, 10.0, 30.0, np.inf])
    added = mixed(clips, noise, decibels) - clips
    with np.errstate(divide="ignore"):
        reached = 10 * np.log10((clips**2).mean(axis=1) / (added**2).mean(axis=1))
    assert reached[:4] == pytest.approx(decibels[:4], abs=0.05)
    np.testing.assert_allclose(added[4], 0, atol=1e-6 * scale)


def test_a_silent_clip_stays_silent_and_silent_noise_adds_nothing():
    some = np.ones((1, 100), np.float32)
    assert not mixed(0 * some, some, np.zeros(1)).any()
    np.testing.assert_array_equal(mixed(some, 0 * some, np.zeros(1)), some)


@pytest.mark.parametrize("colour", [0.0, 1.0, 2.0])
def test_noise_falls_with_frequency_by_its_colour(colour):
    waves = audio.noise(np.random.default_rng(0), 20, RATE, colour)
    assert np.mean(np.square(waves), axis=1) == pytest.approx(1, rel=1e-3)
    power = (np.abs(np.fft.rfft(waves)) ** 2).mean(axis=0)
    low, high = power[90:110].mean(), power[3900:4100].mean()
    assert 10 * np.log10(low / high) == pytest.approx(colour * 10 * np.log10(40), abs=1.5)


def test_a_noise_recording_is_resampled_in_blocks_as_if_at_once(tmp_path):
    wave = np.random.default_rng(0).normal(0, 0.1, 5 * 44_100).astype(np.float32)
    (file,) = write(tmp_path / "in", a=encoded(wave, subtype="FLOAT", rate=44_100))
    stored = np.load(load_noise(file, tmp_path / "cache", RATE))
    whole = fitted(wave, 44_100, RATE, 5 * RATE)
    assert stored.dtype == np.int16
    assert stored.shape == whole.shape
    assert np.abs(stored.astype(int) - whole).max() <= 2


def test_a_long_noise_recording_is_never_in_memory_as_a_whole(tmp_path):
    (file,) = write(tmp_path / "in", a=encoded(np.zeros(1_200 * 8_000, np.int16), "FLAC", rate=8_000))
    tracemalloc.start()
    stored = np.load(load_noise(file, tmp_path / "cache", RATE), mmap_mode="r")
    assert tracemalloc.get_traced_memory()[1] < stored.nbytes / 4
    tracemalloc.stop()
    assert len(stored) == 1_200 * RATE


def test_a_noise_recording_is_decoded_once_and_may_not_last_for_ever(tmp_path, monkeypatch):
    (file,) = write(tmp_path / "in", a=SOUND)
    path = load_noise(file, tmp_path / "cache", RATE)
    monkeypatch.setattr(audio, "_blocks", None)
    assert load_noise(file, tmp_path / "cache", RATE) == path
    monkeypatch.setattr(audio, "MOST_NOISE_SECONDS", 0.5)
    with pytest.raises(
        InputError, match=r"in/a: expected a recording of background noise\. Received: 1 s long: expected at most 0.5 s"
    ):
        load_noise(file, tmp_path / "cache", RATE // 2)
    assert [entry.suffix for entry in (tmp_path / "cache").iterdir()] == [".npy"]


# ---------------------------------------------------------------------------------------------------------------- load


def test_files_become_clips_and_facts(tmp_path):
    loud = np.sign(tone()) * 1.0
    same = np.rint(32_768 * tone()).astype(np.int16)
    contents = {
        "a": encoded(same),
        "b": b"text",
        "c": encoded(same, "FLAC"),
        "d": encoded(1e-4 * tone()),
        "e": encoded(loud),
    }
    files = write(tmp_path / "in", **contents, f=encoded(tone(seconds=0.1)))
    clips, table = load(files, tmp_path / "cache", RATE, RATE, 0.5)
    assert clips.shape == (5, RATE)
    assert clips.dtype == np.int16
    assert table["reason"].astype(bool).tolist() == [False, True, False, False, False, False]
    assert table["silent"].tolist() == [False, False, False, True, False, False]
    assert table["clipped"].tolist() == [False, False, False, False, True, False]
    assert table["short"].tolist() == [False, False, False, False, False, True]
    assert table["seconds"].tolist() == pytest.approx([1, 0, 1, 1, 1, 0.1])
    assert table["digest"][0] == table["digest"][2] != table["digest"][3]


def test_the_second_call_decodes_nothing_and_knows_todays_names(tmp_path, monkeypatch):
    files = write(tmp_path / "in", a=SOUND, b=b"text")
    clips, table = load(files, tmp_path / "cache", RATE, RATE, 0.5)
    renamed = [file.rename(file.with_suffix(".wav")) for file in files]
    monkeypatch.setattr(audio, "decode", None)
    again, names = load(renamed, tmp_path / "cache", RATE, RATE, 0.5)
    np.testing.assert_array_equal(again, clips)
    assert names["file"].tolist() == [str(file) for file in renamed]
    assert names.drop(columns="file").equals(table.drop(columns="file"))
    assert sorted(path.suffix for path in (tmp_path / "cache").iterdir()) == [".npy", ".parquet"]


def test_other_content_order_rate_or_length_make_another_cache(tmp_path):
    files = write(tmp_path / "in", a=SOUND, b=encoded(tone(700)))
    first, _ = load(files, tmp_path / "cache", RATE, RATE, 0)
    turned, _ = load(files[::-1], tmp_path / "cache", RATE, RATE, 0)
    np.testing.assert_array_equal(turned, first[::-1])
    assert load(files, tmp_path / "cache", 8_000, 4_000, 0)[0].shape == (2, 4_000)
    assert peak_hertz(load(files, tmp_path / "cache", 8_000, 8_000, 0)[0][1], 8_000) == pytest.approx(700, abs=1)
    files[1].write_bytes(SOUND)
    changed, _ = load(files, tmp_path / "cache", RATE, RATE, 0)
    np.testing.assert_array_equal(changed[1], first[0])


def test_too_many_bad_recordings_are_one_sentence(tmp_path):
    files = write(tmp_path / "in", **{f"{n}": SOUND for n in range(12)}, x=b"", y=b"text", z=SOUND[:99])
    clips, _ = load(files, tmp_path / "cache", RATE, RATE, 0.2)
    assert len(clips) == 12
    with pytest.raises(InputError) as error:
        load(files, tmp_path / "cache", RATE, RATE, 0.19)
    sentence = str(error.value)
    assert sentence.startswith("3 of 15 recordings are bad: expected at most 19%")
    assert f"{files[12]} (empty file), {files[13]} (no WAV" in sentence
    assert f"{files[14]} (truncated" in sentence


def test_without_a_good_recording_there_is_no_result(tmp_path):
    with pytest.raises(InputError, match="1 of 1 recordings are bad"):
        load(write(tmp_path / "in", a=b""), tmp_path / "cache", RATE, RATE, 1.0)
    with pytest.raises(InputError, match="no recordings"):
        load([], tmp_path / "cache", RATE, RATE, 1.0)


def test_noise_is_not_read_from_links_and_pipes(tmp_path):
    (good,) = write(tmp_path / "in", good=SOUND)
    link, pipe = tmp_path / "link", tmp_path / "pipe"
    link.symlink_to(good)
    os.mkfifo(pipe)
    for noise, message in ((link, "a symbolic link"), (pipe, "not a file")):
        with pytest.raises(InputError, match=message):
            load_noise(noise, tmp_path / "cache", RATE)
