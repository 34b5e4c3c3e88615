"""The plots of RESULTS.md, each from the JSON of one section."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLOURS = ("#1f5fa8", "#d1602b", "#3b8f5a", "#7a4ea3", "#888888")


def speed(report: dict, path: Path) -> str:
    """Real-time factor and latency by the hop of streams."""
    figure, (left, right) = _axes(2)
    for colour, model in zip(COLOURS, report["models"], strict=False):
        streams = [item for item in model["measurements"] if item["mode"] == "stream" and item["threads"] == 1]
        hops_ms = [item["hop_ms"] for item in streams]
        label = f"{model['name']} {model['precision']}"
        left.plot(hops_ms, [item["rtf"]["median"] for item in streams], "o-", color=colour, label=label)
        right.plot(hops_ms, [item["hop_latency_ms"]["p50"] for item in streams], "o-", color=colour, label=label)
        right.plot(hops_ms, [item["hop_latency_ms"]["p95"] for item in streams], ":", color=colour)
    _hop_axis(left, "real-time factor, one thread")
    _hop_axis(right, "end of hop to its events, ms (dotted: 95 %)")
    return _save(figure, path, "Real-time factor and latency by hop")


def accuracy(report: dict, path: Path) -> str:
    """Word error rate by the hop of streams; files as horizontal lines."""
    figure, (axes,) = _axes(1)
    for colour, model in zip(COLOURS, report["models"], strict=False):
        streams = [item for item in model["measurements"] if item["mode"] == "stream"]
        wer = [100 * item["accuracy"]["wer"] for item in streams]
        axes.plot([item["hop_ms"] for item in streams], wer, "o-", color=colour, label=model["name"])
        file = next(item for item in model["measurements"] if item["mode"] == "file")
        axes.axhline(100 * file["accuracy"]["wer"], color=colour, linestyle=":")
    _hop_axis(axes, "WER, % (dotted: files)")
    return _save(figure, path, "Word error rate by hop")


def latency(figures: dict, path: Path) -> str:
    """Latency by hop, and changes of words and processor time by right context."""
    figure, (left, right) = _axes(2)
    default = next(line for line in figures["settings"] if line["cpu_relative"] == 1)
    by_hop = _varied(figures["settings"], "hop_ms", default, "right_context_ms")
    by_context = _varied(figures["settings"], "right_context_ms", default, "hop_ms")
    hops_ms = [line["hop_ms"] for line in by_hop]
    kinds = {
        "word": "end of a word to its display",
        "final_by_endpoint": "end of speech + 0.8 s to the final text",
        "final_by_flush": "flush to the final text",
    }
    for colour, (kind, label) in zip(COLOURS, kinds.items(), strict=False):
        left.plot(hops_ms, [line[kind]["p50"] for line in by_hop], "o-", color=colour, label=label)
        left.plot(hops_ms, [line[kind]["p95"] for line in by_hop], ":", color=colour)
    contexts_ms = [line["right_context_ms"] for line in by_context]
    for colour, key, label in (
        (COLOURS[0], "words_changed_per_word", "words changed per word of the final text"),
        (COLOURS[1], "cpu_relative", "processor time, relative to the default"),
    ):
        right.plot(contexts_ms, [line[key] for line in by_context], "o-", color=colour, label=label)
    _hop_axis(left, "ms, median (dotted: 95 %)")
    right.set_xlabel("right context, ms")
    right.set_ylim(bottom=0)
    right.legend(frameon=False)
    return _save(figure, path, "Latency by hop; changes of words and processor time by right context")


def _varied(lines: list[dict], key: str, default: dict, fixed: str) -> list[dict]:
    """The rows that differ from the default in one option, in its order."""
    return sorted((line for line in lines if line[fixed] == default[fixed]), key=lambda line: line[key])


def peers(figures: dict, path: Path) -> str:
    """Speed against error rate; the area is the peak memory."""
    figure, (axes,) = _axes(1)
    for colour, peer in zip(COLOURS, figures["peers"], strict=False):
        rtf = sorted(peer["rtf"])[len(peer["rtf"]) // 2]
        label = f"{peer['engine']} {peer['model']}".strip() + f", {peer['peak_bytes'] / 1e6:.0f} MB"
        axes.scatter(rtf, 100 * peer["wer"], s=peer["peak_bytes"] / 1e6 * 3, color=colour, alpha=0.7, label=label)
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("real-time factor, one thread (left is faster)")
    axes.set_ylabel("WER, %")
    legend = axes.legend(frameon=False)
    for handle in legend.legend_handles:
        handle.set_sizes([40])
    return _save(figure, path, "Speed, word error rate and peak memory (area) of this project and its peers")


def adaptation(figures: dict, path: Path) -> str:
    """WER of each domain by minutes of its speech; dotted, that of general speech."""
    figure, (axes,) = _axes(1)
    for colour, domain in zip(COLOURS, figures["places"], strict=False):
        minutes = [1.0, *(row["minutes"] for row in domain["after"])]  # 1 means none, on a logarithmic axis
        for name, style in ((domain["test"], "o-"), ("librispeech-dev", ":")):
            wers = [domain["before"][name], *(row["wer"][name] for row in domain["after"])]
            axes.plot(minutes, wers, style, color=colour, label=domain["title"] if style == "o-" else None)
    axes.set_xscale("log")
    axes.set_xticks([1, 5, 15, 60, 150], ["none", "5", "15", "60", "150"])
    axes.set_xlabel("minutes of domain speech (dotted: librispeech-dev)")
    axes.set_ylabel("WER, %")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    return _save(figure, path, "WER of each domain by minutes of its speech")


def _axes(count: int) -> tuple[Figure, list[Axes]]:
    figure, axes = plt.subplots(1, count, figsize=(5.5 * count, 4), squeeze=False, layout="constrained")
    for one in axes[0]:
        one.spines[["top", "right"]].set_visible(False)
        one.grid(alpha=0.3)
    return figure, list(axes[0])


def _hop_axis(axes: Axes, label: str) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xticks([80, 160, 320, 640], ["80", "160", "320", "640"])
    axes.set_xlabel("hop, ms")
    axes.set_ylabel(label)
    if min(axes.get_ylim()) > 0:
        axes.set_ylim(bottom=0)
    axes.legend(frameon=False)


def _save(figure: Figure, path: Path, caption: str) -> str:
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return caption
