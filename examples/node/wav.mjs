// WAV files: PCM of 8 to 32 bits and float, any number of channels.

const [PCM, FLOAT, EXTENSIBLE] = [1, 3, 0xfffe];

/**
 * Read a WAV file.
 *
 * @param {Buffer} bytes of the file; one that is cut short, or whose size was never written, is read to its end
 * @returns {{samples: Float32Array, sampleRate: number}} the average of the channels, in [-1, 1]
 */
export function readWav(bytes) {
  if (bytes.length < 12 || bytes.toString("latin1", 0, 4) !== "RIFF" || bytes.toString("latin1", 8, 12) !== "WAVE") {
    throw new Error("a recording must be a WAV file, got another format: ffmpeg -i FILE -ar 16000 -ac 1 FILE.wav");
  }
  let format = null;
  for (let at = 12; at + 8 <= bytes.length; ) {
    const name = bytes.toString("latin1", at, at + 4);
    const size = bytes.readUInt32LE(at + 4);
    const body = bytes.subarray(at + 8, Math.min(bytes.length, at + 8 + size));
    if (name === "fmt " && body.length >= 16) format = readFormat(body);
    if (name === "data") {
      const samples = toMono(bytes.subarray(at + 8, dataEnd(bytes, at, size)), format);
      return { samples, sampleRate: format.rate };
    }
    at += 8 + size + (size % 2);
  }
  throw new Error("a WAV file must have a chunk 'data', got none: it is damaged");
}

function dataEnd(bytes, at, size) {
  return size === 0 || size === 0xffffffff ? bytes.length : Math.min(bytes.length, at + 8 + size);
}

function readFormat(body) {
  const code = body.readUInt16LE(0);
  return {
    kind: code === EXTENSIBLE && body.length >= 26 ? body.readUInt16LE(24) : code,
    channels: body.readUInt16LE(2),
    rate: body.readUInt32LE(4),
    bytes: body.readUInt16LE(14) >> 3,
  };
}

function toMono(data, format) {
  if (!format) throw new Error("a WAV file must have a chunk 'fmt ' before its samples, got none: it is damaged");
  const { kind, channels, bytes } = format;
  const isKnown = (kind === PCM && bytes >= 1 && bytes <= 4) || (kind === FLOAT && bytes === 4);
  if (!isKnown || !channels) {
    throw new Error(`a WAV file must have PCM or float samples, got format ${kind} of ${8 * bytes} bits: convert it`);
  }
  const read = kind === FLOAT
    ? (at) => data.readFloatLE(at)
    : (at) => (bytes === 1 ? (data[at] - 128) / 128 : data.readIntLE(at, bytes) / 2 ** (8 * bytes - 1));
  const step = channels * bytes;
  return Float32Array.from({ length: Math.floor(data.length / step) }, (_, i) => {
    let sum = 0;
    for (let channel = 0; channel < channels; channel++) sum += read(i * step + channel * bytes);
    return sum / channels;
  });
}
