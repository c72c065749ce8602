// Requests to the service; the token stays in this page's memory.

let token = "";

export function setToken(value) {
  token = value;
}

// An answer that is an error: its sentence, and its status.
export class Refused extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

export async function listModels() {
  const response = await send("v1/models", {});
  return (await response.json()).models;
}

// What the model says of one picture: `classes`, most probable first, or a `value`.
export async function predict(model, file) {
  const response = await post("v1/predict", model, file);
  return (await response.json()).images[0];
}

// A picture of what the model looks at through its first layers, as a blob; null: through all.
export async function attention(model, file, layer) {
  const response = await post("v1/attention", model, file, layer ? { layer } : {});
  return response.blob();
}

async function post(path, model, file, options = {}) {
  const body = new FormData();
  body.append("image", file, file.name || "picture");
  const address = `${path}?${new URLSearchParams({ model, ...options })}`;
  for (;;) {
    try {
      return await send(address, { method: "POST", body });
    } catch (error) {
      if (error.status !== 429) throw error;
      await new Promise((resume) => setTimeout(resume, 1000 * error.retryAfter));
    }
  }
}

async function send(address, options) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  let response;
  try {
    response = await fetch(address, { ...options, headers });
  } catch {
    throw new Refused(0, "The service does not answer.");
  }
  if (response.ok) return response;
  const problem = await response.json().catch(() => ({ detail: `The service answered ${response.status}.` }));
  const error = new Refused(response.status, problem.detail);
  error.retryAfter = Number(response.headers.get("Retry-After")) || 1;
  throw error;
}
