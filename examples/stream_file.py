"""Transcribe a recording (WAV, FLAC) as a stream: block by block, at its own rate, with partial results.

    python examples/stream_file.py FILE

The blocks can also come from a socket or a pipe: any size, any rate, int16 or float32; bytes of int16 too.
"""

import sys

import soundfile

from lwasr_edge import Event, Final, Recognizer

recognizer = Recognizer()


def show(events: list[Event]) -> None:
    for event in events:
        if isinstance(event, Final):
            print(f"final    {event.start_s:6.2f} {event.end_s:6.2f}  {event.text}")
        else:  # later partials do not revise the words of stable_text; those after them may change
            growing = event.text.removeprefix(event.stable_text).strip()
            print(f"partial  {event.time_s:6.2f}         {event.stable_text} [{growing}]")


with soundfile.SoundFile(sys.argv[1]) as file, recognizer.stream(file.samplerate) as stream:
    for block in file.blocks(blocksize=1000, dtype="int16"):
        show(stream.accept(block))
    show(stream.flush())  # the last word
