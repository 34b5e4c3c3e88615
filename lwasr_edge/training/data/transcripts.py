"""Transcripts as the token ids that CTC aligns."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from itertools import pairwise
from typing import Protocol

from lwasr_edge.training.data.manifest import Corpus, Fault


class Tokenizer(Protocol):
    """What is used of ``sentencepiece.SentencePieceProcessor``."""

    def encode(self, text: str) -> list[int]: ...

    def get_piece_size(self) -> int: ...

    def id_to_piece(self, token: int) -> str: ...

    def unk_id(self) -> int: ...


def encode_transcripts(corpus: Corpus, pieces: Tokenizer, frames: list[int]) -> list[list[int] | Fault]:
    """Token ids of each utterance, or why CTC cannot learn from it.

    Text is brought to lower case where the vocabulary has no capitals.

    Args:
        corpus: utterances with transcripts.
        pieces: the model's tokenizer.
        frames: encoder frames of each utterance.
    """
    known = {letter for token in range(pieces.get_piece_size()) for letter in pieces.id_to_piece(token)}
    has_capitals = any(letter.isupper() for letter in known)
    result: list[list[int] | Fault] = []
    for utterance, n_frames in zip(corpus.utterances, frames, strict=True):
        text = utterance.text if has_capitals else utterance.text.lower()
        tokens = list(pieces.encode(text))
        if not tokens:
            result.append(Fault(utterance, "it has no transcript"))
        elif pieces.unk_id() in tokens:
            result.append(Fault(utterance, foreign_reason(set(text) - known - {" "})))
        elif n_frames < frames_needed(tokens):
            reason = f"{len(tokens)} tokens need {frames_needed(tokens)} frames; the recording has {n_frames}"
            result.append(Fault(utterance, reason))
        else:
            result.append(tokens)
    return result


def foreign_reason(characters: set[str]) -> str:
    """Why a text with these characters cannot be learnt."""
    return f"characters outside the vocabulary: {' '.join(sorted(characters))}"


def spoken_beyond_letters(text: str) -> set[str]:
    """Characters that `normalize_text` would drop though they are spoken: digits, letters beyond a to z, % and $."""
    return {
        character
        for character in text.lower()
        if (character.isalnum() and not "a" <= character <= "z")
        or character in "%&@#+="
        or unicodedata.category(character) == "Sc"
    }


def frames_needed(tokens: Sequence[object]) -> int:
    """Fewest frames that CTC can align: one a token, and a blank between two that are equal."""
    return len(tokens) + sum(first == second for first, second in pairwise(tokens))
