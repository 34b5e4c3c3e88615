// The page: microphone or file in, words out. Recognition runs in worker.js, so that the page never waits.

const element = (id) => document.getElementById(id);
const worker = new Worker("worker.js", { type: "module" });
let microphone = null; // { context, stream }

worker.onmessage = ({ data }) => {
  if (data.type === "ready") {
    setState("ready");
    element("microphone").disabled = element("file").disabled = false;
  }
  if (data.type === "final") addFinal(data.text);
  if (data.type === "partial") element("partial").textContent = data.text;
  if (data.type === "done") setState(microphone ? "listening" : "ready");
  if (data.type === "error") setState("error");
  if (data.status) element("status").textContent = data.status;
  if (data.figures) Object.assign(document.body.dataset, data.figures);
};
worker.onerror = (event) => showError(new Error(event.message ?? "the worker could not be started"));

function setState(state) {
  document.body.dataset.state = state;
}

function addFinal(text) {
  element("partial").textContent = "";
  const line = document.createElement("p");
  line.textContent = text;
  element("finals").append(line);
}

function showError(error) {
  setState("error");
  element("status").textContent = `Error: ${error.message}`;
}

async function startMicrophone() {
  if (!navigator.mediaDevices) throw new Error("the microphone needs https or localhost");
  const stream = await navigator.mediaDevices.getUserMedia({
    audio: { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: true },
  });
  const context = new AudioContext(); // at the rate of the device; the worker resamples
  await context.audioWorklet.addModule("capture.js");
  const options = { numberOfOutputs: 0, channelCount: 1, channelCountMode: "explicit" };
  const capture = new AudioWorkletNode(context, "capture", options);
  worker.postMessage({ type: "start", sampleRate: context.sampleRate });
  capture.port.onmessage = ({ data }) => {
    element("level").value = meterOf(data);
    worker.postMessage({ type: "samples", samples: data }, [data.buffer]);
  };
  context.createMediaStreamSource(stream).connect(capture);
  microphone = { context, stream };
  setState("listening");
  element("microphone").textContent = "Stop";
}

async function stopMicrophone() {
  const { context, stream } = microphone;
  microphone = null;
  stream.getTracks().forEach((track) => track.stop());
  await context.close();
  element("level").value = 0;
  element("microphone").textContent = "Listen to the microphone";
  setState("busy");
  worker.postMessage({ type: "stop" });
}

/** 0 for -60 dB and less, 1 for full scale. */
function meterOf(samples) {
  const peak = samples.reduce((most, sample) => Math.max(most, Math.abs(sample)), 1e-3);
  return 1 + Math.log10(Math.min(peak, 1)) / 3;
}

/** Decode a recording in any format of the browser; it resamples to 16 kHz. */
async function transcribe(file) {
  setState("busy");
  element("status").textContent = `Reading ${file.name}...`;
  const audio = await new OfflineAudioContext(1, 1, 16000).decodeAudioData(await file.arrayBuffer());
  const samples = new Float32Array(audio.length);
  for (let channel = 0; channel < audio.numberOfChannels; channel++) {
    audio.getChannelData(channel).forEach((value, i) => (samples[i] += value / audio.numberOfChannels));
  }
  worker.postMessage({ type: "file", samples }, [samples.buffer]);
}

element("microphone").onclick = () => (microphone ? stopMicrophone() : startMicrophone()).catch(showError);
element("file").onchange = ({ target }) => {
  const [file] = target.files;
  if (file) transcribe(file).catch(showError);
  target.value = ""; // so that the same file can be chosen again
};
document.body.ondragover = (event) => {
  event.preventDefault();
  document.body.classList.add("over");
};
document.body.ondragleave = () => document.body.classList.remove("over");
document.body.ondrop = (event) => {
  event.preventDefault();
  document.body.classList.remove("over");
  const [file] = event.dataTransfer.files;
  if (file && !element("file").disabled) transcribe(file).catch(showError);
};

// Without it the page works too, but only with a network; it needs https or localhost.
if ("serviceWorker" in navigator) {
  navigator.serviceWorker.register("offline.js").then(
    () => navigator.serviceWorker.ready.then(() => (document.body.dataset.offline = "ready")),
    (error) => console.warn(`not available offline: ${error.message}`),
  );
}
