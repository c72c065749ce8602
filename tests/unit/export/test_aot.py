"""Machine code in a .pt2 file. Without the shape checks, as graphs need it."""

from dataclasses import replace
from io import BytesIO
from pathlib import Path
from zipfile import ZipFile

import pytest
import torch

from models import small_card, small_model
from vitral.errors import UserError
from vitral.export.aot_file import check_compiler, compile_graph, this_machine, write_aot
from vitral.export.exported import ExportedModel, load_exported
from vitral.export.images import photographs
from vitral.export.metadata import ExportMetadata, Target
from vitral.export.parity import compare
from vitral.export.trust import remember
from vitral.export.writing import ExportOptions, export_model

MODEL = small_model(image_size=(32, 48), width=24)
METADATA = ExportMetadata(
    vitral="1.0",
    architecture=MODEL.config,
    card=small_card(MODEL.config),
    output="logits",
    image_size="fixed",
    precision="float32",
    compiled_for=this_machine(),
)


def archive(folder: Path, compiled_for: Target | None) -> Path:
    """A file that holds no working code: what is in front of it refuses it first."""
    stream = BytesIO()
    with ZipFile(stream, "w") as file:
        file.writestr("model/data/aotinductor/model/code.so", b"no code")
    content = write_aot(stream.getvalue(), replace(METADATA, compiled_for=compiled_for))
    remember(content)
    (folder / "a.pt2").write_bytes(content)
    return folder / "a.pt2"


@pytest.mark.slow
@pytest.mark.compile
@pytest.mark.parametrize("with_preprocessing", [False, True])
def test_compiled_code_is_its_model(with_preprocessing: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reports = []

    def verify(exported: ExportedModel) -> str:
        reports.append(compare(MODEL, exported, photographs()))
        return "a warning"

    options = ExportOptions(
        to="torch",
        aot=True,
        with_preprocessing=with_preprocessing,
        image_size="fixed" if with_preprocessing else "dynamic",
    )
    path = tmp_path / "model.pt2"
    export_model(MODEL, path, options, verify=verify)
    (report,) = reports
    assert {(row.size, row.batch) for row in report.comparisons} >= {((32, 48), batch) for batch in (1, 3, 16)}
    assert max(row.largest / row.scale for row in report.comparisons) < 1e-5
    assert list(tmp_path.iterdir()) == [path]
    metadata = load_exported(path).metadata
    assert (metadata.compiled_for, metadata.warning) == (this_machine(), "a warning")
    monkeypatch.setenv("VITRAL_CACHE", str(tmp_path / "another user's"))
    with pytest.raises(UserError, match="VITRAL_TRUST_PT2=1"):
        load_exported(path)


def test_code_for_another_machine_is_refused_before_it_runs(tmp_path: Path) -> None:
    here = this_machine()
    for target, reason in {
        replace(here, torch="1.0.0"): "PyTorch 1.0.0, and this is",
        replace(here, machine="vax"): "vax, and this machine is",
        replace(here, instructions=(*here.instructions, "avx9000")): "a CPU with avx9000, which this one lacks",
        None: "not written by vitral export",
        here: "cannot be read by AOTInductor",
    }.items():
        with pytest.raises(UserError, match=reason) as refusal:
            load_exported(archive(tmp_path, target))
        assert "a.pt2" in str(refusal.value)


def test_a_compiler_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch._inductor.config as config

    monkeypatch.setattr(config.cpp, "cxx", (None, "no-such-compiler"))
    with pytest.raises(UserError, match=r"g\+\+"):
        check_compiler()
    with pytest.raises(UserError, match=r"g\+\+"):
        export_model(MODEL, tmp_path / "a.pt2", ExportOptions(to="torch", aot=True), verify=lambda _: "")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        ("C++ compile error\n\nCommand:\n...", "compile error; leave out --aot"),
        ("OSError: [Errno 28] No space left on device", "TMPDIR"),
    ],
)
def test_a_compiler_that_fails_is_one_sentence(message: str, sentence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError(message)

    monkeypatch.setattr(torch._inductor, "aoti_compile_and_package", fail)
    program = torch.export.export(torch.nn.Identity(), (torch.zeros(1),))
    with pytest.raises(UserError, match=sentence):
        compile_graph(program)


def test_only_pytorch_files_hold_machine_code() -> None:
    with pytest.raises(UserError, match="--aot is for --to torch"):
        ExportOptions(to="onnx", aot=True)
