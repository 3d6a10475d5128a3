"""What went wrong on the Hugging Face Hub, in Loam's terms."""

from __future__ import annotations

from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from loam_runtime.errors import CredentialsError, InputError, LoamError, StorageError
from loam_runtime.storage.base import NotFoundError

_TOO_MANY_REQUESTS = 429
_SERVER_ERROR = 500


def is_transient(exc: BaseException) -> bool:
    """Whether the same request may succeed later."""
    if isinstance(exc, OfflineModeIsEnabled):
        return False
    if isinstance(exc, HfHubHTTPError):
        status = exc.response.status_code
        return status == _TOO_MANY_REQUESTS or status >= _SERVER_ERROR
    return isinstance(exc, (HTTPError, LocalEntryNotFoundError, ConnectionError))


def translate_hf_error(exc: Exception, uri: str) -> LoamError:
    """The error to raise for what huggingface_hub raised about `uri`."""
    if isinstance(exc, OfflineModeIsEnabled):
        return StorageError(f"{uri} is remote and HF_HUB_OFFLINE is set.", remedy="Unset it.")
    if isinstance(exc, LocalEntryNotFoundError):
        return _unreachable(exc, uri)
    if isinstance(exc, (EntryNotFoundError, RevisionNotFoundError)):
        return NotFoundError(f"{uri}: {_first_line(exc)}", remedy="Check path and revision.")
    if isinstance(exc, HFValidationError):
        return InputError(f"{uri}: {_first_line(exc)}", remedy="Write hf://owner/name.")
    if isinstance(exc, RepositoryNotFoundError) or _get_status(exc) in (401, 403):
        return CredentialsError(
            f"{uri} does not exist, or is private or gated.",
            remedy="Check the name, accept its licence on the Hub, and set HF_TOKEN.",
        )
    return _unreachable(exc, uri)


def _unreachable(exc: Exception, uri: str) -> StorageError:
    return StorageError(
        f"{uri}: the Hub still failed after all retries ({_first_line(exc)}).",
        remedy="Check the network and HF_ENDPOINT, then run again.",
    )


def _get_status(exc: Exception) -> int:
    return exc.response.status_code if isinstance(exc, HfHubHTTPError) else 0


def _first_line(exc: Exception) -> str:
    return (str(exc).splitlines() or [type(exc).__name__])[0]
