"""JSON over HTTP to one address: one pool of connections for the whole run."""

from __future__ import annotations

import json
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp

from loam_runtime.synthesis.faults import AttemptFailed

# Under the 5 s after which common servers (uvicorn) close an idle connection: a request that
# meets the closing is lost and may be billed.
KEEPALIVE_SECONDS = 4.0
CONNECT_TIMEOUT_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back: status, headers (looked up in any case), and the JSON body or None."""

    status: int
    headers: Mapping[str, str]
    body: object


class HttpSession:
    """Posts JSON; open it inside the event loop that uses it.

    HTTP_PROXY, HTTPS_PROXY, NO_PROXY and SSL_CERT_FILE are honoured. Redirects are not followed:
    the key goes to the address it was given for.

    Args:
        base_url: address that paths are relative to.
        api_key: sent as a bearer token where it is not empty.
        headers: sent with every request.
        timeout_seconds: for one exchange.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str = "",
        *,
        headers: Mapping[str, str] | None = None,
        timeout_seconds: float,
    ) -> None:
        self._base_url = base_url.rstrip("/")
        self._timeout_seconds = timeout_seconds
        self._proxy = _find_proxy(base_url)
        authorization = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        is_tls = base_url.startswith("https:")
        self._session = aiohttp.ClientSession(
            # No limit here: how many are open is the caller's business (`AdaptiveLimit`).
            connector=aiohttp.TCPConnector(
                limit=0,
                keepalive_timeout=KEEPALIVE_SECONDS,
                ssl=_build_tls_context() if is_tls else True,
            ),
            headers={**(headers or {}), **authorization},
            timeout=aiohttp.ClientTimeout(
                total=timeout_seconds, sock_connect=min(CONNECT_TIMEOUT_SECONDS, timeout_seconds)
            ),
        )

    async def post(self, path: str, body: object) -> Reply:
        """Send a body, read the whole response.

        Raises:
            AttemptFailed: no connection, a broken one, no answer in time, or a 200 that is not
                JSON.
        """
        try:
            async with self._session.post(
                f"{self._base_url}/{path}", json=body, proxy=self._proxy, allow_redirects=False
            ) as response:
                data = await response.read()
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as exc:
            # Nothing was sent, so nothing is billed.
            reason = f"connection failed ({type(exc).__name__})"
            raise AttemptFailed(reason, is_charged=False) from exc
        except TimeoutError as exc:
            raise AttemptFailed(f"no answer within {self._timeout_seconds:g} s") from exc
        except (aiohttp.ClientError, OSError) as exc:
            raise AttemptFailed(f"connection broke ({type(exc).__name__})") from exc
        return Reply(response.status, response.headers, _read_json(response.status, data))

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()


def _read_json(status: int, data: bytes) -> object:
    try:
        return json.loads(data)
    except ValueError as exc:
        if status == 200:
            raise AttemptFailed("a response that is not JSON") from exc
        return None


def _find_proxy(url: str) -> str | None:
    parts = urlsplit(url)
    if proxy_bypass(parts.hostname or ""):
        return None
    return getproxies().get(parts.scheme)


def _build_tls_context() -> ssl.SSLContext:
    """The system's authorities where a file names them, else certifi's: a slim image has none."""
    import certifi

    return ssl.create_default_context(cafile=os.environ.get("SSL_CERT_FILE") or certifi.where())
