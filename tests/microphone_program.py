"""A user's program with a microphone; prints its events and how it ended as JSON lines.

python tests/microphone_program.py MODEL DEVICE [--rate HZ] [--nap-s S] [--queue-s S]
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time

from lwasr_edge import AudioDeviceError, Recognizer
from lwasr_edge.microphone import listener as microphone


def main() -> None:
    """Listen until Ctrl-C or until the device fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("device")
    parser.add_argument("--rate", type=int, help="treat this as the device's default rate")
    parser.add_argument("--nap-s", type=float, help="pause this long after the first event")
    parser.add_argument("--queue-s", type=float, default=microphone.QUEUE_S)
    args = parser.parse_args()
    microphone.QUEUE_S = args.queue_s
    if args.rate:
        choose = microphone.choose_device
        microphone.choose_device = lambda wanted: dataclasses.replace(choose(wanted), sample_rate=args.rate)
    ended = "stopped"
    listener = Recognizer(args.model).listen(args.device, hop_ms=160, endpoint=None)
    print(f"listening to {listener.device.name!r}", file=sys.stderr, flush=True)
    try:
        for event in listener:
            print(json.dumps({"kind": type(event).__name__.lower(), "text": event.text}), flush=True)
            if args.nap_s:
                time.sleep(args.nap_s)
                args.nap_s = None
    except KeyboardInterrupt:
        ended = "Ctrl-C"
    except AudioDeviceError as error:
        ended = str(error)
    lost_s = listener.lost_samples / listener.device.sample_rate
    print(json.dumps({"kind": "end", "text": ended, "overflows": listener.overflow_count, "lost_s": lost_s}))


if __name__ == "__main__":
    main()
