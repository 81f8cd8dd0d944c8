"""What a client is told when its request is not answered: a status, a reason, a sentence."""

from http import HTTPStatus

from grpc import StatusCode

HTTP_STATUS = {
    StatusCode.INVALID_ARGUMENT: HTTPStatus.BAD_REQUEST,
    StatusCode.OUT_OF_RANGE: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    StatusCode.UNAUTHENTICATED: HTTPStatus.UNAUTHORIZED,
    StatusCode.PERMISSION_DENIED: HTTPStatus.FORBIDDEN,
    StatusCode.NOT_FOUND: HTTPStatus.NOT_FOUND,
    StatusCode.UNIMPLEMENTED: HTTPStatus.NOT_IMPLEMENTED,
    StatusCode.RESOURCE_EXHAUSTED: HTTPStatus.TOO_MANY_REQUESTS,
    StatusCode.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    StatusCode.DEADLINE_EXCEEDED: HTTPStatus.GATEWAY_TIMEOUT,
    StatusCode.CANCELLED: HTTPStatus.BAD_REQUEST,  # as tritonserver maps it
}


class Refusal(Exception):
    """A request that is refused or failed.

    `reason` is the label of the metric that counts it, `sentence` is for the client, and after
    `retry_after_s` seconds the same request may be accepted.
    """

    def __init__(
        self,
        code: StatusCode,
        reason: str,
        sentence: str,
        *,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(sentence)
        self.code, self.reason = code, reason
        # What it repeats of a request may hold half a surrogate pair, which no protocol can send.
        self.sentence = sentence.encode("utf-8", "replace").decode()
        self.retry_after_s = retry_after_s

    @property
    def http_status(self) -> int:
        """The HTTP status that stands for `code`, as tritonserver maps it."""
        return HTTP_STATUS.get(self.code, HTTPStatus.INTERNAL_SERVER_ERROR)


def bad_request(sentence: str) -> Refusal:
    """The client's mistake: INVALID_ARGUMENT, HTTP 400."""
    return Refusal(StatusCode.INVALID_ARGUMENT, "bad_request", sentence)


def not_found(sentence: str) -> Refusal:
    """A name that nothing has: NOT_FOUND, HTTP 404."""
    return Refusal(StatusCode.NOT_FOUND, "bad_request", sentence)


def unsupported(sentence: str) -> Refusal:
    """A part of the protocol that is not served: UNIMPLEMENTED, HTTP 501."""
    return Refusal(StatusCode.UNIMPLEMENTED, "bad_request", sentence)
