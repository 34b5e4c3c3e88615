// Where a recording is cut into segments: at pauses, found in the levels of the audio. The same rules, in the same
// numbers, as the Python package's (lwasr_edge/streaming/pauses.py), so that both cut in the same frames.

export const LEVELS_PER_FRAME = 4; // a level is that of 10 ms
const PREEMPHASIS = 0.97;
export const SILENT_DB = -100; // level of digital silence
export const INAUDIBLE_DB = -90;

// In levels.
const PAUSE = 60; // a segment ends here
const SHORT_PAUSE = 30; // ... and here, if it would be longer than LONG
const LONG = 800;
const AT_ONCE = 2400; // levels in which pauses are sought together
const AROUND = 300; // loudness and noise floor of a level are those of so many levels to either side
const STRIDE = 10; // loudness and floor are computed once for so many levels
const FIRST_CUT = 1000; // speech without a pause is cut at its quietest moment between these two
const LAST_CUT = 2000;
const DIP = 12; // length of such a moment
const BEFORE = 10; // kept of the pause before a segment
const AFTER = 20; // ... and after it
// In dB.
const BELOW_SPEECH_DB = 20;
const ABOVE_FLOOR_DB = 9;

/**
 * The level of each complete 10 ms in dB of full scale, after pre-emphasis.
 *
 * @param {Float32Array} audio
 * @param {number} samplesPerFrame of the model
 */
export function levelsOf(audio, samplesPerFrame) {
  const size = samplesPerFrame / LEVELS_PER_FRAME;
  return Float64Array.from({ length: Math.floor(audio.length / size) }, (_, level) => {
    let [sum, squares] = [0, 0];
    for (let i = level * size; i < (level + 1) * size; i++) {
      const value = audio[i] - PREEMPHASIS * (i ? audio[i - 1] : 0);
      sum += value;
      squares += value * value;
    }
    return decibels(Math.max(0, squares / size - (sum / size) ** 2) + power(SILENT_DB));
  });
}

/**
 * Divide a recording at its pauses.
 *
 * @param {Float64Array} levels of all of the recording, whole frames
 * @returns {[number, number][]} first frame of each segment, and one after its last; silence belongs to none
 */
export function findSegments(levels) {
  const segments = [];
  let from = 0;
  for (let isLast = false; !isLast; ) {
    isLast = levels.length - from <= AT_ONCE;
    const cut = segmentsIn(levels.subarray(from, isLast ? levels.length : from + AT_ONCE), isLast);
    for (const [first, end] of cut.segments) {
      segments.push([Math.floor((from + first) / LEVELS_PER_FRAME), Math.ceil((from + end) / LEVELS_PER_FRAME)]);
    }
    from += Math.floor(cut.used / LEVELS_PER_FRAME) * LEVELS_PER_FRAME;
  }
  return segments;
}

/** Segments of some levels, and how many levels they leave for the next call. */
function segmentsIn(levels, isLast) {
  const n = levels.length;
  const isPause = ([first, end], shortest) => end - first >= shortest || first === 0 || end === n;
  const pauses = runs(quiet(levels)).filter((run) => isPause(run, SHORT_PAUSE));
  let bounds = between(pauses.filter((run) => isPause(run, PAUSE)), 0, n);
  let used = n;
  if (!isLast && bounds.length && bounds.at(-1)[1] === n) {
    used = Math.max(0, bounds.pop()[0] - BEFORE);
    if (used < LEVELS_PER_FRAME && !bounds.length) {
      const quietest = FIRST_CUT + quietestOf(levels.subarray(FIRST_CUT, LAST_CUT));
      const cut = Math.floor(quietest / LEVELS_PER_FRAME) * LEVELS_PER_FRAME;
      return { segments: [[0, cut]], used: cut };
    }
  }
  bounds = bounds.flatMap((bound) => divided(bound, pauses));
  const segments = bounds.map(([first, end], i) => {
    const previousEnd = i ? bounds[i - 1][1] : 0;
    const nextFirst = i + 1 < bounds.length ? bounds[i + 1][0] : used;
    const middleBefore = Math.floor((previousEnd + first) / 2);
    const middleAfter = Math.floor((end + Math.max(end, nextFirst) + 1) / 2);
    const before = i ? Math.max(first - BEFORE, middleBefore) : first - BEFORE;
    const after = i + 1 === bounds.length ? end + AFTER : Math.min(end + AFTER, middleAfter);
    return [Math.max(0, before), Math.min(after, n)];
  });
  return { segments, used };
}

/** What is left of `first` to `end` - 1 without the pauses. */
function between(pauses, first, end) {
  const starts = [first, ...pauses.map(([, stop]) => stop)];
  const stops = [...pauses.map(([start]) => start), end];
  return starts.map((start, i) => [start, stops[i]]).filter(([start, stop]) => start < stop);
}

/** The segment, cut at its longest pause until no part is longer than `LONG`, as far as it has pauses. */
function divided([first, end], pauses) {
  const inside = pauses.filter(([start, stop]) => first < start && stop < end);
  if (end - first <= LONG || !inside.length) return [[first, end]];
  const longest = inside.reduce((best, pause) => (pause[1] - pause[0] > best[1] - best[0] ? pause : best));
  return between([longest], first, end).flatMap((half) => divided(half, pauses));
}

/** Whether each level is that of a pause: far below the speech around it, and near the noise floor. */
function quiet(levels) {
  const n = levels.length;
  const at = (i) => (i < 0 || i >= n ? 0 : power(levels[i]));
  const smoothed = levels.map((_, i) => decibels((at(i - 1) + at(i) + at(i + 1)) / 3 + 1e-12));
  const mask = new Array(n);
  for (let start = 0; start < n; start += STRIDE) {
    const around = Float64Array.from({ length: 2 * AROUND + 1 }, (_, i) =>
      smoothed[Math.min(n - 1, Math.max(0, start - AROUND + i))]).sort();
    const [floor, loud] = [0.05, 0.95].map((part) => around[Math.round(2 * AROUND * part)]);
    const threshold = Math.max(Math.min(loud - BELOW_SPEECH_DB, floor + ABOVE_FLOOR_DB), INAUDIBLE_DB);
    for (let i = start; i < Math.min(n, start + STRIDE); i++) mask[i] = smoothed[i] < threshold;
  }
  return mask;
}

/** [first, end] of each run of true. */
function runs(mask) {
  const found = [];
  for (let i = 0, first = -1; i <= mask.length; i++) {
    if (mask[i] && first < 0) first = i;
    if (!mask[i] && first >= 0) {
      found.push([first, i]);
      first = -1;
    }
  }
  return found;
}

/** The middle of the quietest `DIP` levels. */
function quietestOf(levels) {
  let [best, least] = [0, Infinity];
  for (let i = 0; i + DIP <= levels.length; i++) {
    const sum = levels.subarray(i, i + DIP).reduce((total, level) => total + power(level), 0);
    if (sum < least) [best, least] = [i, sum];
  }
  return best + DIP / 2;
}

export function power(level) {
  return 10 ** (level / 10);
}

export function decibels(value) {
  return 10 * Math.log10(value);
}
