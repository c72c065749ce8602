// The page: takes pictures from files, drops, the clipboard and the camera, and shows what the model says of them.

import { listModels, predict, setToken } from "./api.js";
import { Card, element } from "./card.js";

const PARALLEL = 4; // requests at a time: more would wait in the service's queue, at the cost of others

const byId = (id) => document.getElementById(id);
const results = byId("results");
const cards = [];
const waiting = [];
let models = [];
let running = 0;

async function start() {
  try {
    models = await listModels();
  } catch (error) {
    byId("token-form").hidden = error.status !== 401;
    byId("bar").hidden = false;
    byId("status").textContent = error.message;
    if (error.status === 401) byId("token").focus();
    return;
  }
  byId("token-form").hidden = true;
  byId("status").textContent = "";
  byId("model").replaceChildren(...models.map(({ name }) => new Option(name, name)));
  byId("model-choice").hidden = models.length < 2;
  document.title = models.length < 2 ? `${models[0].name} – Vitral` : "Vitral";
  showFacts();
  classify();
}

function currentModel() {
  return models.find(({ name }) => name === byId("model").value);
}

function showFacts() {
  const model = currentModel();
  const [height, width] = model.image_size;
  const facts = {
    Name: model.name,
    Architecture: `${model.architecture}, ${model.parameters.toLocaleString("en")} parameters`,
    Input: `${height} × ${width} pixels`,
    Classes: model.classes.length ? `${model.classes.length}: ${model.classes.slice(0, 20).join(", ")}` : "none",
    ...model.metrics,
  };
  if (model.classes.length > 20) facts.Classes += ", …";
  const parts = Object.entries(facts).flatMap(([name, value]) => [
    element("dt", "", name),
    element("dd", "", typeof value === "number" ? value.toFixed(4) : value),
  ]);
  byId("facts").replaceChildren(...parts);
}

function add(files) {
  for (const file of files) {
    const card = new Card(file, null);
    cards.push(card);
    waiting.push(card);
    results.append(card.element);
  }
  if (files.length) byId("bar").hidden = false;
  classify();
}

function classify() {
  while (models.length && running < PARALLEL && waiting.length) {
    running += 1;
    classifyOne(waiting.shift()).finally(() => {
      running -= 1;
      classify();
    });
  }
  report();
}

async function classifyOne(card) {
  card.model = currentModel();
  try {
    card.showAnswer(await predict(card.model.name, card.file));
  } catch (error) {
    card.showError(error.message);
  }
  sort();
}

function report() {
  if (!models.length || !cards.length) return;
  const left = waiting.length + running;
  const count = cards.length === 1 ? "1 picture" : `${cards.length} pictures`;
  byId("status").textContent = left ? `${cards.length - left} of ${count} done` : count;
}

function sort() {
  const sign = { added: 0, certain: -1, uncertain: 1 }[byId("order").value];
  if (!sign && results.dataset.sorted !== "yes") return;
  results.dataset.sorted = sign ? "yes" : "no";
  // of the same certainty, as added: the sort is stable
  results.append(...cards.toSorted((one, other) => sign * (one.certainty - other.certainty)).map((card) => card.element));
}

function clear() {
  waiting.length = 0;
  for (const card of cards.splice(0)) card.remove();
  byId("bar").hidden = true;
  byId("pick").focus();
}

function acceptDrops() {
  const drop = byId("drop");
  // the whole window, or a picture dropped beside the frame would replace the page
  addEventListener("dragover", (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
  addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) drop.classList.remove("over");
  });
  addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    add([...event.dataTransfer.files]);
  });
}

for (const [button, input] of [["pick", "files"], ["shoot", "camera"]]) {
  byId(button).addEventListener("click", () => byId(input).click());
  byId(input).addEventListener("change", (event) => {
    add([...event.target.files]);
    event.target.value = ""; // the same file may be chosen again
  });
}
addEventListener("paste", (event) => add([...event.clipboardData.files]));
byId("clear").addEventListener("click", clear);
byId("order").addEventListener("change", sort);
byId("model").addEventListener("change", showFacts);
byId("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  setToken(byId("token").value);
  start();
});
acceptDrops();
start();
