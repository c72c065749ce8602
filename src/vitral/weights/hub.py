"""Download from and upload to the Hugging Face Hub."""

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
from vitral.weights.address import HUB_PREFIX

__all__ = ["WEIGHTS_FILES", "download", "upload"]

WEIGHTS_FILES = (
    *("model.safetensors", "model.safetensors.index.json", "open_clip_model.safetensors"),
    *("pytorch_model.bin", "pytorch_model.bin.index.json", "open_clip_pytorch_model.bin"),
)
"""Names of the weights file in upstream folders, or of its index, in order of preference."""
SAFETENSORS = (
    "model.safetensors",
    "model-*-of-*.safetensors",
    "open_clip_model.safetensors",
    "adapter_model.safetensors",
)
PICKLED = ("pytorch_model.bin", "pytorch_model-*-of-*.bin", "open_clip_pytorch_model.bin", "adapter_model.bin")
"""Patterns of the files to download; those of PyTorch only where there are no safetensors."""
HTTPError: type[Exception] = HfHubHTTPError.__mro__[1]
"""Connection errors of the HTTP package, which differs between versions of huggingface_hub."""


def download(model: str) -> Path:
    """Downloads `hf-hub:OWNER/NAME` or `hf-hub:OWNER/NAME@REVISION` to the cache; returns the folder there.

    Raises:
        UserError: the model or revision does not exist, may not be read, or the Hub cannot be reached.
    """
    name, _, revision = model.removeprefix(HUB_PREFIX).partition("@")
    try:
        folder = Path(snapshot_download(name, revision=revision or None, allow_patterns=["*.json", *SAFETENSORS]))
        if not any(folder.glob("*.safetensors")):
            folder = Path(snapshot_download(name, revision=revision or None, allow_patterns=["*.json", *PICKLED]))
        return folder
    except LocalEntryNotFoundError:
        raise UserError(
            f"{model} is not in the cache and the Hub cannot be reached: connect, or use a local file"
        ) from None
    except RevisionNotFoundError:
        raise UserError(f"{model}: {name} has no revision {revision}") from None
    except RepositoryNotFoundError:
        raise UserError(f"{model} does not exist or is private: log in with hf auth login") from None
    except (HfHubHTTPError, HFValidationError) as error:
        raise UserError(f"{model} cannot be downloaded: {str(error).splitlines()[0]}") from None


def upload(folder: Path, name: str, *, private: bool, revision: str | None, message: str) -> str:
    """Uploads the files of a folder as one commit; creates the repository if it does not exist.

    Args:
        folder: the files to upload.
        name: OWNER/NAME.
        private: whether a new repository is private.
        revision: branch to upload to, created if it does not exist; main if None.
        message: commit message.

    Returns:
        URL of the repository.

    Raises:
        UserError: the user is not logged in or may not write there, or the Hub cannot be reached.
    """
    if get_token() is None:
        raise UserError("you are not logged in to the Hub: run hf auth login, or set HF_TOKEN")
    api = HfApi()
    try:
        url = api.create_repo(name, private=private, exist_ok=True)
        if revision is not None:
            api.create_branch(name, branch=revision, exist_ok=True)
        api.upload_folder(repo_id=name, folder_path=folder, revision=revision, commit_message=message)
    except HFValidationError as error:
        raise UserError(f"{name} is not a model name of the form OWNER/NAME: {error}") from None
    except OfflineModeIsEnabled:
        raise UserError("HF_HUB_OFFLINE is set: unset it to reach the Hub") from None
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403):
            reason = "the token is not valid" if status == 401 else "the token has no write permission"
            raise UserError(f"the Hub refused {name}: {reason}; log in with hf auth login") from None
        raise UserError(f"{name} cannot be uploaded: {str(error).splitlines()[0]}") from None
    except (HTTPError, ConnectionError, TimeoutError) as error:
        raise UserError(f"the Hub at {api.endpoint} cannot be reached: {error}") from None
    return str(url)
