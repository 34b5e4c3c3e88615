"""Word error rates of models during training, on development sets whose audio is decoded once."""

from __future__ import annotations

from pathlib import Path

import torch

from lwasr_edge.bench.manifest import evenly_spaced
from lwasr_edge.chunking import Chunking
from lwasr_edge.errors import OptionError
from lwasr_edge.training.data.batches import WaveformStore
from lwasr_edge.training.data.corpus import load_corpus
from lwasr_edge.training.data.manifest import read_manifest
from lwasr_edge.training.model.acoustic_model import AcousticModel
from lwasr_edge.training.scoring.decode import evaluate
from lwasr_edge.training.scoring.scores import Score
from lwasr_edge.validate import whole_number

FULL_CONTEXT, STREAM = "whole", "640ms"  # the values are part of keys in logs and results
CHUNKING = {FULL_CONTEXT: None, STREAM: Chunking(16, 8)}  # 640 ms with 320 ms of look-ahead: partials of streams


class DevSets:
    """Development sets, by the names of their manifests."""

    def __init__(self, manifests: list[Path], device: torch.device, n_utterances: int | None = None) -> None:
        """Decode the audio.

        Args:
            manifests: of the sets.
            device: of the models.
            n_utterances: to use of each set, evenly spaced; None for all.

        Raises:
            ManifestError: a manifest cannot be read, or an utterance cannot be used.
            OptionError: two manifests have the same name, or ``n_utterances`` is not positive.
        """
        names = [path.stem for path in manifests]
        if len(set(names)) < len(names):
            raise OptionError(f"--dev manifests must have different names, got {', '.join(names)}: rename one")
        if n_utterances is not None:
            whole_number("--dev-utterances", n_utterances, 1)
        self.corpora, self.stores = {}, {}
        for path in manifests:
            corpus = load_corpus(read_manifest(path))
            if n_utterances is not None and n_utterances < len(corpus.utterances):
                corpus = corpus.select(evenly_spaced(len(corpus.utterances), n_utterances, "down").tolist())
            self.corpora[path.stem], self.stores[path.stem] = corpus, WaveformStore(corpus, device)

    def score(self, model: AcousticModel, name: str, mode: str = FULL_CONTEXT) -> Score:
        """Errors of a model, in evaluation mode, on one set."""
        return evaluate(model, self.corpora[name], self.stores[name], CHUNKING[mode])

    def measure(
        self, models: dict[str, AcousticModel], modes: tuple[str, ...] = (FULL_CONTEXT, STREAM)
    ) -> dict[str, float]:
        """WER (%) of every model on every set: "model/set/mode". Models that cannot stream have only full context."""
        wers = {}
        for model_name, model in models.items():
            streams = model.config.frontend.normalization == "running"
            training = model.training
            model.eval()
            for name in self.corpora:
                for mode in modes:
                    if mode == FULL_CONTEXT or streams:
                        wers[f"{model_name}/{name}/{mode}"] = round(100 * self.score(model, name, mode).wer, 2)
            model.train(training)
        return wers
