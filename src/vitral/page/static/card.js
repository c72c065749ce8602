// One picture with its classes, and with what the model looks at.

import { element } from "./elements.js";

const SMALL = 64; // pixels: such pictures are enlarged without smoothing

let count = 0; // numbers the labels of sliders

export class Card {
  constructor(file) {
    this.file = file;
    this.name = file.name || "pasted picture";
    this.certainty = -1; // until it is classified
    this.url = URL.createObjectURL(file);
    this.drawn = new Map(); // addresses of the pictures of attention, by layer
    this.element = element("li", "card");
    this.image = element("img");
    this.image.alt = this.name;
    this.image.addEventListener("load", () => {
      this.image.classList.toggle("small", Math.max(this.image.naturalWidth, this.image.naturalHeight) <= SMALL);
    });
    this.image.addEventListener("error", () => {
      this.image.remove();
      this.showFigure();
    });
    this.image.src = this.url;
    this.figure = element("figure");
    this.figure.append(this.image);
    this.body = element("div");
    this.body.append(element("p", "quiet", "Waiting …"));
    this.element.append(this.figure, element("h2", "", this.name), this.body);
  }

  // Shows what the model says: `classes` with the most probable first, or a `value`. Of a model of several labels,
  // `chosen` tells for each whether it is above its threshold. `attention` has the number of layers and draws them;
  // `note` is a sentence.
  showResult({ classes, value, attention, note }) {
    this.certainty = classes?.[0]?.probability ?? 0;
    const sentences = [];
    if (!classes) this.body.replaceChildren(element("p", "value", value));
    else this.body.replaceChildren(barsOf(classes));
    if (classes && !classes.some(({ chosen }) => chosen ?? true)) sentences.push("No label is above its threshold.");
    if (note) sentences.push(note);
    this.body.append(...sentences.map((sentence) => element("p", "quiet note", sentence)));
    if (attention) this.addAttention(attention);
  }

  showError(sentence) {
    this.failed = true;
    this.showFigure();
    this.body.replaceChildren(element("p", "error", sentence));
  }

  // Without a picture, a sentence; beside an error, that one is enough.
  showFigure() {
    if (this.figure.contains(this.image)) return;
    if (this.failed) this.figure.remove();
    else this.figure.replaceChildren(element("p", "quiet", "This browser cannot show the picture."));
  }

  addAttention(attention) {
    const controls = element("div", "attention");
    const button = element("button", "", "Show attention");
    button.type = "button";
    button.setAttribute("aria-pressed", "false");
    this.layer = attention.layers || null; // null: all
    this.draw = attention.draw;
    controls.append(button);
    const slider = attention.layers > 1 ? this.slider(attention.layers) : null;
    if (slider) controls.append(slider);
    button.addEventListener("click", () => {
      const shown = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", String(shown));
      if (slider) slider.hidden = !shown;
      this.shown = shown;
      this.update();
    });
    this.controls = controls;
    this.element.append(controls);
  }

  // Chooses the last layer of the rollout.
  slider(layers) {
    const part = element("p", "slider");
    part.hidden = true;
    const range = element("input");
    Object.assign(range, { type: "range", min: 1, max: layers, value: layers, id: `layers-${++count}` });
    const label = element("label");
    label.htmlFor = range.id;
    const describe = () => {
      label.textContent = this.layer === 1 ? `Layer 1 of ${layers}` : `Layers 1 to ${this.layer} of ${layers}`;
      range.setAttribute("aria-valuetext", label.textContent);
    };
    range.addEventListener("input", () => {
      this.layer = Number(range.value);
      describe();
      this.update();
    });
    describe();
    part.append(label, range);
    return part;
  }

  // Shows the picture, or its attention. The latest wish wins: a slider moves faster than a service answers.
  async update() {
    const wish = (this.wish = Symbol());
    let url = this.url;
    if (this.shown) {
      try {
        url = this.drawn.get(this.layer) ?? URL.createObjectURL(await this.draw(this.layer));
      } catch (error) {
        if (wish === this.wish) this.controls.replaceChildren(element("p", "error", error.message));
        return;
      }
      this.drawn.set(this.layer, url);
    }
    if (wish !== this.wish) return;
    this.image.src = url;
    this.image.alt = this.shown ? `${this.name}, dark where the model does not look` : this.name;
    if (!this.figure.contains(this.image)) this.figure.replaceChildren(this.image);
  }

  remove() {
    for (const url of [this.url, ...this.drawn.values()]) URL.revokeObjectURL(url);
    this.element.remove();
  }
}

function barsOf(classes) {
  const list = element("ol", classes.some(({ chosen }) => chosen !== undefined) ? "classes several" : "classes");
  for (const { class: name, probability, chosen } of classes) {
    const row = element("li", chosen ? "chosen" : "");
    const fill = element("div", "fill");
    fill.style.width = `${100 * probability}%`;
    row.append(fill, element("span", "", name), element("span", "percent", `${(100 * probability).toFixed(1)} %`));
    if (chosen) row.children[1].append(element("span", "unseen", " (above its threshold)"));
    list.append(row);
  }
  return list;
}
