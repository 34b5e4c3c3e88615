"""`lwasr site check`: counts, refusals, the word list, the page, and that nothing leaves the machine."""

from __future__ import annotations

import json
import shutil
import string
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from locations import DATA
from site_folder import spoken, write_folder, write_recording
from speech import default_recognizer

from lwasr_edge import OptionError, Recognizer
from lwasr_edge.cli import main
from lwasr_edge.site.check import Check, check_folder, to_dict
from lwasr_edge.site.intervals import difference, error_rate
from lwasr_edge.site.recognise import without_wrong_texts
from lwasr_edge.site.reports.language import ENGLISH, JAPANESE, Strings
from lwasr_edge.site.reports.page import html_page, marked
from lwasr_edge.site.texts import spoken_text
from lwasr_edge.site.verdict import more_minutes, verdict
from lwasr_edge.site.word_list import MIN_TO_CHOOSE, read_list, split

VOID = {"meta", "br", "line", "circle", "rect"}


class Page(HTMLParser):
    """Checks that tags are balanced; collects the text and the addresses."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.tags: set[str] = set()
        self.text = ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        assert not any(name.startswith("on") for name, _ in attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory, recognizer: Recognizer) -> Check:
    root = write_folder(tmp_path_factory.mktemp("site") / "folder")
    return check_folder(root, recognizer)


def test_errors_are_counted(checked: Check) -> None:
    assert checked.rate is not None
    assert (checked.rate.errors, checked.rate.recordings) == (3, 12)
    assert checked.rate.low < checked.rate.per_hundred < checked.rate.high
    assert [item.sample.name for item in checked.worst(9)] == ["r03.wav", "r07.wav", "r11.wav"]
    assert checked.refused == []
    assert checked.rtf is not None and 0 < checked.rtf < 1


def test_bad_recordings_are_named(tmp_path: Path, recognizer: Recognizer) -> None:
    import numpy as np
    import soundfile

    write_folder(tmp_path, 6)
    write_recording(tmp_path / "quiet.wav", "one two", level=0.0005)
    write_recording(tmp_path / "copy.wav", "one two", level=0.15)
    shutil.copy(tmp_path / "copy.wav", tmp_path / "copy2.wav")
    shutil.copy(tmp_path / "copy.wav", tmp_path / "a copy without its text.wav")
    (tmp_path / "empty.txt").write_text(" \n")
    write_recording(tmp_path / "kana.wav", "one", "\u3053", level=0.11)
    write_recording(tmp_path / "dots.wav", "one", "...", level=0.12)
    write_recording(tmp_path / "swap.wav", "one two one two one two", "three four three four three four", level=0.13)
    write_recording(tmp_path / "of_swap.wav", "one two one two one two", level=0.14)
    soundfile.write(tmp_path / "empty.wav", spoken("one"), 16_000)
    soundfile.write(tmp_path / "silence.wav", np.zeros(16_000), 16_000)
    (tmp_path / "silence.txt").write_text("one two")
    soundfile.write(tmp_path / "clip.wav", np.clip(np.tanh(30 * spoken("one two")) * 2, -0.9, 0.9), 16_000)
    (tmp_path / "clip.txt").write_text("one two")
    (tmp_path / "noise.wav").write_bytes(b"no audio")
    for name, share in (("half.wav", 0.5), ("part.flac", 0.5), ("most.wav", 0.97)):  # a copy that was interrupted
        data = write_recording(tmp_path / name, "three one four two", level=0.15 + share / 10).read_bytes()
        (tmp_path / name).write_bytes(data[: int(len(data) * share)])
    check = check_folder(tmp_path, recognizer)
    assert {one.name: one.reason.key for one in check.refused} == {
        "quiet.wav": "too_quiet",
        "copy2.wav": "duplicate",
        "a copy without its text.wav": "duplicate",
        "kana.wav": "unspeakable",
        "dots.wav": "nothing_spoken",
        "swap.wav": "text_of_other",
        "empty.wav": "empty_text",
        "silence.wav": "no_speech",
        "clip.wav": "clipped",
        "noise.wav": "unreadable",
        "half.wav": "cut_off",
        "part.flac": "cut_off",
    }
    assert {item.sample.name for item in check.used} >= {"copy.wav", "of_swap.wav", "r00.wav", "most.wav"}


@pytest.mark.parametrize(
    ("said", "recognised", "fault"),
    [
        ("the pressure valve of the second boiler was closed", "i would like a cup of tea with milk", "wrong_text"),
        ("the man rubbed his eyes and looked into it again", "this man love the keys in on licking to each o", None),
        ("my can draw the goat", "now can't you look up", None),  # an accent
        ("the pressure valve of the second boiler was closed", "", None),  # counts as errors
    ],
)
def test_wrong_words(checked: Check, said: str, recognised: str, fault: str | None) -> None:
    item = replace(checked.used[0], text=spoken_text(said, set(string.ascii_lowercase + "'"), "en"))
    _, refused = without_wrong_texts([*checked.used[1:], replace(item, recognised=recognised)])
    assert [one.reason.key for one in refused] == ([] if fault is None else [fault])


def test_recordings_without_text_count_for_noise_alone(tmp_path: Path, recognizer: Recognizer) -> None:
    write_recording(tmp_path / "a.wav", "one two", "")
    check = check_folder(tmp_path, recognizer)
    assert check.rate is None and check.verdict.key == "verdict_no_texts"
    assert [round(item.sound.snr_db) > 20 for item in check.used] == [True]
    Page(html_page(check, Strings("en"), page_path=tmp_path / "p.html"))


def test_the_strength_is_chosen_on_other_recordings(tmp_path: Path, recognizer: Recognizer) -> None:
    root = write_folder(tmp_path / "folder")
    words = tmp_path / "words.txt"
    words.write_bytes("three\nfour\n\u3053\nbicycle\n".encode("utf-16"))
    check = check_folder(root, recognizer, phrases=read_list(words), lm=None)
    trial = check.trial
    assert trial is not None
    reported = {item.sample.name for item in trial.before}
    assert len(trial.chosen_on) == 4 and not reported & set(trial.chosen_on)
    assert reported | set(trial.chosen_on) == {item.sample.name for item in check.used}
    assert trial.left_out == ("\u3053", "bicycle")  # letters that the tiny model does not have
    by_name = {one.phrase: one for one in trial.phrases}
    assert by_name["three"].said == sum(item.reference_words.count("three") for item in trial.before)
    assert by_name["three"].before < by_name["three"].said  # the wrong texts
    assert by_name["four"].before == by_name["four"].said
    page = Page(html_page(check, Strings("ja"), page_path=tmp_path / "p.html"))
    assert "three" in page.text and "svg" in page.tags


def test_speakers_are_not_divided(checked: Check) -> None:
    named = [
        replace(item, sample=replace(item.sample, speaker=f"s{number % 4}")) for number, item in enumerate(checked.used)
    ]
    choosing, reported, by_speaker = split(named)
    assert by_speaker and {item.sample.speaker for item in choosing} == {"s2"} and len(reported) == 9
    assert split(checked.used[: MIN_TO_CHOOSE - 1]) == ([], checked.used[: MIN_TO_CHOOSE - 1], False)


def test_intervals() -> None:
    none = error_rate([0] * 20, [10] * 20)
    assert none.low == 0 and 1 < none.high < 3  # Wilson: 1.9 of a hundred
    spread = error_rate([0] * 10 + [10] * 10, [10] * 20)
    even = error_rate([5] * 20, [10] * 20)
    assert spread.per_hundred == even.per_hundred == 50
    assert spread.high - spread.low > 35 > even.high - even.low
    assert difference([2] * 20, [1] * 20, [10] * 20) == pytest.approx((-10, -10))
    low, high = difference([1, 0] * 10, [0, 1] * 10, [10] * 20)
    assert low < 0 < high


def test_verdicts() -> None:
    good, bad, unsure = error_rate([0] * 30, [10] * 30), error_rate([5] * 30, [10] * 30), error_rate([1] * 3, [5] * 3)
    assert verdict(good, 3, 10, None).key == "verdict_good"
    assert verdict(bad, 3, 10, None).key == "verdict_try_list"
    collect = verdict(unsure, 1, 10, None)
    assert collect.key == "verdict_collect" and collect.values["minutes"] == more_minutes(unsure, 1, 10) > 1


def test_tables_of_texts_have_the_same_keys_and_values() -> None:
    def fields(text: str) -> set[str]:
        return {name for _, name, _, _ in string.Formatter().parse(text) if name}

    assert ENGLISH.keys() == JAPANESE.keys()
    assert {key: fields(text) for key, text in ENGLISH.items()} == {key: fields(t) for key, t in JAPANESE.items()}
    assert all(not text.isascii() for text in JAPANESE.values())


def test_the_page_is_one_file_and_escaped(tmp_path: Path, recognizer: Recognizer) -> None:
    evil = tmp_path / "a <script>alert(1)<" / "x\x1b[31m\"'&.wav"
    write_recording(evil, "one two three", "four two three")
    write_folder(tmp_path, 6)
    check = check_folder(tmp_path, recognizer)
    html = html_page(check, Strings("en"), page_path=tmp_path / "page.html")
    page = Page(html)
    assert page.tags.isdisjoint({"script", "link", "img", "iframe", "object"}) and "audio" in page.tags
    assert "\x1b" not in html and "http" not in "".join(page.addresses)
    assert "a <script>alert(1)</x\\x1b[31m\"'&.wav" in page.text
    assert "a%20%3Cscript%3Ealert%281%29%3C/x%1B%5B31m%22%27%26.wav" in page.addresses
    embedded = Page(html_page(check, Strings("en"), page_path=tmp_path / "page.html", with_audio=True))
    assert all(address.startswith("data:audio/flac;base64,ZkxhQ") for address in embedded.addresses)


def test_differences_are_marked() -> None:
    said, recognised = marked(["turn", "<b>", "it", "off"], ["turn", "it", "off", "now"])
    assert said == 'turn <span class="said">&lt;b&gt;</span> it off'
    assert recognised == 'turn it off <span class="added">now</span>'


def test_the_command(
    tmp_path: Path, model_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_folder(tmp_path / "folder")
    page = tmp_path / "page.html"
    options = ["site", "check", str(root), "--model", str(model_path)]
    assert main([*options, "--report", str(page), "--language", "ja"]) == 0
    printed = capsys.readouterr().out
    assert "r03.wav" in printed and "\u8a8d\u8b58" in printed
    assert "three two" not in printed  # what was said is in a log only if that is wanted
    assert '<html lang="ja">' in page.read_text(encoding="utf-8")
    assert main([*options, "--texts"]) == 0
    assert "Said: three" in capsys.readouterr().out
    assert main([*options, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["errors"]["errors"] == 3 and report["recordings"][3]["said"].startswith("three")
    assert main([*options, "--report", str(root / "r00.wav")]) == 2
    assert main([*options, "--with-audio"]) == 2
    assert main(["site", "check", str(tmp_path / "none"), "--model", str(model_path)]) == 2


def test_the_default_model_on_real_voices(tmp_path: Path) -> None:
    recognizer = default_recognizer()
    texts = json.loads((DATA / "transcripts.json").read_text(encoding="utf-8"))
    rows = ["file;transcript"]
    for name, text in texts.items():
        shutil.copy(DATA / name, tmp_path / name)
        rows.append(f"C:\\rec\\{name};{text.upper()}.")
    (tmp_path / "list.csv").write_text("\r\n".join(rows))
    check = check_folder(tmp_path, recognizer)
    assert check.rate is not None and check.rate.recordings == len(texts) and check.rate.per_hundred < 30
    assert [one.name for one in check.refused] == []
    report = to_dict(check, Strings("en").render, with_texts=False)
    assert "said" not in report["recordings"][0] and report["model"] == recognizer.info.name


def test_word_lists_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="cannot be read"):
        read_list(tmp_path / "none.txt")
    (tmp_path / "words.txt").write_text("# nothing\n")
    with pytest.raises(OptionError, match="one phrase per line"):
        read_list(tmp_path / "words.txt")
