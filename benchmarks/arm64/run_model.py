"""Transcribe the packaged recording a number of times, as a file or as a stream.

python run_model.py MODEL RUNS HOP_MS    # 0 for a file
"""

import sys

from lwasr_edge import Recognizer, load_audio
from lwasr_edge.bench.recordings import CLIP
from lwasr_edge.bench.streaming import run_stream
from lwasr_edge.chunking import STREAM_HOP_MS

model, runs, hop_ms = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
waveform = load_audio(CLIP)
recognizer = Recognizer(model, hop_ms=hop_ms or STREAM_HOP_MS)
for _ in range(runs):
    if hop_ms:
        run_stream(recognizer, waveform)
    else:
        recognizer.transcribe((waveform, 16000))
