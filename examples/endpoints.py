"""When is an utterance over? Rules for a voice command, for dictation, and a rule of one's own.

python examples/endpoints.py FILE
"""

import sys

from lwasr_edge import EndpointRules, Final, Recognizer, load_audio

RULES = {
    # A command is short, and its speaker waits for an answer. Who says nothing for 5 s has changed his mind.
    "command": EndpointRules(silence_before_speech_s=5.0, silence_after_speech_s=0.5, max_utterance_s=10.0),
    # Who dictates stops to think.
    "dictation": EndpointRules(silence_after_speech_s=2.0, max_utterance_s=None),
    # No rule: one final text, at flush.
    "none": None,
}

recognizer = Recognizer()
samples = load_audio(sys.argv[1])  # float32 at 16 kHz

for name, rules in RULES.items():
    with recognizer.stream(endpoint=rules) as stream:
        for event in stream.accept(samples) + stream.flush():
            if isinstance(event, Final):
                text = event.text or "(silence)"
                print(f"{name:9} {event.start_s:6.2f} {event.end_s:6.2f}  {event.reason:8}  {text}")

# One's own rule: the utterance is over when a certain word is complete.
with recognizer.stream(endpoint=None) as stream:
    for start in range(0, len(samples), 1600):
        words = [word.text for event in stream.accept(samples[start : start + 1600]) for word in event.stable_words]
        if "please" in words:
            print(f"'please' was complete after {stream.time_s:.2f} s")
            break
