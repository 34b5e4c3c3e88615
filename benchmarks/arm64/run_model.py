"""Transcribe the packaged recording a number of times, as a file or as a stream.

python run_model.py MODEL RUNS CHUNK_MS    # 0 for a file
"""

import sys

from lwasr_edge import Recognizer, load_audio
from lwasr_edge.bench.recordings import CLIP
from lwasr_edge.bench.streaming import run_stream

model, runs, chunk_ms = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
waveform = load_audio(CLIP)
recognizer = Recognizer(model, chunk_ms=chunk_ms or 640)
for _ in range(runs):
    if chunk_ms:
        run_stream(recognizer, waveform)
    else:
        recognizer.transcribe((waveform, 16000))
