"""Transcribe a recording; print words with times and confidence.

python examples/transcribe_file.py FILE
"""

import sys

from lwasr_edge import Recognizer

recognizer = Recognizer()  # the default model; or the path of a model file, or the name of an installed model
transcript = recognizer.transcribe(sys.argv[1])

print(transcript.text)
for word in transcript.words:
    print(f"{word.start_s:7.2f} {word.end_s:7.2f}  {word.confidence:4.0%}  {word.text}")
