"""Markdown tables, for the terminal and for RESULTS.md."""

from __future__ import annotations

from collections.abc import Sequence


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table: first column left-aligned, the others right-aligned, padded to be readable as text."""
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    rule = ["-" * width if column == 0 else "-" * (width - 1) + ":" for column, width in enumerate(widths)]

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.ljust(w) if c == 0 else cell.rjust(w) for c, (cell, w) in enumerate(zip(cells, widths, strict=True))
        ]
        return "| " + " | ".join(padded) + " |"

    return "\n".join([line(header), line(rule), *map(line, rows)])


def provenance_line(figures: dict) -> str:
    """The provenance of a section, in one sentence."""
    board = figures["board"]
    return (
        f"`{figures['command']}`, commit {figures['commit']}, {figures['created']}; {board['processor']}, "
        f"{board['cores']} cores, {board['system']}, onnxruntime {figures['onnxruntime']}, load {figures['load']:.2f}."
    )
