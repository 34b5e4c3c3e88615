"""A report, and the comparison of two, as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lwasr_edge.bench.board import Board, Condition
    from lwasr_edge.bench.results import Measurement, ModelResult, Report

Row = Sequence[str]

MEASUREMENT_COLUMNS = (
    *("mode", "context ms", "threads", "RTF", "RTF p95", "CPU s/s", "in silence", "in noise"),
    *("hop ms p50", "p95", "p99", "max", "final ms"),
    *("steady MB", "peak MB", "WER"),
)
COMPARISON_COLUMNS = (
    *("model", "mode", "threads", "RTF A", "RTF B", "RTF B/A"),
    *("hop p95 B/A", "peak B/A", "CPU B/A", "WER A", "WER B"),
)


def report_text(report: Report) -> str:
    """The report."""
    lines = _board_lines(report.board, report.before, report.after)
    versions = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    audio = report.audio
    lines += [
        f"software    {versions}",
        f"audio       {audio['source']}: {audio['recordings']} recording{'s' * (audio['recordings'] != 1)}, "
        f"{audio['seconds']:.1f} s; "
        f"{report.repeat} runs after a warm-up",
    ]
    for model in report.models:
        lines += ["", *_model_lines(model)]
    return "\n".join(lines) + "\n"


def comparison_text(before: dict[str, Any], after: dict[str, Any]) -> str:
    """Two reports side by side: B / A of every figure that both have; below 1.00 is less time or memory.

    Args:
        before: A, as `read_report` returns it.
        after: B.
    """
    lines = [f"A  {before['created']}  {before['board']['name']}", f"B  {after['created']}  {after['board']['name']}"]
    for name in ("name", "processor"):
        if before["board"][name] != after["board"][name]:
            lines.append(f"   the machines differ: {before['board'][name]} / {after['board'][name]}")
    if before["audio"] != after["audio"]:
        lines.append(f"   the audio differs: {before['audio']['source']} / {after['audio']['source']}")
    measured_before, measured_after = _by_key(before), _by_key(after)
    common = [key for key in measured_before if key in measured_after]
    rows: list[Row] = [COMPARISON_COLUMNS]
    for key in common:
        a, b = measured_before[key], measured_after[key]
        rows.append(
            (
                key[0],
                _mode(a["mode"], a["hop_ms"]),
                str(a["threads"] or "all"),
                f"{a['rtf']['median']:.4f}",
                f"{b['rtf']['median']:.4f}",
                _ratio(a["rtf"]["median"], b["rtf"]["median"]),
                _ratio(_of(a, "hop_latency_ms", "p95"), _of(b, "hop_latency_ms", "p95")),
                _ratio(a["memory"]["peak"], b["memory"]["peak"]),
                _ratio(a["cpu_s_per_audio_s"], b["cpu_s_per_audio_s"]),
                _percent(_of(a, "accuracy", "wer")),
                _percent(_of(b, "accuracy", "wer")),
            )
        )
    lines += ["", *_aligned(rows)] if common else ["", "nothing was measured in both"]
    others = {(model["name"], model["precision"]): model for model in after["models"]}
    for model in before["models"]:
        other = others.get((model["name"], model["precision"]))
        if other is not None:
            startup = _ratio(model["startup"]["total"]["median"], other["startup"]["total"]["median"])
            size = _ratio(model["bytes"], other["bytes"])
            lines.append(f"start-up B / A {startup}, file size B / A {size}: {model['name']} {model['precision']}")
    alone = sorted({" ".join(map(str, key)) for key in measured_before.keys() ^ measured_after.keys()})
    lines += [f"only in one: {key}" for key in alone]
    return "\n".join(lines) + "\n"


def _board_lines(board: Board, before: Condition, after: Condition) -> list[str]:
    memory = f", {board.memory_bytes / 2**30:.1f} GiB" if board.memory_bytes else ""
    features = f", int8 by {' '.join(board.int8_features)}" if board.int8_features else ""
    return [
        f"board       {board.name}",
        f"processor   {board.processor} ({board.architecture}), {board.cores} cores{features}{memory}",
        f"system      {board.system}, kernel {board.kernel}, Python {board.python}",
        f"before      {_condition(before)}",
        f"after       {_condition(after)}",
    ]


def _condition(condition: Condition) -> str:
    parts = [
        f"governor {condition.governor}" if condition.governor else "",
        f"{condition.clock_mhz:.0f} MHz" if condition.clock_mhz else "",
        f"{condition.temperature_c:.1f} °C" if condition.temperature_c is not None else "",
        f"load {condition.load:.2f}" if condition.load is not None else "",
    ]
    if condition.throttling is not None:
        parts.append("throttling: " + (", ".join(condition.throttling) or "none"))
    return ", ".join(part for part in parts if part) or "not known"


def _model_lines(model: ModelResult) -> list[str]:
    startup = model.startup
    size = f"{model.bytes / 1e6:.2f} MB {model.precision}"
    lines = [
        f"{model.name}  {size}  {model.file}",
        f"sha256      {model.sha256}",
        f"start-up    {startup.total.median:.2f} s to the first text: python {startup.python.median:.2f}, imports "
        f"{startup.imports.median:.2f}, load {startup.load.median:.2f}, 5 s recording {startup.first_text.median:.2f}",
        "",
    ]
    lines += _aligned([MEASUREMENT_COLUMNS, *(_measurement_row(measurement) for measurement in model.measurements)])
    text = next((measurement.text for measurement in model.measurements if measurement.text is not None), None)
    return lines if text is None else [*lines, "", f"text        {text}"]


def _measurement_row(measurement: Measurement) -> Row:
    hop, final = measurement.hop_latency_ms, measurement.final_latency_ms
    idle = measurement.idle_cpu_s_per_audio_s or {}
    return (
        _mode(measurement.mode, measurement.hop_ms),
        "" if measurement.right_context_ms is None else f"{measurement.right_context_ms:g}",
        str(measurement.threads or "all"),
        f"{measurement.rtf.median:.4f}",
        f"{measurement.rtf.p95:.4f}",
        f"{measurement.cpu_s_per_audio_s:.4f}",
        *(f"{idle[name]:.4f}" if name in idle else "" for name in ("silence", "noise")),
        *([f"{value:.1f}" for value in (hop.p50, hop.p95, hop.p99, hop.max)] if hop else [""] * 4),
        f"{final.p50:.1f}" if final else "",
        _megabytes(measurement.memory.steady),
        _megabytes(measurement.memory.peak),
        _percent(measurement.accuracy.wer if measurement.accuracy else None),
    )


def _by_key(report: dict[str, Any]) -> dict[tuple[Any, ...], dict[str, Any]]:
    keys = ("mode", "hop_ms", "right_context_ms", "threads")
    return {
        (model["name"], model["precision"], *(item[key] or 0 for key in keys)): item
        for model in report["models"]
        for item in model["measurements"]
    }


def _of(measurement: dict[str, Any], group: str, field: str) -> float | None:
    return None if measurement[group] is None else measurement[group][field]


def _mode(mode: str, hop_ms: float | None) -> str:
    return mode if hop_ms is None else f"{mode} {hop_ms:g}"


def _ratio(a: float | None, b: float | None) -> str:
    return f"{b / a:.2f}" if a and b is not None else ""


def _percent(fraction: float | None) -> str:
    return "" if fraction is None else f"{100 * fraction:.2f} %"


def _megabytes(size: int | None) -> str:
    return "" if size is None else f"{size / 1e6:.1f}"


def _aligned(rows: Sequence[Row]) -> list[str]:
    """Align columns: the first to the left, figures to the right; columns without any figure are left out."""
    kept = [column for column in range(len(rows[0])) if any(row[column] for row in rows[1:])]
    widths = {column: max(len(row[column]) for row in rows) for column in kept}
    return [
        "  ".join(row[c].ljust(widths[c]) if c == 0 else row[c].rjust(widths[c]) for c in kept).rstrip() for row in rows
    ]
