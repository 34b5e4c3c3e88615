"""Spellings of a text, its exact CTC probability, and its alignment."""

from __future__ import annotations

import numpy as np
import pytest
from ctc_cases import BLANK_ID, PIECES, VOCABULARY, log_probs_of_path, random_log_probs, spelled_probabilities

from lwasr_edge import OptionError
from lwasr_edge.decoding.ctc_graph import CtcGraph
from lwasr_edge.decoding.spelling import SpellingTrie, mark_words, text_pieces, unmark_words

TEXTS = [mark_words(text) for text in ("a", "ab", "a a", "aab", "ab ab", "aa")]


def graph(*texts: str) -> CtcGraph:
    return CtcGraph(SpellingTrie([mark_words(text) for text in texts], PIECES), BLANK_ID)


def spellings(text: str) -> set[tuple[str, ...]]:
    trie = SpellingTrie([mark_words(text)], PIECES)
    end = int(trie.ends[0])

    def walk(node: int, so_far: tuple[str, ...]) -> set[tuple[str, ...]]:
        found = {so_far} if node == end else set()
        for token, target in trie.arcs_from[node].items():
            found |= walk(target, (*so_far, PIECES[token]))
        return found

    return walk(0, ())


def test_all_spellings_are_in_the_trie() -> None:
    assert spellings("ab") == {("\u2581ab",), ("\u2581a", "b"), ("\u2581", "ab"), ("\u2581", "a", "b")}
    assert len(spellings("ab ab")) == 16


def test_texts_share_common_prefixes() -> None:
    trie = SpellingTrie([mark_words("ab"), mark_words("aba")], PIECES)
    assert trie.n_nodes == 1 + len("\u2581aba")
    assert trie.path("\u2581ab") == trie.path("\u2581aba")[:3]


def test_the_blank_and_markers_spell_nothing() -> None:
    assert text_pieces(VOCABULARY, BLANK_ID) == PIECES


def test_texts_that_cannot_be_spelled_are_refused_by_name() -> None:
    with pytest.raises(OptionError, match="got 'ab 7' with '7'"):
        SpellingTrie([mark_words("a"), mark_words("ab 7")], PIECES)
    with pytest.raises(OptionError, match="got 'b', which they cannot spell"):
        SpellingTrie([mark_words("b")], {3: "\u2581a", 1: "bb"})


def test_marks() -> None:
    assert mark_words("  lights   on ") == "\u2581lights\u2581on"
    assert unmark_words("\u2581\u2581lights\u2581on") == "lights on"


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("n_frames", [1, 2, 4])
def test_likelihoods_are_sums_over_all_paths(n_frames: int, seed: int) -> None:
    log_probs = random_log_probs(n_frames, seed)
    total, _ = spelled_probabilities(log_probs)
    trie = SpellingTrie(TEXTS, PIECES)
    found = np.exp(CtcGraph(trie, BLANK_ID).log_likelihoods(log_probs))
    np.testing.assert_allclose(found, [total[text] for text in TEXTS], rtol=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_alignment_is_the_best_path(seed: int) -> None:
    log_probs = random_log_probs(4, seed)
    _, best = spelled_probabilities(log_probs)
    for text in ("a", "ab", "a a"):
        aligned = graph(text).align(log_probs)
        assert "".join(PIECES[token.token] for token in aligned) == mark_words(text)
        assert [token.frame for token in aligned] == sorted(token.frame for token in aligned)
        # Forcing each piece into its frame must leave the best path's probability attainable.
        assert aligned[0].score == pytest.approx(np.exp(log_probs[aligned[0].frame, aligned[0].token]))
        assert best_given(log_probs, [(t.token, t.frame) for t in aligned]) == pytest.approx(best[mark_words(text)])


def best_given(log_probs: np.ndarray, tokens: list[tuple[int, int]]) -> float:
    """Probability of the best path whose pieces begin in these frames."""
    total = float(log_probs[: tokens[0][1], BLANK_ID].sum())
    for (token, begin), (_, end) in zip(tokens, [*tokens[1:], (0, len(log_probs))], strict=True):
        frames = log_probs[begin:end]
        lasts = [float(frames[:n, token].sum() + frames[n:, BLANK_ID].sum()) for n in range(1, len(frames) + 1)]
        total += max(lasts)
    return float(np.exp(total))


def test_a_certain_path_is_aligned_to_its_frames() -> None:
    path = [7, 3, 3, 7, 1, 7, 7, 5]
    aligned = graph("ab ab").align(log_probs_of_path(path, 8))
    assert [(token.token, token.frame) for token in aligned] == [(3, 1), (1, 4), (5, 7)]
    assert [token.score for token in aligned] == pytest.approx([0.9] * 3)


def test_a_text_with_too_many_pieces_has_no_probability() -> None:
    log_probs = random_log_probs(2, 0)
    assert graph("a a a").log_likelihoods(log_probs).tolist() == [-np.inf]
    assert graph("a a a").align(log_probs) == []
    with pytest.raises(ValueError, match="2"):
        graph("a", "ab").align(log_probs)


def test_no_underflow_over_minutes() -> None:
    log_probs = random_log_probs(3000, 1)
    (likelihood,) = graph("ab").log_likelihoods(log_probs)
    assert -20_000 < likelihood < log_probs.max(axis=1).sum()


def test_one_spelling_is_torch_ctc_loss() -> None:
    torch = pytest.importorskip("torch")
    log_probs = random_log_probs(40, 3, vocabulary_size=6)
    pieces = {0: "\u2581o", 1: "n", 2: "e", 3: "\u2581t"}
    trie = SpellingTrie([mark_words("one on tenn")], pieces)
    tokens = [0, 1, 2, 0, 1, 3, 2, 1, 1]
    loss = torch.nn.functional.ctc_loss(
        torch.from_numpy(log_probs).double()[:, None],
        torch.tensor([tokens]),
        torch.tensor([40]),
        torch.tensor([len(tokens)]),
        blank=5,
        reduction="sum",
    )
    assert CtcGraph(trie, 5).log_likelihoods(log_probs)[0] == pytest.approx(-float(loss), abs=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_a_large_graph_gives_likely_texts_the_same_score(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = graph("a", "ab", "a a", "aab", "ab ab", "aa", "aaa b")
    log_probs = random_log_probs(30, seed)
    exact = whole.log_likelihoods(log_probs)
    monkeypatch.setattr("lwasr_edge.decoding.ctc_graph.LARGE_GRAPH_STATES", 0)
    pruned = whole.log_likelihoods(log_probs)
    likely = exact > exact.max() - 10
    assert likely.sum() > 1
    np.testing.assert_allclose(pruned[likely], exact[likely], rtol=1e-6)
    assert (pruned <= exact + 1e-6).all()
