"""The report of a comparison: Markdown and plots."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from lwasr_edge.files import write_bytes
from lwasr_edge.training.scoring.dev_sets import FULL_CONTEXT

REPORT_FILE = "report.md"
INT8_BYTES_PER_PARAMETER = 1.08  # of an exported int8 file (lwasr-export prints it)
BASELINE = "dropped"  # the usual way without a method; speed-ups are relative to it


def cost_to_reach(curve: list[dict[str, Any]], key: str, wer: float, cost: str) -> float | None:
    """Cost at which a method first reached an error rate, linearly interpolated between evaluations.

    Args:
        curve: measurements in order of cost.
        key: "student/set/mode".
        wer: per cent.
        cost: "audio_s" or "elapsed_s".

    Returns:
        None where it was not reached.
    """
    before: tuple[float, float] | None = None
    for point in curve:
        present = point["wer"][key], float(point[cost])
        if present[0] <= wer:
            if before is None or before[0] == present[0]:
                return present[1]
            share = (before[0] - wer) / (before[0] - present[0])
            return before[1] + share * (present[1] - before[1])
        before = present
    return None


def write_report(results: dict[str, Any], folder: Path) -> None:
    """Write report.md and the plots into ``folder``."""
    write_bytes(folder / REPORT_FILE, markdown(results).encode())
    plot_costs(results, folder / "cost.png")
    plot_sizes(results, folder / "size.png")


def markdown(results: dict[str, Any]) -> str:
    """One table for each size; greedy WER (%) with full context."""
    methods = results["methods"]
    sets = sets_of(results)
    reference = ", ".join(f"{name} {results['reference'][f'reference/{name}/{FULL_CONTEXT}']}" for name in sets)
    lines = [
        f"Each method: {results['steps']} steps of {results['batch_s']:g} s on {', '.join(results['train'])}; all "
        "sizes of a method in one run, whose training time is given (without evaluation). RTF: expected of the int8 "
        "file, one thread.",
        f"WER (%), greedy, full context. The reference: {reference}.",
    ]
    for student in students_of(results):
        first = f"{student}/{sets[0]}/{FULL_CONTEXT}"
        trained = [method for method in methods.values() if student in method["parameters"]]
        goal = statistics.median_high(method["curve"][-1]["wer"][first] for method in trained)
        head = ["method", "parameters", "RTF", *sets, "training audio, s", "training time, s"]
        head.append(f"audio to WER {goal:.1f} on {sets[0]}, s")
        head += [f"speed-up over {BASELINE}"] if BASELINE in methods else []
        lines += ["", f"### {student}", "", row(head), row(["---"] * len(head))]
        for method in trained:
            last = method["curve"][-1]["wer"]
            cells = [method["title"], f"{method['parameters'][student] / 1e6:.2f} M", f"{method['rtf'][student]:.4f}"]
            cells += [f"{last[f'{student}/{name}/{FULL_CONTEXT}']:.1f}" for name in sets]
            cells += [str(method["audio_s"]), f"{method['elapsed_s']:.0f}"]
            cost = cost_to_reach(method["curve"], first, goal, "audio_s")
            cells.append(shown_cost(cost, method["curve"]))
            if BASELINE in methods:
                baseline = cost_to_reach(methods[BASELINE]["curve"], first, goal, "audio_s")
                cells.append(shown_speed_up(cost, method["curve"], baseline, methods[BASELINE]["curve"]))
            lines.append(row(cells))
    return "\n".join(lines) + "\n"


def is_bound(cost: float | None, curve: list[dict[str, Any]]) -> bool:
    """Whether a cost is that of the first evaluation: the goal was reached by then, or earlier."""
    return cost is not None and cost <= curve[0]["audio_s"]


def shown_cost(cost: float | None, curve: list[dict[str, Any]]) -> str:
    """A cost in audio, "at most" where it is a bound, "-" where the goal was not reached."""
    if cost is None:
        return "-"
    return f"{'≤ ' if is_bound(cost, curve) else ''}{cost:.0f}"


def shown_speed_up(
    cost: float | None, curve: list[dict[str, Any]], baseline: float | None, baseline_curve: list[dict[str, Any]]
) -> str:
    """The baseline's cost over this cost, with "≥" or "≤" where one of them is a bound."""
    if cost is None or baseline is None or (is_bound(cost, curve) and is_bound(baseline, baseline_curve)):
        return "-"
    side = "≥ " if is_bound(cost, curve) else "≤ " if is_bound(baseline, baseline_curve) else ""
    return f"{side}{baseline / max(cost, 1):.1f}"


def sets_of(results: dict[str, Any]) -> list[str]:
    """The sets measured on, as they were given."""
    return list(dict.fromkeys(key.split("/")[1] for key in results["reference"]))


def students_of(results: dict[str, Any]) -> list[str]:
    """Every size that some method trained, the largest first as they were asked for."""
    return list(dict.fromkeys(student for method in results["methods"].values() for student in method["parameters"]))


def row(cells: list[str]) -> str:
    """A row of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def plot_costs(results: dict[str, Any], path: Path) -> None:
    """WER against training cost, a panel for each size."""
    from matplotlib.figure import Figure

    methods = results["methods"]
    students = students_of(results)
    name = sets_of(results)[0]
    figure = Figure(figsize=(4.2 * len(students) + 2.5, 4), layout="constrained")
    panels = figure.subplots(1, len(students), sharey=True, squeeze=False)[0]
    for panel, student in zip(panels, students, strict=True):
        for method in methods.values():
            if student not in method["parameters"]:
                continue
            costs = [point["audio_s"] for point in method["curve"]]
            wers = [point["wer"][f"{student}/{name}/{FULL_CONTEXT}"] for point in method["curve"]]
            panel.plot(costs, wers, marker="o", markersize=3, label=method["title"])
        panel.set(title=student, xlabel="training audio, s", ylim=(0, 105))
        panel.grid(alpha=0.3)
    panels[0].set_ylabel(f"WER on {name}, %")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", fontsize=8)
    figure.savefig(path, dpi=110)


def plot_sizes(results: dict[str, Any], path: Path) -> None:
    """WER against the size of the int8 file, and against its real-time factor."""
    from matplotlib.figure import Figure

    name = sets_of(results)[0]
    figure = Figure(figsize=(11, 4), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for method in results["methods"].values():
        last = method["curve"][-1]["wer"]
        megabytes = [n * INT8_BYTES_PER_PARAMETER / 1e6 for n in method["parameters"].values()]
        wers = [last[f"{student}/{name}/{FULL_CONTEXT}"] for student in method["parameters"]]
        left.plot(megabytes, wers, marker="o", label=method["title"])
        right.plot([method["rtf"][student] for student in method["parameters"]], wers, marker="o")
    left.set(xlabel="int8 file, MB", ylabel=f"WER on {name}, %", ylim=(0, 105))
    right.set(xlabel="real-time factor, one thread (left is faster)")
    for panel in (left, right):
        panel.grid(alpha=0.3)
    figure.legend(loc="outside right center", fontsize=8)
    figure.savefig(path, dpi=110)
