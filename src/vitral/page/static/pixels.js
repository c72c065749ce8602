// The pixels of a picture that the browser decoded: upright, in sRGB.

// A picture that `resize` can read, transparent parts over white.
export function readable(bitmap) {
  const canvas = new OffscreenCanvas(1, 1);
  const read = (left, top, width, height) => {
    if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.fillStyle = "white";
    context.fillRect(0, 0, width, height);
    context.drawImage(bitmap, left, top, width, height, 0, 0, width, height);
    return context.getImageData(0, 0, width, height).data;
  };
  return { width: bitmap.width, height: bitmap.height, read };
}
