"""One channel out of several: a chosen one, or their mean, unless channels of opposite phase cancel in it."""

from __future__ import annotations

import numpy as np

from lwasr_edge.errors import AudioError

_WINDOW_S = 0.1
_CANCELLED_BELOW = 0.05  # energy of the mean, relative to what unrelated channels would give
_MIXED_ABOVE = 0.2


class Mixer:
    """Mix (n, channels) blocks to (n,), where a balanced line or a swapped cable inverts a channel too.

    Every 0.1 s of the recording, counted from its start, the energy of the mean is compared with the sum of the
    channels' energies. Where they cancel, the loudest channel is used instead, until they no longer do. The windows are
    those of the recording, so the result does not depend on the blocks; the last samples come with `flush`.

    Args:
        sample_rate: Hz.
        channel: the channel to use, from 1; None for the mean.
    """

    def __init__(self, sample_rate: int, channel: int | None = None) -> None:
        self._window = max(1, round(_WINDOW_S * sample_rate))
        self._channel = channel
        self._kept: np.ndarray | None = None  # (n, channels) of an unfinished window
        self._chosen: int | None = None  # instead of the mean

    def process(self, samples: np.ndarray) -> np.ndarray:
        """Add (n,) or (n, channels) float32; return the (m,) mono samples that are ready.

        Raises:
            AudioError: there is no such channel.
        """
        if self._channel is not None:
            channels = 1 if samples.ndim == 1 else samples.shape[1]
            if self._channel > channels:
                raise AudioError(f"channel must be a number from 1 to {channels}, got {self._channel}")
            return samples if samples.ndim == 1 else np.ascontiguousarray(samples[:, self._channel - 1])
        channels = samples.shape[1] if samples.ndim == 2 else 1
        earlier = self.flush() if self._kept is not None and self._kept.shape[1] != channels else None
        if channels == 1:
            mixed = samples.reshape(-1)
        else:
            kept = samples if self._kept is None else np.concatenate([self._kept, samples])
            ready = len(kept) // self._window * self._window
            self._kept = kept[ready:]
            mixed = self._mixed(kept[:ready])
        return mixed if earlier is None else np.concatenate([earlier, mixed])

    def flush(self) -> np.ndarray:
        """Return the samples of the last, unfinished window."""
        kept, self._kept = self._kept, None
        return np.zeros(0, np.float32) if kept is None else self._mixed(kept)

    def _mixed(self, samples: np.ndarray) -> np.ndarray:
        mean = samples.mean(axis=1, dtype=np.float32)
        for start in range(0, len(samples), self._window):
            window = samples[start : start + self._window]
            energies = np.einsum("nc,nc->c", window, window, dtype=np.float64)
            unrelated = energies.sum() / samples.shape[1] ** 2
            energy = float(np.sum(mean[start : start + self._window].astype(np.float64) ** 2))
            if unrelated > 0 and energy < _CANCELLED_BELOW * unrelated and self._chosen is None:
                self._chosen = int(energies.argmax())
            elif energy > _MIXED_ABOVE * unrelated:
                self._chosen = None
            if self._chosen is not None:
                mean[start : start + self._window] = window[:, self._chosen]
        return mean
