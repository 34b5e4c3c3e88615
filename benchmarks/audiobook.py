"""Speech that no model of the family was trained on: an audiobook that comes with the sources of pocketsphinx.

    pip download --no-deps --no-binary :all: pocketsphinx==5.1.1
    python benchmarks/audiobook.py pocketsphinx-5.1.1.tar.gz FOLDER

writes FOLDER/audiobook.jsonl and its five recordings: 71 words of "Sense and Sensibility" (LibriVox, public domain),
MP3 of 64 kbit/s once. A word is 1.4 % there: it tells what cannot be heard at all from what can, and not models apart.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import tarfile
from pathlib import Path

import soundfile

INSIDE = "test/data/librivox"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=Path, help="pocketsphinx-5.1.1.tar.gz")
    parser.add_argument("folder", type=Path, help="where to write")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    lines = []
    with tarfile.open(args.archive) as archive:
        inside = f"{args.archive.name.removesuffix('.tar.gz')}/{INSIDE}"

        def content(name: str) -> bytes:
            member = archive.extractfile(f"{inside}/{name}")
            assert member is not None, f"{name} is no file"
            return member.read()

        for words, name in re.findall(r"<s> (.*) </s> \((.*)\)", content("transcription").decode()):
            data = content(f"{name}.wav")
            (args.folder / f"{name}.wav").write_bytes(data)
            duration = soundfile.info(io.BytesIO(data)).duration
            lines.append(json.dumps({"audio_filepath": f"{name}.wav", "duration": duration, "text": words}))
    manifest = args.folder / "audiobook.jsonl"
    manifest.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{manifest}: {len(lines)} recordings")


if __name__ == "__main__":
    main()
