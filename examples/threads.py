"""Transcribe several recordings (WAV or FLAC) in parallel: one Recognizer, one stream per thread.

    python examples/threads.py FILE FILE ...

Any number of threads may share a Recognizer, and a stream too: calls of one stream wait for each other. The model runs
without the GIL: N streams keep N processor cores busy.
"""

import sys
from concurrent.futures import ThreadPoolExecutor

import soundfile

from lwasr_edge import Final, Recognizer

recognizer = Recognizer(threads=1)  # per stream: the streams themselves share the cores


def transcribe(path: str) -> str:
    with soundfile.SoundFile(path) as file, recognizer.stream(file.samplerate) as stream:
        events = [event for block in file.blocks(blocksize=4096) for event in stream.accept(block)]
        events += stream.flush()
    return " / ".join(event.text for event in events if isinstance(event, Final))


with ThreadPoolExecutor() as pool:
    for path, text in zip(sys.argv[1:], pool.map(transcribe, sys.argv[1:]), strict=True):
        print(f"{path}: {text}")
