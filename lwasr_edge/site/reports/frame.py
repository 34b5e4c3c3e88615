"""The frame of every page: one HTML file, no script, nothing from the network, and every foreign text escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from lwasr_edge.site.check import MADE_BY
from lwasr_edge.site.reports.language import Strings
from lwasr_edge.validate import printable

MAX_ROWS = 500  # of a table
MARK = f'<meta name="generator" content="{MADE_BY}">'  # `lwasr site erase` removes pages with it
# No script and no connection; sound from the page itself, or from the folder on the same machine.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; media-src data: file: 'self'"
STYLE = """
body { font: 16px/1.5 system-ui, "Hiragino Sans", "Noto Sans CJK JP", sans-serif; max-width: 60em; margin: 2em auto;
  padding: 0 1em; color: #111; background: #fff; }
h1 { font-size: 1.4em; } h2 { font-size: 1.15em; margin-top: 2em; border-bottom: 1px solid #bbb; }
.verdict { font-size: 1.25em; border-left: 6px solid #1a4f7a; padding: .6em 1em; background: #f2f6fa; }
table { border-collapse: collapse; width: 100%; } th, td { text-align: left; padding: .25em .6em .25em 0;
  border-bottom: 1px solid #ddd; vertical-align: top; overflow-wrap: anywhere; } th { overflow-wrap: normal; }
td.n, th.n { text-align: right; } td:first-child { min-width: 9em; }
svg { width: 100%; max-width: 44em; } .note { color: #555; font-size: .9em; }
.said { color: #b3261e; text-decoration: underline; font-weight: 600; }
.added { color: #1a4f7a; font-style: italic; font-weight: 600; } audio { width: 100%; max-width: 24em; height: 2.2em; }
.pair { margin: 1em 0; break-inside: avoid; } .pair p { margin: .15em 0; }
@media print { body { margin: 0; font-size: 11pt; } audio, .screen { display: none; } tr { break-inside: avoid; } }
"""


def document(title: str, body: Iterable[str], strings: Strings) -> str:
    """A page of parts in HTML; empty ones are left out."""
    return (
        f'<!DOCTYPE html>\n<html lang="{strings.language}">\n<head>\n<meta charset="utf-8">\n{MARK}\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{text(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(part for part in body if part)
        + "\n</body>\n</html>\n"
    )


def text(value: object) -> str:
    """Text for HTML: escaped, and without control characters."""
    return escape(printable(str(value)))


def heading(strings: Strings, key: str) -> str:
    """A heading of the table of strings."""
    return f"<h2>{text(strings.text(key))}</h2>"


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table of texts; columns of numbers are set right."""
    rows = list(rows)

    def cell(tag: str, value: object, column: int) -> str:
        kind = ' class="n"' if 0 < column < 6 and rows and _is_number(rows[0][column]) else ""
        return f"<{tag}{kind}>{text(value)}</{tag}>"

    lines = ["".join(cell("th", name, column) for column, name in enumerate(header))]
    lines += ["".join(cell("td", value, column) for column, value in enumerate(row)) for row in rows[:MAX_ROWS]]
    if len(rows) > MAX_ROWS:
        lines.append(f'<td colspan="{len(header)}">... ({len(rows)})</td>')
    return "<table>" + "".join(f"<tr>{line}</tr>" for line in lines) + "</table>"


def _is_number(value: object) -> bool:
    return isinstance(value, int) or (isinstance(value, str) and value.lstrip("-").replace(".", "", 1).isdigit())
