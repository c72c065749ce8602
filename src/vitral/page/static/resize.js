// From the pixels of a picture to a model's input, as Pillow and Vitral's preprocessing do it: the same pixels, whatever
// the filter. A canvas would resize otherwise, and the model would be wrong more often, without an error.

const BITS = 22; // weights are whole numbers of 2^-22, as in Pillow
const HALF = 1 << (BITS - 1);
const ROUNDING = 1e-6; // pixels, so that a ratio such as 224 / 248 gives 248
const STRIP = 1 << 22; // pixels that are read from a picture at a time

const FILTERS = {
  bilinear: [1, (x) => Math.max(1 - Math.abs(x), 0)],
  bicubic: [2, (x) => {
    x = Math.abs(x);
    if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
    return x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0;
  }],
  lanczos: [3, (x) => (Math.abs(x) < 3 ? sinc(x) * sinc(x / 3) : 0)],
};

function sinc(x) {
  return x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x);
}

// The part of a picture that becomes the input: left, top, right, bottom in pixels.
export function visibleBox(width, height, { image_size: [h, w], resize, crop_ratio: ratio }) {
  if (resize === "squash") return [0, 0, width, height];
  let [wholeH, wholeW] = [Math.floor(h / ratio + ROUNDING), Math.floor(w / ratio + ROUNDING)];
  if (resize === "crop") { // the size covers these, and keeps the aspect ratio
    if (wholeH * width >= wholeW * height) wholeW = Math.floor((wholeH * width) / height);
    else wholeH = Math.floor((wholeW * height) / width);
  }
  const [left, top] = [roundHalfEven((wholeW - w) / 2), roundHalfEven((wholeH - h) / 2)];
  return [(left / wholeW) * width, (top / wholeH) * height, ((left + w) / wholeW) * width, ((top + h) / wholeH) * height];
}

// As Python rounds.
function roundHalfEven(x) {
  const down = Math.floor(x);
  if (x - down !== 0.5) return Math.round(x);
  return down % 2 ? down + 1 : down;
}

// The weights of `size` new pixels over the pixels from `first` to `last` of a line of `length`.
function weightsOf(length, first, last, size, filter) {
  const [support, kernel] = FILTERS[filter];
  [first, last] = [Math.fround(first), Math.fround(last)];
  const scale = Math.fround(last - first) / size;
  const stretch = Math.max(scale, 1);
  const taps = 2 * Math.ceil(support * stretch) + 1;
  const starts = new Int32Array(size);
  const counts = new Int32Array(size);
  const weights = new Int32Array(size * taps);
  for (let index = 0; index < size; index++) {
    const centre = first + (index + 0.5) * scale;
    const start = Math.max(Math.trunc(centre - support * stretch + 0.5), 0);
    const stop = Math.min(Math.trunc(centre + support * stretch + 0.5), length);
    const exact = Array.from({ length: stop - start }, (_, tap) => kernel((tap + start - centre + 0.5) * (1 / stretch)));
    const sum = exact.reduce((total, weight) => total + weight, 0);
    starts[index] = start;
    counts[index] = stop - start;
    exact.forEach((weight, tap) => {
      const scaled = (weight / sum) * 2 ** BITS;
      weights[index * taps + tap] = Math.trunc(scaled + (scaled < 0 ? -0.5 : 0.5));
    });
  }
  return { starts, counts, weights, taps, size, from: starts[0], to: starts[size - 1] + counts[size - 1] };
}

// Resizes the part of a picture inside `box` to bytes, row by row, channel by channel in each pixel.
//
// `picture` has a width, a height, and `read(left, top, width, height)`, which returns RGBA bytes. Strips of rows are
// read, so that a large photograph never lies in memory as a whole.
export function resize(picture, box, [height, width], channels, filter) {
  const across = weightsOf(picture.width, box[0], box[2], width, filter);
  const down = weightsOf(picture.height, box[1], box[3], height, filter);
  const columns = across.to - across.from;
  const step = channels === 1 ? 1 : 4;
  if (picture.height > 100 * picture.width && height < picture.height) {
    // very tall pictures are resized from top to bottom first, as Pillow does: rounding between the two shows
    const whole = joined([...strips(picture, across, down, channels)]);
    return resizeRows(resizeColumns(whole, down, columns * step), across, channels, step);
  }
  const rows = [];
  for (const strip of strips(picture, across, down, channels)) rows.push(resizeRows(strip, across, channels, step));
  return resizeColumns(joined(rows), down, width * channels);
}

// The pixels that are needed, as strips of rows: bytes of RGBA, or of grey.
function* strips(picture, across, down, channels) {
  const columns = across.to - across.from;
  const most = Math.max(Math.floor(STRIP / columns), 1);
  for (let top = down.from; top < down.to; top += most) {
    const pixels = picture.read(across.from, top, columns, Math.min(most, down.to - top));
    yield channels === 1 ? toGrey(pixels) : pixels;
  }
}

function joined(parts) {
  if (parts.length === 1) return parts[0];
  const result = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    result.set(part, at);
    at += part.length;
  }
  return result;
}

// Resizes rows of pixels of `step` bytes, of which the first `channels` count.
function resizeRows(pixels, { starts, counts, weights, taps, size, from, to }, channels, step) {
  const stride = (to - from) * step;
  const count = pixels.length / stride;
  const result = new Uint8Array(count * size * channels);
  for (let row = 0; row < count; row++) {
    for (let index = 0; index < size; index++) {
      const first = row * stride + (starts[index] - from) * step;
      const target = (row * size + index) * channels;
      for (let channel = 0; channel < channels; channel++) {
        let sum = HALF;
        for (let tap = 0; tap < counts[index]; tap++) {
          sum += pixels[first + tap * step + channel] * weights[index * taps + tap];
        }
        result[target + channel] = level(sum);
      }
    }
  }
  return result;
}

// Resizes columns of bytes; `width` is the number of bytes of a row.
function resizeColumns(rows, { starts, counts, weights, taps, size, from }, width) {
  const result = new Uint8Array(size * width);
  for (let index = 0; index < size; index++) {
    const first = (starts[index] - from) * width;
    for (let column = 0; column < width; column++) {
      let sum = HALF;
      for (let tap = 0; tap < counts[index]; tap++) {
        sum += rows[first + tap * width + column] * weights[index * taps + tap];
      }
      result[index * width + column] = level(sum);
    }
  }
  return result;
}

function level(sum) {
  return Math.min(Math.max(sum >> BITS, 0), 255);
}

// Luma of RGBA bytes, as Pillow computes it.
function toGrey(pixels) {
  const grey = new Uint8Array(pixels.length / 4);
  for (let index = 0; index < grey.length; index++) {
    const first = 4 * index;
    grey[index] = (19595 * pixels[first] + 38470 * pixels[first + 1] + 7471 * pixels[first + 2] + 0x8000) >> 16;
  }
  return grey;
}

// Bytes to the model's range, in planes of channels: (value / 255 - mean) / std, rounded to float32 as in Vitral.
export function normalise(bytes, { channels, mean, std }) {
  const count = bytes.length / channels;
  const result = new Float32Array(bytes.length);
  for (let channel = 0; channel < channels; channel++) {
    const centre = Math.fround(255 * (mean[channel] ?? mean[0]));
    const scale = Math.fround(255 * (std[channel] ?? std[0]));
    const table = Float32Array.from({ length: 256 }, (_, value) => Math.fround(value - centre) / scale);
    for (let index = 0; index < count; index++) result[channel * count + index] = table[bytes[index * channels + channel]];
  }
  return result;
}
