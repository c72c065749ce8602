// Parts of a page. Names of files and classes are set as text, so that markup in them is never run.

export const byId = (id) => document.getElementById(id);

export function element(kind, className = "", text = "") {
  const made = document.createElement(kind);
  if (className) made.className = className;
  if (text) made.textContent = text;
  return made;
}

// Fills the list of facts about a model.
export function showFacts(facts) {
  const parts = Object.entries(facts).flatMap(([name, value]) => [element("dt", "", name), element("dd", "", value)]);
  byId("facts").replaceChildren(...parts);
}

// The first names of a long list of classes, and how many there are.
export function listed(classes) {
  if (!classes.length) return "none";
  return `${classes.length}: ${classes.slice(0, 20).join(", ")}${classes.length > 20 ? ", …" : ""}`;
}

const METRICS = { loss: "Loss", ece: "Calibration error (ECE)" };

// Metrics for people: `test/top1`, a fraction, becomes the top-1 accuracy on test images in percent.
export function named(metrics) {
  return Object.fromEntries(
    Object.entries(metrics).map(([key, value]) => {
      const [, split, metric] = /^(?:(.*)\/)?(.*)$/.exec(key);
      const [, k] = /^top(\d+)$/.exec(metric) ?? [];
      const name = k ? `Top-${k} accuracy` : (METRICS[metric] ?? capitalised(metric));
      return [split ? `${name}, ${split}` : name, k ? `${(100 * value).toFixed(2)} %` : value.toPrecision(3)];
    }),
  );
}

export function capitalised(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

// A number that a model predicts, such as an age.
export function valueText(name, value) {
  return value === undefined ? "" : `${name}: ${Number(value.toPrecision(4))}`;
}
