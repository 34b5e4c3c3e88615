"""Unfinished headers, damaged frames and what follows them: read with a warning, by path, bytes and pipe alike."""

from __future__ import annotations

import io
import os
import struct
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile
from audio_fuzz import Pipe, make_seeds, try_mutant

from lwasr_edge import AudioFormatError, AudioWarning, load_audio
from lwasr_edge.audio.containers import read_layout
from lwasr_edge.audio.mp3 import find_frames, parse_frame
from lwasr_edge.audio.reader import AudioReader

RATE = 16000


def voice(seconds: float) -> np.ndarray:
    """Tone and noise of changing loudness, int16."""
    t = np.arange(round(seconds * RATE)) / RATE
    tone = np.sin(2 * np.pi * (180 * t + 15 * np.sin(7 * t))) * (0.3 + 0.2 * np.sin(20 * t))
    noise = np.random.default_rng(1).normal(0, 0.01, len(t))
    return np.round(32767 * (tone + noise)).astype(np.int16)


def encoded(samples: np.ndarray, form: str, subtype: str | None = None, sample_rate: int = RATE) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, sample_rate, format=form, subtype=subtype)
    return file.getvalue()


def fmt(tag: int = 1, channels: int = 1, bits: int = 16, align: int | None = None, extra: bytes = b"") -> bytes:
    align = channels * bits // 8 if align is None else align
    body = struct.pack("<HHIIHH", tag, channels, RATE, RATE * align, align, bits) + extra
    return b"fmt " + struct.pack("<I", len(body)) + body


def wav(data: bytes, size: int, *, riff: int = 0, form: bytes = b"", before: bytes = b"", after: bytes = b"") -> bytes:
    head = b"RIFF" + struct.pack("<I", riff) + b"WAVE" + before + (form or fmt())
    return head + b"data" + struct.pack("<I", size) + data + after


def seconds_of(data: bytes, tmp_path: Path, expected_warning: str | None) -> float:
    """Seconds read, which must be equal by path, bytes and pipe, with or without a warning."""
    path = tmp_path / "recording"
    path.write_bytes(data)
    read = []
    for source in (path, data, Pipe(data)):
        if expected_warning is None:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                read.append(load_audio(source))
        else:
            with pytest.warns(AudioWarning, match=expected_warning):
                read.append(load_audio(source))
    np.testing.assert_array_equal(read[0], read[1])
    np.testing.assert_array_equal(read[0], read[2])
    return len(read[0]) / RATE


@pytest.mark.parametrize("declared", [0, 2, 32000, 64002])
@pytest.mark.parametrize("riff", [0, 36, 32036])
def test_an_unfinished_wav_header_is_no_end(declared: int, riff: int, tmp_path: Path) -> None:
    data = wav(voice(3.0).tobytes(), declared, riff=riff)
    assert seconds_of(data, tmp_path, r"header that declares \d\.\d\d of 3\.00 s.*all of it was read") == 3.0


def test_an_unfinished_header_gives_the_samples_themselves() -> None:
    samples = voice(2.0)
    with pytest.warns(AudioWarning):
        np.testing.assert_array_equal(load_audio(wav(samples.tobytes(), 0)), samples.astype(np.float32) / 32768)


@pytest.mark.parametrize(
    "parts",
    [
        {"before": b"LIST\x04\0\0\0INFO"},
        {"before": b"odd \x03\0\0\0abc"},  # the padding byte is missing
        {"after": b"LIST\x04\0\0\0INFO"},
        {"after": b"\0\0\0"},
        {"after": bytes(30_000)},
        {"form": fmt(align=1)},
        {"form": fmt(bits=16)[:-2] + b"\0\0"},
        {"form": fmt(0xFFFE, extra=struct.pack("<HHIH", 22, 16, 0, 1) + bytes.fromhex("000000001000800000aa00389b71"))},
    ],
)
def test_defects_of_wav_writers_change_nothing(parts: dict[str, bytes], tmp_path: Path) -> None:
    pcm = voice(1.0).tobytes()
    assert seconds_of(wav(pcm, len(pcm), **parts), tmp_path, None) == 1.0


def test_what_is_no_audio_behind_the_samples_is_not_read(tmp_path: Path) -> None:
    pcm = voice(1.0).tobytes()
    text = b"--boundary--\r\nContent-Type: text/plain\r\n" * 200
    assert seconds_of(wav(pcm, len(pcm), after=text), tmp_path, "8000 bytes that were not read: they are text") == 1.0
    flac = encoded(voice(1.0), "FLAC")
    assert seconds_of(wav(pcm, len(pcm), after=flac), tmp_path, "another recording") == 1.0


def test_joined_wav_files_are_read_to_the_end(tmp_path: Path) -> None:
    one = encoded(voice(1.0), "WAV")
    assert seconds_of(one + one + one, tmp_path, None) == 3.0
    other_rate = encoded(voice(1.0), "WAV", sample_rate=8000)
    assert seconds_of(one + other_rate, tmp_path, "of another sample rate") == 1.0


def test_a_size_that_wrapped_at_4_gib(tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    with path.open("wb") as file:
        file.write(wav(b"", 1000))
        file.truncate(44 + (1 << 32) + 1000)  # a sparse file
    with path.open("rb") as file:
        layout = read_layout(file, 0, path.stat().st_size)
    assert layout is not None
    assert layout.data_end - layout.data_start in (1000, (1 << 32) + 1000)
    with path.open("r+b") as file:
        file.seek(1 << 31)
        file.write(b"\1" * 100_000)
        file.seek(2000)
        file.write(b"\1" * 100_000)
    with AudioReader(path) as audio:
        assert audio.total_samples == ((1 << 32) + 1000) // 2


@pytest.mark.parametrize(
    ("form", "subtype"),
    [
        ("WAV", "ULAW"),
        ("WAV", "ALAW"),
        ("WAV", "IMA_ADPCM"),
        ("WAV", "MS_ADPCM"),
        ("WAV", "PCM_24"),
        ("RF64", "PCM_16"),
        ("W64", "PCM_16"),
        ("AU", "PCM_16"),
        ("AIFF", "PCM_16"),
        ("CAF", "PCM_16"),
    ],
)
def test_half_a_file_gives_a_warning(form: str, subtype: str, tmp_path: Path) -> None:
    data = encoded(voice(4.0), form, subtype)
    read_s = seconds_of(data[: len(data) // 2], tmp_path, r"truncated or damaged: \d\.\d\d of [34]\.\d\d s")
    assert 1.8 < read_s < 2.1


@pytest.mark.parametrize(("form", "at", "size"), [("AU", 8, ">I"), ("RF64", 20, "<Q"), ("W64", 96, "<Q")])
def test_wrong_sizes_in_other_headers(form: str, at: int, size: str, tmp_path: Path) -> None:
    data = bytearray(encoded(voice(2.0), form, "PCM_16"))
    if form == "RF64":
        at = data.index(b"ds64") + 16
    if form == "W64":
        at = data.index(b"data") + 16
    data[at : at + struct.calcsize(size)] = struct.pack(size, 28)
    assert seconds_of(bytes(data), tmp_path, "all of it was read") == pytest.approx(2.0, abs=0.01)


def test_rf64_with_a_32_bit_size_is_read(tmp_path: Path) -> None:
    data = bytearray(encoded(voice(1.0), "RF64", "PCM_16"))
    at = data.rindex(b"data") + 4
    data[at : at + 4] = struct.pack("<I", 32000)
    assert seconds_of(bytes(data), tmp_path, None) == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("missing", [1, 100, 1000])
def test_mp3_that_begins_inside_a_frame(missing: int, tmp_path: Path) -> None:
    data = encoded(voice(8.0), "MP3")
    assert 7.0 < seconds_of(data[missing:], tmp_path, None) < 8.2


def test_padding_before_and_junk_between_joined_mp3s(tmp_path: Path) -> None:
    one = encoded(voice(4.0), "MP3")
    assert 7.9 < seconds_of(bytes(100) + one + one, tmp_path, None) < 8.3
    junk = np.random.default_rng(2).bytes(5000)
    read_s = seconds_of(one + junk + one, tmp_path, r"\d+ of \d+ bytes are not MP3 frames")
    assert 7.9 < read_s < 8.3


@pytest.mark.parametrize("kind", ["zeros", "noise", "hole"])
@pytest.mark.parametrize("form", ["MP3", "FLAC"])
def test_what_follows_damage_is_read(form: str, kind: str, tmp_path: Path) -> None:
    data = bytearray(encoded(voice(20.0), form))
    middle = len(data) // 2
    damage = {"zeros": bytes(4096), "noise": np.random.default_rng(3).bytes(4096), "hole": b""}[kind]
    data[middle : middle + 4096] = damage
    assert 18.5 < seconds_of(bytes(data), tmp_path, "damaged") < 20.1


def test_flac_without_its_beginning(tmp_path: Path) -> None:
    samples = voice(8.0)
    data = encoded(samples, "FLAC")
    read_s = seconds_of(data[len(data) // 4 :], tmp_path, None)
    assert 5.0 < read_s < 6.5
    np.testing.assert_allclose(load_audio(data[len(data) // 4 :])[-8000:], samples[-8000:] / 32768, atol=1e-6)


@pytest.mark.parametrize("offset", [0, 4, 23])
def test_an_au_head_with_an_impossible_offset(offset: int) -> None:
    data = bytearray(encoded(voice(1.5), "AU"))
    data[4:12] = struct.pack(">II", offset, 32768)
    with pytest.warns(AudioWarning, match="declares 1.02 of 1.50 s"):
        assert len(load_audio(bytes(data))) == 24000


def test_a_joined_recording_whose_header_is_damaged() -> None:
    one, two = encoded(voice(1.5), "AU"), bytearray(encoded(voice(1.5), "WAV"))
    two[12:16] = b"fmtX"
    two[36:40] = b"datX"
    with pytest.warns(AudioWarning, match="cannot be decoded after 1.50 s, at byte"):
        assert len(load_audio(one + bytes(two))) == 24000


def test_an_ogg_stream_behind_damage_is_read() -> None:
    one, two = encoded(voice(1.5), "OGG"), encoded(voice(1.5), "OGG", "OPUS")
    data = one + encoded(voice(2.0), "FLAC") + two
    with pytest.warns(AudioWarning, match="bytes that are damaged or no Ogg stream"):
        load_audio(data)
    joined = bytearray(one + one)
    at = joined.index(b"OggS", len(one) // 3)  # a page of the first stream
    joined[at : at + 4] = b"OggX"
    with pytest.warns(AudioWarning, match="damaged"):
        assert len(load_audio(bytes(joined))) > 1.5 * RATE


def test_an_ogg_stream_behind_a_page_that_is_cut_is_read() -> None:
    one = encoded(voice(1.5), "OGG")
    with pytest.warns(AudioWarning, match="damaged"):  # the last page claims a part of the next stream's first page
        assert len(load_audio(one[:-7] + one + one)) > 3.9 * RATE  # but for that last page


def test_the_last_frames_of_a_short_mp3_that_nothing_decodes() -> None:
    data = encoded(voice(1.5), "MP3", "MPEG_LAYER_III")
    starts, at = [], 0
    while (frame := parse_frame(data[at : at + 4])) is not None:
        starts.append(at)
        at += frame.size
    short = data[starts[1] : starts[16]]  # without the frame that holds their number
    with pytest.warns(AudioWarning, match="cannot be decoded after 0.54 s"):  # libmpg123 does not begin with so few
        load_audio(short + data[: starts[2] + 60])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(load_audio(short[:-20])) == 14 * 576  # a last frame that is cut is usual


def test_the_first_frames_of_a_short_mp3_before_damage() -> None:
    data = encoded(voice(1.5), "MP3", "MPEG_LAYER_III")
    sizes, at = [], 0
    while (frame := parse_frame(data[at : at + 4])) is not None:
        sizes.append(frame.size)
        at += frame.size
    begin, second, end = sum(sizes[:4]), sum(sizes[:6]), sum(sizes[:20])
    with pytest.warns(AudioWarning, match="are not MP3 frames"):  # two of them, which no third one follows
        load_audio(data[begin:second] + b"\0" + data[second:end])


def test_an_mp3_that_claims_too_long_a_delay() -> None:
    data = bytearray(encoded(voice(1.5), "MP3", "MPEG_LAYER_III"))
    data[data.index(b"LAME") + 21] = 0xFF  # 12 bits of delay, then 12 of padding
    with pytest.warns(AudioWarning, match="is truncated or damaged"):
        assert len(load_audio(bytes(data))) < 1.35 * RATE


def test_a_lost_frame_of_a_short_flac_without_its_beginning() -> None:
    file = io.BytesIO()
    soundfile.write(file, np.repeat(voice(1.5)[:, None], 2, 1), 44100, format="FLAC")  # frames of 93 ms
    data = file.getvalue()[len(file.getvalue()) // 4 :]
    at = len(data) // 2
    with pytest.warns(AudioWarning, match="damaged"):
        load_audio(data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :])


def test_a_joined_flac_whose_head_is_lost() -> None:
    one = encoded(voice(1.5), "FLAC")
    joined = bytearray(one + one)
    joined[len(one) - 1000 : len(one) + 200] = np.random.default_rng(3).bytes(1200)
    with pytest.warns(AudioWarning, match="damaged"):  # the end of the first
        assert len(load_audio(bytes(joined))) > 2.4 * RATE


def test_a_flac_head_with_a_wrong_sample_rate(tmp_path: Path) -> None:
    data = bytearray(encoded(voice(3.0), "FLAC"))
    data[18] ^= 0x10
    assert seconds_of(bytes(data), tmp_path, None) == 3.0


def test_joined_flac_files_are_read_to_the_end(tmp_path: Path) -> None:
    one = encoded(voice(3.0), "FLAC")
    assert seconds_of(one + one, tmp_path, None) == 6.0


@pytest.mark.parametrize("form", ["WAV", "FLAC", "MP3", "OGG"])
def test_a_recording_behind_other_bytes_is_found(form: str, tmp_path: Path) -> None:
    data = b"HTTP/1.1 200 OK\r\nContent-Type: audio\r\n\r\n" + encoded(voice(2.0), form)
    assert seconds_of(data, tmp_path, None) == pytest.approx(2.0, abs=0.1)


def test_frames_are_told_from_other_bytes() -> None:
    data = encoded(voice(1.0), "MP3")
    at = find_frames(io.BytesIO(data), 0, len(data))
    frame = parse_frame(data[at : at + 4])
    assert frame is not None
    assert (frame.sample_rate, frame.channels, frame.layer) == (RATE, 1, 3)
    noise = np.random.default_rng(4).bytes(200_000)
    assert find_frames(io.BytesIO(noise), 0, len(noise)) == -1


def test_damaged_mp3_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    if threading.active_count() > 1:
        pytest.skip("stderr is left alone while other threads run")
    data = bytearray(encoded(voice(6.0), "MP3"))
    rng = np.random.default_rng(5)
    for position in rng.integers(0, len(data), 200):
        data[position] ^= 1 << rng.integers(8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AudioWarning)
        load_audio(bytes(data))
    os.write(2, b"seen\n")
    assert capfd.readouterr() == ("", "seen\n")


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"<!DOCTYPE html><html><body>Not found</body></html>", "an HTML page"),
        (b"\n<html>", "an HTML page"),
        (b"%PDF-1.4", "a PDF document"),
        (b"PK\3\4" + bytes(100), "a ZIP archive"),
        (b'{"error": "not found"}', "JSON text"),
    ],
)
def test_the_reason_names_what_a_file_is(content: bytes, kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    path.write_bytes(content)
    for source in (path, content):
        with pytest.raises(AudioFormatError, match=f"must be audio, got {kind}"):
            load_audio(source)


def test_an_au_file_without_its_head_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.au"
    path.write_bytes(encoded(voice(1.0), "AU")[24:])
    with pytest.raises(AudioFormatError, match="must be WAV"):
        load_audio(path)


def test_mutants(tmp_path: Path) -> None:
    """A small run of tests/audio_fuzz.py, without ffmpeg."""
    seeds = make_seeds()
    outcomes = [try_mutant(seeds, number, tmp_path, None) for number in range(120)]
    assert [outcome for outcome in outcomes if outcome.faults] == []
    assert sum(max(outcome.seconds) > 0 for outcome in outcomes) > 60
