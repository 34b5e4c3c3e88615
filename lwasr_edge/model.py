"""One ONNX file, opened and checked against docs/MODEL_FORMAT.md; `Model.run_chunk` runs one chunk of audio."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lwasr_edge.errors import ModelError, OptionError
from lwasr_edge.hub.model_file import (  # noqa: F401 - source_of is imported from here
    open_session,
    run_session,
    source_of,
)
from lwasr_edge.model_info import LOOK_AHEAD, ModelInfo
from lwasr_edge.validate import shown, whole_number
from lwasr_edge.words import TimedToken

if TYPE_CHECKING:
    import onnxruntime as ort

    State = dict[str, np.ndarray]  # input name -> tensor

MAX_THREADS = 1024
STATE_PREFIX = "state_"
NEXT_PREFIX = "next_"
MAX_STATE_VALUES = 1 << 24  # of all tensors together; en-base has 0.5 million
MAX_STATE_RANK = 8
_DTYPES = {"tensor(float)": np.float32, "tensor(int64)": np.int64}
_OUTPUTS = {  # name -> (onnxruntime's name of the dtype, rank)
    "tokens": ("tensor(int64)", 1),
    "frames": ("tensor(int64)", 1),
    "scores": ("tensor(float)", 1),
    "log_probs": ("tensor(float)", 2),
}


@dataclass(frozen=True)
class ChunkResult:
    """Output of the model for one chunk: L tokens, T frames, V vocabulary entries.

    Tokens in frames from `committed_frames` on are provisional: the next chunk begins there and gives them again.
    """

    tokens: np.ndarray  # (L,) int64, repeats and blanks removed
    frames: np.ndarray  # (L,) int64, frame within the chunk in which each token starts
    scores: np.ndarray  # (L,) float32, posterior probability of the token in that frame
    committed_frames: int  # of the chunk; all but its look-ahead
    state: State  # for the next chunk
    log_probs: np.ndarray | None  # (T, V) float32, look-ahead included, only if requested

    def timed_tokens(self, first_frame: int = 0, *, committed: bool = False) -> list[TimedToken]:
        """The tokens with frames counted from a stream's start.

        Args:
            first_frame: of the chunk.
            committed: leave out the provisional ones.
        """
        count = int(np.searchsorted(self.frames, self.committed_frames)) if committed else len(self.frames)
        columns = (
            self.tokens[:count].tolist(),
            (self.frames[:count] + first_frame).tolist(),
            self.scores[:count].tolist(),
        )
        return [TimedToken(*row) for row in zip(*columns, strict=True)]


class Model:
    """A model file, ready to run. Immutable: any number of streams in any threads may share one.

    Pickled, it is the path and the options, and the file is opened again; copies are the model itself.

    Args:
        path: the ONNX file, plain or compressed with gzip.
        threads: CPU threads for one chunk; None and 0 let onnxruntime use every core.
        pinned_samples: fix the chunk size at load, so that everything that depends on shapes alone is computed once;
            such a model refuses any other size.

    Attributes:
        info: the metadata of the file.
        path: of the file.
        can_look_ahead: whether the next chunk may begin before this one ends.

    Raises:
        ModelNotFoundError: no such file.
        ModelVersionError: the model format is newer or older than the one this version reads.
        ModelError: the file is not an ONNX model, is damaged, or does not follow the model format.
        OptionError: invalid `threads` or `pinned_samples`.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, threads: int | None = 1, pinned_samples: int | None = None
    ) -> None:
        self.path = Path(path)
        if threads is not None:
            threads = whole_number("threads", threads, 0, hint="None uses all cores") or None
            if threads is not None and threads > MAX_THREADS:
                raise OptionError(f"threads must be at most {MAX_THREADS}, got {threads}: None uses all cores")
        if pinned_samples is not None:
            pinned_samples = whole_number("pinned_samples", pinned_samples, 1)
        self._threads = threads
        self._pinned_samples = pinned_samples
        self._is_warm = False
        self._session = open_session(self.path, threads, pinned_samples)
        self._process = os.getpid()
        try:
            self.info = ModelInfo.from_metadata(self._session.get_modelmeta().custom_metadata_map)
            inputs = self._session.get_inputs()
            self.can_look_ahead = any(arg.name == LOOK_AHEAD for arg in inputs)
            self._initial_state = _check_inputs(inputs)
            _check_outputs(self._session.get_outputs(), self._initial_state, len(self.info.vocabulary))
            self._check_streaming()
        except ModelError as error:
            raise type(error)(f"{self.path}: {error}") from None
        except UnicodeDecodeError as error:
            raise ModelError(
                f"{self.path}: names in the file must be UTF-8 ({error.reason}): it is damaged, fetch it again"
            ) from error
        self._next_names = [NEXT_PREFIX + name.removeprefix(STATE_PREFIX) for name in self._initial_state]
        self._output_names = ["tokens", "frames", "scores", *self._next_names]

    def initial_state(self) -> State:
        """State of a new stream: zeros. The arrays are shared and read-only."""
        return dict(self._initial_state)

    def run_chunk(
        self, waveform: np.ndarray, state: State, *, look_ahead: int = 0, with_log_probs: bool = False
    ) -> ChunkResult:
        """Run one chunk.

        Args:
            waveform: (N,) float32 mono at `info.sample_rate`, N a positive multiple of `info.samples_per_frame`; of a
                streaming model, at most `info.max_chunk_frames` of them.
            state: `initial_state()`, or the `state` of the chunk before.
            look_ahead: frames at the end of the chunk that do not change the state; the next chunk begins with them.
                Less than all; 0 if not `can_look_ahead`.
            with_log_probs: also return the log posteriors of every frame.

        Returns:
            The tokens and the next state; `state` itself is not changed.

        Raises:
            ModelError: a chunk of the wrong size, or output that the model format forbids.
        """
        n_frames = self._check_chunk(waveform, look_ahead)
        inputs = {"waveform": waveform, **state}
        if self.can_look_ahead:
            inputs[LOOK_AHEAD] = np.array([look_ahead], np.int64)
        names = [*self._output_names, "log_probs"] if with_log_probs else self._output_names
        try:
            outputs = run_session(self._session_of_this_process(), names, inputs)
        except Exception as error:  # onnxruntime's errors share no base class of their own
            raise ModelError(f"{self.path}: the model failed on a chunk of {len(waveform)} samples: {error}") from error
        tokens, frames, scores = outputs[:3]
        self._check_tokens(tokens, frames, scores, n_frames)
        if with_log_probs:
            self._check_log_probs(outputs[-1], n_frames)
        next_state = dict(zip(self._initial_state, outputs[3 : 3 + len(self._next_names)], strict=True))
        log_probs = outputs[-1] if with_log_probs else None
        return ChunkResult(tokens, frames, scores, n_frames - look_ahead, next_state, log_probs)

    def warm_up(self, n_frames: int) -> None:
        """Run a chunk of silence, once, so that the first real call takes no longer than the next ones."""
        if not self._is_warm:
            self._is_warm = True
            self.run_chunk(np.zeros(n_frames * self.info.samples_per_frame, np.float32), self.initial_state())

    step = run_chunk  # the name in version 0.1; kept for its users

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path.absolute(), "threads": self._threads, "pinned_samples": self._pinned_samples}

    def __setstate__(self, options: dict[str, Any]) -> None:
        self.__init__(**options)  # type: ignore[misc]

    def __copy__(self) -> Model:
        return self

    def __deepcopy__(self, memo: object) -> Model:
        return self

    def _session_of_this_process(self) -> ort.InferenceSession:
        """The session; opened again after a fork if it has threads, which exist in the parent alone."""
        if self._threads != 1 and self._process != os.getpid():
            self._session = open_session(self.path, self._threads, self._pinned_samples)
            self._process = os.getpid()
        return self._session

    @property
    def state_bytes(self) -> int:
        """Size of the state of one stream."""
        return sum(tensor.nbytes for tensor in self._initial_state.values())

    @property
    def state_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every state input, by name."""
        return {name: tensor.shape for name, tensor in self._initial_state.items()}

    def _check_streaming(self) -> None:
        if not self.info.streaming and self._initial_state:
            raise ModelError(f"a model without streaming must have no state, got {sorted(self._initial_state)}")
        if self.info.streaming and not self._initial_state:
            raise ModelError(f"a streaming model must have inputs named {STATE_PREFIX}*, got none")

    def _check_chunk(self, waveform: np.ndarray, look_ahead: int) -> int:
        """Check a chunk; return the number of its frames."""
        samples_per_frame = self.info.samples_per_frame
        if waveform.ndim != 1 or len(waveform) == 0 or len(waveform) % samples_per_frame:
            raise ModelError(
                f"chunk length must be a positive multiple of {samples_per_frame} samples, got shape {waveform.shape}"
            )
        if self._pinned_samples not in (None, len(waveform)):
            raise ModelError(f"chunk length must be pinned_samples={self._pinned_samples}, got {len(waveform)}")
        n_frames = len(waveform) // samples_per_frame
        if self.info.streaming and n_frames > self.info.max_chunk_frames:
            raise ModelError(f"a chunk must have at most {self.info.max_chunk_frames} frames, got {n_frames}")
        if not 0 <= look_ahead < n_frames or (look_ahead and not self.can_look_ahead):
            most = n_frames - 1 if self.can_look_ahead else 0
            raise ModelError(f"look_ahead must be 0 to {most} for a chunk of {n_frames} frames, got {look_ahead}")
        return n_frames

    def _check_tokens(self, tokens: np.ndarray, frames: np.ndarray, scores: np.ndarray, n_frames: int) -> None:
        if not len(tokens) == len(frames) == len(scores):
            lengths = f"{len(tokens)}, {len(frames)} and {len(scores)}"
            raise ModelError(f"{self.path}: tokens, frames and scores must have one length, got {lengths}")
        if len(tokens) > n_frames:
            raise ModelError(
                f"{self.path}: tokens must be at most one for each of {n_frames} frames, got {len(tokens)}"
            )
        if len(tokens) == 0:
            return
        if not np.isfinite(scores).all():
            raise ModelError(f"{self.path}: scores must be finite, got NaN or infinity: the weights are damaged")
        if tokens.min() < 0 or tokens.max() >= len(self.info.vocabulary):
            size = len(self.info.vocabulary)
            raise ModelError(
                f"{self.path}: tokens must be less than the vocabulary's {size}, got {shown(tokens.tolist())}"
            )
        if frames[0] < 0 or frames[-1] >= n_frames or (np.diff(frames) < 0).any():
            raise ModelError(
                f"{self.path}: frames must be in order and less than {n_frames}, got {shown(frames.tolist())}"
            )

    def _check_log_probs(self, log_probs: np.ndarray, n_frames: int) -> None:
        width = len(self.info.vocabulary)
        if log_probs.ndim != 2 or len(log_probs) < n_frames or log_probs.shape[1] != width:
            raise ModelError(
                f"{self.path}: log_probs must be ({n_frames}, {width}), got {log_probs.shape}: the graph is damaged"
            )
        if np.isnan(log_probs).any():
            raise ModelError(f"{self.path}: log_probs must be numbers, got NaN: the weights are damaged")


def _check_inputs(inputs: list[ort.NodeArg]) -> State:
    """Check the inputs; return the zero state."""
    by_name = {arg.name: arg for arg in inputs}
    waveform = by_name.pop("waveform", None)
    if waveform is None or waveform.type != "tensor(float)" or len(waveform.shape) != 1:
        raise ModelError(f"a model must have an input 'waveform', float32 (samples,), got {_described(inputs)}")
    look_ahead = by_name.pop(LOOK_AHEAD, None)
    if look_ahead is not None and (look_ahead.type != "tensor(int64)" or look_ahead.shape != [1]):
        raise ModelError(f"input {LOOK_AHEAD!r} must be int64 (1,), got {look_ahead.type} {look_ahead.shape}")
    state: State = {}
    n_values = 0
    for name, arg in by_name.items():
        if not name.startswith(STATE_PREFIX):
            raise ModelError(f"inputs must be 'waveform', '{LOOK_AHEAD}' and '{STATE_PREFIX}*', got {name!r}")
        if arg.type not in _DTYPES or not all(isinstance(size, int) and size >= 0 for size in arg.shape):
            raise ModelError(f"input {name!r} must be float32 or int64 of fixed size, got {arg.type} {arg.shape}")
        n_values += max(math.prod(arg.shape), *arg.shape, 0)  # one dimension may be 0, and another huge
        if len(arg.shape) > MAX_STATE_RANK or n_values > MAX_STATE_VALUES:
            raise ModelError(f"state must have at most {MAX_STATE_VALUES} values, got {name!r} of {shown(arg.shape)}")
        state[name] = np.zeros(arg.shape, _DTYPES[arg.type])
        state[name].flags.writeable = False
    return state


def _check_outputs(outputs: list[ort.NodeArg], state: State, vocabulary_size: int) -> None:
    by_name = {arg.name: arg for arg in outputs}
    for name, (dtype, rank) in _OUTPUTS.items():
        arg = by_name.get(name)
        if arg is None or arg.type != dtype or len(arg.shape) != rank:
            raise ModelError(f"a model must have an output {name!r}, {dtype} of rank {rank}, got {_described(outputs)}")
    width = by_name["log_probs"].shape[1]
    if isinstance(width, int) and width != vocabulary_size:
        raise ModelError(f"the width of 'log_probs' must be the vocabulary's {vocabulary_size}, got {width}")
    for name, tensor in state.items():
        wanted = NEXT_PREFIX + name.removeprefix(STATE_PREFIX)
        arg = by_name.get(wanted)
        if arg is None:
            raise ModelError(f"state {name!r} must have an output {wanted!r}, got {_described(outputs)}")
        # The exporter may leave dimensions of an output symbolic; fixed ones must be the state's.
        agree = len(arg.shape) == tensor.ndim and all(
            given == expected for given, expected in zip(arg.shape, tensor.shape, strict=True) if isinstance(given, int)
        )
        if _DTYPES.get(arg.type) != tensor.dtype or not agree:
            state_type = f"{tensor.dtype} {list(tensor.shape)}"
            raise ModelError(f"output {wanted!r} must be {state_type} like {name!r}, got {arg.type} {arg.shape}")


def _described(args: list[ort.NodeArg]) -> str:
    return ", ".join(f"{arg.name} {arg.type} {arg.shape}" for arg in args)[:1000]
