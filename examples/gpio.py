"""Spoken commands switch a pin of a Raspberry Pi: the first phrase turns it on, the second one off.

    arecord -q -t raw -f S16_LE -r 16000 -c 1 | python examples/gpio.py 17 "lights on" "lights off"

Needs gpiozero, which Raspberry Pi OS has. On another computer, GPIOZERO_PIN_FACTORY=mock has pins without hardware.
docs/raspberry-pi-commands.md is a walk-through.
"""

import sys

from gpiozero import OutputDevice

from lwasr_edge import Event, Final, Recognizer

number, on, off = int(sys.argv[1]), sys.argv[2].lower(), sys.argv[3].lower()


def obey(events: list[Event], pin: OutputDevice) -> None:
    """Switch the pin for each command; other speech gives a Final without text."""
    for event in events:
        if isinstance(event, Final) and event.text:
            pin.value = event.text.lower() == on
            print(f"{event.text}: pin {number} is {'on' if pin.value else 'off'}", flush=True)


with OutputDevice(number) as pin, Recognizer(phrases=[on, off]).stream(16_000) as stream:
    while data := sys.stdin.buffer.read1(3_200):  # 0.1 s
        obey(stream.accept(data), pin)
    obey(stream.flush(), pin)
