"""The one image in the body of a plain HTTP request: the body itself, or a file in a form."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator
from typing import Any

from python_multipart.exceptions import FormParserError
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from .http_server import read_body, too_large
from .refusal import bad_request

FORM_SPARE = 64 << 10  # bytes of a form beside its file
SLICE = 64 << 10  # parsed at a time, so that other requests go on between
ONE_FILE = "a form must hold one file and nothing else, as curl -F image=@photo.jpg sends it"
# What it would log is the client's fault, and the client is told.
logging.getLogger("python_multipart").setLevel(logging.CRITICAL)


class _InMemory(MultiPartParser):
    spool_max_size = 1 << 30  # the body is bounded and in memory; no temporary file is needed


async def read_image(request: Request, limit: int) -> bytes:
    """The image, of at most `limit` bytes. Raises Refusal with a sentence.

    Any Content-Type but multipart/form-data means the image itself: curl's --data-binary calls
    every file application/x-www-form-urlencoded.
    """
    is_form = request.headers.get("Content-Type", "").lower().startswith("multipart/form-data")
    most = limit + FORM_SPARE if is_form else limit
    body = await read_body(request, most)
    image = await _file_of_form(request, body) if is_form else body
    if len(image) > limit:
        raise too_large(limit)
    if not image:
        raise bad_request(
            "the body must be the bytes of an image file, got none; send it with "
            "curl --data-binary @photo.jpg"
        )
    return image


async def _file_of_form(request: Request, body: bytes) -> bytes:
    parser = _InMemory(request.headers, _slices(body), max_files=1, max_fields=1)
    try:
        async with _closing(await parser.parse()) as form:
            files = _files(form)
            if len(files) == 1:
                return bytes(files[0].file.read())
    except (MultiPartException, FormParserError) as error:
        reason = getattr(error, "message", None) or str(error)
        raise bad_request(f"{ONE_FILE}; this one cannot be read: {reason[:100]}") from None
    raise bad_request(f"{ONE_FILE}, got another one; options such as threshold go into the URL")


@contextlib.asynccontextmanager
async def _closing(form: FormData) -> AsyncGenerator[FormData, None]:
    try:
        yield form
    finally:
        await form.close()


def _files(form: FormData) -> list[UploadFile]:
    values: list[Any] = [value for _, value in form.multi_items()]
    if any(not isinstance(value, UploadFile) for value in values):
        return []
    return values


async def _slices(body: bytes) -> AsyncGenerator[bytes]:
    view = memoryview(body)
    for start in range(0, len(view), SLICE):
        yield bytes(view[start : start + SLICE])
        await asyncio.sleep(0)
