// Words while they are spoken: small windows over the newest audio show them, and a pass with full context decides the
// text. An utterance ends in a pause of the level. The same rules, in the same numbers, as the Python package's
// (lwasr_edge/streaming/speech_tracker.py, utterance.py) without a decoder (`lm=None`), so that both give the same words.

import { Activity } from "./activity.js";
import { LivePass, RecentAudio, Segment } from "./passes.js";

// In frames of 40 ms.
const BEFORE_SPEECH = 12; // a word begins at most so long before its first token
const BEFORE_SOUND = 11; // audio of a segment before its sound begins
const AFTER_SOUND = 6; // audio of a segment after its sound
const DRAFT_AFTER = 10; // after the sound, a segment's text is decoded before its end is certain
const NO_TOKEN = 4; // ... if no token is found in so many frames after the sound
const SETTLED = 8; // frames after the last activity in which a token may still appear
const QUIET = 16; // without activity or a token: idle
const LOOK_EVERY = 70; // while idle in noise, one window is recognised so often
const LOOK_BACK = 76; // length of that window
const KEPT = 100; // newest audio that is kept while no segment is open
const HOLD = 5; // the newest word is shown when so many frames without a token follow: before, it often still grows

/**
 * One stream. A "partial" replaces the one before; a "final" ends the utterance.
 *
 * Calls may overlap: they wait for each other.
 */
export class Stream {
  constructor(recognizer, { silenceS = 0.8, longestS = 20 } = {}) {
    const inFrames = (seconds) => Math.ceil(Number((seconds / recognizer.frameS).toFixed(6)));
    this._recognizer = recognizer;
    this._limits = { silence: inFrames(silenceS), longest: inFrames(longestS) };
    this._count = 0; // samples so far
    this._queue = Promise.resolve();
    this._restart();
  }

  /** Add samples (Float32Array at `info.sample_rate`, any number); return the events that they cause. */
  accept(samples) {
    return this._inTurn(async () => {
      this._count += samples.length;
      return this._tracker.accept(samples);
    });
  }

  /** End the audio; return the last events. The next sample begins another recording. */
  flush() {
    return this._inTurn(async () => {
      const events = await this._tracker.finish();
      this._restart();
      return events;
    });
  }

  _restart() {
    this._tracker = new SpeechTracker(this._recognizer, this._limits, this._count);
  }

  _inTurn(task) {
    const result = this._queue.then(task);
    this._queue = result.catch(() => {});
    return result;
  }
}

/** Audio of one recording in, events out. */
class SpeechTracker {
  constructor(recognizer, limits, firstSample) {
    const { samples_per_frame: perFrame, sample_rate: rate } = recognizer.info;
    const first = Math.floor(firstSample / perFrame);
    this._recognizer = recognizer;
    this._limits = limits;
    this._audio = new RecentAudio(perFrame, first);
    this._audio.append(new Float32Array(firstSample % perFrame));
    this._activity = new Activity(first, rate, perFrame);
    this._live = new LivePass(recognizer);
    this._segment = new Segment(recognizer);
    this._shown = "";
    // Everything before `_now` is recognised; tokens and audio before the next two belong to earlier utterances.
    this._now = this._tokensFrom = this._audioFrom = this._nextHop = this._lastCall = first;
    this._isIdle = true;
  }

  async accept(samples) {
    this._audio.append(samples);
    const events = [];
    for (let due = this._nextDue(); due <= this._audio.endFrame; due = this._nextDue()) {
      events.push(...(await this._step(due)));
    }
    return events;
  }

  async finish() {
    const { samples_per_frame: perFrame, flush_samples: flush } = this._recognizer.info;
    const rest = (this._audio.incompleteSamples + flush) % perFrame;
    const events = await this.accept(new Float32Array(flush + ((perFrame - rest) % perFrame)));
    const end = this._audio.endFrame;
    if (end > this._now) {
      this._nextHop = end;
      events.push(...(await this._step(end)));
    }
    if (this._segment.isOpen) events.push(...this._final(await this._segment.finish(this._audio, end)));
    return events;
  }

  /** The next frame in which there is something to do. */
  _nextDue() {
    const due = [this._isIdle ? this._now + this._recognizer.hop : this._nextHop];
    const tokens = this._tokens();
    if (tokens.length) due.push(this._endDue(tokens), this._activity.soundEnd(tokens.at(-1).frame) + DRAFT_AFTER);
    return Math.min(...due.filter((frame) => frame > this._now));
  }

  /** The frame in which the utterance ends if no token follows. */
  _endDue(tokens) {
    if (!tokens.length) return Infinity;
    const { silence, longest } = this._limits;
    return Math.min(this._activity.soundEnd(tokens.at(-1).frame) + silence, tokens[0].frame + longest);
  }

  /** Recognise the frames up to `end`. */
  async _step(end) {
    const activeFrom = this._activity.update(this._audio, end);
    if (this._isIdle) {
      const wakeFrame = this._wakeFrame(activeFrom, end);
      if (wakeFrame !== null) {
        this._isIdle = false;
        this._live.start(Math.max(wakeFrame, this._audioFrom, this._audio.firstFrame));
        this._nextHop = end;
      }
    }
    if (!this._isIdle) await this._runPasses(end);
    this._now = end;
    const events = await this._endUtterances();
    const partial = this._isIdle ? null : this._partial();
    if (partial) events.push(partial);
    const active = this._activity.lastActive;
    if (!this._tokens().length && (active === null || this._now - active > QUIET)) {
      this._isIdle = true;
      this._segment.close();
    }
    this._discard();
    return events;
  }

  /** Where the live pass begins, or null to stay idle. */
  _wakeFrame(activeFrom, end) {
    if (activeFrom !== null) return activeFrom - BEFORE_SPEECH;
    return this._activity.isAudible && end - this._lastCall >= LOOK_EVERY ? end - LOOK_BACK : null;
  }

  /** Call the model for what is due in `end`; in a pause the live pass has nothing to find. */
  async _runPasses(end) {
    const active = this._activity.lastActive;
    const isSettled = this._activity.isClear && active !== null && active + SETTLED < this._lastCall;
    if (end >= this._nextHop) {
      this._nextHop = end + this._recognizer.hop;
      if (!isSettled) {
        await this._live.run(this._audio, end);
        this._lastCall = end;
      }
    } else if (this._endDue(this._tokens()) <= end && !isSettled) {
      await this._live.peek(this._audio, end);
    }
    const tokens = this._openSegment();
    if (!this._segment.isOpen) return;
    await this._segment.advance(this._audio, end);
    if (tokens.length) {
      const soundEnd = this._activity.soundEnd(tokens.at(-1).frame);
      const isPause = soundEnd + DRAFT_AFTER <= end && soundEnd + NO_TOKEN <= this._lastCall;
      if (isPause && this._segment.endFrame < soundEnd + AFTER_SOUND) {
        await this._segment.draft(this._audio, soundEnd + AFTER_SOUND);
      }
    }
    if (!this._tokens().length) { // the full-context pass finds no speech in what the live pass took for it
      this._tokensFrom = Math.max(this._tokensFrom, this._segment.endFrame);
      this._segment.close();
    }
  }

  /** Tokens of the current utterance: of the full-context pass as far as it has come, then of the live pass. */
  _tokens() {
    if (!this._segment.isOpen) return this._isIdle ? [] : this._live.tokens(this._tokensFrom);
    const newest = this._live.tokens(Math.max(this._segment.endFrame, this._tokensFrom));
    return [...this._segment.done, ...this._segment.drafted, ...newest];
  }

  /** Open a segment if there is a first token; return the tokens. */
  _openSegment() {
    const tokens = this._tokens();
    if (tokens.length && !this._segment.isOpen) {
      const earliest = Math.max(this._audioFrom, this._audio.firstFrame);
      const from = Math.max(tokens[0].frame - BEFORE_SPEECH, earliest);
      const soundFrom = this._activity.firstActive(from, tokens[0].frame);
      this._segment.open(soundFrom === null ? from : Math.max(soundFrom - BEFORE_SOUND, earliest));
    }
    return tokens;
  }

  /** End every utterance whose end is known by now. */
  async _endUtterances() {
    const events = [];
    for (let end = this._firstEnd(); end !== null; end = this._firstEnd()) {
      events.push(...this._final(await this._ended(end)));
      this._openSegment();
    }
    return events;
  }

  /** The earliest end of an utterance in the tokens, or null. */
  _firstEnd() {
    const tokens = this._tokens();
    const { silence, longest } = this._limits;
    for (const [i, { frame }] of tokens.entries()) {
      const next = i + 1 < tokens.length ? tokens[i + 1].frame : this._now;
      const lengthDue = tokens[0].frame + longest;
      const pauseDue = this._activity.soundEnd(frame) + silence;
      if (pauseDue <= next && pauseDue <= lengthDue) return { frame: pauseDue, isCut: false };
      if (lengthDue <= next) return { frame: this._lastBeginning(tokens, lengthDue), isCut: true };
    }
    return null;
  }

  /** The newest word before a frame may still grow: where it begins; a single word is ended as it is. */
  _lastBeginning(tokens, due) {
    const begins = ({ id, frame }) => frame < due && this._recognizer.info.vocabulary[id].startsWith("\u2581");
    return tokens.slice(1).filter(begins).at(-1)?.frame ?? due;
  }

  /** End an utterance; return its tokens. */
  async _ended({ frame, isCut }) {
    const last = this._tokens().filter((token) => token.frame < frame).at(-1).frame;
    this._tokensFrom = frame;
    if (isCut) {
      this._audioFrom = frame;
      return this._segment.cut(this._audio, frame, this._now);
    }
    const soundEnd = this._activity.soundEnd(last);
    const stop = Math.min(frame, soundEnd + AFTER_SOUND);
    const { endFrame } = this._segment;
    this._audioFrom = Math.min(frame, soundEnd);
    return this._segment.finish(this._audio, stop <= endFrame && endFrame <= frame ? endFrame : stop);
  }

  /** The event of an ended utterance; if it has no text, a partial that takes back what was shown. */
  _final(tokens) {
    const words = this._recognizer.words(tokens);
    const wasShown = this._shown !== "";
    this._shown = "";
    if (words.length) return [{ kind: "final", text: textOf(words), words }];
    return wasShown ? [{ kind: "partial", text: "", words }] : [];
  }

  /** The event that shows the words so far, or null if nothing has changed. */
  _partial() {
    const tokens = this._tokens();
    const words = this._recognizer.words(tokens);
    if (tokens.length && tokens.at(-1).frame >= this._now - HOLD) words.pop();
    const text = textOf(words);
    if (text === this._shown) return null;
    this._shown = text;
    return { kind: "partial", text, words };
  }

  /** Drop audio and tokens that nothing needs any more. */
  _discard() {
    const needed = [this._now - KEPT];
    let from = this._now - KEPT;
    if (!this._isIdle) needed.push(this._live.nextFrame - BEFORE_SPEECH);
    if (this._segment.isOpen) {
      needed.push(this._segment.nextFrame);
      from = Math.min(from, this._segment.firstFrame);
      this._live.forget(this._segment.nextFrame);
    }
    this._audio.discard(Math.min(...needed));
    this._activity.discard(from - KEPT);
  }
}

export function textOf(words) {
  return words.map(({ text }) => text).join(" ");
}
