"""Models on the Hugging Face Hub, down and up."""

from pathlib import Path

from huggingface_hub import HfApi, get_token, snapshot_download
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from vitral.errors import UserError

__all__ = ["HUB", "WEIGHTS_FILES", "download", "upload"]

HUB = "hf-hub:"
"""What a place on the Hub begins with."""
WEIGHTS_FILES = ("model.safetensors", "open_clip_model.safetensors", "pytorch_model.bin")
"""Where folders have their weights; the first that is there."""
HTTPError: type[Exception] = HfHubHTTPError.__mro__[1]
"""Of the package that carries the requests, which has changed its name: no connection, or one that broke."""


def download(where: str) -> Path:
    """The folder behind `hf-hub:OWNER/NAME` or `hf-hub:OWNER/NAME@REVISION` on disk, from the cache where it has it.

    Raises:
        UserError: there is no such model or revision, it may not be read, or the Hub is out of reach.
    """
    name, _, revision = where.removeprefix(HUB).partition("@")
    try:
        return Path(snapshot_download(name, revision=revision or None, allow_patterns=["*.json", *WEIGHTS_FILES]))
    except LocalEntryNotFoundError:
        raise UserError(f"{where} is not in the cache, and the Hub is out of reach: connect, or name a file") from None
    except RevisionNotFoundError:
        raise UserError(f"{where}: there is {name}, but no revision {revision}") from None
    except RepositoryNotFoundError:
        raise UserError(f"{where}: there is no such model, or it is private: log in with hf auth login") from None
    except (HfHubHTTPError, HFValidationError) as error:
        raise UserError(f"{where} cannot be had: {str(error).splitlines()[0]}") from None


def upload(folder: Path, name: str, *, private: bool, revision: str | None, message: str) -> str:
    """Sends a folder's files as one commit, into a repository that is made where there is none.

    Args:
        folder: what to send.
        name: OWNER/NAME.
        private: whether a new repository is hidden from others.
        revision: branch to send to, made where there is none; main when None.
        message: of the commit.

    Returns:
        The address of the repository.

    Raises:
        UserError: nobody is logged in, or without the right to write there, or the Hub is out of reach.
    """
    if get_token() is None:
        raise UserError("nobody is logged in to the Hub: run hf auth login, or set HF_TOKEN")
    api = HfApi()
    try:
        address = api.create_repo(name, private=private, exist_ok=True)
        if revision is not None:
            api.create_branch(name, branch=revision, exist_ok=True)
        api.upload_folder(repo_id=name, folder_path=folder, revision=revision, commit_message=message)
    except HFValidationError as error:
        raise UserError(f"{name} is no name of a model, which is OWNER/NAME: {error}") from None
    except OfflineModeIsEnabled:
        raise UserError("HF_HUB_OFFLINE is set: unset it to reach the Hub") from None
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403):
            reason = "the token is not valid" if status == 401 else "the token has no right to write there"
            raise UserError(f"{name} was refused by the Hub: {reason}; log in with hf auth login") from None
        raise UserError(f"{name} cannot be sent: {str(error).splitlines()[0]}") from None
    except (HTTPError, ConnectionError, TimeoutError) as error:
        raise UserError(f"the Hub at {api.endpoint} is out of reach: {error}") from None
    return str(address)
