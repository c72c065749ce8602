"""Prediction with a trained model, in Python and over HTTP.

`create_app` is imported on first access: it needs the packages of the extra `serve`.
"""

from typing import TYPE_CHECKING, Any

from vitral.errors import UserError

if TYPE_CHECKING:
    from vitral.serve.app import create_app
    from vitral.serve.config import ServeConfig

__all__ = ["ServeConfig", "create_app"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from vitral.serve import app, config
    except ModuleNotFoundError as error:
        if (error.name or "vitral").startswith("vitral"):
            raise
        raise UserError(f"serving needs the package {error.name}: pip install 'vitral[serve]'") from None
    return getattr(config if name == "ServeConfig" else app, name)
