// What a file is by its bytes, and whether its end is there. Browsers show the rest of a torn picture in grey, which the
// model would classify.

const FOREIGN = [
  ["a PDF", [0x25, 0x50, 0x44, 0x46]],
  ["a TIFF", [0x49, 0x49, 0x2a, 0x00]],
  ["a TIFF", [0x4d, 0x4d, 0x00, 0x2a]],
  ["a ZIP archive, or a document that is one", [0x50, 0x4b, 0x03, 0x04]],
  ["a gzip archive", [0x1f, 0x8b]],
  ["a Photoshop document", [0x38, 0x42, 0x50, 0x53]],
  ["a WebM video", [0x1a, 0x45, 0xdf, 0xa3]],
];

const BRANDS = { heic: "HEIC", heix: "HEIC", mif1: "HEIC", msf1: "HEIC" };

// Why a file is no picture for this page, as one sentence; empty if it may be one.
export async function problemOf(file) {
  const name = file.name || "the pasted picture";
  if (!file.size) return `${name} is empty.`;
  let bytes;
  try {
    bytes = new Uint8Array(await file.arrayBuffer());
  } catch {
    return `${name} cannot be read: if it is a folder, choose the pictures in it.`;
  }
  const foreign = FOREIGN.find(([, magic]) => startsWith(bytes, magic));
  if (foreign) return `${name} is ${foreign[0]}: choose a picture, such as a JPEG or PNG.`;
  if (isSvg(bytes)) return `${name} is a drawing (SVG): save it as a PNG first.`;
  const brand = text(bytes, 4, 8) === "ftyp" ? text(bytes, 8, 12) : "";
  if (/^(isom|mp4|M4V|qt|avc1|iso)/.test(brand)) return `${name} is a video: choose a picture, such as a JPEG or PNG.`;
  if (isTorn(bytes)) return `${name} is damaged: its end is missing.`;
  return "";
}

// Why a browser failed to decode a file that may be a picture.
export async function failureOf(file) {
  const name = file.name || "the pasted picture";
  const brand = BRANDS[text(new Uint8Array(await file.slice(0, 12).arrayBuffer()), 8, 12)];
  if (brand) return `${name} is a ${brand}, which this browser does not read: save it as a JPEG first.`;
  return `${name} cannot be read: it is damaged, or no picture that this browser reads.`;
}

function startsWith(bytes, magic) {
  return magic.every((byte, index) => bytes[index] === byte);
}

function text(bytes, from, to) {
  return String.fromCharCode(...bytes.subarray(from, to));
}

function isSvg(bytes) {
  return /^\s*(<\?xml[^>]*>\s*)?(<!--[^]*?-->\s*)?(<!DOCTYPE svg[^>]*>\s*)?<svg/i.test(text(bytes, 0, 1000));
}

function isTorn(bytes) {
  const view = new DataView(bytes.buffer);
  if (startsWith(bytes, [0x89, 0x50, 0x4e, 0x47])) return !hasPngEnd(bytes, view);
  if (startsWith(bytes, [0xff, 0xd8])) return !hasJpegEnd(bytes, view);
  if (text(bytes, 0, 4) === "RIFF") return view.byteLength < 12 || view.getUint32(4, true) + 8 > bytes.length;
  return false;
}

// Follows a PNG's chunks to the last one.
function hasPngEnd(bytes, view) {
  for (let at = 8; at + 12 <= bytes.length; at += view.getUint32(at) + 12) {
    if (text(bytes, at + 4, at + 8) === "IEND") return true;
  }
  return false;
}

// Follows a JPEG's segments to its pixels, and looks for the end behind them: previews have ends of their own.
function hasJpegEnd(bytes, view) {
  let at = 2;
  while (at + 4 <= bytes.length && bytes[at] === 0xff && bytes[at + 1] !== 0xda) at += 2 + view.getUint16(at + 2);
  for (; at + 1 < bytes.length; at++) if (bytes[at] === 0xff && bytes[at + 1] === 0xd9) return true;
  return false;
}
