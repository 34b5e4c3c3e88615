// Copy the page, onnxruntime-web and a model into one folder that any web server can serve:
//
//   npm install --ignore-scripts
//   node site.mjs                                  # -> site/; options: --model FILE --out DIR --packages DIR
//   python3 -m http.server --directory site 8000   # -> http://localhost:8000/

import { createHash } from "node:crypto";
import { copyFile, mkdir, readFile, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const here = dirname(fileURLToPath(import.meta.url));
const PAGE = ["index.html", "page.js", "worker.js", "capture.js", "lwasr.js"];
const PAGE_MODULES = ["stream.js", "passes.js", "activity.js", "pauses.js"]; // of lwasr.js
const RUNTIME = ["ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"];

const { values } = parseArgs({
  options: {
    model: { type: "string", default: join(here, "../../models/en-base/model.int8.onnx.gz") },
    out: { type: "string", default: join(here, "site") },
    packages: { type: "string", default: join(here, "node_modules") },
  },
});
const description = values.model.replace(/\.gz$/, "").replace(/\.onnx$/, "") + ".json";
const sources = {
  ...Object.fromEntries([...PAGE, ...PAGE_MODULES].map((name) => [name, join(here, name)])),
  ...Object.fromEntries(RUNTIME.map((name) => [`ort/${name}`, join(values.packages, "onnxruntime-web/dist", name)])),
  "model/model.onnx.gz": values.model,
  "model/model.json": description,
};
const digest = createHash("sha256");
for (const [name, source] of Object.entries(sources)) {
  const target = join(values.out, name);
  await mkdir(dirname(target), { recursive: true });
  await copyFile(source, target);
  digest.update(await readFile(target));
}
const files = ["./", ...Object.keys(sources)];
const offline = (await readFile(join(here, "offline.js"), "utf8"))
  .replace('"development"', JSON.stringify(digest.digest("hex")))
  .replace("FILES = []", `FILES = ${JSON.stringify(files)}`);
await writeFile(join(values.out, "offline.js"), offline);
console.log(`${values.out}: ${files.length} files`);
