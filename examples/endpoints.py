"""When is an utterance over? Rules for a voice command, for dictation, and a rule of one's own.

python examples/endpoints.py FILE
"""

import sys

from lwasr_edge import EndpointRules, Final, Recognizer, load_audio

RULES = {
    # Commands are short, and users wait for the response. Give up when nobody speaks for 5 s.
    "command": EndpointRules(silence_before_speech_s=5.0, silence_after_speech_s=0.5, max_utterance_s=10.0),
    # Dictation has pauses for thought.
    "dictation": EndpointRules(silence_after_speech_s=2.0, max_utterance_s=None),
    # No endpoint: one final text, at flush.
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

# A rule of your own: the utterance ends when a certain word is stable, which no later partial revises.
with recognizer.stream(endpoint=None) as stream:
    for start in range(0, len(samples), 1600):
        words = [word.text for event in stream.accept(samples[start : start + 1600]) for word in event.stable_words]
        if "please" in words:
            print(f"'please' was stable after {stream.time_s:.2f} s")
            break
