"""`lwasr-train search`: which layers, which widths and which precision fit a size, a speed and an error rate.

The cheapest evidence comes first: the size is counted, the speed follows from arithmetic and measured models
(`latency`), and only what fits both is trained, all candidates from the same batches, for a short step 1.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import math
from dataclasses import dataclass
from pathlib import Path

from lwasr_edge.errors import OptionError
from lwasr_edge.files import write_bytes
from lwasr_edge.training.compress.students import Shape, init_students, layers_to_keep, student_config
from lwasr_edge.training.loop.schedule import Schedule
from lwasr_edge.training.loop.trainer import Family, Trainer
from lwasr_edge.training.model.checkpoint import load_checkpoint
from lwasr_edge.training.model.config import ModelConfig
from lwasr_edge.training.options import REPRESENT_WEIGHTS, TrainingOptions, add_training_options
from lwasr_edge.training.run import prepare_run
from lwasr_edge.training.scoring.dev_sets import FULL_CONTEXT, DevSets
from lwasr_edge.training.study.baselines import n_parameters_of
from lwasr_edge.training.study.latency import LatencyModel, measure_here, read_profile
from lwasr_edge.validate import whole_number

BYTES_PER_PARAMETER = {"int8": 1, "float32": 4}
GRAPH_BYTES = 280_000  # of an exported file, vocabulary included: what is there beside the weights and the layers
LAYER_BYTES = 33_000  # nodes, names and scales of a layer
RESULTS_FILE = "search.json"
SPEEDS_FILE = "speeds.json"  # what was measured first: measured again, other candidates might fit


@dataclass(frozen=True)
class Candidate:
    """A possible student."""

    n_layers: int
    d_feed_forward: int
    d_attention: int
    channels: int
    precision: str
    megabytes: float  # of the exported file
    rtf: float  # expected, of files
    wer: float = math.nan  # per cent, mean over the dev sets after the short step 1

    @property
    def student(self) -> str:
        """Name of the checkpoint: precisions share it."""
        return f"layers{self.n_layers}x{self.d_feed_forward}x{self.d_attention}x{self.channels}"

    def costs(self) -> tuple[float, float, float]:
        """Size, speed and WER, all of which should be small."""
        return self.megabytes, self.rtf, self.wer


def expected_file_bytes(config: ModelConfig, precision: str) -> int:
    """Size of the file that the export writes of such a student."""
    weights = BYTES_PER_PARAMETER[precision] * n_parameters_of(config)
    return weights + GRAPH_BYTES + LAYER_BYTES * config.encoder.n_layers


def pareto(candidates: list[Candidate]) -> list[Candidate]:
    """The Pareto front: no other candidate is as good in size, speed and WER and better in one of them."""

    def beaten(one: Candidate) -> bool:
        return any(
            other.costs() != one.costs() and all(a <= b for a, b in zip(other.costs(), one.costs(), strict=True))
            for other in candidates
        )

    return sorted((one for one in candidates if not beaten(one)), key=Candidate.costs)


class Search:
    """Candidates of one reference."""

    def __init__(self, reference: Path, options: TrainingOptions) -> None:
        self.reference, self.tokenizer = load_checkpoint(reference)
        self.options = options

    def shape(self, n_layers: int, d_feed_forward: int, d_attention: int, channels: int) -> Shape:
        """What a candidate keeps of the reference."""
        layers = layers_to_keep(self.reference.config.encoder.n_layers, n_layers)
        return Shape(layers, d_feed_forward, d_attention, channels)

    def candidates(
        self,
        layers: list[int],
        unit_shares: list[float],
        attention_shares: list[float],
        subsampling_shares: list[float],
        latencies: dict[str, LatencyModel],
    ) -> list[Candidate]:
        """All combinations, with sizes and speeds.

        Args:
            layers: numbers of layers to keep.
            unit_shares: of the reference's feed-forward units, above 0 to 1.
            attention_shares: of the width of its attention heads, above 0 to 1.
            subsampling_shares: of its subsampling channels, above 0 to 1.
            latencies: a latency model for each precision.
        """
        encoder = self.reference.config.encoder
        widths = {"--feed-forward": unit_shares, "--attention": attention_shares, "--subsampling": subsampling_shares}
        for option, shares in widths.items():
            for share in shares:
                if not 0 < share <= 1:
                    raise OptionError(f"{option} must be shares above 0 and at most 1, got {share}")
        found = []
        kept = itertools.product(layers, unit_shares, attention_shares, subsampling_shares)
        for n_layers, unit_share, attention_share, subsampling_share in kept:
            units = max(1, round(unit_share * encoder.d_feed_forward))
            width = encoder.n_heads * max(1, round(attention_share * encoder.attention_width / encoder.n_heads))
            channels = max(1, round(subsampling_share * encoder.subsampling_channels))
            config = student_config(self.reference.config, self.shape(n_layers, units, width, channels))
            for precision, latency in latencies.items():
                megabytes = round(expected_file_bytes(config, precision) / 1e6, 3)
                rtf = round(latency.rtf(config), 5)
                found.append(Candidate(n_layers, units, width, channels, precision, megabytes, rtf))
        return found

    def measure(self, candidates: list[Candidate], dev_sets: DevSets) -> list[Candidate]:
        """Train the candidates' students for a short step 1, and evaluate them."""
        options = self.options
        weights = options.weights(REPRESENT_WEIGHTS)
        training = prepare_run(options, self.reference, self.tokenizer, with_transcripts=weights.ctc > 0)
        shapes = {
            one.student: self.shape(one.n_layers, one.d_feed_forward, one.d_attention, one.channels)
            for one in candidates
        }
        students = init_students(
            self.reference, shapes, training.store, options.dropout, training.augmenter.for_student
        )
        for student in students.values():
            student.encoder.subsampling.requires_grad_(not options.freeze_subsampling)
        family = Family(students, self.tokenizer, {"search": "a short step 1"})
        trainer = Trainer(training, family, weights, self.reference)
        trainer.resume()
        trainer.train()
        wers = dev_sets.measure(students, (FULL_CONTEXT,))
        means = {
            name: sum(wers[f"{name}/{one}/{FULL_CONTEXT}"] for one in dev_sets.corpora) / len(dev_sets.corpora)
            for name in students
        }
        return [dataclasses.replace(one, wer=round(means[one.student], 2)) for one in candidates]


def table(candidates: list[Candidate]) -> str:
    """A line each."""
    names = f"{'layers':>6} {'feed-forward':>12} {'attention':>9} {'subsampling':>11} {'precision':>9}"
    lines = [f"{names} {'MB':>6} {'RTF':>8} {'WER %':>6}"]
    for one in candidates:
        kept = f"{one.n_layers:6} {one.d_feed_forward:12} {one.d_attention:9} {one.channels:11} {one.precision:>9}"
        lines.append(f"{kept} {one.megabytes:6.2f} {one.rtf:8.4f} {one.wer:6.1f}")
    return "\n".join(lines)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `lwasr-train search`."""
    add = parser.add_argument
    add("--reference", type=Path, required=True, metavar="CHECKPOINT")
    add("--max-mb", type=float, default=math.inf, help="largest exported file, MB")
    add("--max-rtf", type=float, default=math.inf, help="largest processing time / audio time of files")
    add("--max-wer", type=float, default=math.inf, help="largest WER, %%, after the short step 1")
    layers = "layers to try (default: 5 8 10 12 14)"
    add("--layers", nargs="+", type=int, default=[5, 8, 10, 12, 14], help=layers)
    units = "shares of the feed-forward units to keep (default: 1 0.5 0.25)"
    add("--feed-forward", nargs="+", type=float, default=[1.0, 0.5, 0.25], metavar="SHARE", help=units)
    heads = "shares of the attention width to keep (default: 0.55)"
    add("--attention", nargs="+", type=float, default=[0.55], metavar="SHARE", help=heads)
    channels = "shares of the subsampling channels to keep (default: 0.36)"
    add("--subsampling", nargs="+", type=float, default=[0.36], metavar="SHARE", help=channels)
    add("--precisions", nargs="+", choices=list(BYTES_PER_PARAMETER), default=["int8"], help="(default: int8)")
    add("--profile", type=Path, metavar="JSON", help="of the board, by `lwasr bench --json` (default: this machine)")
    add("--threads", type=int, default=1, help="threads on the board (default: 1)")
    add("--dev-utterances", type=int, metavar="N", help="evaluate on N utterances of each --dev (default: all)")
    add_training_options(parser, Schedule(steps=200, batch_s=20, warmup_steps=20), REPRESENT_WEIGHTS, without={"qat"})


def latency_models(args: argparse.Namespace, search: Search) -> dict[str, LatencyModel]:
    """A latency model for each precision: of the profile, or measured here once, by the first process.

    Raises:
        OptionError: float32 without a profile: no float model is installed that could be measured.
    """
    world, path = search.options.hardware.world, search.options.output / SPEEDS_FILE
    if args.profile:
        return {one: read_profile(args.profile, args.threads, one) for one in args.precisions}
    if "float32" in args.precisions:
        raise OptionError("--precisions float32 needs --profile of a float32 model: installed models are int8")
    known = {threads: vars(latency) for threads, latency in read_speeds(path).items()}
    if world.is_rank_zero and str(args.threads) not in known:
        known[str(args.threads)] = vars(measure_here(args.threads, "int8"))
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, json.dumps(known, indent=1).encode())
    world.barrier()
    return {"int8": read_speeds(path)[str(args.threads)]}


def read_speeds(path: Path) -> dict[str, LatencyModel]:
    """Earlier measurements of this machine by number of threads; a damaged file counts as none."""
    try:
        speeds = json.loads(path.read_text(encoding="utf-8"))
        return {threads: LatencyModel.from_dict(speed) for threads, speed in speeds.items()}
    except (OSError, ValueError, AttributeError, RecursionError):
        return {}


def run(args: argparse.Namespace) -> None:
    """Carry out `lwasr-train search`."""
    if not args.dev:
        raise OptionError("--dev must name at least one manifest, got none: candidates are compared by WER")
    whole_number("--threads", args.threads, 1)
    options = TrainingOptions.from_args(args)
    search = Search(args.reference, options)
    latencies = latency_models(args, search)
    everything = search.candidates(args.layers, args.feed_forward, args.attention, args.subsampling, latencies)
    fitting = [one for one in everything if one.megabytes <= args.max_mb and one.rtf <= args.max_rtf]
    print(f"{len(fitting)} of {len(everything)} candidates fit --max-mb {args.max_mb:g} and --max-rtf {args.max_rtf:g}")
    if not fitting:
        raise OptionError(f"no candidate fits: raise --max-mb or --max-rtf; the candidates are\n{table(everything)}")
    measured = search.measure(fitting, DevSets(args.dev, options.hardware.device, args.dev_utterances))
    best = pareto([one for one in measured if one.wer <= args.max_wer])
    content = {"candidates": [vars(one) for one in measured], "pareto": [vars(one) for one in best]}
    write_bytes(options.output / RESULTS_FILE, json.dumps(content, indent=1).encode())
    print(table(measured))
    if not best:
        raise OptionError(
            f"no candidate reaches --max-wer {args.max_wer:g} in {options.schedule.steps} steps: raise one"
        )
    print(f"Pareto front of size, speed and WER:\n{table(best)}")
