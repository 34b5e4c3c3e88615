"""Transcribe recordings on whatever processor this runs, and print what was heard as JSON.

python hear.py MODEL RECORDING...
"""

from __future__ import annotations

import json
import platform
import sys

import numpy as np
import onnxruntime

from lwasr_edge import Final, Recognizer, load_audio


def stream_text(recognizer: Recognizer, waveform: np.ndarray) -> str:
    """The text of a stream in blocks of 100 ms."""
    with recognizer.stream(16000) as stream:
        events = [event for start in range(0, len(waveform), 1600) for event in stream.accept(waveform[start:][:1600])]
        events += stream.flush()
    return " ".join(event.text for event in events if isinstance(event, Final))


def main() -> None:
    """Print machine, version, and for each recording the text as a file and as a stream."""
    recognizer = Recognizer(sys.argv[1])
    heard = {}
    for path in sys.argv[2:]:
        heard[path] = {
            "file": recognizer.transcribe(path).text,
            "stream": stream_text(recognizer, load_audio(path)),
        }
    print(json.dumps({"machine": platform.machine(), "onnxruntime": onnxruntime.__version__, "heard": heard}))


if __name__ == "__main__":
    main()
