// The thread of the model: from a picture to logits. The page stays usable meanwhile.

import { readable } from "./pixels.js";
import { normalise, resize, visibleBox } from "./resize.js";

let ort;
let session;
let preprocessing;

onmessage = async ({ data }) => {
  try {
    if (data.model) await load(data);
    else postMessage({ id: data.id, ...(await run(data.bitmap)) });
  } catch (error) {
    postMessage({ id: data.id, error: String(error?.message ?? error) });
  }
};

async function load({ runtime, wasm, model, card }) {
  preprocessing = card.preprocessing;
  ort = await import(URL.createObjectURL(new Blob([runtime], { type: "text/javascript" })));
  ort.env.wasm.numThreads = 1; // more would need headers that a file does not have
  ort.env.wasm.wasmBinary = wasm;
  session = await ort.InferenceSession.create(new Uint8Array(model), { executionProviders: ["wasm"] });
  postMessage({ ready: true });
}

async function run(bitmap) {
  const { image_size: [height, width], channels, interpolation } = preprocessing;
  const box = visibleBox(bitmap.width, bitmap.height, preprocessing);
  const bytes = resize(readable(bitmap), box, [height, width], channels, interpolation);
  bitmap.close();
  const images = new ort.Tensor("float32", normalise(bytes, preprocessing), [1, channels, height, width]);
  const { logits, attention } = await session.run({ images });
  return { logits: [...logits.data], attention: attention && grids(attention) };
}

// For each layer, rows of fractions.
function grids({ data, dims: [, layers, rows, columns] }) {
  const row = (layer, index) => [...data.subarray((layer * rows + index) * columns, (layer * rows + index + 1) * columns)];
  return Array.from({ length: layers }, (_, layer) => Array.from({ length: rows }, (_, index) => row(layer, index)));
}
