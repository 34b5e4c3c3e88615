"""Transcribe a microphone until a certain word, or until Ctrl-C.

pip install '.[mic]'
python examples/microphone.py [--device NAME] [--until WORD]
"""

import argparse

from lwasr_edge import AudioDeviceError, Final, Recognizer

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--device", help="number or name, as `lwasr listen --list-devices` prints them")
parser.add_argument("--until", default="goodbye")
args = parser.parse_args()

listener = Recognizer().listen(args.device)
print(f"listening to {listener.device.name} until {args.until!r}", flush=True)
try:
    with listener:
        for event in listener:
            if isinstance(event, Final):
                print(event.text, flush=True)
            words = event.words if isinstance(event, Final) else event.stable_words  # others may still be revised
            if args.until in (word.text for word in words):
                listener.stop()  # the events up to now still arrive
except AudioDeviceError as error:
    print(f"the microphone stopped: {error}")
except KeyboardInterrupt:
    pass
if listener.overflow_count:
    print(f"audio was lost {listener.overflow_count} times: this processor is too slow or too busy")
