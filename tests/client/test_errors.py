"""The error tree: every failure of a transport becomes one of ours."""

import grpc
import pytest
from tritonclient.utils import InferenceServerException

from pem_client import (
    DeadlineExceeded,
    ImageError,
    InvalidRequest,
    Overloaded,
    PemError,
    ServerError,
    ServerUnavailable,
    UrlError,
    _errors,
)

URL = "grpc://here:1"


def translate(error, **kwargs):
    return _errors.as_pem_error(error, URL, 2.5, **kwargs)


def refusal(status, message, details=None):
    return InferenceServerException(msg=message, status=status, debug_details=details)


def test_every_grpc_status_has_its_error():
    failures = {code.name for code in grpc.StatusCode} - {"OK"}
    assert {status for status in _errors.KIND_OF_STATUS if not status.isdecimal()} == failures


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("StatusCode.INVALID_ARGUMENT", InvalidRequest),
        ("StatusCode.NOT_FOUND", ServerUnavailable),
        ("StatusCode.UNAVAILABLE", ServerUnavailable),
        ("StatusCode.DEADLINE_EXCEEDED", DeadlineExceeded),
        ("StatusCode.RESOURCE_EXHAUSTED", Overloaded),
        ("StatusCode.INTERNAL", ServerError),
        ("400", InvalidRequest),
        ("404", ServerUnavailable),
        ("413", InvalidRequest),
        ("429", Overloaded),
        ("500", ServerError),
        ("502", ServerUnavailable),
        ("503", ServerUnavailable),
        ("504", DeadlineExceeded),
        ("418", ServerError),
        (None, ServerError),
    ],
)
def test_a_status_decides_the_error(status, kind):
    error = translate(refusal(status, "disk full"))
    assert type(error) is kind
    assert "disk full" in str(error) or kind is DeadlineExceeded


@pytest.mark.parametrize("status", ["StatusCode.UNAVAILABLE", "503"])
@pytest.mark.parametrize(
    "reason", ["[request id: <id_unknown>] Exceeds maximum queue size", "Request timeout expired"]
)
def test_a_full_queue_is_an_overload_and_not_an_absence(status, reason):
    error = translate(refusal(status, f"in ensemble 'fai-pem-m-ade', {reason}"))
    assert type(error) is Overloaded
    assert URL in str(error)
    assert f"({reason.rpartition('] ')[2]})" in str(error)


@pytest.mark.parametrize(
    "prefix",
    [
        "",
        "in ensemble 'fai-pem-m-ade', ",
        "in ensemble 'fai-pem-m-ade', [request id: 7] ",
        "[request id: <id_unknown>] in ensemble 'a', in ensemble 'b', ",
    ],
)
def test_the_servers_message_is_shown_without_tritons_prefixes(prefix):
    error = translate(refusal("StatusCode.INVALID_ARGUMENT", f"{prefix}image must be an image"))
    assert str(error) == "image must be an image"


def test_the_traceback_of_a_failed_step_is_left_out():
    message = "message: KeyError: 'boom'\n\nAt:\n  /models/post/1/model.py(15): execute\n"
    error = translate(refusal("StatusCode.INTERNAL", message))
    assert str(error).endswith(": message: KeyError: 'boom'")


@pytest.mark.parametrize(
    ("details", "cause"),
    [
        (
            "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:1: "
            "Failed to connect to remote host: Connection refused",
            "Connection refused",
        ),
        (
            "errors resolving here:1: [field:hostname lookup error:address lookup failed for "
            "here:1: Domain name not found]",
            "Domain name not found",
        ),
    ],
)
def test_grpcs_search_for_an_address_is_shown_by_its_last_cause(details, cause):
    error = translate(refusal("StatusCode.UNAVAILABLE", details))
    assert type(error) is ServerUnavailable
    assert f"{URL} ({cause})" in str(error)


def test_the_page_of_a_proxy_is_shown_by_its_status():
    page = "an exception occurred in the client while decoding the response: <html>"
    error = translate(refusal("503", page, details="<html>"))
    assert f"{URL} (HTTP status 503)" in str(error)


class HungUp(Exception):
    """As an HTTP library's own exception."""


@pytest.mark.parametrize(
    ("error", "kind", "part"),
    [
        (TimeoutError(), DeadlineExceeded, "2.5 s"),
        (ConnectionRefusedError(111, "Connection refused"), ServerUnavailable, "refused"),
        (BrokenPipeError(32, "Broken pipe"), ServerUnavailable, "Broken pipe"),
        (OSError(), ServerUnavailable, "OSError"),
        (HungUp(), ServerUnavailable, "HungUp"),
        (ValueError("no JSON"), ServerError, "ValueError: no JSON"),
        (Exception(), ServerError, "Exception"),
    ],
)
def test_other_exceptions_become_errors_too(error, kind, part):
    translated = translate(error, broken=HungUp)
    assert type(translated) is kind
    assert part in str(translated)


def test_our_own_error_stays_itself():
    closed = PemError("closed")
    assert translate(closed) is closed


def test_what_the_caller_did_wrong_is_a_value_error():
    assert all(issubclass(kind, ValueError) for kind in (ImageError, UrlError))
