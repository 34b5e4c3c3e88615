"""Lines that the terminal and the page share, and the text for the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from lwasr_edge.site.check import Check, missed_in
from lwasr_edge.site.intervals import error_rate
from lwasr_edge.site.remark import Remark
from lwasr_edge.site.reports.language import Strings
from lwasr_edge.site.sound import sound_advice
from lwasr_edge.site.verdict import list_gain
from lwasr_edge.validate import printable

SHOWN = 20  # lines of a list in the terminal
WORST = 10


def rate_line(check: Check, strings: Strings) -> str:
    """Errors in a hundred words with their interval."""
    rate = check.rate
    assert rate is not None
    return strings.text(
        "errors_line",
        rate=f"{rate.per_hundred:.1f}",
        low=f"{rate.low:.1f}",
        high=f"{rate.high:.1f}",
        errors=rate.errors,
        words=rate.words,
        recordings=rate.recordings,
        minutes=f"{check.minutes:.1f}",
    )


def speed_line(rtf: float, strings: Strings) -> str:
    """Speed on this computer."""
    key = "speed_line" if rtf < 1 else "speed_slow"
    return strings.text(key, rtf=f"{rtf:.3f}", times=f"{1 / max(rtf, 1e-6):.0f}")


def list_lines(check: Check, strings: Strings, *, with_texts: bool = True) -> list[str]:
    """The effect of the word list, and how its strength was chosen; with texts, also which phrases nobody said."""
    trial = check.trial
    assert trial is not None
    words = [len(item.reference_words) for item in trial.before]
    before, after = (error_rate([i.errors for i in items], words) for items in (trial.before, trial.after))
    low, high = list_gain(trial)
    line = strings.text(
        "list_line",
        before=f"{before.per_hundred:.1f}",
        after=f"{after.per_hundred:.1f}",
        low=f"{low:+.1f}",
        high=f"{high:+.1f}",
        recordings=len(trial.before),
    )
    key = "list_default"
    if trial.chosen_on:
        key = "list_chosen_speakers" if trial.by_speaker else "list_chosen"
    lines = [line, strings.text(key, strength=f"{trial.strength:g}", count=len(trial.chosen_on))]
    not_said = [one.phrase for one in trial.phrases if not one.said and with_texts]
    for name, phrases in (("list_left_out", trial.left_out), ("list_not_said", not_said)):
        if phrases:
            shown = ", ".join(phrases[:SHOWN]) + (f" ... ({len(phrases)})" if len(phrases) > SHOWN else "")
            lines.append(strings.text(name, phrases=shown))
    return lines


def advice_lines(check: Check, strings: Strings) -> list[str]:
    """What to do about the sound, the most frequent first; the figure is that of the middle recording."""
    found: dict[str, list[Remark]] = {}
    for item in check.used:
        for remark in sound_advice(item.sound):
            found.setdefault(remark.key, []).append(remark)
    counts = Counter({key: len(remarks) for key, remarks in found.items()})
    lines = []
    for key, count in counts.most_common():
        ordered = sorted(found[key], key=lambda remark: str(next(iter(remark.values.values()))).rjust(20))
        lines.append(strings.text("advice_count", count=count, advice=strings.render(ordered[count // 2])))
    return lines or [strings.text("no_advice")]


def text_report(check: Check, strings: Strings, *, with_texts: bool) -> str:
    """The report for a terminal, of printable characters.

    Args:
        check: the result.
        strings: of the language.
        with_texts: also what was said and recognised: what a terminal shows may be kept in a log.
    """
    return "".join(f"{printable(line)}\n" for line in _lines(check, strings, with_texts))


def _lines(check: Check, strings: Strings, with_texts: bool) -> Iterator[str]:
    yield strings.render(check.verdict)
    yield ""
    n_texts = len(check.with_text)
    yield strings.text("counts", used=len(check.used), texts=n_texts, refused=len(check.refused))
    if check.rate is not None:
        yield f"{strings.text('errors')}: {rate_line(check, strings)}"
    if check.rtf is not None:
        yield f"{strings.text('speed')}: {speed_line(check.rtf, strings)}"
    if changed := sum(item.text is not None and item.text.is_changed for item in check.with_text):
        yield f"{strings.text('changes')}: {strings.text('changes_line', count=changed)}"
    yield from (strings.render(remark) for remark in check.remarks)
    yield from _section(strings.text("sound"), advice_lines(check, strings))
    if check.trial is not None:
        missed = [one for one in check.trial.phrases if one.after < one.said and with_texts]
        rows = [f"{one.phrase}: {one.said}, {one.before}, {one.after}" for one in missed[:SHOWN]]
        names = ("phrase", "said_times", "found_before", "found_after")
        header = [f"{strings.text(names[0])}: {', '.join(map(strings.text, names[1:]))}"] if rows else []
        yield from _section(strings.text("list"), [*list_lines(check, strings, with_texts=with_texts), *header, *rows])
    elif with_texts and (words := missed_in(check)):
        yield from _section(strings.text("missed"), [f"{word} {missed}/{said}" for word, said, missed in words])
    if worst := check.worst(WORST):
        lines = []
        for item in worst:
            count = strings.text("errors_of", errors=item.errors, words=len(item.reference_words))
            lines.append(f"{item.sample.name}: {count}")
            if with_texts and item.text is not None:
                lines += [f"  {strings.text('said')}: {item.text.spoken}"]
                lines += [f"  {strings.text('recognised')}: {item.recognised}"]
        yield from _section(strings.text("worst"), lines if with_texts else [*lines, strings.text("texts_hidden")])
    if check.refused:
        reasons = [f"{one.name}: {strings.render(one.reason)}" for one in check.refused]
        yield from _section(strings.text("refused"), reasons)


def _section(title: str, lines: list[str]) -> Iterator[str]:
    yield ""
    yield f"{title}:"
    yield from (f"  {line}" for line in lines)
