"""Classifies a folder of any size on a Ray cluster: python docs/launch/ray_predict.py runs/photos photos predictions

Rows are JSON lines in `predictions/part-000000.jsonl` and so on: the path, and the most probable classes or an error.
Type the line again after a crash: finished parts stay, and every image has exactly one row in the end. All machines
of the cluster must see the folders under the same paths.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import ray

from vitral import Predictor
from vitral.data.images.decode import IMAGE_SUFFIXES
from vitral.files import locked, write_atomically, write_json
from vitral.serve.predictor import Failure


class Classify:
    """The model in one process of the cluster."""

    def __init__(self, model: str) -> None:
        self.predictor = Predictor(model)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        rows = []
        for outcome in self.predictor.predict(batch["item"].tolist()):
            row: dict[str, Any] = {"path": outcome.name}
            if isinstance(outcome, Failure):
                row["error"] = outcome.reason
            else:
                row |= {"classes": outcome.classes, "probabilities": outcome.probabilities}
            rows.append(json.dumps(row))
        return {"row": rows}


def predict(options: argparse.Namespace) -> None:
    """Writes the rows that are missing."""
    settings = {"model": options.model, "images": options.images}
    settings_file = options.out / "settings.json"
    if settings_file.exists() and json.loads(settings_file.read_text()) != settings:
        raise SystemExit(f"{options.out} has predictions of another model or folder: name another folder")
    write_json(settings_file, settings)
    parts = sorted(options.out.glob("part-*.jsonl"))
    done = {json.loads(line)["path"] for part in parts for line in part.read_text().splitlines()}
    found = (path for path in sorted(Path(options.images).rglob("*")) if path.suffix.lower() in IMAGE_SUFFIXES)
    left = [name for name in map(str, found) if name not in done]
    print(f"{len(done)} images have a row, {len(left)} have none", flush=True)
    if not left:
        return
    batches = (
        ray.data.from_items(left)
        .map_batches(
            Classify,
            fn_constructor_args=(options.model,),
            batch_size=options.batch_size,
            concurrency=options.processes,
            num_cpus=options.cpus,
            num_gpus=options.gpus,
        )
        .iter_batches(batch_size=options.part, batch_format="numpy")
    )
    for number, batch in enumerate(batches, start=len(parts)):
        content = "".join(f"{row}\n" for row in batch["row"]).encode()
        write_atomically(options.out / f"part-{number:06d}.jsonl", lambda file, content=content: file.write(content))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Classify the images of a folder on a Ray cluster.")
    parser.add_argument("model", help="as vitral predict takes it")
    parser.add_argument("images", help="folder")
    parser.add_argument("out", type=Path, help="folder of the rows")
    parser.add_argument("--processes", type=int, default=2, help="that hold the model (default: 2)")
    parser.add_argument("--cpus", type=float, default=1.0, help="of each process (default: 1)")
    parser.add_argument("--gpus", type=float, default=0.0, help="of each process (default: 0)")
    parser.add_argument("--batch-size", type=int, default=64, help="images (default: 64)")
    parser.add_argument("--part", type=int, default=10_000, help="rows of a file (default: 10000)")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with locked(options.out / ".lock"):  # a second run at the same time would write rows twice
        predict(options)
