// The page of a service: it sends pictures, and shows what comes back.

import { attention, listModels, predict, setToken } from "./api.js";
import { byId, listed, named, showFacts, valueText } from "./elements.js";
import { Gallery } from "./gallery.js";

const PARALLEL = 4; // requests at a time: more would wait in the service's queue, at the cost of others

const gallery = new Gallery({ classify, parallel: PARALLEL });
let models = [];

async function start() {
  try {
    models = await listModels();
  } catch (error) {
    byId("token-form").hidden = error.status !== 401;
    gallery.say(error.message);
    if (error.status === 401) byId("token").focus();
    return;
  }
  byId("token-form").hidden = true;
  byId("model").replaceChildren(...models.map(({ name }) => new Option(name, name)));
  byId("model-choice").hidden = models.length < 2;
  document.title = models.length < 2 ? `${models[0].name} – Vitral` : "Vitral";
  describe();
  gallery.start();
}

function currentModel() {
  return models.find(({ name }) => name === byId("model").value);
}

async function classify({ file }) {
  const model = currentModel();
  const draws = model.layers ?? Number(model.attention);
  const { classes, value } = await predict(model.name, file);
  return {
    classes,
    value: valueText(model.classes[0], value),
    attention: draws && { layers: model.layers, draw: (layer) => attention(model.name, file, layer) },
  };
}

function describe() {
  const model = currentModel();
  const [height, width] = model.image_size;
  showFacts({
    Name: model.name,
    Architecture: `${model.architecture}, ${model.parameters.toLocaleString("en")} parameters`,
    Input: `${height} × ${width} pixels`,
    Classes: listed(model.classes),
    ...named(model.metrics),
  });
}

byId("model").addEventListener("change", describe);
byId("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  setToken(byId("token").value);
  start();
});
start();
