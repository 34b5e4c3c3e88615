// Recognition in a worker: messages of page.js in, partial and final texts out.

import * as ort from "./ort/ort.wasm.bundle.min.mjs";
import { Recognizer, Resampler } from "./lwasr.js";

ort.env.wasm.wasmPaths = { wasm: new URL("./ort/ort-wasm-simd-threaded.wasm", import.meta.url).href };
ort.env.wasm.numThreads = 1; // more need response headers that a static site may not have

let stream = null;
let resampler = null;
let [busyMs, audioS] = [0, 0]; // since the last start

const begin = performance.now();
const loading = Recognizer.load(ort, "model/model.onnx.gz", "model/model.json").then((recognizer) => {
  const loadMs = Math.round(performance.now() - begin);
  postMessage({ type: "ready", status: `Model ${recognizer.info.name} loaded in ${loadMs} ms`, figures: { loadMs } });
  return recognizer;
});

const handlers = {
  async start(recognizer, { sampleRate }) {
    stream = recognizer.stream();
    resampler = new Resampler(sampleRate, recognizer.info.sample_rate);
    [busyMs, audioS] = [0, 0];
  },
  async samples(recognizer, { samples }) {
    if (stream) await show(recognizer, resampler.process(samples), (block) => stream.accept(block));
  },
  async stop(recognizer) {
    const last = async (block) => [...(await stream.accept(block)), ...(await stream.flush())];
    if (stream) await show(recognizer, resampler.flush(), last);
    stream = null;
    postMessage({ type: "done", figures: figures() });
  },
  async file(recognizer, { samples }) {
    [busyMs, audioS] = [0, samples.length / recognizer.info.sample_rate];
    const begin = performance.now();
    const onSegment = (_, endS) => {
      postMessage({ type: "progress", status: `${Math.round(endS)} s of ${Math.round(audioS)} s` });
    };
    const { text } = await recognizer.transcribe(samples, { onSegment });
    busyMs = performance.now() - begin;
    postMessage({ type: "final", text });
    const found = figures();
    const status = `${audioS.toFixed(1)} s of audio, real-time factor ${found.rtf}`;
    postMessage({ type: "done", status, figures: found });
  },
};

async function show(recognizer, block, recognise) {
  const begin = performance.now();
  const events = await recognise(block);
  busyMs += performance.now() - begin;
  audioS += block.length / recognizer.info.sample_rate;
  for (const { kind, text } of events) postMessage({ type: kind, text });
  if (events.length) postMessage({ type: "figures", status: `real-time factor ${figures().rtf}`, figures: figures() });
}

function figures() {
  return { rtf: audioS ? (busyMs / 1000 / audioS).toFixed(3) : "0" };
}

let queue = loading; // messages are handled one after another
onmessage = ({ data }) => {
  queue = queue.then(async () => handlers[data.type](await loading, data)).catch(report);
};
loading.catch(report);

function report(error) {
  postMessage({ type: "error", status: `Error: ${error.message}` });
}
