"""Every way a call can fail, and how the transports' exceptions map to them.

    PemError
    ├── UrlError           the address is not grpc://host:port or http://host:port
    ├── ImageError         the image cannot be read, encoded, or does not fit its masks
    ├── InvalidRequest     the server refused what was sent; sending it again cannot help
    ├── ServerUnavailable  no server there, or the model is unknown or not ready
    ├── AccessDenied       the server wants an API key, or another one
    ├── Overloaded         the queue is full, or the request waited in it for too long
    ├── DeadlineExceeded   no answer within the client's time limit
    └── ServerError        the server failed, or sent an unexpected response

`UrlError` and `ImageError` are `ValueError`s too. Each text is one sentence.
"""

import re

from tritonclient.utils import InferenceServerException


class PemError(Exception):
    """Base of all errors of this package."""


class UrlError(PemError, ValueError):
    """The address is not grpc://host:port or http://host:port."""


class ImageError(PemError, ValueError):
    """The image cannot be read or encoded, or does not fit its masks."""


class InvalidRequest(PemError):
    """The server refused what was sent; sending it again cannot help."""


class ServerUnavailable(PemError):
    """No server at the address, or the model is unknown or not ready there."""


class AccessDenied(PemError):
    """The server wants an API key, or does not accept the one that it got."""


class Overloaded(PemError):
    """The server's queue is full, or the request waited in it for too long; try again later."""


class DeadlineExceeded(PemError):
    """No answer within the client's time limit."""


class ServerError(PemError):
    """The server failed, or sent an unexpected response."""


# Names are gRPC status codes, numbers HTTP ones (504 and 502 come from proxies).
KIND_OF_STATUS: dict[str, type[PemError]] = {
    "CANCELLED": ServerError,
    "UNKNOWN": ServerError,
    "INVALID_ARGUMENT": InvalidRequest,
    "DEADLINE_EXCEEDED": DeadlineExceeded,
    "NOT_FOUND": ServerUnavailable,
    "ALREADY_EXISTS": ServerError,
    "PERMISSION_DENIED": AccessDenied,
    "RESOURCE_EXHAUSTED": Overloaded,
    "FAILED_PRECONDITION": ServerError,
    "ABORTED": ServerError,
    "OUT_OF_RANGE": InvalidRequest,
    "UNIMPLEMENTED": ServerError,
    "INTERNAL": ServerError,
    "UNAVAILABLE": ServerUnavailable,
    "DATA_LOSS": ServerError,
    "UNAUTHENTICATED": AccessDenied,
    "400": InvalidRequest,
    "401": AccessDenied,
    "403": AccessDenied,
    "404": ServerUnavailable,
    "408": DeadlineExceeded,
    "413": InvalidRequest,
    "431": InvalidRequest,
    "429": Overloaded,
    "500": ServerError,
    "502": ServerUnavailable,
    "503": ServerUnavailable,
    "504": DeadlineExceeded,
}

_SENTENCES: dict[type[PemError], str] = {
    InvalidRequest: "{reason}",
    ServerUnavailable: "cannot reach the model at {url} ({reason}); start the server, or check its "
    "address and the model's name",
    AccessDenied: "the server at {url} refuses this client ({reason}); give its key as api_key, or "
    "in the variable PEM_API_KEY",
    Overloaded: "the server at {url} is overloaded ({reason}); try again later",
    DeadlineExceeded: "no response from {url} within {timeout_s:g} s; increase timeout_s, or check "
    "the server",
    ServerError: "the server at {url} failed: {reason}",
}

# What Triton puts before a step's message, in any order and number.
_PREFIXES = re.compile(r"^(?:in ensemble '[^']*', *|\[request id: [^\]]*\] *)+")
# Reasons of UNAVAILABLE (503) that mean overload: two of Triton, one of the gateway. Otherwise
# a model is missing.
_QUEUE = re.compile(r"maximum queue size|timeout expired|the answer would take", re.IGNORECASE)
# gRPC reports its whole search for an address; only the last cause is useful.
_NO_CONNECTION = re.compile(r"^(?:failed to connect|errors resolving).*: (?P<cause>.+?)\]?$", re.S)


def as_pem_error(
    error: Exception, url: str, timeout_s: float, broken: type[Exception] = ConnectionError
) -> PemError:
    """The `PemError` for any exception of a call.

    `broken` is what a transport raises when the peer hangs up or speaks another protocol.
    """
    if isinstance(error, PemError):
        return error
    if isinstance(error, InferenceServerException):
        kind, reason = _classify(error)
    elif isinstance(error, TimeoutError):
        kind, reason = DeadlineExceeded, ""
    elif isinstance(error, OSError | broken):
        kind, reason = ServerUnavailable, _cause(error)
    else:
        kind, reason = ServerError, f"{type(error).__name__}: {error}"
    return kind(_SENTENCES[kind].format(reason=reason, url=url, timeout_s=timeout_s))


def _classify(error: InferenceServerException) -> tuple[type[PemError], str]:
    status = str(error.status()).removeprefix("StatusCode.")
    kind = KIND_OF_STATUS.get(status, ServerError)
    if error.debug_details() is not None and status.isdecimal():  # a response that is not Triton's
        return kind, f"HTTP status {status}"
    reason = _first_line(error.message() or f"status {status}")
    # The second: the gateway's budget of bytes (gateway/pem_gateway/byte_budget.py).
    if kind is ServerUnavailable and (_QUEUE.search(reason) or "are used up" in reason):
        return Overloaded, reason
    return kind, reason


def _first_line(message: str) -> str:
    """The server's message without prefixes and without the traceback of a failed step."""
    message = _PREFIXES.sub("", message.strip())
    if match := _NO_CONNECTION.match(message):
        message = match["cause"]
    return message.partition("\n")[0].strip()


def _cause(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"{type(error).__name__}: the connection broke, or the response is not valid HTTP/gRPC"
