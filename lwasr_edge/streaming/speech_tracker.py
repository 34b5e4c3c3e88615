"""The events of a stream: the live pass finds and shows speech, the full-context pass decides its text."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from lwasr_edge.chunking import Chunking
from lwasr_edge.events import EndReason, Event, Final, Partial
from lwasr_edge.streaming.activity import Activity
from lwasr_edge.streaming.live_pass import LivePass
from lwasr_edge.streaming.partial_words import PartialWords
from lwasr_edge.streaming.recent_audio import RecentAudio
from lwasr_edge.streaming.segment import Segment, SegmentText
from lwasr_edge.utterance import EndpointRules, UtteranceEnd, UtteranceEnds
from lwasr_edge.words import frame_start_s

if TYPE_CHECKING:
    from lwasr_edge.decoding.decoder import Decoder
    from lwasr_edge.model import Model
    from lwasr_edge.words import TimedToken

# In encoder frames of 40 ms.
BEFORE_SPEECH = 12  # a word begins at most so long before its first token
BEFORE_SOUND = 11  # audio of a segment before its sound begins; with less, its first words have more errors
AFTER_SOUND = 6  # audio of a segment after its sound
DRAFT_AFTER = 10  # after the sound, a segment's text is decoded before its end is certain
NO_TOKEN = 4  # ... if the live pass has found no token in so many frames after the sound
SETTLED = 8  # frames after the last activity in which a token may still appear
QUIET = 16  # without activity or a token: idle
LOOK_EVERY = 70  # while idle in noise, one window is recognised so often: speech may be as soft as the noise
LOOK_BACK = 76  # length of that window: nothing between two of them is left out
KEPT = 100  # newest audio that is kept while no segment is open


class SpeechTracker:
    """Audio of one stream at the model's rate in, events out.

    While nobody speaks and the level does not rise above the noise, the stream is idle and the model is not called.
    When it rises, the live pass begins a little before, as with a new recording, so that an earlier noise has no
    influence. The first token opens a segment, which the full-context pass decodes too. Its tokens replace those of the
    live pass as soon as it has all of its right context, and decide the `Final`.

    Args:
        model: shared between streams.
        chunking: of the live pass.
        rules: when an utterance ends.
        decoder: of the second pass; None for greedy decoding.
        first_sample: of the stream, at the model's rate; zeros fill the part of a frame before it.
    """

    def __init__(
        self, model: Model, chunking: Chunking, rules: EndpointRules, decoder: Decoder | None, *, first_sample: int = 0
    ) -> None:
        self._info = info = model.info
        self._hop_frames = chunking.hop_frames
        first_frame, before = divmod(first_sample, info.samples_per_frame)
        self._audio = RecentAudio(info.samples_per_frame, first_frame)
        self._audio.append(np.zeros(before, np.float32))
        self._activity = Activity(first_frame, info.sample_rate, info.samples_per_frame)
        self._live = LivePass(model, chunking)
        self._segment = Segment(
            model,
            Chunking.for_files(info, can_look_ahead=model.can_look_ahead),
            decoder,
            may_end=rules.silence_after_speech_s is not None,
        )
        self._ends = UtteranceEnds(info, rules, self._activity.sound_end, first_frame)
        replaces_greedy = decoder is not None and not getattr(decoder, "corrects_greedy", False)
        self._partials = PartialWords(info, is_revisable=replaces_greedy)
        self._decodes_silence = replaces_greedy  # until an utterance has ended
        self._now = first_frame  # everything before it is recognised
        self._tokens_from = first_frame  # tokens before it belong to earlier utterances
        self._audio_from = first_frame  # audio before it belongs to earlier segments
        self._next_hop = first_frame
        self._last_call = first_frame  # of the model
        self._idle = True

    def accept(self, waveform: np.ndarray) -> list[Event]:
        """Recognise (n,) float32 samples; return the events in order of time."""
        self._audio.append(waveform)
        events: list[Event] = []
        while (due := self._next_due()) <= self._audio.end_frame:
            events += self._step(due)
        return events

    def finish(self, reason: EndReason, duration_s: float) -> list[Event]:
        """End the audio at ``duration_s`` seconds; return the events of the rest."""
        n_flush, samples_per_frame = self._info.flush_samples, self._info.samples_per_frame
        padding = n_flush + -(self._audio.incomplete_samples + n_flush) % samples_per_frame
        events = self.accept(np.zeros(padding, np.float32))
        end = self._audio.end_frame
        if end > self._now:
            self._next_hop = end
            events += self._step(end)
        if not self._segment.is_open and self._decodes_silence and self._activity.last_active is not None:
            # Greedy decoding has found nothing in all of the recording, but one of the phrases may still be in it.
            self._segment.open(max(self._audio_from, self._audio.first_frame))
        if self._segment.is_open:
            events += self._final(self._segment.finish(self._audio, end), reason, duration_s)
        return events

    def _next_due(self) -> int:
        """The next frame in which there is something to do."""
        due: list[float] = [self._now + self._hop_frames if self._idle else self._next_hop]
        tokens = self._tokens()
        due.append(self._ends.frame_due(tokens))
        if tokens:
            due.append(self._activity.sound_end(tokens[-1].frame) + DRAFT_AFTER)
        return int(min(frame for frame in due if frame > self._now))

    def _step(self, end: int) -> list[Event]:
        """Recognise the frames up to ``end``."""
        active_from = self._activity.update(self._audio, end)
        if self._idle:
            wake_frame = self._wake_frame(active_from, end)
            if wake_frame is not None:
                self._idle = False
                self._live.start(max(wake_frame, self._audio_from, self._audio.first_frame))
                self._next_hop = end
        if not self._idle:
            self._run_passes(end)
        self._now = end
        events = self._end_utterances()
        partial = None if self._idle else self._partial()
        events += [] if partial is None else [partial]
        self._sleep_if_quiet()
        self._discard()
        return events

    def _wake_frame(self, active_from: int | None, end: int) -> int | None:
        """Where the live pass begins, or None to stay idle."""
        if active_from is not None:
            return active_from - BEFORE_SPEECH
        if self._activity.is_audible and end - self._last_call >= LOOK_EVERY:
            return end - LOOK_BACK
        return None

    def _run_passes(self, end: int) -> None:
        """Call the model for what is due in ``end``; in a pause the live pass has nothing to find."""
        active = self._activity.last_active
        is_settled = self._activity.is_clear and active is not None and active + SETTLED < self._last_call
        if end >= self._next_hop:
            self._next_hop = end + self._hop_frames
            if not is_settled:
                self._live.run(self._audio, end)
                self._last_call = end
        elif self._ends.frame_due(self._tokens()) <= end and not is_settled:
            self._live.peek(self._audio, end)
        tokens = self._open_segment()
        if not self._segment.is_open:
            return
        self._segment.advance(self._audio, end)
        if tokens:
            sound_end = self._activity.sound_end(tokens[-1].frame)
            is_pause = sound_end + DRAFT_AFTER <= end and sound_end + NO_TOKEN <= self._last_call
            if is_pause and self._segment.end_frame < sound_end + AFTER_SOUND:
                self._segment.draft(self._audio, sound_end + AFTER_SOUND)
        if not self._tokens():  # the full-context pass finds no speech in what the live pass took for it
            self._tokens_from = max(self._tokens_from, self._segment.end_frame)
            self._segment.close()

    def _tokens(self) -> list[TimedToken]:
        """Tokens of the current utterance: of the full-context pass as far as it has come, then of the live pass."""
        if not self._segment.is_open:
            return self._newest_tokens()
        done = self._segment.done  # without rules, of hours: the newest one is enough
        return [*(done if self._ends.has_rules else done[-1:]), *self._newest_tokens()]

    def _newest_tokens(self) -> list[TimedToken]:
        """The tokens after `Segment.done`."""
        if self._segment.is_open:
            live = self._live.tokens(max(self._segment.end_frame, self._tokens_from))
            return [*self._segment.drafted, *live]
        return [] if self._idle else self._live.tokens(self._tokens_from)

    def _open_segment(self) -> list[TimedToken]:
        """Open a segment if there is a first token; return the tokens."""
        tokens = self._tokens()
        if tokens and not self._segment.is_open:
            earliest = max(self._audio_from, self._audio.first_frame)
            from_frame = max(tokens[0].frame - BEFORE_SPEECH, earliest)
            sound_from = self._activity.first_active(from_frame, tokens[0].frame)
            self._segment.open(from_frame if sound_from is None else max(sound_from - BEFORE_SOUND, earliest))
        return tokens

    def _speech_end(self, last_token_frame: int) -> int:
        """The end of a segment whose last token is in a frame."""
        return self._activity.sound_end(last_token_frame) + AFTER_SOUND

    def _end_utterances(self) -> list[Event]:
        """End every utterance whose end is known by now."""
        events: list[Event] = []
        while (end := self._ends.first(self._tokens(), self._now)) is not None:
            events += self._end_utterance(end)
            self._open_segment()
        return events

    def _end_utterance(self, end: UtteranceEnd) -> list[Event]:
        if end.silence_from is not None:
            start_s, end_s = (frame_start_s(self._info, frame) for frame in (end.silence_from, end.end_frame))
            return [Final((), start_s, end_s, "endpoint")]
        last = max(token.frame for token in self._tokens() if token.frame < end.end_frame)
        self._tokens_from = end.end_frame
        if end.reason == "length":
            text = self._segment.cut(self._audio, end.end_frame, self._now)
            self._audio_from = end.end_frame
        else:
            stop = min(end.end_frame, self._speech_end(last))
            drafted = stop <= self._segment.end_frame <= end.end_frame
            text = self._segment.finish(self._audio, self._segment.end_frame if drafted else stop)
            self._audio_from = min(end.end_frame, self._activity.sound_end(last))
        return self._final(text, end.reason)

    def _final(self, text: SegmentText, reason: EndReason, limit_s: float = math.inf) -> list[Event]:
        """The event of an ended utterance; if it has no text, a partial that takes back what was shown."""
        was_shown = self._partials.is_shown
        self._partials.clear()
        self._decodes_silence = False
        if text.span_s is not None:
            words = tuple(word.clamped(limit_s) for word in text.words)
            start_s, end_s = (min(time_s, limit_s) for time_s in text.span_s)
            return [Final(words, start_s, end_s, reason, text.alternatives, text.greedy_text)]
        return [self._partials.nothing(self._now)] if was_shown else []

    def _partial(self) -> Partial | None:
        done = self._segment.done if self._segment.is_open else []
        return self._partials.update(done, self._newest_tokens(), self._live.next_frame, self._now)

    def _sleep_if_quiet(self) -> None:
        active = self._activity.last_active
        if not self._tokens() and (active is None or self._now - active > QUIET):
            self._idle = True
            self._live.stop()
            self._segment.close()

    def _discard(self) -> None:
        """Drop audio, levels and tokens that nothing needs any more."""
        kept = self._now - KEPT
        needed = [kept, self._live.next_frame - BEFORE_SPEECH] if not self._idle else [kept]
        levels_from = kept
        if self._segment.is_open:
            needed.append(self._segment.needs_from)
            levels_from = min(kept, self._segment.first_frame)
            self._live.forget(self._segment.needs_from)
        self._audio.discard(min(needed))
        self._audio.levels.discard(levels_from - KEPT)
        self._activity.discard(levels_from - KEPT)
