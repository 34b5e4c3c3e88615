"""Channels, levels, SoundFile objects, and recordings that ffmpeg decodes."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile

from lwasr_edge import AudioError, AudioFormatError, AudioWarning, load_audio
from lwasr_edge.audio.ffmpeg import demuxer_of
from lwasr_edge.audio.mixing import Mixer

RATE = 16000
needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg")


def voice(seconds: float = 2.0) -> np.ndarray:
    t = np.arange(round(seconds * RATE)) / RATE
    return (np.sin(2 * np.pi * 200 * t) * (0.3 + 0.2 * np.sin(15 * t))).astype(np.float32)


@pytest.mark.parametrize("gain", [-1.0, -0.9])
def test_channels_of_opposite_phase_do_not_cancel(gain: float) -> None:
    samples = voice()
    np.testing.assert_array_equal(load_audio(np.stack([samples, gain * samples], 1), RATE), samples)


@pytest.mark.parametrize("other", [0.0, 1.0, 0.5])
def test_other_channels_are_averaged(other: float) -> None:
    stereo = np.stack([voice(), other * voice()], 1)
    np.testing.assert_allclose(load_audio(stereo, RATE), stereo.mean(1), atol=1e-7)


def test_one_live_channel_of_eight_is_averaged() -> None:
    channels = np.zeros((2 * RATE, 8), np.float32)
    channels[:, 3] = voice()
    np.testing.assert_allclose(load_audio(channels, RATE), voice() / 8, atol=1e-7)


@pytest.mark.parametrize("block", [1, 7, 1600, 4096, 50_000])
def test_mixing_does_not_depend_on_the_blocks(block: int) -> None:
    samples = voice(1.03)
    stereo = np.stack([samples, samples * np.where(np.arange(len(samples)) < 9000, -1, 1)], 1).astype(np.float32)
    at_once = Mixer(RATE)
    expected = np.concatenate([at_once.process(stereo), at_once.flush()])
    cut = Mixer(RATE)
    parts = [cut.process(stereo[i : i + block]) for i in range(0, len(stereo), block)]
    np.testing.assert_array_equal(np.concatenate([*parts, cut.flush()]), expected)
    assert len(expected) == len(samples)
    np.testing.assert_array_equal(expected[:8000], samples[:8000])


def test_the_number_of_channels_may_change() -> None:
    mixer, samples = Mixer(RATE), voice(0.25)
    blocks = [np.stack([samples, samples], 1), samples, np.stack([samples] * 3, 1), samples[:, None]]
    mixed = np.concatenate([*map(mixer.process, blocks), mixer.flush()])
    np.testing.assert_allclose(mixed, np.tile(samples, 4), atol=1e-7)


def test_one_channel_alone() -> None:
    stereo = np.stack([voice(), np.zeros(2 * RATE, np.float32)], 1)
    np.testing.assert_array_equal(load_audio(stereo, RATE, channel=1), voice())
    assert not load_audio(stereo, RATE, channel=2).any()
    with pytest.raises(AudioError, match="channel must be a number from 1 to 2, got 3"):
        load_audio(stereo, RATE, channel=3)
    with pytest.raises(AudioError, match="channel must be a whole number >= 1, got 0"):
        load_audio(stereo, RATE, channel=0)


@pytest.mark.parametrize("shape", [(1, 16000), (1, 8), (2, 60), (2, 16000)])
def test_an_array_with_fewer_samples_than_channels_is_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(AudioError, match=rf"got shape \({shape[0]}, {shape[1]}\).*transpose the array"):
        load_audio(np.zeros(shape, np.float32), RATE)


@pytest.mark.parametrize(
    ("samples", "cause"),
    [
        ((voice() * 32767).astype(np.int32), "use int16 if the int32 array holds 16-bit samples"),
        (voice() / 32768, "divide integers once"),
    ],
)
def test_samples_of_the_wrong_scale_give_a_warning(samples: np.ndarray, cause: str) -> None:
    with pytest.warns(AudioWarning, match=rf"almost silent: its highest peak is (96|102) dB.*{cause}"):
        load_audio(samples, RATE)


@pytest.mark.parametrize("gain", [0.0, 0.001, 1.0])
def test_silence_and_quiet_speech_give_no_warning(gain: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_audio(gain * voice(), RATE)


def test_a_sound_file_of_the_caller(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, voice(), RATE, subtype="FLOAT")
    with soundfile.SoundFile(path) as file:
        np.testing.assert_array_equal(load_audio(file), voice())
        file.seek(8000)
        np.testing.assert_array_equal(load_audio(file), voice()[8000:])
        assert not file.closed


@needs_ffmpeg
@pytest.mark.parametrize("suffix", ["m4a", "aac", "webm", "mka"])
def test_recordings_of_phones_and_browsers(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"-a b.{suffix}"
    soundfile.write(tmp_path / "a.wav", voice(), RATE)
    codec = ["-c:a", "aac"] if suffix == "mka" else []
    made = subprocess.run(
        ["ffmpeg", "-loglevel", "error", "-i", tmp_path / "a.wav", *codec, f"file:{path}"], capture_output=True
    )
    if made.returncode:
        pytest.skip(f"this ffmpeg has no encoder for {suffix}")
    by_path = load_audio(path)
    assert len(by_path) / RATE == pytest.approx(2.0, abs=0.15)
    np.testing.assert_array_equal(load_audio(path.read_bytes()), by_path)


@needs_ffmpeg
def test_a_damaged_m4a_is_an_audio_error() -> None:
    with pytest.raises(AudioFormatError, match="cannot be decoded by ffmpeg"):
        load_audio(b"\0\0\0\x20ftypM4A " + bytes(500))


def test_without_ffmpeg_the_message_is_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", os.fspath(tmp_path))
    path = tmp_path / "x.m4a"
    path.write_bytes(b"\0\0\0\x20ftypM4A " + bytes(500))
    with pytest.raises(AudioFormatError, match=r"got MP4 or M4A: .*ffmpeg -i \S+x\.m4a -ar 16000 -ac 1 \S+x\.wav"):
        load_audio(path)


@pytest.mark.parametrize("text", [b"#EXTM3U\nfile:///etc/passwd\n", b"ffconcat version 1.0\nfile /etc/passwd\n"])
def test_playlists_never_reach_ffmpeg(text: bytes) -> None:
    assert demuxer_of(io.BytesIO(text), 0, is_refused=True) == ""
    with pytest.raises(AudioFormatError, match="must be WAV"):
        load_audio(text)
