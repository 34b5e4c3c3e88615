"""Hear the packaged recording a number of times, as a file or as a stream, on whatever processor this runs.

python hear.py MODEL PASSES CHUNK_MS    # 0 for a file
"""

import sys

from lwasr_edge import Recognizer, load_audio
from lwasr_edge.bench.recordings import CLIP
from lwasr_edge.bench.streaming import hear

model, passes, chunk_ms = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
waveform = load_audio(CLIP)
recognizer = Recognizer(model, chunk_ms=chunk_ms or 640)
for _ in range(passes):
    if chunk_ms:
        hear(recognizer, waveform)
    else:
        recognizer.transcribe((waveform, 16000))
