// Whether there may be speech in a stream: sound that rises above the noise. The same rules, in the same numbers, as
// the Python package's (lwasr_edge/streaming/activity.py).

import { INAUDIBLE_DB, LEVELS_PER_FRAME, SILENT_DB, decibels, levelsOf, power } from "./pauses.js";

const BAND_EDGES_HZ = [100, 300, 500, 800, 1200, 1800, 2600, 3800, 5400];
const FLOOR_FRAMES = 75; // the noise floor of a band is the tenth percentile of its levels in 3 s
const ONE_BAND_DB = 10; // above the floor in one band
const MANY_BANDS = 3;
const MANY_BANDS_DB = 6;
const CLEAR_DB = 15; // a pause so far below the speech is certain
const CLOSURE_FRAMES = 4; // so long a word may be silent inside
const LONGEST_TAIL = 10; // frames in which the sound of a token ends, in noise too

export class Activity {
  /**
   * @param {number} firstFrame of the audio
   * @param {number} sampleRate Hz
   * @param {number} samplesPerFrame
   */
  constructor(firstFrame, sampleRate, samplesPerFrame) {
    this._edges = BAND_EDGES_HZ.map((hz) => Math.round((hz * samplesPerFrame) / sampleRate));
    this._window = Float64Array.from({ length: samplesPerFrame }, (_, i) =>
      0.5 - 0.5 * Math.cos((2 * Math.PI * i) / (samplesPerFrame - 1)));
    const waves = (wave) => Float64Array.from({ length: samplesPerFrame }, (_, i) =>
      wave((2 * Math.PI * i) / samplesPerFrame));
    [this._cosine, this._sine] = [waves(Math.cos), waves(Math.sin)];
    // A recording may begin inside a word: at first, everything audible is activity.
    const bands = BAND_EDGES_HZ.length - 1;
    this._recent = Array.from({ length: FLOOR_FRAMES }, () => new Array(bands).fill(SILENT_DB));
    this._firstFrame = firstFrame;
    this._isActive = []; // of each frame from the first one on
    this.lastActive = null; // newest frame that rose above the floor
    this.isAudible = false; // the newest frame is not silent
    this.isClear = false; // the newest frame is far below the loudest one of the last 3 s
  }

  /** Process the frames of a RecentAudio up to `end`; return the first active one of them, or null. */
  update(audio, end) {
    const begin = this._firstFrame + this._isActive.length;
    if (begin >= end) return null;
    const before = Math.min(1, begin - audio.firstFrame); // the level of a sample needs the one before it
    const levels = levelsOf(audio.frames(begin - before, end), this._window.length).subarray(before * LEVELS_PER_FRAME);
    const floor = this._floor();
    let first = null;
    for (let frame = begin; frame < end; frame++) {
      const bands = this._bands(audio.frames(frame, frame + 1));
      const rises = bands.map((level, band) => level - floor[band]);
      const isLoud = rises.some((rise) => rise > ONE_BAND_DB)
        || rises.filter((rise) => rise > MANY_BANDS_DB).length >= MANY_BANDS;
      const at = (frame - begin) * LEVELS_PER_FRAME;
      this.isAudible = Math.max(...levels.subarray(at, at + LEVELS_PER_FRAME)) > INAUDIBLE_DB;
      this._isActive.push(isLoud && this.isAudible);
      this._recent.push(bands);
      if (isLoud && this.isAudible) this.lastActive = frame;
      if (isLoud && this.isAudible && first === null) first = frame;
    }
    this._recent.splice(0, this._recent.length - FLOOR_FRAMES);
    const loudest = this._recent.map((bands) => Math.max(...bands));
    this.isClear = loudest.at(-1) < Math.max(...loudest) - CLEAR_DB;
    return first;
  }

  /** The first active frame from `first` to `end` - 1, or null. */
  firstActive(first, end) {
    for (let frame = first; frame < end; frame++) if (this._active(frame)) return frame;
    return null;
  }

  /** One after the frame in which the sound of a token that starts in `frame` ends, as far as is known. */
  soundEnd(frame) {
    let last = frame;
    for (let later = frame + 1; later < frame + LONGEST_TAIL; later++) {
      if (this._active(later)) last = later;
      else if (later - last > CLOSURE_FRAMES) break;
    }
    return last + 1;
  }

  /** Forget the frames before a frame. */
  discard(before) {
    const count = Math.min(before - this._firstFrame, this._isActive.length);
    if (count <= 0) return;
    this._isActive.splice(0, count);
    this._firstFrame += count;
  }

  _active(frame) {
    return this._isActive[frame - this._firstFrame] === true;
  }

  /** The noise floor of each band. */
  _floor() {
    const position = (FLOOR_FRAMES - 1) / 10;
    const low = Math.floor(position);
    return this._recent[0].map((_, band) => {
      const ordered = this._recent.map((bands) => bands[band]).sort((a, b) => a - b);
      return ordered[low] + (ordered[low + 1] - ordered[low]) * (position - low);
    });
  }

  /** The level of one frame in each band, in dB. */
  _bands(samples) {
    const size = samples.length;
    const windowed = Float64Array.from(samples, (sample, i) => sample * this._window[i]);
    const scale = (size * 0.375 * size) / 2;
    return this._edges.slice(1).map((end, band) => {
      let sum = 0;
      for (let bin = this._edges[band]; bin < end; bin++) {
        let [real, imaginary] = [0, 0];
        for (let i = 0, at = 0; i < size; i++) {
          real += windowed[i] * this._cosine[at];
          imaginary += windowed[i] * this._sine[at];
          at += bin;
          if (at >= size) at -= size;
        }
        sum += real * real + imaginary * imaginary;
      }
      return decibels(sum / scale + power(SILENT_DB));
    });
  }
}
