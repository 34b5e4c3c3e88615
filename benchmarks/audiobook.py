"""Speech that no model of the family was trained on: an audiobook in the sources of pocketsphinx.

    pip download --no-deps --no-binary :all: pocketsphinx==5.1.1
    python benchmarks/audiobook.py pocketsphinx-5.1.1.tar.gz FOLDER

writes FOLDER/audiobook.jsonl and its five recordings: 71 words of "Sense and Sensibility" (LibriVox, public domain),
MP3 of 64 kbit/s once. One word is 1.4 %: too few to compare models, enough to find a broken one.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import tarfile
from pathlib import Path

import soundfile

INSIDE = "test/data/librivox/"


def recordings_in(archive: Path) -> dict[str, tuple[str, bytes]]:
    """Name -> text and WAV file of every recording with a transcript in the archive."""
    try:
        with tarfile.open(archive) as opened:
            members = {member.name.partition(INSIDE)[2]: member for member in opened if INSIDE in member.name}
            files = {name: file.read() for name, member in members.items() if (file := opened.extractfile(member))}
        lines = re.findall(r"<s> (.*) </s> \((.*)\)", files["transcription"].decode())
        return {name: (words, files[f"{name}.wav"]) for words, name in lines}
    except (OSError, tarfile.TarError, EOFError, KeyError) as error:
        raise SystemExit(f"{archive} must be pocketsphinx-5.1.1.tar.gz, with {INSIDE}: {error}") from error


def main() -> None:
    """Write the recordings and their manifest."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=Path, help="pocketsphinx-5.1.1.tar.gz")
    parser.add_argument("folder", type=Path, help="folder to write to")
    args = parser.parse_args()
    recordings = recordings_in(args.archive)
    args.folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for name, (words, data) in recordings.items():
        (args.folder / f"{name}.wav").write_bytes(data)
        duration = soundfile.info(io.BytesIO(data)).duration
        lines.append(json.dumps({"audio_filepath": f"{name}.wav", "duration": duration, "text": words}))
    manifest = args.folder / "audiobook.jsonl"
    manifest.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{manifest}: {len(lines)} recordings")


if __name__ == "__main__":
    main()
