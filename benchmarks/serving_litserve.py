"""A model behind LitServe, for benchmarks/serving.py: the same reading, the same batches, the same model.

python benchmarks/serving_litserve.py FOLDER MAX_BATCH --port PORT
"""

import hashlib
import sys
from typing import Any

import litserve
import numpy as np
import torch
from fastapi import Request

from vitral.serve.predictor import Predictor


class Classifier(litserve.LitAPI):
    """Takes a multipart file named image, as `vitral serve` does."""

    def __init__(self, folder: str, **batching: Any) -> None:
        super().__init__(**batching)
        self.folder = folder

    def setup(self, device: str) -> None:
        self.predictor = Predictor(self.folder, device=device)

    def decode_request(self, request: Request) -> tuple[np.ndarray, str]:
        content = request["image"].file.read()  # LitServe gives the form
        return self.predictor.read(content, name="image"), hashlib.sha256(content).hexdigest()

    def batch(self, inputs: list[tuple[np.ndarray, str]]) -> tuple[torch.Tensor, list[str]]:
        pixels, hashes = zip(*inputs, strict=True)
        return torch.from_numpy(np.stack(pixels)), list(hashes)

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
    api = Classifier(sys.argv[1], max_batch_size=int(sys.argv[2]), batch_timeout=0.005, api_path="/v1/predict")
    server = litserve.LitServer(api, accelerator="cpu", timeout=600)
    server.run(host="127.0.0.1", port=int(sys.argv[4]), generate_client_file=False, access_log=False, log_level="error")
