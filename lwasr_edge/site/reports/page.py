"""The report as one HTML file: no script, nothing from the network, and every foreign text escaped."""

from __future__ import annotations

import base64
import io
import os
import urllib.parse
from collections.abc import Sequence
from html import escape
from pathlib import Path

from lwasr_edge.audio.reader import AudioReader
from lwasr_edge.errors import AudioError
from lwasr_edge.site.check import Check, missed_in
from lwasr_edge.site.intervals import error_rate
from lwasr_edge.site.recognise import Measured
from lwasr_edge.site.reports.charts import interval_chart, level_chart
from lwasr_edge.site.reports.frame import MAX_ROWS, document, heading, table, text
from lwasr_edge.site.reports.language import Strings
from lwasr_edge.site.reports.summary import advice_lines, list_lines, rate_line, speed_line
from lwasr_edge.site.sound import HIGH_LEVEL_DB, LOW_LEVEL_DB, sound_advice
from lwasr_edge.wer import align_words

WORST = 15
MAX_AUDIO_S = 15.0  # of one recording in the page


def html_page(check: Check, strings: Strings, *, page_path: Path, with_audio: bool = False) -> str:
    """The report as HTML.

    Args:
        check: the result.
        strings: of the language.
        page_path: where the page will be: players refer to the recordings from there.
        with_audio: put the sound of the worst recordings into the page.
    """
    title = strings.text("title")
    body = [
        f"<h1>{text(title)}: {text(check.folder)}</h1>",
        f'<p class="verdict"><strong>{text(strings.text("verdict"))}.</strong> '
        f"{text(strings.render(check.verdict))}</p>",
        _facts(check, strings),
        _errors(check, strings),
        _word_list(check, strings),
        _missed(check, strings),
        _worst(check, strings, page_path, with_audio),
        _sound(check, strings),
        _refused(check, strings),
        _changes(check, strings),
    ]
    return document(title, body, strings)


def _facts(check: Check, strings: Strings) -> str:
    rows = [("model", check.model), ("board", check.board), ("date", check.created)]
    if check.rtf is not None:
        rows.append(("speed", speed_line(check.rtf, strings)))
    counts = strings.text("counts", used=len(check.used), texts=len(check.with_text), refused=len(check.refused))
    notes = [counts, *(strings.render(remark) for remark in check.remarks), strings.text("private")]
    cells = "".join(f"<tr><th>{text(strings.text(key))}</th><td>{text(value)}</td></tr>" for key, value in rows)
    return f"<table>{cells}</table>" + "".join(f"<p>{text(note)}</p>" for note in notes)


def _errors(check: Check, strings: Strings) -> str:
    rate = check.rate
    if rate is None:
        return ""
    rows = [(check.model[:24], rate.per_hundred, rate.low, rate.high)]
    trial = check.trial
    if trial is not None:
        words = [len(item.reference_words) for item in trial.before]
        for key, items in (("found_before", trial.before), ("found_after", trial.after)):
            one = error_rate([item.errors for item in items], words)
            label = strings.text(key).partition(" ")[2] or strings.text(key)
            rows.append((label.strip("()"), one.per_hundred, one.low, one.high))
    chart = interval_chart(rows, check.target, f"{check.target:g}")
    return (
        heading(strings, "errors") + f"<p>{text(rate_line(check, strings))}</p>{chart}"
        f'<p class="note">{text(strings.text("interval_note"))}</p>'
    )


def _word_list(check: Check, strings: Strings) -> str:
    if check.trial is None:
        return ""
    lines = "".join(f"<p>{text(line)}</p>" for line in list_lines(check, strings))
    said = [one for one in check.trial.phrases if one.said or one.false_alarms]
    rows = [(one.phrase, one.said, one.before, one.after, one.false_alarms) for one in said]
    header = ("phrase", "said_times", "found_before", "found_after", "false_alarms")
    return heading(strings, "list") + lines + (table([strings.text(key) for key in header], rows) if rows else "")


def _missed(check: Check, strings: Strings) -> str:
    rows = missed_in(check)
    header = [strings.text(key) for key in ("phrase", "said_times", "missed_times")]
    return heading(strings, "missed") + table(header, rows) if rows else ""


def _worst(check: Check, strings: Strings, page_path: Path, with_audio: bool) -> str:
    if check.rate is None:
        return ""
    worst = check.worst(WORST)
    if not worst:
        return heading(strings, "worst") + f"<p>{text(strings.text('no_errors'))}</p>"
    note = strings.text("player_embedded" if with_audio else "player_linked")
    parts = [f'<p class="note">{text(strings.text("legend"))} <span class="screen">{text(note)}</span></p>']
    for item in worst:
        said, recognised = marked(item.reference_words, item.recognised.split())
        count = strings.text("errors_of", errors=item.errors, words=len(item.reference_words))
        address = _embedded(item) if with_audio else _linked(item, page_path)
        player = f'<audio controls preload="none" src="{escape(address)}"></audio>' if address else ""
        parts.append(
            f'<div class="pair"><p><strong>{text(item.sample.name)}</strong>: {text(count)}</p>{player}'
            f"<p>{text(strings.text('said'))}: {said}</p>"
            f"<p>{text(strings.text('recognised'))}: {recognised}</p></div>"
        )
    return heading(strings, "worst") + "".join(parts)


def marked(reference: Sequence[str], recognised: Sequence[str]) -> tuple[str, str]:
    """Both texts as HTML with the words that differ marked."""
    said, added = [], []
    for i, j in align_words(reference, recognised):
        is_right = i is not None and j is not None and reference[i] == recognised[j]
        if i is not None:
            said.append(text(reference[i]) if is_right else f'<span class="said">{text(reference[i])}</span>')
        if j is not None:
            added.append(text(recognised[j]) if is_right else f'<span class="added">{text(recognised[j])}</span>')
    return " ".join(said) or "&#8212;", " ".join(added) or "&#8212;"


def _linked(item: Measured, page_path: Path) -> str:
    """The address of a recording relative to the page."""
    try:
        path = os.path.relpath(item.sample.path.absolute(), page_path.absolute().parent)
    except ValueError:  # another drive
        return ""
    part = item.sample.part
    times = "" if part is None else f"#t={part.start_s:.2f}" + ("" if part.end_s is None else f",{part.end_s:.2f}")
    return urllib.parse.quote(os.fsencode(path.replace(os.sep, "/"))) + times


def _embedded(item: Measured) -> str:
    """The beginning of a recording as FLAC in a data address; empty if it cannot be read any more."""
    import soundfile

    from lwasr_edge.audio.samples import StreamResampler

    buffer = io.BytesIO()
    try:
        with AudioReader(item.sample.audio()) as audio:
            resampler = StreamResampler(audio.sample_rate, 16_000)
            with soundfile.SoundFile(buffer, "w", 16_000, 1, "PCM_16", format="FLAC") as file:
                n_samples = 0
                for block in audio.blocks():
                    file.write(resampler.process(block))
                    n_samples += len(block)
                    if n_samples > MAX_AUDIO_S * audio.sample_rate:
                        break
                file.write(resampler.flush())
    except AudioError:
        return ""
    return "data:audio/flac;base64," + base64.b64encode(buffer.getvalue()).decode()


def _sound(check: Check, strings: Strings) -> str:
    if not check.used:
        return ""
    levels = [(item.sound.level_db, item.sound.noise_db) for item in check.used[:MAX_ROWS]]
    lines = "".join(f"<p>{text(line)}</p>" for line in advice_lines(check, strings))
    rows = [
        (
            item.sample.name,
            f"{item.sound.duration_s:.1f}",
            f"{item.sound.level_db:.0f}",
            f"{item.sound.noise_db:.0f}",
            f"{item.sound.snr_db:.0f}",
            f"{100 * item.sound.clipped:.0f}",
            "; ".join(strings.render(remark) for remark in sound_advice(item.sound)),
        )
        for item in check.used
    ]
    header = [strings.text(key) for key in ("recording", "length", "level", "noise", "snr", "clipping", "advice")]
    chart = level_chart(levels, LOW_LEVEL_DB, HIGH_LEVEL_DB)
    note = f'<p class="note">{text(strings.text("sound_note"))}</p>'
    return heading(strings, "sound") + lines + chart + note + table(header, rows)


def _refused(check: Check, strings: Strings) -> str:
    if not check.refused:
        return heading(strings, "refused") + f"<p>{text(strings.text('none_refused'))}</p>"
    rows = [(one.name, strings.render(one.reason)) for one in check.refused]
    return heading(strings, "refused") + table([strings.text("recording"), strings.text("reason")], rows)


def _changes(check: Check, strings: Strings) -> str:
    texts = [(item.sample.name, item.text) for item in check.with_text if item.text is not None]
    rows = [(name, one.written, one.spoken) for name, one in texts if one.written != one.spoken]
    if not rows:
        return ""
    header = [strings.text(key) for key in ("recording", "before", "after")]
    return heading(strings, "changes") + table(header, rows)
