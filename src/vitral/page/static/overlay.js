// Darkens a picture where the attention rollout is low, as the paper's Figure 6 and `vitral inspect` do.

import { resize } from "./resize.js";

const LONGER = 640; // pixels of the longer side of what is drawn
const MASK = 160; // of the mask, before it is enlarged: it is blurred anyway
const SMALL = 64; // pictures up to this size are enlarged without smoothing

// A PNG of the part of an image inside `box`. `rollout` has one row of fractions for each row of patches.
export async function drawAttention(image, box, rollout) {
  const [left, top, right, bottom] = box;
  const [width, height] = fitted(right - left, bottom - top, LONGER);
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "white";
  context.fillRect(0, 0, width, height);
  context.imageSmoothingEnabled = Math.max(right - left, bottom - top) > SMALL;
  context.imageSmoothingQuality = "high";
  context.drawImage(image, left, top, right - left, bottom - top, 0, 0, width, height);
  const pixels = context.getImageData(0, 0, width, height);
  const weights = maskOf(rollout, width, height);
  for (let index = 0; index < weights.length; index++) {
    const weight = Math.sqrt(weights[index] / 255); // it scales light; levels are about the square root of that
    for (let channel = 0; channel < 3; channel++) pixels.data[4 * index + channel] *= weight;
  }
  context.putImageData(pixels, 0, 0);
  return new Promise((resume) => canvas.toBlob(resume, "image/png"));
}

// Bytes at the size of a picture: 255 where the rollout is largest, 0 where it is smallest.
export function maskOf(rollout, width, height) {
  const [rows, columns] = [rollout.length, rollout[0].length];
  const values = rollout.flat();
  const largest = Math.max(...values);
  const fractions = Uint8Array.from(values, (value) => Math.round((255 * value) / largest));
  const [w, h] = fitted(width, height, MASK);
  const mask = blur(resizeGrey(fractions, columns, rows, w, h, "lanczos"), w, h, (w / columns + h / rows) / 4);
  const [low, high] = [Math.min(...mask), Math.max(...mask)];
  const stretched = mask.map((value) => (high > low ? Math.round((255 * (value - low)) / (high - low)) : 255));
  return resizeGrey(stretched, w, h, width, height, "bilinear");
}

function fitted(width, height, longer) {
  const scale = longer / Math.max(width, height);
  return [Math.max(Math.round(scale * width), 1), Math.max(Math.round(scale * height), 1)];
}

function resizeGrey(bytes, width, height, newWidth, newHeight, filter) {
  const read = (left, top, columns, rows) => {
    const pixels = new Uint8Array(4 * columns * rows);
    for (let index = 0; index < columns * rows; index++) {
      const value = bytes[(top + Math.floor(index / columns)) * width + left + (index % columns)];
      pixels.fill(value, 4 * index, 4 * index + 3);
    }
    return pixels;
  };
  return resize({ width, height, read }, [0, 0, width, height], [newHeight, newWidth], 1, filter);
}

// Gaussian blur; beyond the edges, the pixels at the edges are repeated.
function blur(bytes, width, height, sigma) {
  const reach = Math.ceil(3 * sigma);
  const kernel = Array.from({ length: 2 * reach + 1 }, (_, tap) => Math.exp(-0.5 * ((tap - reach) / sigma) ** 2));
  const total = kernel.reduce((sum, weight) => sum + weight, 0);
  const pass = (source, step, stride, length, lines) => {
    const result = new Float64Array(source.length);
    for (let line = 0; line < lines; line++) {
      for (let index = 0; index < length; index++) {
        let sum = 0;
        for (let tap = -reach; tap <= reach; tap++) {
          const at = Math.min(Math.max(index + tap, 0), length - 1);
          sum += kernel[tap + reach] * source[line * stride + at * step];
        }
        result[line * stride + index * step] = sum / total;
      }
    }
    return result;
  };
  const across = pass(Float64Array.from(bytes), 1, width, width, height);
  return Uint8Array.from(pass(across, width, 1, height, width), Math.round);
}
