"""Write subtitles next to a recording: talk.flac -> talk.srt and talk.vtt.

    python examples/subtitles.py FILE

`lwasr transcribe --srt FILE` does the same.
"""

import sys
from pathlib import Path

from lwasr_edge import Recognizer
from lwasr_edge.cli.subtitles import to_srt, to_vtt

recording = Path(sys.argv[1])
transcript = Recognizer().transcribe(recording)
recording.with_suffix(".srt").write_text(to_srt(transcript), encoding="utf-8")
recording.with_suffix(".vtt").write_text(to_vtt(transcript), encoding="utf-8")
print(f"{transcript.duration_s:.1f} s of audio, {len(transcript.words)} words")
