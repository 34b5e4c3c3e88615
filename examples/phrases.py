"""Recognise a few commands, such as "lights on", and ignore other speech.

    python examples/phrases.py FILE [PHRASES]

PHRASES is a file with one phrase per line, used instead of the commands below.
"""

import sys

from lwasr_edge import EndpointRules, Final, PhraseList, Recognizer, load_audio

COMMANDS = {
    "lights on": lambda: print("the lights are on"),
    "lights off": lambda: print("the lights are off"),
    "stop": lambda: print("everything stops"),
}

phrases = PhraseList.read(sys.argv[2]) if len(sys.argv) > 2 else PhraseList(list(COMMANDS))
recognizer = Recognizer(phrases=phrases)
rules = EndpointRules(silence_after_speech_s=0.5)  # short: the user waits for the response

with recognizer.stream(endpoint=rules) as stream:
    for event in stream.accept(load_audio(sys.argv[1])) + stream.flush():
        if not isinstance(event, Final):
            continue
        best = event.alternatives[0]
        if not event.text:  # none of the phrases
            print(f"{event.start_s:6.2f}  ignored {event.heard!r} ({best.confidence:.2f})")
        else:
            print(f"{event.start_s:6.2f}  {event.text} ({best.confidence:.2f})")
            COMMANDS.get(event.text, lambda: None)()
