// A page that is one file: the model runs in the browser, and nothing leaves it.

import { readBlock } from "./blocks.js";
import { byId, capitalised, listed, named, showFacts, valueText } from "./elements.js";
import { failureOf, problemOf } from "./formats.js";
import { Gallery } from "./gallery.js";
import { drawAttention } from "./overlay.js";
import { visibleBox } from "./resize.js";

const CLASSES = 5; // that are shown
const MOST_PIXELS = 2 ** 27; // as many as `vitral predict` takes
const MANY_PIXELS = 4e7;

const card = JSON.parse(byId("card").textContent);
const gallery = new Gallery({ classify, parallel: 1 });
const answers = new Map(); // what waits for the model's thread, by number
let worker;

async function start() {
  describe();
  if (!self.DecompressionStream || !self.OffscreenCanvas || !Array.prototype.toSorted) {
    gallery.say("This browser is too old for this page: use one of 2023 or later.");
    return;
  }
  try {
    await loadModel();
    gallery.start();
  } catch (error) {
    gallery.say(`The model cannot be loaded: ${error.message}.`);
  }
}

async function loadModel() {
  const [code, runtime, wasm, model] = await Promise.all(["worker", "runtime", "wasm", "model"].map(readBlock));
  await new Promise((resolve, reject) => {
    // no module: browsers do not load one from a blob where a page is a file
    worker = new Worker(URL.createObjectURL(new Blob([code], { type: "text/javascript" })));
    worker.onerror = (event) => reject(new Error(event.message || "its thread does not start"));
    worker.onmessage = ({ data }) => (data.ready ? resolve() : reject(new Error(data.error)));
    worker.postMessage({ runtime, wasm, model, card }, [runtime, wasm, model]);
  });
  worker.onmessage = ({ data }) => {
    answers.get(data.id)(data);
    answers.delete(data.id);
  };
  worker.onerror = ({ message }) => {
    for (const answer of answers.values()) answer({ error: message || "the model's thread stopped" });
    answers.clear();
  };
}

async function classify(shown) {
  const { file, element } = shown;
  const began = performance.now();
  const problem = await problemOf(file);
  if (problem) throw new Error(problem);
  const image = await decoded(file, shown.url);
  const [width, height] = [image.naturalWidth, image.naturalHeight];
  const megapixels = ((width * height) / 1e6).toFixed(0);
  if (width * height > MOST_PIXELS) throw new Error(`${file.name} has ${megapixels} megapixels, more than the 134 allowed.`);
  const bitmap = await createImageBitmap(image).catch(async () => {
    throw new Error(await failureOf(file));
  });
  const { logits, attention, error } = await ask(bitmap);
  if (error) throw new Error(`${file.name} was not classified: ${error}.`);
  element.dispatchEvent(new CustomEvent("classified", { bubbles: true, detail: { name: file.name, logits, attention } }));
  const seconds = ((performance.now() - began) / 1000).toFixed(1);
  const draw = (layer) => drawAttention(image, visibleBox(width, height, card.preprocessing), attention[layer - 1]);
  return {
    ...answerOf(logits),
    attention: attention && { layers: attention.length, draw },
    note: width * height > MANY_PIXELS ? `This picture has ${megapixels} megapixels; it took ${seconds}\u00a0s.` : "",
  };
}

async function decoded(file, url) {
  const image = new Image();
  image.src = url;
  try {
    await image.decode();
  } catch {
    throw new Error(await failureOf(file));
  }
  return image;
}

// What the model's thread answers.
function ask(bitmap) {
  const id = Math.random();
  return new Promise((resume) => {
    answers.set(id, resume);
    worker.postMessage({ id, bitmap }, [bitmap]);
  });
}

// What the model says: a number, or the most probable classes; of a model of several labels also those that are above
// their threshold.
function answerOf(logits) {
  const { classes, target, thresholds } = card;
  if (target === "regression") return { value: valueText(classes[0], logits[0]) };
  const several = target === "multi-label";
  const probabilities = several ? logits.map((logit) => 1 / (1 + Math.exp(-logit))) : softmax(logits);
  const rows = probabilities.map((probability, index) => {
    const chosen = several ? probability >= (thresholds[index] ?? 0.5) : undefined;
    return { class: classes[index], probability, chosen };
  });
  rows.sort((one, other) => other.probability - one.probability);
  return { classes: rows.filter(({ chosen }, index) => chosen || index < CLASSES) };
}

function softmax(logits) {
  const largest = Math.max(...logits);
  const powers = logits.map((logit) => Math.exp(logit - largest));
  const total = powers.reduce((sum, power) => sum + power, 0);
  return powers.map((power) => power / total);
}

function describe() {
  const name = decodeURIComponent(location.pathname.split("/").pop()).replace(/\.html?$/i, "") || "Vitral";
  document.title = name;
  byId("title").textContent = name;
  const { preprocessing: { image_size: [height, width], channels }, provenance, metrics } = card;
  showFacts({
    Input: `${height} × ${width} pixels, ${channels === 1 ? "grey" : "colour"}`,
    Classes: listed(card.classes),
    Weights: card.precision,
    ...(card.warning ? { Warning: card.warning } : {}),
    ...Object.fromEntries(Object.entries(provenance).map(([key, value]) => [capitalised(key), value])),
    ...named(metrics),
    "Made with": `Vitral ${card.vitral}, ${card.runtime}`,
  });
}

start();
