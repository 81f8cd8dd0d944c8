"""The error tree: every failure of a transport becomes one of ours."""

import grpc
import pytest
from tritonclient.utils import InferenceServerException

from pem_client import ImageError, Overloaded, PemError, ServerUnavailable, UrlError, _errors

URL = "grpc://here:1"


def translate(error, **kwargs):
    return _errors.as_pem_error(error, URL, 2.5, **kwargs)


def refusal(status, message, details=None):
    return InferenceServerException(msg=message, status=status, debug_details=details)


def test_every_grpc_status_has_its_error():
    failures = {code.name for code in grpc.StatusCode} - {"OK"}
    assert {status for status in _errors.KIND_OF_STATUS if not status.isdecimal()} == failures


@pytest.mark.parametrize(
    ("kind", "statuses"),
    [
        ("InvalidRequest", "StatusCode.INVALID_ARGUMENT 400 413"),
        ("ServerUnavailable", "StatusCode.NOT_FOUND StatusCode.UNAVAILABLE 404 502 503"),
        ("DeadlineExceeded", "StatusCode.DEADLINE_EXCEEDED 504"),
        ("Overloaded", "StatusCode.RESOURCE_EXHAUSTED 429"),
        ("ServerError", "StatusCode.INTERNAL 500 418"),
    ],
)
def test_a_status_decides_the_error(kind, statuses):
    for status in statuses.split():
        error = translate(refusal(status, "disk full"))
        assert type(error).__name__ == kind, status
        assert "disk full" in str(error) or kind == "DeadlineExceeded"


@pytest.mark.parametrize("status", ["StatusCode.UNAVAILABLE", "503"])
@pytest.mark.parametrize(
    "reason", ["[request id: <id_unknown>] Exceeds maximum queue size", "Request timeout expired"]
)
def test_a_full_queue_is_an_overload_and_not_an_absence(status, reason):
    error = translate(refusal(status, f"in ensemble 'fai-pem-m-ade', {reason}"))
    assert type(error) is Overloaded
    assert URL in str(error)
    assert f"({reason.rpartition('] ')[2]})" in str(error)


def test_the_servers_message_is_shown_without_tritons_prefixes_and_traceback():
    for prefix in ("in ensemble 'a', [request id: 7] ", "[request id: <x>] in ensemble 'a', ", ""):
        bad_image = f"{prefix}image must be an image"
        error = translate(refusal("StatusCode.INVALID_ARGUMENT", bad_image))
        assert str(error) == "image must be an image"
    message = "message: KeyError: 'boom'\n\nAt:\n  /models/post/1/model.py(15): execute\n"
    error = translate(refusal("StatusCode.INTERNAL", message))
    assert str(error).endswith(": message: KeyError: 'boom'")


REFUSED = "failed to connect to all addresses; last error: ipv4:127.0.0.1:1: Connection refused"
UNRESOLVED = "errors resolving here:1: [field:hostname lookup error:here:1: Domain name not found]"
PAGE = "an exception occurred in the client while decoding the response: <html>"


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (refusal("StatusCode.UNAVAILABLE", REFUSED), "Connection refused"),
        (refusal("StatusCode.UNAVAILABLE", UNRESOLVED), "Domain name not found"),
        (refusal("503", PAGE, details="<html>"), "HTTP status 503"),  # the page of a proxy
    ],
)
def test_an_absent_server_is_shown_by_its_last_cause(error, cause):
    translated = translate(error)
    assert type(translated) is ServerUnavailable
    assert f"{URL} ({cause})" in str(translated)


class HungUp(Exception):
    """As an HTTP library's own exception."""


@pytest.mark.parametrize(
    ("error", "kind", "part"),
    [
        (TimeoutError(), "DeadlineExceeded", "2.5 s"),
        (BrokenPipeError(32, "Broken pipe"), "ServerUnavailable", "Broken pipe"),
        (OSError(), "ServerUnavailable", "OSError"),
        (HungUp(), "ServerUnavailable", "HungUp"),
        (ValueError("no JSON"), "ServerError", "ValueError: no JSON"),
        (refusal(None, "no status"), "ServerError", "no status"),
    ],
)
def test_other_exceptions_become_errors_too(error, kind, part):
    translated = translate(error, broken=HungUp)
    assert type(translated).__name__ == kind
    assert part in str(translated)


def test_our_own_error_stays_itself_and_the_callers_are_value_errors():
    closed = PemError("closed")
    assert translate(closed) is closed
    assert all(issubclass(kind, ValueError) for kind in (ImageError, UrlError))
