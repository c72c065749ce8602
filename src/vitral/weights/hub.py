"""Download from and upload to the Hugging Face Hub."""

from pathlib import Path

from huggingface_hub import HfApi, get_token, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from vitral.errors import UserError
from vitral.weights.address import HUB_PREFIX
from vitral.weights.upstream_folder import SUFFIXES, WEIGHTS_FILES

__all__ = ["download", "find_cached", "upload"]

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
    """Downloads `hf-hub:OWNER/NAME`, or `hf-hub:OWNER/NAME/FILE` for one file, each optionally with `@REVISION`.

    A repository whose weights file has none of the usual names gives that file, if it has only one.

    Returns:
        The folder in the cache, or the file.

    Raises:
        UserError: the model, its file or revision does not exist, may not be read, or the Hub cannot be reached.
    """
    address, _, revision = model.removeprefix(HUB_PREFIX).partition("@")
    name, file = _split_file(address)
    try:
        if file is not None:
            return Path(hf_hub_download(name, file, revision=revision or None))
        for patterns in (SAFETENSORS, PICKLED):
            folder = Path(snapshot_download(name, revision=revision or None, allow_patterns=["*.json", *patterns]))
            if any(next(folder.glob(pattern), None) for pattern in patterns):
                return folder
        if (other := _only_weights_file(model, name, revision)) is not None:
            snapshot_download(name, revision=revision or None, allow_patterns=["*.json", other])
            return folder / other if "/" in other else folder
        return folder
    except LocalEntryNotFoundError:
        raise UserError(
            f"{model} is not in the cache and the Hub cannot be reached: connect, or run `hf download {name} "
            "--local-dir FOLDER` on another machine, copy the folder here, and name it"
        ) from None
    except EntryNotFoundError:
        raise UserError(f"{model}: {name} has no file {file}") from None
    except RevisionNotFoundError:
        raise UserError(f"{model}: {name} has no revision {revision}") from None
    except RepositoryNotFoundError:
        raise UserError(f"{model} does not exist or is private: log in with hf auth login") from None
    except (HfHubHTTPError, HFValidationError) as error:
        raise UserError(f"{model} cannot be downloaded: {str(error).splitlines()[0]}") from None


def find_cached(model: str) -> Path | None:
    """The folder of `hf-hub:OWNER/NAME` in the cache; None if its weights are not there. Nothing is downloaded."""
    try:
        folder = Path(snapshot_download(model.removeprefix(HUB_PREFIX), local_files_only=True))
    except LocalEntryNotFoundError:
        return None
    return folder if any((folder / name).is_file() for name in WEIGHTS_FILES) else None


def _split_file(address: str) -> tuple[str, str | None]:
    """OWNER/NAME and the file after it, if there is one."""
    owner, _, rest = address.partition("/")
    name, _, file = rest.partition("/")
    return (f"{owner}/{name}", file) if file.endswith(SUFFIXES) else (address, None)


def _only_weights_file(model: str, name: str, revision: str) -> str | None:
    """The repository's weights file if its name is none of the usual ones; None if the Hub cannot be asked.

    Raises:
        UserError: there are several, or none.
    """
    try:
        files = HfApi().list_repo_files(name, revision=revision or None)
    except (OfflineModeIsEnabled, HTTPError, ConnectionError, TimeoutError):
        return None  # what is in the cache decides
    weights = [file for file in files if file.endswith(SUFFIXES)]
    if len(weights) > 1:
        shown = ", ".join(weights[:5]) + " ..." * (len(weights) > 5)
        at = f"@{revision}" if revision else ""
        raise UserError(
            f"{model} has several weights files ({shown}): name one, such as {HUB_PREFIX}{name}/{weights[0]}{at}"
        )
    if not weights:
        shown = ", ".join(files[:5]) + " ..." * (len(files) > 5)
        raise UserError(f"{model} has no weights that Vitral reads: its files are {shown or 'none'}")
    return weights[0]


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
