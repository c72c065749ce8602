// The data of a page: gzipped, in base64, in elements of its document.

// The bytes of a block. Its elements are removed: a model may be hundreds of megabytes.
export async function readBlock(name) {
  const parts = [];
  for (const part of document.querySelectorAll(`script[data-block="${name}"]`)) {
    parts.push(fromBase64(part.textContent));
    part.remove();
  }
  const stream = new Blob(parts).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

function fromBase64(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let index = 0; index < binary.length; index++) bytes[index] = binary.charCodeAt(index);
  return bytes;
}
