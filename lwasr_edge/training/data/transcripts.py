"""Transcripts as token ids for CTC."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from itertools import pairwise
from typing import Protocol

from lwasr_edge.training.data.corpus import Corpus
from lwasr_edge.training.data.manifest import Fault


class Tokenizer(Protocol):
    """The part of ``sentencepiece.SentencePieceProcessor`` that is used."""

    def encode(self, text: str) -> list[int]: ...

    def get_piece_size(self) -> int: ...

    def id_to_piece(self, token: int) -> str: ...

    def unk_id(self) -> int: ...


def encode_transcripts(corpus: Corpus, pieces: Tokenizer, frames: list[int]) -> list[list[int] | Fault]:
    """Token ids of each utterance, or the reason that CTC cannot be trained on it.

    Text becomes lower case if the vocabulary has no capitals.

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
        surrogates = {letter for letter in text if "\ud800" <= letter <= "\udfff"}  # SentencePiece takes none
        tokens = [] if surrogates else list(pieces.encode(text))
        if surrogates:
            result.append(Fault(utterance, foreign_reason(surrogates)))
        elif not tokens:
            result.append(Fault(utterance, "text must be a transcript, got none"))
        elif pieces.unk_id() in tokens:
            result.append(Fault(utterance, foreign_reason(set(text) - known - {" "})))
        elif n_frames < frames_needed(tokens):
            reason = f"audio must have {frames_needed(tokens)} frames for {len(tokens)} tokens, got {n_frames}"
            result.append(Fault(utterance, reason))
        else:
            result.append(tokens)
    return result


def foreign_reason(characters: set[str]) -> str:
    """The reason for a text with these characters."""
    return f"text must consist of the vocabulary's characters, got {' '.join(sorted(characters))}"


def spoken_beyond_letters(text: str) -> set[str]:
    """Characters that are spoken, but that `normalize_text` drops: digits, letters beyond a to z, % and $."""
    return {
        character
        for character in text.lower()
        if (character.isalnum() and not "a" <= character <= "z")
        or character in "%&@#+="
        or unicodedata.category(character) == "Sc"
    }


def frames_needed(tokens: Sequence[object]) -> int:
    """The least number of frames for CTC: one per token, and a blank between two equal ones."""
    return len(tokens) + sum(first == second for first, second in pairwise(tokens))
