// Transcribe WAV files, or 16-bit mono samples at 16 kHz from stdin, with Node 18 or newer:
//
//   npm install --ignore-scripts
//   node transcribe.mjs FILE.wav...
//   arecord -t raw -f S16_LE -r 16000 -c 1 | node transcribe.mjs -
//   node transcribe.mjs --model ../../models/en-tiny/model.int8.onnx.gz --json FILE.wav
//
// Files print a line of text each (with --json their words with times). Stdin prints a line when an utterance ends
// (with --json every partial and final event).

import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

import { Recognizer, Resampler } from "../web/lwasr.js";
import { readWav } from "./wav.mjs";

const DEFAULT_MODEL = fileURLToPath(new URL("../../models/en-base/model.int8.onnx.gz", import.meta.url));

/** onnxruntime-node, or, where there is no build of it, the slower onnxruntime-web. */
async function runtime() {
  for (const name of ["onnxruntime-node", "onnxruntime-web"]) {
    try {
      const found = await import(name);
      return found.InferenceSession ? found : found.default;
    } catch (error) {
      if (error.code !== "ERR_MODULE_NOT_FOUND") throw error;
    }
  }
  throw new Error("onnxruntime-node or onnxruntime-web must be installed, got neither: npm install --ignore-scripts");
}

async function transcribeFile(recognizer, path, asJson) {
  const { samples, sampleRate } = readWav(await readFile(path));
  const result = await recognizer.transcribe(Resampler.convert(samples, sampleRate, recognizer.info.sample_rate));
  console.log(asJson ? JSON.stringify({ path, ...result }) : result.text);
}

async function transcribeStdin(recognizer, asJson) {
  const stream = recognizer.stream();
  const show = (events) => {
    for (const event of events) {
      if (asJson) console.log(JSON.stringify(event));
      else if (event.kind === "final") console.log(event.text);
    }
  };
  let rest = Buffer.alloc(0); // an odd byte
  for await (const block of process.stdin) {
    const bytes = Buffer.concat([rest, block]);
    const samples = Float32Array.from({ length: bytes.length >> 1 }, (_, i) => bytes.readInt16LE(2 * i) / 32768);
    rest = bytes.subarray(bytes.length & ~1);
    show(await stream.accept(samples));
  }
  show(await stream.flush());
}

async function main() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { model: { type: "string", default: DEFAULT_MODEL }, json: { type: "boolean", default: false } },
  });
  if (!positionals.length) throw new Error("give one or more WAV files, or - for samples from stdin");
  const description = values.model.replace(/\.gz$/, "").replace(/\.onnx$/, "") + ".json";
  const [bytes, text] = await Promise.all([readFile(values.model), readFile(description, "utf8")]);
  const recognizer = await Recognizer.open(await runtime(), bytes, JSON.parse(text));
  for (const path of positionals) {
    await (path === "-" ? transcribeStdin(recognizer, values.json) : transcribeFile(recognizer, path, values.json));
  }
  await recognizer.close();
}

main().catch((error) => {
  console.error(`error: ${error.message}`);
  process.exitCode = 1;
});
