// Takes a photograph with the camera of a computer. A phone has a better program for that, which its file chooser opens.

import { byId } from "./elements.js";

// A photograph as a file; null if the person closes the camera; undefined if this page cannot open one.
export async function openCamera() {
  if (matchMedia("(pointer: coarse)").matches || !navigator.mediaDevices?.getUserMedia) return undefined;
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment", width: { ideal: 1280 } } });
  } catch {
    return undefined; // none, refused, or in use
  }
  const dialog = byId("camera-dialog");
  const video = byId("viewfinder");
  video.srcObject = stream;
  dialog.returnValue = "";
  dialog.showModal();
  await new Promise((resume) => dialog.addEventListener("close", resume, { once: true }));
  const photograph = dialog.returnValue === "take" && video.videoWidth ? await still(video) : null;
  for (const track of stream.getTracks()) track.stop();
  video.srcObject = null;
  return photograph;
}

async function still(video) {
  const canvas = document.createElement("canvas");
  canvas.width = video.videoWidth;
  canvas.height = video.videoHeight;
  canvas.getContext("2d").drawImage(video, 0, 0);
  const blob = await new Promise((resume) => canvas.toBlob(resume, "image/png"));
  const time = new Date().toTimeString().slice(0, 8);
  return new File([blob], `photograph ${time}`, { type: "image/png" });
}
