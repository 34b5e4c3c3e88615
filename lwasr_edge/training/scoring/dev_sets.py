"""Word error rates of models in training, on sets that are decoded once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from lwasr_edge.chunking import Chunking
from lwasr_edge.errors import OptionError
from lwasr_edge.training.data.batches import WaveformStore
from lwasr_edge.training.data.manifest import load_corpus, read_manifest
from lwasr_edge.training.model.acoustic_model import AcousticModel
from lwasr_edge.training.model.features import FRAME_MS
from lwasr_edge.training.scoring.decode import evaluate
from lwasr_edge.training.scoring.scores import Score

WHOLE, STREAM = "whole", "640ms"
CHUNKING = {WHOLE: None, STREAM: Chunking.from_ms(FRAME_MS)}  # in streams, the runtime's default


class DevSets:
    """Recordings to measure on, by the names of their manifests."""

    def __init__(self, manifests: list[Path], device: torch.device, n_utterances: int | None = None) -> None:
        """Decode.

        Args:
            manifests: of the sets.
            device: that the models are on.
            n_utterances: so many of each set, evenly spaced, where all would take too long; None for all.

        Raises:
            ManifestError: one cannot be read, or not all of it can be used.
            OptionError: two manifests have one name, or ``n_utterances`` is not positive.
        """
        names = [path.stem for path in manifests]
        if len(set(names)) < len(names):
            raise OptionError(f"--dev: the manifests are called {', '.join(names)}: expected names that differ")
        if n_utterances is not None and n_utterances < 1:
            raise OptionError(f"--dev-utterances {n_utterances}: expected 1 or more")
        self.corpora, self.stores = {}, {}
        for path in manifests:
            corpus = load_corpus(read_manifest(path))
            if n_utterances is not None and n_utterances < len(corpus.utterances):
                corpus = corpus.select(np.linspace(0, len(corpus.utterances) - 1, n_utterances).astype(int).tolist())
            self.corpora[path.stem], self.stores[path.stem] = corpus, WaveformStore(corpus, device)

    def score(self, model: AcousticModel, name: str, mode: str = WHOLE) -> Score:
        """Errors of a model on one set."""
        return evaluate(model, self.corpora[name], self.stores[name], CHUNKING[mode])

    def measure(self, models: dict[str, AcousticModel], modes: tuple[str, ...] = (WHOLE, STREAM)) -> dict[str, float]:
        """WER (%) of every model on every set: "model/set/mode". Models that cannot stream are measured whole."""
        wers = {}
        for model_name, model in models.items():
            streams = model.config.frontend.normalization == "running"
            training = model.training
            model.eval()
            for name in self.corpora:
                for mode in modes:
                    if mode == WHOLE or streams:
                        wers[f"{model_name}/{name}/{mode}"] = round(100 * self.score(model, name, mode).wer, 2)
            model.train(training)
        return wers
