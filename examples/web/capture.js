// The samples of the microphone, in blocks of about 40 ms.

const BLOCK = 2048;

class Capture extends AudioWorkletProcessor {
  constructor() {
    super();
    this._block = new Float32Array(BLOCK);
    this._count = 0;
  }

  process([[samples]]) {
    if (!samples) return true; // the device delivers nothing yet
    this._block.set(samples, this._count);
    this._count += samples.length;
    if (this._count === BLOCK) {
      this.port.postMessage(this._block, [this._block.buffer]);
      this._block = new Float32Array(BLOCK);
      this._count = 0;
    }
    return true;
  }
}

registerProcessor("capture", Capture);
