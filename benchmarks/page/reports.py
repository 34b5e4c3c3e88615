"""Sections of RESULTS.md made from reports of `lwasr bench`."""

from __future__ import annotations

from benchmarks.page.markdown import provenance_line, table
from lwasr_edge.bench.results import SCHEMA_VERSION

IDLE = ("silence", "noise")  # the sounds of idle streams in a report


def is_present(report: dict) -> bool:
    """Whether a report has the fields that this version writes."""
    return bool(report["schema_version"] == SCHEMA_VERSION)


def section(report: dict) -> str:
    """Start-up, then every measurement."""
    return "\n\n".join([_about(report), _startup_table(report), _measurement_table(report)]) + "\n"


def accuracy_section(report: dict) -> str:
    """Word error rate and speed over real speech."""
    modes = list(dict.fromkeys(_mode(item) for model in report["models"] for item in model["measurements"]))
    rows = []
    for model in report["models"]:
        by_mode = {_mode(item): item for item in model["measurements"]}
        cells = [f"{100 * by_mode[mode]['accuracy']['wer']:.2f} %" if mode in by_mode else "" for mode in modes]
        rows.append((f"{model['name']} {model['precision']}", *cells))
    words = report["models"][0]["measurements"][0]["accuracy"]["words"]
    about = f"Decoded by default, {words} words, text normalised to a-z and apostrophe. {_about(report)}"
    return f"{about}\n\n{table(('model', *modes), rows)}\n"


def _about(report: dict) -> str:
    audio = report["audio"]
    source = "The packaged recording" if audio["source"] == "built-in" else audio["source"].rpartition("/")[2]
    figures = {**report, "onnxruntime": report["versions"]["onnxruntime"], "load": report["before"]["load"]}
    return (
        f"{source}, {audio['recordings']} recording{'s' * (audio['recordings'] != 1)}, {audio['seconds']:.0f} s; "
        f"{report['repeat']} run{'s' * (report['repeat'] != 1)}. "
        f"{provenance_line(figures)}"
    )


def _startup_table(report: dict) -> str:
    steps = ("python", "imports", "load", "first_text", "total")
    rows = [
        (
            f"{model['name']} {model['precision']}",
            f"{model['bytes'] / 1e6:.2f}",
            f"{model['parameters'] / 1e6:.1f}" if model["parameters"] else "",
            *(f"{model['startup'][step]['median']:.2f}" for step in steps),
        )
        for model in report["models"]
    ]
    head = ("model", "file MB", "M parameters", "python s", "imports s", "load s", "5 s recording s", "total s")
    return table(head, rows)


def _measurement_table(report: dict) -> str:
    rows = []
    for model in report["models"]:
        for item in model["measurements"]:
            hop, final, idle = item["hop_latency_ms"], item["final_latency_ms"], item["idle_cpu_s_per_audio_s"] or {}
            rows.append(
                (
                    f"{model['name']} {model['precision']}",
                    _mode(item),
                    f"{item['right_context_ms']:g}" if item["right_context_ms"] is not None else "",
                    str(item["threads"]),
                    f"{item['rtf']['median']:.4f}",
                    f"{item['rtf']['p95']:.4f}",
                    f"{item['cpu_s_per_audio_s']:.4f}",
                    *(f"{idle[kind]:.4f}" if kind in idle else "" for kind in IDLE),
                    *([f"{hop[key]:.1f}" for key in ("p50", "p95", "p99", "max")] if hop else [""] * 4),
                    f"{final['p50']:.1f}" if final else "",
                    f"{item['memory']['steady'] / 1e6:.0f}",
                    f"{item['memory']['peak'] / 1e6:.0f}",
                )
            )
    head = (
        *("model", "mode", "right context ms", "threads", "RTF", "RTF p95", "CPU s/s"),
        *(f"CPU s/s in {kind}" for kind in IDLE),
        *("hop ms p50", "p95", "p99", "max", "flush ms", "steady MB", "peak MB"),
    )
    return table(head, rows)


def _mode(item: dict) -> str:
    return "file" if item["mode"] == "file" else f"hop {item['hop_ms']:g} ms"
