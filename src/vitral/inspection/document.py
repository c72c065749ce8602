"""All figures of a model in one file: an HTML page, or a PDF with a page for each."""

import base64
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

from matplotlib.figure import Figure

from vitral.errors import UserError
from vitral.files import printable, write_atomically
from vitral.inspection.drawing import draw
from vitral.inspection.survey import Survey

__all__ = ["write_document"]

PAGE = "document.html"
"""Template of the page."""


def write_document(
    survey: Survey, path: Path, *, model: str, figures: Mapping[str, str], shared_scale: bool = False
) -> dict[str, str]:
    """Writes the figures that the model has; call it inside `font_fallback`.

    Args:
        survey: the model and its images.
        path: ends in .html or .pdf.
        model: its name, for the title.
        figures: names of `draw`, each with what it shows.
        shared_scale: as in `draw`.

    Returns:
        The figures that the model does not have, each with the reason.

    Raises:
        UserError: it has none, or an image cannot be read.
        OSError: the file cannot be written.
    """
    _ = survey.samples  # without images, or with one that cannot be read, there is no document
    drawn, skipped = {}, {}
    for name in figures:
        try:
            drawn[name] = draw(name, survey, shared_scale=shared_scale)
        except UserError as error:
            skipped[name] = str(error)
    if not drawn:
        raise UserError(next(iter(skipped.values())))
    content = _pdf(drawn) if path.suffix.lower() == ".pdf" else _page(drawn, skipped, model=model, figures=figures)
    write_atomically(path, lambda file: file.write(content))
    return skipped


def _pdf(drawn: Mapping[str, Figure]) -> bytes:
    """One page for each figure."""
    from matplotlib.backends.backend_pdf import PdfPages  # only here, as few documents are PDFs

    buffer = BytesIO()
    with PdfPages(buffer) as pages:
        for figure in drawn.values():
            pages.savefig(figure, bbox_inches="tight", pad_inches=0.3)
    return buffer.getvalue()


def _page(drawn: Mapping[str, Figure], skipped: Mapping[str, str], *, model: str, figures: Mapping[str, str]) -> bytes:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # only here, as most pictures need no page

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    pictures = {name: _data_url(figure) for name, figure in drawn.items()}
    page = environment.get_template(PAGE).render(model=model, figures=figures, pictures=pictures, skipped=skipped)
    return printable(page).encode()


def _data_url(figure: Figure) -> str:
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
