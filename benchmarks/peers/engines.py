"""One function per recogniser: load a model, return a function from (N,) float32 samples at 16 kHz to text.

Imports are inside: a process loads one recogniser only. Each takes (model, threads) and keeps its other defaults.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

Transcribe = Callable[[np.ndarray], str]
RATE = 16_000


def lwasr(model: str, threads: int) -> Transcribe:
    """This project, as files."""
    from lwasr_edge import Recognizer

    recognizer = Recognizer(model, threads=threads)
    return lambda waveform: recognizer.transcribe((waveform, RATE)).text


def sherpa_nemo_ctc(model: str, threads: int) -> Transcribe:
    """sherpa-onnx, a NeMo CTC model: FOLDER with model*.onnx and tokens.txt."""
    import sherpa_onnx

    recognizer = sherpa_onnx.OfflineRecognizer.from_nemo_ctc(**_ctc_files(model), num_threads=threads)
    return lambda waveform: _sherpa_offline(recognizer, waveform)


def sherpa_zipformer_ctc(model: str, threads: int) -> Transcribe:
    """sherpa-onnx, a zipformer CTC model: FOLDER with model*.onnx and tokens.txt."""
    import sherpa_onnx

    recognizer = sherpa_onnx.OfflineRecognizer.from_zipformer_ctc(**_ctc_files(model), num_threads=threads)
    return lambda waveform: _sherpa_offline(recognizer, waveform)


def sherpa_online(model: str, threads: int) -> Transcribe:
    """sherpa-onnx, a streaming transducer: FOLDER with encoder*.onnx, decoder*.onnx, joiner*.onnx and tokens.txt."""
    import sherpa_onnx

    folder = Path(model)
    files = {part: str(min(folder.glob(f"{part}*.onnx"), key=lambda path: path.stat().st_size)) for part in _PARTS}
    tokens = str(folder / "tokens.txt")
    recognizer = sherpa_onnx.OnlineRecognizer.from_transducer(**files, tokens=tokens, num_threads=threads)

    def transcribe(waveform: np.ndarray) -> str:
        stream = recognizer.create_stream()
        stream.accept_waveform(RATE, np.concatenate([waveform, np.zeros(RATE // 2, np.float32)]))
        stream.input_finished()
        while recognizer.is_ready(stream):
            recognizer.decode_stream(stream)
        return recognizer.get_result(stream)

    return transcribe


def pocketsphinx(model: str, threads: int) -> Transcribe:
    """PocketSphinx with the model and language model of its wheel; it has one thread only."""
    from pocketsphinx import Decoder

    decoder = Decoder(samprate=RATE, loglevel="ERROR")

    def transcribe(waveform: np.ndarray) -> str:
        decoder.start_utt()
        decoder.process_raw(_int16(waveform).tobytes(), full_utt=True)
        decoder.end_utt()
        hypothesis = decoder.hyp()
        return hypothesis.hypstr if hypothesis else ""

    return transcribe


def vosk(model: str, threads: int) -> Transcribe:
    """Vosk: FOLDER of a model; it has one thread only."""
    import json

    from vosk import KaldiRecognizer, Model, SetLogLevel

    SetLogLevel(-1)
    loaded = Model(model)

    def transcribe(waveform: np.ndarray) -> str:
        recognizer = KaldiRecognizer(loaded, RATE)
        recognizer.AcceptWaveform(_int16(waveform).tobytes())
        return json.loads(recognizer.FinalResult())["text"]

    return transcribe


def whisper_cpp(model: str, threads: int) -> Transcribe:
    """whisper.cpp by pywhispercpp: a ggml FILE."""
    from pywhispercpp.model import Model

    loaded = Model(model, n_threads=threads, print_progress=False, print_realtime=False, language="en")
    return lambda waveform: " ".join(segment.text for segment in loaded.transcribe(waveform))


def faster_whisper(model: str, threads: int) -> Transcribe:
    """faster-whisper in int8: FOLDER of a CTranslate2 model."""
    from faster_whisper import WhisperModel

    loaded = WhisperModel(model, device="cpu", compute_type="int8", cpu_threads=threads)
    return lambda waveform: " ".join(segment.text for segment in loaded.transcribe(waveform, language="en")[0])


ENGINES: dict[str, Callable[[str, int], Transcribe]] = {
    "lwasr": lwasr,
    "sherpa-nemo-ctc": sherpa_nemo_ctc,
    "sherpa-zipformer-ctc": sherpa_zipformer_ctc,
    "sherpa-online": sherpa_online,
    "pocketsphinx": pocketsphinx,
    "vosk": vosk,
    "whisper-cpp": whisper_cpp,
    "faster-whisper": faster_whisper,
}
# Distributions that each needs; their sizes on disk are added, with models inside them.
DISTRIBUTIONS: dict[str, tuple[str, ...]] = {
    "lwasr": ("numpy", "onnxruntime", "flatbuffers", "packaging", "protobuf", "soundfile", "soxr", "cffi", "pycparser"),
    "sherpa-nemo-ctc": ("sherpa-onnx", "sherpa-onnx-core", "numpy"),
    "sherpa-zipformer-ctc": ("sherpa-onnx", "sherpa-onnx-core", "numpy"),
    "sherpa-online": ("sherpa-onnx", "sherpa-onnx-core", "numpy"),
    "pocketsphinx": ("pocketsphinx", "sounddevice", "cffi", "pycparser"),
    "vosk": ("vosk", "cffi", "pycparser", "requests", "tqdm", "srt", "websockets"),
    "whisper-cpp": ("pywhispercpp", "numpy"),
    "faster-whisper": ("faster-whisper", "ctranslate2", "tokenizers", "onnxruntime", "av", "huggingface-hub", "numpy"),
}
_PARTS = ("encoder", "decoder", "joiner")
# Files of a model folder; models of the other recognisers are a name or a file.
FOLDERS: dict[str, tuple[str, ...]] = {
    "sherpa-nemo-ctc": ("*.onnx", "tokens.txt"),
    "sherpa-zipformer-ctc": ("*.onnx", "tokens.txt"),
    "sherpa-online": ("encoder*.onnx", "decoder*.onnx", "joiner*.onnx", "tokens.txt"),
    "vosk": ("am", "conf"),
    "faster-whisper": ("model.bin",),
}


def fault_of_model(engine: str, model: str) -> str | None:
    """Why a recogniser cannot load a model, in a few words; None if it probably can."""
    if engine in ("lwasr", "pocketsphinx"):
        return None  # they find their models themselves
    path = Path(model)
    if engine not in FOLDERS:
        return None if path.is_file() else "no such file"
    if not path.is_dir():
        return "no such folder"
    lacking = [pattern for pattern in FOLDERS[engine] if not any(path.glob(pattern))]
    return f"the folder has no {', '.join(lacking)}" if lacking else None


def _ctc_files(model: str) -> dict[str, str]:
    """The smallest model of a folder (int8 beside float) and its tokens."""
    folder = Path(model)
    return {
        "model": str(min(folder.glob("*.onnx"), key=lambda path: path.stat().st_size)),
        "tokens": str(folder / "tokens.txt"),
    }


def _sherpa_offline(recognizer: object, waveform: np.ndarray) -> str:
    stream = recognizer.create_stream()
    stream.accept_waveform(RATE, waveform)
    recognizer.decode_stream(stream)
    return stream.result.text


def _int16(waveform: np.ndarray) -> np.ndarray:
    return (np.clip(waveform, -1, 1) * 32767).astype(np.int16)
