"""A model behind LitServe, for benchmarks/serving.py: the same reading, the same batches, the same model.

python benchmarks/service/litserve_app.py FOLDER --max-batch N --workers N [--fast-queue] --port PORT
"""

import argparse
import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import litserve
import numpy as np
import torch
from fastapi import Request

from vitral.serve.predictor import Predictor


class Classifier(litserve.LitAPI):
    """Takes a multipart file named image, as `vitral serve` does."""

    def __init__(self, folder: str, workers: int, **batching: Any) -> None:
        super().__init__(**batching)
        self.folder, self.workers = folder, workers

    def setup(self, device: str) -> None:
        cores = os.cpu_count() or 1
        torch.set_num_threads(max(cores // self.workers, 1))
        self.predictor = Predictor(self.folder, device=device)
        self.readers = ThreadPoolExecutor(min(cores, 4))  # as many as vitral serve has

    def decode_request(self, request: Request) -> bytes:
        return request["image"].file.read()  # LitServe gives the form

    def batch(self, inputs: list[bytes]) -> tuple[torch.Tensor, list[str]]:
        # LitServe would read one image after the other
        pixels, hashes = zip(*self.readers.map(self._read, inputs), strict=True)
        return torch.from_numpy(np.stack(pixels)), list(hashes)

    def _read(self, content: bytes) -> tuple[np.ndarray, str]:
        return self.predictor.read(content, name="image"), hashlib.sha256(content).hexdigest()

    def predict(self, inputs: tuple[torch.Tensor, list[str]]) -> list[tuple[list[float], list[int], str]]:
        pixels, hashes = inputs
        values, indices = self.predictor.logits(pixels).softmax(dim=-1).topk(5)
        return list(zip(values.tolist(), indices.tolist(), hashes, strict=True))

    def unbatch(self, output: list) -> list:
        return output

    def encode_response(self, output: tuple[list[float], list[int], str]) -> dict[str, Any]:
        values, indices, sha256 = output
        names = self.predictor.card.classes
        classes = [{"class": names[index], "probability": value} for value, index in zip(values, indices, strict=True)]
        return {"images": [{"sha256": sha256, "classes": classes}]}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--max-batch", type=int, required=True)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--fast-queue", action="store_true")
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    api = Classifier(
        options.folder,
        options.workers,
        max_batch_size=options.max_batch,
        batch_timeout=0.005,
        api_path="/v1/predict",
    )
    server = litserve.LitServer(
        api,
        accelerator="cpu",
        workers_per_device=options.workers,
        fast_queue=options.fast_queue,
        timeout=600,
    )
    server.run(host="127.0.0.1", port=options.port, generate_client_file=False, access_log=False, log_level="error")
