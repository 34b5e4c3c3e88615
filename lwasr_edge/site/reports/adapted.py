"""The result of an adaptation: errors before and after on held-out recordings, as a page and as text; no sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lwasr_edge.site.intervals import Rate
from lwasr_edge.site.remark import Remark
from lwasr_edge.site.reports.charts import interval_chart
from lwasr_edge.site.reports.frame import document, heading, table, text
from lwasr_edge.site.reports.language import Strings


@dataclass(frozen=True)
class Compared:
    """One set of recordings, recognised by two models."""

    name: str  # key of the table of strings, without "set_"
    before: Rate
    after: Rate
    low: float  # 95 % interval of after - before, errors in a hundred words
    high: float

    @property
    def is_better(self) -> bool:
        """Whether the gain is more than chance: the interval is below 0."""
        return self.high < 0

    @property
    def lost(self) -> float:
        """Errors in a hundred words that were added; negative for a gain."""
        return self.after.per_hundred - self.before.per_hundred


def adapted_page(
    name: str,
    verdict: Remark,
    sets: Sequence[Compared],
    choice: dict[str, Any],
    statement: dict[str, Any],
    strings: Strings,
) -> str:
    """The result as HTML.

    Args:
        name: of the adapted model.
        verdict: what to do.
        sets: compared recordings.
        choice: how the weights were chosen: "step", "share" of the way from the weights before, and the errors in a
            hundred words of each set "before" and "after".
        statement: about the data, key and value.
        strings: of the language.
    """
    title = f"{strings.text('adapted_title')}: {name}"
    data = [(key.replace("_", " "), _shown(value)) for key, value in statement.items()]
    body = [
        f"<h1>{text(title)}</h1>",
        f'<p class="verdict"><strong>{text(strings.text("verdict"))}.</strong> {text(strings.render(verdict))}</p>',
        _errors(sets, strings),
        _choice(choice, strings),
        heading(strings, "adapted_data") + table(["", ""], data),
    ]
    return document(title, body, strings)


def adapted_text(verdict: Remark, sets: Sequence[Compared], strings: Strings) -> str:
    """The result for a terminal, not yet made printable."""
    lines = [strings.render(verdict), *(_line(one, strings) for one in sets)]
    return "".join(f"{line}\n" for line in lines)


def _errors(sets: Sequence[Compared], strings: Strings) -> str:
    if not sets:
        return ""
    bars = []
    for one in sets:
        for key, rate in (("adapted_before", one.before), ("adapted_after", one.after)):
            label = f"{strings.text(f'set_{one.name}')[:14]}, {strings.text(key)}"
            bars.append((label, rate.per_hundred, rate.low, rate.high))
    keys = ("adapted_set", "adapted_before", "adapted_after", "adapted_difference", "adapted_words")
    rows = [
        (
            strings.text(f"set_{one.name}"),
            f"{one.before.per_hundred:.1f}",
            f"{one.after.per_hundred:.1f}",
            f"{one.low:+.1f} ... {one.high:+.1f}",
            one.before.words,
        )
        for one in sets
    ]
    note = f'<p class="note">{text(strings.text("adapted_note"))}</p>'
    chart = interval_chart(bars, sets[0].before.per_hundred, strings.text("adapted_before"))
    return heading(strings, "errors") + table([strings.text(key) for key in keys], rows) + chart + note


def _choice(choice: dict[str, Any], strings: Strings) -> str:
    """What decided which weights are used, on recordings that are not in the comparison."""
    rows = [(strings.text(f"adapted_{key}"), f"{choice[key]:g}") for key in ("step", "share")]
    for name, before in choice["before"].items():
        rows.append((strings.text(f"set_{name}"), f"{before:.1f} → {choice['after'][name]:.1f}"))
    note = f'<p class="note">{text(strings.text("adapted_choice_note"))}</p>'
    return heading(strings, "adapted_choice") + table(["", ""], rows) + note


def _line(one: Compared, strings: Strings) -> str:
    return strings.text(
        "adapted_line",
        set=strings.text(f"set_{one.name}"),
        before=f"{one.before.per_hundred:.1f}",
        after=f"{one.after.per_hundred:.1f}",
        low=f"{one.low:+.1f}",
        high=f"{one.high:+.1f}",
        words=one.before.words,
        recordings=one.before.recordings,
    )


def _shown(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
