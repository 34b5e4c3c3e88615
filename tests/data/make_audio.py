"""Speaks the test utterances of this folder anew (needs flite and espeak-ng: apt-get install flite espeak-ng).

    python tests/data/make_audio.py

The files differ in format, rate and voice on purpose. transcripts.json says what was spoken.
"""

import json
import subprocess
import tempfile
from pathlib import Path

import soundfile

FOLDER = Path(__file__).parent
SPEAKERS = {
    "slt_16k.flac": (["flite", "-voice", "slt"], "my sister left a small lamp on the table near the window"),
    "rms_16k.opus": (["flite", "-voice", "rms"], "we walked along the river until the sun went down"),
    "gb_22k.wav": (["espeak-ng", "-v", "en-gb", "-s", "140"], "please send the letter to my brother on monday"),
}


def main() -> None:
    """Write the audio files and transcripts.json beside this script."""
    for name, (command, text) in SPEAKERS.items():
        with tempfile.TemporaryDirectory() as folder:
            wav = str(Path(folder, "speech.wav"))
            spoken = ["-t", text, "-o", wav] if command[0] == "flite" else ["-w", wav, text]
            subprocess.run([*command, *spoken], check=True)
            samples, rate = soundfile.read(wav, dtype="int16")
        options = {"format": "OGG", "subtype": "OPUS", "compression_level": 0.93} if name.endswith("opus") else {}
        soundfile.write(FOLDER / name, samples, rate, **options)
        print(f"{name}: {samples.size / rate:.2f} s at {rate} Hz: {text}")
    transcripts = {name: text for name, (_, text) in SPEAKERS.items()}
    (FOLDER / "transcripts.json").write_text(json.dumps(transcripts, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
