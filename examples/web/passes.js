// The two passes of a stream over its newest audio, as in the Python package (lwasr_edge/streaming/live_pass.py,
// full_pass.py, segment.py, recent_audio.py).

/** Small windows over the newest audio. A window's last frames are the right context of the others. */
export class LivePass {
  constructor(recognizer) {
    this._recognizer = recognizer;
    this.start(0);
  }

  /** Forget all audio before a frame, as if the recording began there. */
  start(frame) {
    this._state = this._recognizer.zeroState();
    this.nextFrame = frame;
    [this._committed, this._provisional] = [[], []];
  }

  tokens(first) {
    return [...this._committed, ...this._provisional].filter(({ frame }) => frame >= first);
  }

  /** Run the window that ends at `end`, and commit what has all of its right context. */
  async run(audio, end) {
    const { lookAhead } = this._recognizer;
    if (end - this.nextFrame <= lookAhead) return this.peek(audio, end);
    const window = audio.frames(this.nextFrame, end);
    const { tokens, state, nextFrame } = await this._recognizer.runWindow(window, this._state, this.nextFrame, lookAhead);
    this._committed.push(...tokens.filter(({ frame }) => frame < nextFrame));
    this._provisional = tokens.filter(({ frame }) => frame >= nextFrame);
    [this._state, this.nextFrame] = [state, nextFrame];
    return undefined;
  }

  /** Run the window that ends at `end` without committing anything. */
  async peek(audio, end) {
    if (end <= this.nextFrame) return;
    const window = audio.frames(this.nextFrame, end);
    this._provisional = (await this._recognizer.runWindow(window, this._state, this.nextFrame, 0)).tokens;
  }

  forget(before) {
    this._committed = this._committed.filter(({ frame }) => frame >= before);
  }
}

/** The current utterance, decoded with full context while audio comes. */
export class Segment {
  constructor(recognizer) {
    this._recognizer = recognizer;
    this._chunk = recognizer.info.max_chunk_frames;
    this._lookAhead = Math.min(recognizer.lookAhead, this._chunk >> 1);
    this.isOpen = false;
    this._begin(0);
    this.nextFrame = 0; // the first frame that is not decoded yet
  }

  /** Tokens that were decoded as if the segment ended there. */
  get drafted() {
    return this._draft?.tokens ?? [];
  }

  /** One after the frames of `done` and `drafted`. */
  get endFrame() {
    return this._draft?.endFrame ?? this._doneEnd;
  }

  open(frame) {
    this._state = this._recognizer.zeroState();
    this.nextFrame = frame;
    this.isOpen = true;
    this._begin(frame);
  }

  close() {
    this.isOpen = false;
    this._draft = null;
  }

  /** Decode what is complete up to `end`. */
  async advance(audio, end) {
    while (end - this.nextFrame >= this._chunk) {
      const cut = this.nextFrame + this._chunk - this._lookAhead;
      this.done.push(...(await this._commit(audio, cut, end)));
      this._doneEnd = cut;
      this._draft = null;
    }
  }

  /** Decode up to `end` as if the segment ended there. */
  async draft(audio, end) {
    this._draft = { tokens: await this._rest(audio, end), endFrame: Math.max(end, this.nextFrame) };
  }

  /** End the segment in `end`; return its tokens. */
  async finish(audio, end) {
    const rest = this._draft?.endFrame === end ? this._draft.tokens : await this._rest(audio, end);
    const tokens = [...this.done, ...rest];
    this.close();
    return tokens;
  }

  /** End the segment inside speech: the next one begins in `cut` with the context of this one. */
  async cut(audio, cut, end) {
    const tokens = [...this.done, ...(await this._commit(audio, cut, end))];
    const decodedEnd = Math.max(this._doneEnd, cut);
    this._begin(cut);
    this.done = tokens.filter(({ frame }) => frame >= cut);
    this._doneEnd = decodedEnd;
    return tokens.filter(({ frame }) => frame < cut);
  }

  _begin(frame) {
    this.firstFrame = this._doneEnd = frame;
    this.done = []; // tokens that will not change
    this._draft = null;
  }

  /** Decode the frames up to `end` without leaving them: later audio may still change them. */
  async _rest(audio, end) {
    if (end <= this.nextFrame) return [];
    const window = audio.frames(this.nextFrame, end);
    return (await this._recognizer.runWindow(window, this._state, this.nextFrame, 0)).tokens;
  }

  /** Decode the frames up to `cut`, with those up to `end` as right context, and leave them. */
  async _commit(audio, cut, end) {
    if (cut <= this.nextFrame) return [];
    const stop = this._lookAhead ? Math.max(cut, Math.min(end, this.nextFrame + this._chunk)) : cut;
    const window = audio.frames(this.nextFrame, stop);
    const { tokens, state } = await this._recognizer.runWindow(window, this._state, this.nextFrame, stop - cut);
    [this._state, this.nextFrame] = [state, cut];
    return tokens.filter(({ frame }) => frame < cut);
  }
}

/** The newest samples of a stream, addressed by frame. */
export class RecentAudio {
  constructor(perFrame, firstFrame) {
    this._perFrame = perFrame;
    this._samples = new Float32Array(0);
    this.firstFrame = firstFrame;
  }

  /** One after the newest complete frame. */
  get endFrame() {
    return this.firstFrame + Math.floor(this._samples.length / this._perFrame);
  }

  get incompleteSamples() {
    return this._samples.length % this._perFrame;
  }

  append(samples) {
    const joined = new Float32Array(this._samples.length + samples.length);
    joined.set(this._samples);
    joined.set(samples, this._samples.length);
    this._samples = joined;
  }

  frames(first, end) {
    return this._samples.slice((first - this.firstFrame) * this._perFrame, (end - this.firstFrame) * this._perFrame);
  }

  discard(before) {
    const count = Math.min(before, this.endFrame) - this.firstFrame;
    if (count < 32) return; // copying for every few frames would cost more than keeping them
    this._samples = this._samples.slice(count * this._perFrame);
    this.firstFrame += count;
  }
}
