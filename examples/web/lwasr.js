// Speech recognition with a model file of this project, in a browser (onnxruntime-web) or in Node (onnxruntime-node).
//
//   import * as ort from "onnxruntime-web";
//   const recognizer = await Recognizer.load(ort, "model.int8.onnx.gz", "model.int8.json");
//   const { text, words } = await recognizer.transcribe(samples);      // Float32Array, mono, 16 kHz, in [-1, 1]
//   const stream = recognizer.stream();
//   for (const event of await stream.accept(samples)) ...              // { kind: "partial" | "final", text, words }
//   for (const event of await stream.flush()) ...                      // the last words
//
// The loop is that of docs/MODEL_FORMAT.md. Samples of another rate: see `Resampler`.

import { findSegments, levelsOf } from "./pauses.js";
import { Stream, textOf } from "./stream.js";

const FORMAT = 2; // of the model file; other versions are refused
const LOOK_AHEAD_MS = 640; // right context of a window
const HOP_MS = 320; // a stream recognises its newest audio so often

export class Recognizer {
  /**
   * Fetch and open a model.
   *
   * @param ort the module onnxruntime-web or onnxruntime-node
   * @param {string | URL} modelUrl the model file, .onnx or .onnx.gz
   * @param {string | URL} jsonUrl the description that is written beside the model file
   * @param {object} sessionOptions of `ort.InferenceSession.create`
   */
  static async load(ort, modelUrl, jsonUrl, sessionOptions = {}) {
    const [model, description] = await Promise.all([fetched(modelUrl), fetched(jsonUrl)]);
    return Recognizer.open(ort, new Uint8Array(await model.arrayBuffer()), await description.json(), sessionOptions);
  }

  /**
   * Open a model.
   *
   * @param {Uint8Array} bytes of the model file, .onnx or .onnx.gz
   * @param {object} description the parsed JSON file
   */
  static async open(ort, bytes, description, sessionOptions = {}) {
    const found = description?.format;
    if (found !== FORMAT) throw new Error(`model format must be ${FORMAT}, got ${found}: use another model`);
    if (!description.model.streaming) throw new Error("the model must be a streaming model, got one with full context");
    await requireSame(bytes, description.file);
    const options = { intraOpNumThreads: 1, ...sessionOptions };
    return new Recognizer(ort, await ort.InferenceSession.create(await decompressed(bytes), options), description);
  }

  constructor(ort, session, description) {
    this.info = description.model;
    this.frameS = this.info.samples_per_frame / this.info.sample_rate;
    this._ort = ort;
    this._session = session;
    this._inputs = description.inputs;
    this._state = description.inputs.filter(({ name }) => name.startsWith("state_"));
    this._names = ["tokens", "frames", "scores", ...this._state.map(({ name }) => nextName(name))];
    this._canLookAhead = description.inputs.some(({ name }) => name === "look_ahead");
    this.lookAhead = this._canLookAhead ? Math.floor(LOOK_AHEAD_MS / 1000 / this.frameS) : 0;
    this.hop = Math.max(1, Math.round(HOP_MS / 1000 / this.frameS));
  }

  /** The state at the start of a stream: zeros. */
  zeroState() {
    return Object.fromEntries(this._state.map(({ name, dtype, shape }) => {
      const size = shape.reduce((product, length) => product * length, 1);
      const data = dtype === "int64" ? new BigInt64Array(size) : new Float32Array(size);
      return [name, new this._ort.Tensor(dtype, data, shape)];
    }));
  }

  /**
   * Run one window.
   *
   * @param {Float32Array} window a positive multiple of `info.samples_per_frame` samples
   * @param {object} state `zeroState()`, or the state that the window before returned
   * @param {number} firstFrame of the window, counted from the start of the recording
   * @param {number} lookAhead frames at the end of the window that the next window contains again
   * @returns {Promise<{tokens: {id, frame, score}[], state: object, nextFrame: number}>} tokens from frame `nextFrame`
   *     on are provisional
   */
  async runWindow(window, state, firstFrame, lookAhead) {
    const feeds = { ...state, waveform: new this._ort.Tensor("float32", window, [window.length]) };
    if (this._canLookAhead) {
      feeds.look_ahead = new this._ort.Tensor("int64", BigInt64Array.of(BigInt(lookAhead)), [1]);
    }
    const result = await this._session.run(feeds, this._names);
    const [ids, frames, scores] = ["tokens", "frames", "scores"].map((name) => result[name].data);
    const tokens = Array.from(ids, (id, i) => ({
      id: Number(id),
      frame: firstFrame + Number(frames[i]),
      score: scores[i],
    }));
    const next = Object.fromEntries(this._state.map(({ name }) => [name, result[nextName(name)]]));
    return { tokens, state: next, nextFrame: firstFrame + window.length / this.info.samples_per_frame - lookAhead };
  }

  /**
   * The words of a recording: cut at pauses, each segment decoded with full context.
   *
   * @param {Float32Array} samples mono, at `info.sample_rate`
   * @param {{cutAtPauses?: boolean, onSegment?: (words: object[], endS: number) => void}} options
   * @returns {Promise<{text: string, words: {text, startS, endS, confidence}[]}>}
   */
  async transcribe(samples, { cutAtPauses = true, onSegment = () => {} } = {}) {
    const audio = new Float32Array(this._paddedLength(samples.length));
    audio.set(samples);
    const words = await this.decodeSegments(audio, 0, cutAtPauses, onSegment);
    return { text: textOf(words), words };
  }

  /** The words of audio that begins in a frame: whole frames, cut at pauses. */
  async decodeSegments(audio, firstFrame = 0, cutAtPauses = true, onSegment = () => {}) {
    const { samples_per_frame: perFrame } = this.info;
    const segments = cutAtPauses ? findSegments(levelsOf(audio, perFrame)) : [[0, audio.length / perFrame]];
    const words = [];
    for (const [first, end] of segments) {
      const tokens = await this.decode(audio.subarray(first * perFrame, end * perFrame), firstFrame + first);
      const found = this.words(tokens);
      words.push(...found);
      onSegment(found, (firstFrame + end) * this.frameS);
    }
    return words;
  }

  /**
   * The tokens of one segment, from zero state, in windows as large as the model can use.
   *
   * @param {Float32Array} segment a multiple of `info.samples_per_frame` samples
   * @param {number} firstFrame of the segment
   */
  async decode(segment, firstFrame = 0) {
    const { samples_per_frame: perFrame, max_chunk_frames: most } = this.info;
    const end = firstFrame + segment.length / perFrame;
    const slice = (from, to) => segment.slice((from - firstFrame) * perFrame, (to - firstFrame) * perFrame);
    const tokens = [];
    let [state, next] = [this.zeroState(), firstFrame];
    while (next < end) {
      const isLast = end - next < most;
      const window = slice(next, isLast ? end : next + most);
      const result = await this.runWindow(window, state, next, isLast ? 0 : Math.min(this.lookAhead, most >> 1));
      tokens.push(...result.tokens.filter(({ frame }) => frame < result.nextFrame));
      ({ state, nextFrame: next } = result);
    }
    return tokens;
  }

  /** Words of some tokens. A word's confidence is the geometric mean of its tokens' scores. */
  words(tokens) {
    const words = [];
    let pieces = [];
    const close = () => {
      const text = pieces.map(({ piece }) => (piece === "<unk>" ? "\u2047" : piece)).join("");
      if (text) {
        const logs = pieces.map(({ score }) => Math.log(Math.max(score, 1e-10)));
        words.push({
          text,
          startS: this._frameStart(pieces[0].frame),
          endS: this._frameStart(pieces.at(-1).frame + 1),
          confidence: Math.min(1, Math.exp(logs.reduce((sum, log) => sum + log, 0) / logs.length)),
        });
      }
      pieces = [];
    };
    for (const { id, frame, score } of tokens) {
      const piece = this.info.vocabulary[id];
      if (piece.startsWith("\u2581")) close();
      pieces.push({ piece: piece.replace(/^\u2581/, ""), frame, score });
    }
    close();
    return words;
  }

  /**
   * Words while they are spoken.
   *
   * @param {{silenceS?: number, longestS?: number}} options an utterance ends after so much silence, or, if it is
   *     longer, before its newest word
   */
  stream(options = {}) {
    return new Stream(this, options);
  }

  /** Free the memory of the model. */
  async close() {
    await this._session.release();
  }

  /** The samples of a recording with the zeros that must follow its last sample, up to whole frames. */
  _paddedLength(length) {
    const { samples_per_frame: perFrame, flush_samples: flush } = this.info;
    return Math.ceil((length + flush) / perFrame) * perFrame;
  }

  _frameStart(frame) {
    const { samples_per_frame: perFrame, frame_delay_samples: delay, sample_rate: rate } = this.info;
    return Math.max(0, (frame - 0.5) * perFrame - delay) / rate;
  }
}

/** Samples of any rate to another: a windowed sinc, for blocks of any size. */
export class Resampler {
  /**
   * @param {number} fromHz whole numbers
   * @param {number} toHz
   */
  constructor(fromHz, toHz) {
    for (const [name, hz] of [["fromHz", fromHz], ["toHz", toHz]]) {
      const isValid = Number.isInteger(hz) && hz >= 1000 && hz <= 768000;
      if (!isValid) throw new Error(`${name} must be a whole number, 1000 to 768000, got ${hz}`);
    }
    const divisor = greatestCommonDivisor(fromHz, toHz);
    [this._up, this._down] = [toHz / divisor, fromHz / divisor];
    const cutoff = Math.min(1, toHz / fromHz) * 0.95; // in units of the input's Nyquist frequency
    this._half = Math.ceil(32 / Math.min(1, toHz / fromHz));
    this._filters = this._down === this._up ? null : sincFilters(this._up, this._half, cutoff);
    this._rest = new Float32Array(this._half); // the first output is centred on the first input
    this._phase = 0; // of the next output, in units of 1 / `_up` input samples after `_rest[_half]`
  }

  /** Add samples; return those that are complete. */
  process(samples) {
    if (!this._filters) return samples;
    const [half, up] = [this._half, this._up];
    const input = new Float32Array(this._rest.length + samples.length);
    input.set(this._rest);
    input.set(samples, this._rest.length);
    const last = input.length - half - 1; // centre of the last possible output
    const count = Math.max(0, Math.floor(((last - half) * up + up - 1 - this._phase) / this._down) + 1);
    const output = new Float32Array(count);
    for (let i = 0; i < count; i++) {
      const centre = Math.floor(this._phase / up) + half;
      const filter = this._filters[this._phase % up];
      let sum = 0;
      for (let tap = 0; tap < filter.length; tap++) sum += filter[tap] * input[centre - half + 1 + tap];
      output[i] = sum;
      this._phase += this._down;
    }
    const used = Math.min(Math.floor(this._phase / up), input.length - 2 * half);
    this._rest = input.slice(Math.max(0, used));
    this._phase -= Math.max(0, used) * up;
    return output;
  }

  /** End the audio; return the last samples. */
  flush() {
    return this._filters ? this.process(new Float32Array(this._half)) : new Float32Array(0);
  }

  /** A whole recording at another rate. */
  static convert(samples, fromHz, toHz) {
    const resampler = new Resampler(fromHz, toHz);
    const [most, rest] = [resampler.process(samples), resampler.flush()];
    if (!rest.length) return most;
    const joined = new Float32Array(most.length + rest.length);
    joined.set(most);
    joined.set(rest, most.length);
    return joined;
  }
}

function nextName(stateName) {
  return stateName.replace(/^state_/, "next_");
}

async function fetched(url) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url} must be readable, got status ${response.status}: copy the file there`);
  return response;
}

function isGzip(bytes) {
  return bytes[0] === 0x1f && bytes[1] === 0x8b;
}

async function decompressed(bytes) {
  if (!isGzip(bytes)) return bytes; // a server may have sent it with Content-Encoding: gzip
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** Check that a model file is that of the description. Without a secure context, browsers have no SHA-256. */
async function requireSame(bytes, file) {
  if (file.path.endsWith(".gz") && !isGzip(bytes)) return;
  if (bytes.length !== file.bytes) {
    throw new Error(`the model must have ${file.bytes} bytes, got ${bytes.length}: copy it and its JSON file again`);
  }
  if (!globalThis.crypto?.subtle) return;
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  const found = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
  if (found !== file.sha256) throw new Error(`the model must have SHA-256 ${file.sha256}, got ${found}: copy it again`);
}

function greatestCommonDivisor(a, b) {
  return b ? greatestCommonDivisor(b, a % b) : a;
}

/** A filter for every position between two input samples: sinc with a Blackman window, and a sum of 1. */
function sincFilters(count, half, cutoff) {
  return Array.from({ length: count }, (_, phase) => {
    const taps = Float64Array.from({ length: 2 * half }, (_unused, tap) => {
      const x = tap - half + 1 - phase / count;
      const window = 0.42 + 0.5 * Math.cos((Math.PI * x) / half) + 0.08 * Math.cos((2 * Math.PI * x) / half);
      return x === 0 ? cutoff : (Math.sin(Math.PI * cutoff * x) / (Math.PI * x)) * window;
    });
    const sum = taps.reduce((total, value) => total + value, 0);
    return taps.map((value) => value / sum);
  });
}
