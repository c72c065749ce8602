// One picture with its classes. Names are set as text, so that markup in them is never run.

import { attention } from "./api.js";

const SMALL = 64; // pixels: such pictures are enlarged without smoothing

export class Card {
  constructor(file, model) {
    this.file = file;
    this.model = model;
    this.certainty = -1; // until it is classified
    this.url = URL.createObjectURL(file);
    this.element = element("li", "card");
    const name = file.name || "pasted picture";
    this.image = element("img");
    this.image.alt = name;
    this.image.addEventListener("load", () => {
      this.image.classList.toggle("small", Math.max(this.image.naturalWidth, this.image.naturalHeight) <= SMALL);
    });
    this.image.addEventListener("error", () => {
      this.figure.replaceChildren(element("p", "quiet", "This browser cannot show the picture."));
    });
    this.image.src = this.url;
    this.figure = element("figure");
    this.figure.append(this.image);
    this.body = element("div");
    this.body.append(element("p", "quiet", "Waiting …"));
    this.element.append(this.figure, element("h2", "", name), this.body);
  }

  showAnswer({ classes, value }) {
    if (classes?.length) this.showClasses(classes);
    else this.body.replaceChildren(element("p", "", classes ? "No label" : String(Number(value.toPrecision(4)))));
    if (this.model.attention) this.addAttention();
  }

  showClasses(classes) {
    this.certainty = classes[0].probability;
    const list = element("ol", "classes");
    for (const { class: name, probability } of classes) {
      const row = element("li");
      const fill = element("div", "fill");
      fill.style.width = `${100 * probability}%`;
      row.append(fill, element("span", "", name), element("span", "percent", `${(100 * probability).toFixed(1)} %`));
      list.append(row);
    }
    this.body.replaceChildren(list);
  }

  showError(sentence) {
    const text = element("p", "error", sentence);
    this.body.replaceChildren(text);
  }

  addAttention() {
    const button = element("button", "", "Show attention");
    button.type = "button";
    button.setAttribute("aria-pressed", "false");
    button.addEventListener("click", () => this.toggleAttention(button));
    this.element.append(button);
  }

  async toggleAttention(button) {
    const shown = button.getAttribute("aria-pressed") === "true";
    if (!shown && !this.attentionUrl) {
      button.disabled = true;
      try {
        this.attentionUrl = URL.createObjectURL(await attention(this.model.name, this.file));
      } catch (error) {
        button.replaceWith(element("p", "error", error.message));
        return;
      }
      button.disabled = false;
      button.focus();
    }
    button.setAttribute("aria-pressed", String(!shown));
    this.image.src = shown ? this.url : this.attentionUrl;
    this.image.alt = shown ? this.file.name : `${this.file.name}, dark where the model does not look`;
    if (!this.image.isConnected) this.figure.replaceChildren(this.image);
  }

  remove() {
    URL.revokeObjectURL(this.url);
    if (this.attentionUrl) URL.revokeObjectURL(this.attentionUrl);
    this.element.remove();
  }
}

export function element(kind, className = "", text = "") {
  const made = document.createElement(kind);
  if (className) made.className = className;
  if (text) made.textContent = text;
  return made;
}
