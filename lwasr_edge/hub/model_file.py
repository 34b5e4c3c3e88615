"""Open a model file in onnxruntime: plain ONNX, or compressed with gzip."""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
import zlib
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lwasr_edge.errors import ModelError, ModelNotFoundError
from lwasr_edge.hub.catalog import user_models_dir
from lwasr_edge.hub.model_check import check_model
from lwasr_edge.hub.ort_check import check_ort
from lwasr_edge.native import NativeCall

if TYPE_CHECKING:
    import numpy as np
    import onnxruntime as ort

GZIP_MAGIC = b"\x1f\x8b"
GZIP_WBITS = 16 + zlib.MAX_WBITS  # zlib's number for gzip
ORT_MAGIC = b"ORTM"  # bytes 4 to 8 of onnxruntime's own format
ORT_SUFFIX = ".ort"
MAX_MODEL_BYTES = 1 << 26  # of a compressed model, after decompression: six times en-base
MAX_PLAIN_BYTES = 1 << 29  # of a file that is not compressed


def open_session(path: Path, threads: int | None, pinned_samples: int | None) -> ort.InferenceSession:
    """Open a model file in onnxruntime, for `Model`.

    Args:
        path: the file.
        threads: CPU threads of a call; None for every core.
        pinned_samples: fixed size of the chunks; None for any.

    Raises:
        ModelNotFoundError: no such file.
        ModelError: the file is not an ONNX model, is damaged, or needs what `model_check` refuses.
    """
    source = source_of(path)
    # From 1.29 on, onnxruntime's wheels send telemetry to Microsoft and keep an identifier in the user's cache; nothing
    # may leave the device. Only an environment variable stops all of it, and only before onnxruntime is first imported;
    # a value that the user has set is kept.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    with NativeCall():
        import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # errors come as exceptions
    # Small boards: free memory after a chunk of unusual size, and let idle threads sleep.
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if pinned_samples is not None:
        options.add_free_dimension_override_by_name("samples", pinned_samples)
    try:
        session = _load(source, options)
    except Exception as error:  # onnxruntime's errors share no base class of their own
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(
            f"{path} cannot be opened as an ONNX model ({len(source)} bytes; onnxruntime: {reason}): it is another "
            f"kind of file, damaged or incomplete{_remedy(path)}"
        ) from error
    session._model_bytes = None  # onnxruntime keeps them for a fallback that is off
    del source
    if threads != 1:
        _threaded_sessions.add(session)
    free_unused_memory()
    return session


def _load(source: bytes, options: ort.SessionOptions) -> ort.InferenceSession:
    """Make a session in a thread that ends with it.

    glibc has a heap for each thread. In that of the caller, loading would leave gaps between the weights, which later
    calls, whose tensors have all sizes, would fill one after the other: 5 to 10 MB for en-base.

    Raises:
        Exception: of onnxruntime.
    """
    import onnxruntime as ort

    results: list[Any] = []

    def load() -> None:
        try:
            with NativeCall(cancel=lambda: _cancel_loading(options)):
                # Without enable_fallback=0, onnxruntime prints some errors to stdout and tries the same again.
                session = ort.InferenceSession(source, options, providers=["CPUExecutionProvider"], enable_fallback=0)
            results.append(session)
        except Exception as error:  # raised again by the caller
            results.append(error)

    thread = threading.Thread(target=load, name="lwasr-load", daemon=True)
    try:
        thread.start()
    except RuntimeError:  # no more threads: a limit of the system, or the interpreter ends
        load()
    else:
        thread.join()
    (result,) = results
    if isinstance(result, Exception):
        raise result
    return result


def _cancel_loading(options: ort.SessionOptions) -> None:
    if hasattr(options, "set_load_cancellation_flag"):  # since onnxruntime 1.21
        options.set_load_cancellation_flag(True)


def run_session(session: ort.InferenceSession, names: list[str], inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Call `session.run`, in a way that a daemon thread may be in it when the interpreter ends."""
    import onnxruntime as ort

    options = ort.RunOptions()
    with NativeCall(cancel=partial(setattr, options, "terminate", True)):
        return session.run(names, inputs, options)


def _keep_sessions_of_parent() -> None:
    """After a fork: destroying a session would wait for its threads, which exist in the parent alone."""
    for session in list(_threaded_sessions):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(session))


_threaded_sessions: weakref.WeakSet[ort.InferenceSession] = weakref.WeakSet()  # with more threads than the caller's
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_keep_sessions_of_parent)


def free_unused_memory() -> None:
    """Return freed memory that glibc keeps, after loading and closing; other C libraries need no such call."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # another C library, or Windows
        return
    trim(ctypes.c_size_t(0))


def source_of(path: Path) -> bytes:
    """The model in a file, checked: onnxruntime gets these bytes, never the path, so it reads no other file.

    Gzip is recognised by content, not by name. onnxruntime's own format is opened only under its own suffix, so only if
    the caller names such a file: onnxruntime checks it less than ONNX.

    Raises:
        ModelNotFoundError: no such file.
        ModelError: no permission; gzip that is damaged, truncated, or larger than `MAX_MODEL_BYTES`; a larger file than
            `MAX_PLAIN_BYTES`; or content that `check_model` refuses.
    """
    data = _read(path)
    is_ort = data[4:8] == ORT_MAGIC
    if is_ort and path.suffix.lower() != ORT_SUFFIX:
        raise ModelError(
            f"{path} must be an ONNX model, got onnxruntime's own format: name it *{ORT_SUFFIX} if you made it"
        )
    try:
        (check_ort if is_ort else check_model)(data, str(path))
    except ModelError as error:
        raise ModelError(f"{error}{_remedy(path)}") from None
    return data


def _read(path: Path) -> bytes:
    """The bytes of a model file, decompressed."""
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "is no regular file" if path.exists() else "does not exist"
        raise ModelNotFoundError(f"model must be a file (.onnx or .onnx.gz), got {path}, which {what}{_remedy(path)}")
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size > MAX_PLAIN_BYTES:
                raise ModelError(f"{path} must have at most {MAX_PLAIN_BYTES >> 20} MB, got more: it is not a model")
            data = file.read()
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error
    if not data.startswith(GZIP_MAGIC):
        return data
    try:
        data = _decompressed(data, MAX_MODEL_BYTES + 1)
    except (EOFError, zlib.error) as error:
        raise ModelError(
            f"{path} is a damaged or incomplete gzip file ({error}): fetch it again{_remedy(path)}"
        ) from error
    if len(data) > MAX_MODEL_BYTES:
        raise ModelError(f"{path} decompresses to more than {MAX_MODEL_BYTES >> 20} MB: it is not a model")
    return data


def _decompressed(data: bytes, most: int) -> bytes:
    """The first ``most`` bytes of the members of a gzip file, which zeros may follow; `gzip` needs twice the time.

    Raises:
        EOFError: it ends inside a member.
        zlib.error: it is damaged.
    """
    members, size = [], 0
    while data and size < most:
        inflate = zlib.decompressobj(wbits=GZIP_WBITS)
        members.append(inflate.decompress(data, most - size))
        size += len(members[-1])
        if not inflate.eof and size < most:
            raise EOFError("it ends too early")
        data = inflate.unused_data.lstrip(b"\0")
    return members[0] if len(members) == 1 else b"".join(members)


def _remedy(path: Path) -> str:
    """What to do about a file of an installed model; "" for other files."""
    root = user_models_dir()
    folder = path.relative_to(root).parts[0] if path.is_relative_to(root) and path != root else ""
    is_installed = folder and not folder.startswith(".") and path.parent != root
    return f": fetch the model again, or remove {root / folder}" if is_installed else ""
