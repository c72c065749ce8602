// Parts of a page. Names of files and classes are set as text, so that markup in them is never run.

export const byId = (id) => document.getElementById(id);

export function element(kind, className = "", text = "") {
  const made = document.createElement(kind);
  if (className) made.className = className;
  if (text) made.textContent = text;
  return made;
}

// Fills the list of facts about a model; numbers are fractions.
export function showFacts(facts) {
  const parts = Object.entries(facts).flatMap(([name, value]) => [
    element("dt", "", name),
    element("dd", "", typeof value === "number" ? value.toFixed(4) : value),
  ]);
  byId("facts").replaceChildren(...parts);
}

// The first names of a long list of classes, and how many there are.
export function listed(classes) {
  if (!classes.length) return "none";
  return `${classes.length}: ${classes.slice(0, 20).join(", ")}${classes.length > 20 ? ", …" : ""}`;
}
