// The pictures of a visit: taken from files, drops, the clipboard and the camera, and listed by confidence. They stay in
// this page only.

import { openCamera } from "./camera.js";
import { Card } from "./card.js";
import { byId } from "./elements.js";

export class Gallery {
  // `classify` takes a card and returns what `Card.showResult` takes; `parallel` of them run at a time.
  constructor({ classify, parallel }) {
    this.classify = classify;
    this.parallel = parallel;
    this.cards = [];
    this.waiting = [];
    this.running = 0;
    this.ready = false; // whether there is a model
    this.acceptFiles();
    this.acceptDrops();
    addEventListener("paste", (event) => this.add([...event.clipboardData.files]));
    byId("clear").addEventListener("click", () => this.clear());
    byId("order").addEventListener("change", () => this.sort());
  }

  start() {
    this.ready = true;
    byId("status").textContent = "";
    byId("bar").hidden = !this.cards.length;
    this.next();
  }

  // Shows a sentence about the page itself.
  say(sentence) {
    byId("bar").hidden = false;
    byId("status").textContent = sentence;
  }

  add(files) {
    for (const file of files) {
      const card = new Card(file);
      this.cards.push(card);
      this.waiting.push(card);
      byId("results").append(card.element);
    }
    if (files.length) byId("bar").hidden = false;
    this.next();
  }

  next() {
    while (this.ready && this.running < this.parallel && this.waiting.length) {
      this.running += 1;
      this.classifyOne(this.waiting.shift()).finally(() => {
        this.running -= 1;
        this.next();
      });
    }
    this.report();
  }

  async classifyOne(card) {
    try {
      card.showResult(await this.classify(card));
    } catch (error) {
      card.showError(error.message);
    }
  }

  report() {
    byId("list-controls").hidden = !this.cards.length;
    byId("order-choice").hidden = this.cards.length < 2;
    if (!this.ready || !this.cards.length) return;
    const left = this.waiting.length + this.running;
    const count = this.cards.length === 1 ? "1 picture" : `${this.cards.length} pictures`;
    byId("status").textContent = left ? `${this.cards.length - left} of ${count} done` : count;
    if (!left) this.sort(); // once, when all are done: cards that move cannot be read
  }

  // Orders the cards; of the same confidence, as added: the sort is stable.
  sort() {
    const sign = { added: 0, confident: -1, unsure: 1 }[byId("order").value];
    const last = (card) => sign && card.certainty < 0; // not classified
    const sorted = this.cards.toSorted(
      (one, other) => last(one) - last(other) || sign * (one.certainty - other.certainty),
    );
    const list = byId("results");
    if (sorted.every((card, index) => list.children[index] === card.element)) return;
    const focused = document.activeElement;
    list.append(...sorted.map((card) => card.element));
    if (list.contains(focused)) focused.focus({ preventScroll: true }); // what moves loses it
  }

  clear() {
    this.waiting.length = 0;
    for (const card of this.cards.splice(0)) card.remove();
    byId("bar").hidden = this.ready;
    this.report();
    byId("pick").focus();
  }

  acceptFiles() {
    for (const [button, input] of [["pick", "files"], ["shoot", "camera"]]) {
      byId(input).addEventListener("change", (event) => {
        this.add([...event.target.files]);
        event.target.value = ""; // the same file may be chosen again
      });
      byId(button).addEventListener("click", async () => {
        const photograph = input === "camera" && (await openCamera());
        if (photograph) this.add([photograph]);
        else if (photograph !== null) byId(input).click();
      });
    }
  }

  acceptDrops() {
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
      this.add([...event.dataTransfer.files]);
    });
  }
}
