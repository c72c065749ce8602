"""`vitral eval MODEL --suite NAME`: what a model's frozen representations are worth."""

import hashlib
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from jaxtyping import Float, UInt8
from torch import Tensor

from vitral.commands.output import check_out, note, parsed_by_tyro, print_json, show_table, split_off, write_table
from vitral.config import to_dict
from vitral.data.config import DataConfig
from vitral.data.mini.tasks import VTAB_MINI
from vitral.data.opening import open_data
from vitral.data.preprocess import Preprocessing
from vitral.data.sources import Source, Subset
from vitral.data.splits import stratified
from vitral.data.vtab.tasks import VTAB1K
from vitral.evals.cache import Cache
from vitral.evals.features import Representations
from vitral.models import Model, fresh
from vitral.serve.predictor import Predictor
from vitral.studies.finetuning import OWN_IMAGES, PROTOCOLS, Protocol, configured, finetuning_score, varied_as
from vitral.studies.published import VTAB1K_PUBLISHED
from vitral.studies.transfer import GRIDDED, METHODS, RETRIEVAL, Known, Score, by_group, grid_scores, score
from vitral.train.config import RunConfig
from vitral.train.evaluation import TIMEOUT, final_split, represented
from vitral.train.examination import evenly
from vitral.train.fingerprint import contents, fingerprint
from vitral.train.world import World, joined

__all__ = ["SUITES", "Options", "main"]

SUITES = ("knn", "linear", "fewshot", "finetune", "retrieval", "vtab-mini", "vtab1k")
"""What a model can be measured by besides the accuracy of its classifier."""

TASKS = {"vtab-mini": VTAB_MINI, "vtab1k": VTAB1K}
"""Suites of tasks of their own."""

NOTHING = Representations(
    features=torch.zeros(0, 1), labels=torch.zeros(0, dtype=torch.int64), readable=torch.zeros(0, dtype=torch.bool)
)
"""What the other processes have where the first found representations on disk."""

PUBLISHED = " (published)"
"""Behind the names of columns that others measured."""

RAW = 32
"""Pixels of the sides of images whose raw pixels are compared."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Measures what a model's frozen representations are worth: the image representation before the head."""

    suite: Literal["knn", "linear", "fewshot", "finetune", "retrieval", "vtab-mini", "vtab1k"]
    """knn: nearest neighbours, their number chosen on validation images. linear: logistic regression. fewshot: least
    squares on 1, 5, 10 and 25 images a class. finetune: all weights are trained, at a rate chosen on validation images.
    retrieval: test images search the others for their class by cosine similarity.
    vtab-mini: ten small tasks that need no download, by the first three, and by finetune where `--finetune` says how.
    vtab1k: VTAB's nineteen tasks, in the same ways, of the data sets in the folders of `--data.root`.
    """
    finetune: Literal["none", "light", "paper"] = "none"
    """How to fine-tune. light: 150 steps of 64 images at the model's size, one of four rates; what the suite finetune
    does by default. paper: 2,500 steps of 512 images at 384 pixels and rate 0.01, as on VTAB; with the suite finetune
    500 steps at one of 0.001, 0.003, 0.01 and 0.03, as on Pets and Flowers.
    """
    data: DataConfig
    """The images of knn, linear, fewshot, finetune and retrieval; by default the run's own."""
    grid: tyro.conf.FlagCreatePairsOff[bool] = False
    """Few-shot least squares also with the strength of 2^-10 to 2^19 that is best for all tasks together."""
    known: int = 10_000
    """Training images that are learned from at most."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Of the draws of few images, and of the final trainings of fine-tuning."""
    baselines: tyro.conf.FlagCreatePairsOff[bool] = False
    """Measure the same architecture with random weights, and raw pixels, as well."""
    cache: Path | None = None
    """Folder of the representations, by default MODEL/features; none is kept where MODEL is no folder."""
    out: Path | None = None
    """File for the table: .md, .csv or .json."""
    device: str = "auto"
    """cpu, cuda, cuda:1; auto takes a GPU where there is one."""
    json: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print one JSON object."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """Something that makes representations of images."""

    encode: Callable[[UInt8[Tensor, "b h w c"]], Float[Tensor, "b d"]]
    preprocessing: Preprocessing
    identity: str
    """Changes with anything that its representations depend on."""
    fresh: bool | None = False
    """Whether its fine-tuning begins with random weights; None: it has none to fine-tune."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """The splits of a task, and the group that its score counts in."""

    splits: dict[str, Source]
    """train, val and test."""
    group: str
    crop: bool = True
    """Whether parts of a training image have its class."""
    flip: bool = True
    """Whether the mirror image of a training image has its class."""


def main(where: Path, arguments: list[str], *, model: Model, recorded: DataConfig | None) -> None:
    """Extracts representations once for all measures, and prints a table; with `--json`, one object."""
    suite = split_off(arguments, "--suite", "vitral eval")[0] or "knn"
    own = None if suite in TASKS else recorded  # a suite's images are never the run's own
    default = Options(suite="knn", data=own or DataConfig(source="folder", **reading(recorded)))
    options = parsed_by_tyro(Options, default=default, arguments=arguments, program=f"vitral eval {where}")
    check_out(options.out)
    if options.cache is not None and options.cache.exists() and not options.cache.is_dir():
        raise ValueError(f"{options.cache} is a file: name a folder with --cache")
    if options.known < 2 or not options.seeds:
        raise ValueError("--known must be at least 2, and --seeds must name one or more")
    if options.grid and options.suite not in ("fewshot", *TASKS):
        raise ValueError(f"--grid is a form of few-shot least squares: choose --suite fewshot, {' or '.join(TASKS)}")
    protocols, usual = (OWN_IMAGES, "light") if options.suite == "finetune" else (PROTOCOLS, "none")
    protocol = protocols.get(usual if options.finetune == "none" else options.finetune)
    methods = tuple(METHODS) if options.suite in TASKS else tuple({options.suite} & {*METHODS, RETRIEVAL})
    with joined(timeout=TIMEOUT) as world:
        if world.size > 1 and protocol is not None:
            raise ValueError("fine-tuning takes one process: start without torchrun, or leave out --finetune")
        tasks = suite_tasks(options, world) if options.suite in TASKS else {"data": own_task(options)}
        compared = subjects(model, options, world)
        seen = extracted(compared, tasks, options, where=where, world=world) if methods else {}
        tasks = {title: task for title, task in tasks.items() if title in seen.get("model", tasks)}
    if not world.leads:
        return
    found: dict[str, dict[str, dict[str, Score]]] = {}
    for name, subject in compared.items():
        found[name] = frozen(seen[name], methods, options) if seen else {title: {} for title in tasks}
        if protocol is not None and subject.fresh is not None:
            run = configured(where, protocol, fresh=subject.fresh, data=options.data, device=options.device)
            tune(run, protocol, tasks, options, scores=found[name])
    groups = {title: task.group for title, task in tasks.items()}
    known = {"vtab1k": VTAB1K_PUBLISHED}.get(options.suite, {})
    rows = table_of(found, groups, known)
    whole = as_json(where, options.suite, found, groups) | ({"published": known} if known else {})
    if options.json:
        print_json(whole)
    else:
        show(f"{where}, suite {options.suite}", rows)
    if options.out is not None:
        write_table(options.out, rows, whole)


def tune(
    run: RunConfig,
    protocol: Protocol,
    tasks: Mapping[str, Task],
    options: Options,
    *,
    scores: dict[str, dict[str, Score]],
) -> None:
    """Fine-tunes on every task, and puts what that gives into the scores by task, then by method."""
    for title, task in tasks.items():
        varied = varied_as(run, crop=task.crop, flip=task.flip) if protocol.varied else run
        tuned = finetuning_score(varied, task.splits, rates=protocol.rates, seeds=options.seeds)
        scores[title][tuned.method] = tuned


def own_task(options: Options) -> Task:
    """The run's own images, or those that are named."""
    data = open_data(options.data)
    train = evenly(data["train"], options.known)
    if len(train.classes) < 2:
        raise ValueError("the images have no classes to measure by: choose --data.source folder, or --suite vtab-mini")
    reported = final_split(data)
    if "val" in data and reported != "val":
        parts = {"train": train, "val": data["val"]}
    else:  # images that are reported choose nothing
        kept, held_out = stratified(train.labels, train.classes, share=0.2, seed=0)
        parts = {"train": Subset(source=train, indices=kept), "val": Subset(source=train, indices=held_out)}
    return Task(splits={**parts, "test": data[reported]}, group="data")


def suite_tasks(options: Options, world: World) -> dict[str, Task]:
    """The tasks whose images can be had here; of others it is said why.

    Raises:
        ValueError: there are none.
    """
    tasks, missing = {}, {}
    for task in TASKS[options.suite].values():
        try:
            splits = task.open(options.data.root)
            tasks[task.title] = Task(splits=splits, group=task.group, crop=task.crop, flip=task.flip)
        except ValueError as error:
            missing.setdefault(str(error), []).append(task.title)
    if not tasks and len(missing) == 1:
        raise ValueError(next(iter(missing)))
    for sentence, titles in missing.items() if world.leads else ():
        note(f"{' and '.join(titles)} left out: {sentence}")
    if not tasks:
        raise ValueError(f"{options.data.root} has the images of no task: put those of one there, as told above")
    return tasks


def reading(recorded: DataConfig | None) -> dict[str, Any]:
    """How a run read its images, which holds for others too."""
    return {} if recorded is None else {"workers": recorded.workers, "on_error": recorded.on_error}


def subjects(model: Model, options: Options, world: World) -> dict[str, Subject]:
    """The model, and what it is compared with."""
    device = world.device(options.device)
    predictor = Predictor(model, device=device)
    preprocessing = predictor.card.preprocessing
    if options.suite in TASKS:  # what is asked may be at the edge of an image, so none is cut, as in VTAB
        preprocessing = replace(preprocessing, resize="squash")
    found = {"model": Subject(encode=predictor.represent, preprocessing=preprocessing, identity=identity(model))}
    if options.baselines:
        random = fresh(model)
        found["random weights"] = Subject(
            encode=Predictor(random, device=device).represent,
            preprocessing=preprocessing,
            identity=identity(random),
            fresh=True,
        )
        small = replace(preprocessing, image_size=(RAW, RAW), resize="squash")
        found["raw pixels"] = Subject(
            encode=lambda images: images.flatten(1).float(), preprocessing=small, identity="raw pixels", fresh=None
        )
    return found


def identity(model: Model) -> str:
    """A hash of a model's weights and of what it does with them."""
    digest = hashlib.sha256(str(to_dict(model.config)).encode())
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def extracted(
    compared: Mapping[str, Subject], tasks: Mapping[str, Task], options: Options, *, where: Path, world: World
) -> dict[str, dict[str, Known]]:
    """What every subject makes of all images of every task; all processes together, for the first.

    Of several tasks, one with images that cannot be read is left out, and it is said why.

    Raises:
        ValueError: no task is left.
    """
    cache = Cache(options.cache or (where / "features" if where.is_dir() else None), say=note)
    found: dict[str, dict[str, Known]] = {name: {} for name in compared}
    failed = 0
    for title, task in tasks.items():
        try:
            seen = {
                name: {
                    split: images_seen(subject, source, cache, (title, split), data=options.data, world=world)
                    for split, source in task.splits.items()
                }
                for name, subject in compared.items()
            }
        except ValueError as error:
            failed += 1
            if failed == len(tasks):
                raise
            if world.leads:
                note(f"{title} left out: {error}")
            continue
        for name, splits in seen.items() if world.leads else ():
            found[name][title] = Known(**splits, num_classes=len(task.splits["train"].classes))
            for sentence in (sentence for part in splits.values() for sentence in part.broken):
                note(f"left out: {sentence}")
    return found


def images_seen(
    subject: Subject, source: Source, cache: Cache, named: tuple[str, str], *, data: DataConfig, world: World
) -> Representations:
    """What a subject makes of a source, or made of it before, which the first process alone knows then."""
    images = f"{fingerprint(source)} {contents(source)}" if world.leads else ""
    key = (subject.identity, str(to_dict(subject.preprocessing)), *named, images)
    kept = cache.find(key) if world.leads else None
    if world.by_leader(lambda: kept is not None):
        return NOTHING if kept is None else kept
    found = represented(subject.encode, source, preprocessing=subject.preprocessing, data=data, world=world)
    world.by_leader(lambda: cache.keep(key, found))
    return found


def frozen(known: Mapping[str, Known], methods: tuple[str, ...], options: Options) -> dict[str, dict[str, Score]]:
    """The scores of representations that stay as they are, by task, then by method."""
    found: dict[str, dict[str, Score]] = {}
    for title, images in known.items():
        scores = [row for method in methods for row in score(method, images, seeds=options.seeds)]
        found[title] = {row.method: row for row in scores}
    if options.grid:
        for title, scores in grid_scores(known).items():
            found[title] |= scores
    return found


def table_of(
    found: Mapping[str, Mapping[str, Mapping[str, Score]]],
    groups: Mapping[str, str],
    known: Mapping[str, Mapping[str, float]],
) -> list[list[str]]:
    """A head, then a row for each task and subject, and the means by group where there are several tasks.

    Args:
        found: scores by subject, task and method.
        groups: of each task.
        known: published accuracies of fine-tuned models, by model and task; each a column, beside the first subject.
    """
    methods = list(next(iter(next(iter(found.values())).values())))
    rows = [["task", "of", *methods, *(f"{of}{PUBLISHED}" for of in known)]]
    for title in groups:
        for number, (name, scores) in enumerate(found.items()):
            beside = ("" if number else f"{column[title]:.1%}" for column in known.values())
            rows.append([title, name, *(told(scores[title].get(method)) for method in methods), *beside])
    if len(groups) > 1:
        for group in (*dict.fromkeys(groups.values()), "mean"):
            members = [title for title in groups if group in (groups[title], "mean")]
            for number, (name, scores) in enumerate(found.items()):
                means = by_group(scores, groups)[group]
                shares = (f"{means[method]:.1%}" if method in means else "-" for method in methods)
                published = (statistics.fmean(column[title] for title in members) for column in known.values())
                beside = ("" if number else f"{mean:.1%}" for mean in published)
                rows.append([f"{group}, mean" if group != "mean" else "all, mean", name, *shares, *beside])
    return rows


def told(found: Score | None) -> str:
    """Accuracy, and its deviation where something is drawn; a dash where there is none."""
    if found is None:
        return "-"
    return f"{found.mean:.1%}" + (f" ± {100 * found.spread:.1f}" if len(found.values) > 1 else "")


def show(title: str, rows: list[list[str]]) -> None:
    """The table on the screen; the grid's and the published columns, which it has no room for, follow by themselves."""
    apart = {n for n, name in enumerate(rows[0]) if name.endswith((GRIDDED, PUBLISHED))}
    show_table(title, [[cell for n, cell in enumerate(row) if n not in apart] for row in rows], names=2)
    for caption, ending, names in (
        ("strength chosen for all tasks", GRIDDED, 2),
        ("fine-tuned, published", PUBLISHED, 1),
    ):
        if columns := [n for n in sorted(apart) if rows[0][n].endswith(ending)]:
            cells = [[*row[:names], *(row[n] for n in columns)] for row in rows if row[columns[0]]]
            cells[0] = [name.removesuffix(ending) for name in cells[0]]
            show_table(caption, cells, names=names)


def as_json(
    where: Path, suite: str, found: Mapping[str, Mapping[str, Mapping[str, Score]]], groups: Mapping[str, str]
) -> dict[str, Any]:
    """Everything that was measured; accuracies are shares."""
    return {
        "model": str(where),
        "suite": suite,
        "tasks": [
            {
                "task": title,
                "group": groups[title],
                "of": name,
                "method": score.method,
                "accuracy": score.mean,
                "deviation": score.spread,
                "seeds": score.values,
                "num_images": score.num_images,
                "seconds": round(score.seconds, 3),
            }
            for name, tasks in found.items()
            for title, scores in tasks.items()
            for score in scores.values()
        ],
        "means": {name: by_group(tasks, groups) for name, tasks in found.items()},
    }
