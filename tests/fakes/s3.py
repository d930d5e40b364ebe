"""A double of S3, as far as an object store asks it: signatures are checked, uploads in parts follow the rules."""

import asyncio
import hashlib
import hmac
import re
import time
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, parse_qsl, quote, unquote, urlsplit
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

from litestar import Litestar, Request, Response, route

from tests.fakes.libertai_serving import Serving

KEY, SECRET, REGION, BUCKET = "AKIDOUBLE", "secret-of-the-double", "eu-double-1", "baals"
MIN_PART_BYTES = 5 << 20
_SIGNED = re.compile(r"AWS4-HMAC-SHA256 Credential=([^,]+), SignedHeaders=([^,]+), Signature=([0-9a-f]{64})")
_XMLNS = "http://s3.amazonaws.com/doc/2006-03-01/"


class _Refused(Exception):
    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status = status
        self.code = code


class S3Double:
    """One bucket: `async with S3Double() as s3: … s3.url, s3.objects`."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.written: dict[str, float] = {}
        """When each was written (Unix time)."""
        self.uploads: dict[str, dict[int, bytes]] = {}
        """Parts of the uploads that are neither completed nor aborted, by their ids."""
        self.asked: list[str] = []
        """Method and query of each request."""
        self.fails: list[int] = []
        """Statuses of the next answers."""
        self.is_open = asyncio.Event()
        """Whether parts are taken; else they wait."""
        self.is_open.set()
        self._serving = Serving(
            Litestar([_any(self)], openapi_config=None, logging_config=None, request_max_body_size=None)
        )
        self.url = self._serving.url

    async def __aenter__(self) -> Self:
        await self._serving.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.is_open.set()
        await self._serving.stop()

    async def answer(self, request: Request[Any, Any, Any]) -> Response[bytes]:
        """To whatever is asked."""
        body = await request.body()
        raw = request.scope["raw_path"].decode()
        query = request.scope["query_string"].decode()
        self.asked.append(f"{request.method} {query}".strip())
        try:
            self._check(request, raw, query, body)
            key = unquote(raw).removeprefix("/").partition("/")[2]
            return await self._do(request, key, dict(parse_qsl(query, keep_blank_values=True)), body)
        except _Refused as refused:
            text = f"<Error><Code>{refused.code}</Code><Message>m</Message></Error>"
            return Response(text.encode(), status_code=refused.status, media_type="application/xml")

    def _check(self, request: Request[Any, Any, Any], raw: str, query: str, body: bytes) -> None:
        if self.fails:
            raise _Refused(self.fails.pop(0), "Sick")
        _check_signature(request, raw, query, body)
        if unquote(raw).removeprefix("/").partition("/")[0] != BUCKET:
            raise _Refused(404, "NoSuchBucket")

    async def _do(  # noqa: PLR0911  one for each thing that can be asked
        self, request: Request[Any, Any, Any], key: str, query: dict[str, str], body: bytes
    ) -> Response[bytes]:
        match request.method:
            case "POST" if "uploads" in query:
                upload = f"upload-{len(self.asked)}"
                self.uploads[upload] = {}
                return _xml("InitiateMultipartUploadResult", f"<UploadId>{upload}</UploadId>")
            case "PUT" if "uploadId" in query:
                await self.is_open.wait()
                self._upload(query)[int(query["partNumber"])] = body
                return Response(b"", headers={"ETag": _etag(body)}, status_code=200)
            case "POST" if "uploadId" in query:
                return self._complete(key, query, body)
            case "DELETE" if "uploadId" in query:
                self._upload(query)
                del self.uploads[query["uploadId"]]
                return Response(b"", status_code=204)
            case "PUT":
                self._store(key, body)
                return Response(b"", headers={"ETag": _etag(body)}, status_code=200)
            case "POST" if "delete" in query:
                return self._delete_several(body)
            case "DELETE":
                self.objects.pop(key, None)
                return Response(b"", status_code=204)
            case "GET" if not key:
                return self._list(query)
            case _:
                return self._get(request, key)

    def _upload(self, query: dict[str, str]) -> dict[int, bytes]:
        if query["uploadId"] not in self.uploads:
            raise _Refused(404, "NoSuchUpload")
        return self.uploads[query["uploadId"]]

    def _complete(self, key: str, query: dict[str, str], body: bytes) -> Response[bytes]:
        parts = self._upload(query)
        told = _told_parts(body)
        if [number for number, _ in told] != sorted(parts):
            raise _Refused(400, "InvalidPartOrder")
        if any(_etag(parts[number]) != etag for number, etag in told):
            raise _Refused(400, "InvalidPart")
        if any(len(parts[number]) < MIN_PART_BYTES for number, _ in told[:-1]):
            raise _Refused(400, "EntityTooSmall")
        self._store(key, b"".join(parts[number] for number, _ in told))
        del self.uploads[query["uploadId"]]
        return _xml("CompleteMultipartUploadResult", f"<ETag>{escape(_etag(body))}</ETag>")

    def _store(self, key: str, body: bytes) -> None:
        self.objects[key] = body
        self.written[key] = time.time()

    def _delete_several(self, body: bytes) -> Response[bytes]:
        keys = [each.text or "" for each in ET.fromstring(body).iter() if each.tag.endswith("Key")]  # noqa: S314
        for key in keys:
            self.objects.pop(key, None)
        return _xml("DeleteResult", "".join(f"<Deleted><Key>{escape(key)}</Key></Deleted>" for key in keys))

    def _list(self, query: dict[str, str]) -> Response[bytes]:
        found = [key for key in sorted(self.objects) if key.startswith(query.get("prefix", ""))]
        contents = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>{len(self.objects[key])}</Size><ETag>x</ETag>"
            f"<LastModified>{datetime.fromtimestamp(self.written[key], UTC):%Y-%m-%dT%H:%M:%S.000Z}</LastModified>"
            "</Contents>"
            for key in found
        )
        return _xml("ListBucketResult", f"<IsTruncated>false</IsTruncated><KeyCount>{len(found)}</KeyCount>{contents}")

    def _get(self, request: Request[Any, Any, Any], key: str) -> Response[bytes]:
        if key not in self.objects:
            raise _Refused(404, "NoSuchKey")
        whole = self.objects[key]
        modified = datetime.fromtimestamp(self.written[key], UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
        headers = {"ETag": _etag(whole), "Last-Modified": modified, "Accept-Ranges": "bytes"}
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", request.headers.get("range", ""))
        if request.method == "HEAD" or asked is None:
            headers["Content-Length"] = str(len(whole))
            return Response(b"" if request.method == "HEAD" else whole, headers=headers)
        start, end = int(asked[1]), min(int(asked[2]), len(whole) - 1)
        headers["Content-Range"] = f"bytes {start}-{end}/{len(whole)}"
        return Response(whole[start : end + 1], headers=headers, status_code=206)


def _told_parts(body: bytes) -> list[tuple[int, str]]:
    words = [(each.tag.rpartition("}")[2], each.text or "") for each in ET.fromstring(body).iter()]  # noqa: S314
    numbers = [int(text) for name, text in words if name == "PartNumber"]
    return list(zip(numbers, [text for name, text in words if name == "ETag"], strict=True))


def _any(double: S3Double) -> Any:
    @route(["/", "/{path:path}"], http_method=["GET", "HEAD", "PUT", "POST", "DELETE"], status_code=200)
    async def anything(request: Request[Any, Any, Any]) -> Response[bytes]:
        return await double.answer(request)

    return anything


def _check_signature(request: Request[Any, Any, Any], raw: str, query: str, body: bytes) -> None:
    """As AWS does: Signature Version 4, from scratch."""
    signed = _SIGNED.fullmatch(request.headers.get("authorization", ""))
    if signed is None:
        raise _Refused(403, "AccessDenied")
    key, date, region, service, kind = signed[1].split("/")
    if key != KEY:
        raise _Refused(403, "InvalidAccessKeyId")
    if (region, service, kind) != (REGION, "s3", "aws4_request"):
        raise _Refused(400, "AuthorizationHeaderMalformed")
    told = request.headers["x-amz-content-sha256"]
    if told not in {"UNSIGNED-PAYLOAD", hashlib.sha256(body).hexdigest()}:
        raise _Refused(400, "XAmzContentSHA256Mismatch")
    names = signed[2].split(";")
    headers = "".join(f"{name}:{request.headers[name].strip()}\n" for name in names)
    asked = sorted(
        (quote(name, safe="-_.~"), quote(each, safe="-_.~"))
        for name, values in parse_qs(query, keep_blank_values=True).items()
        for each in values
    )
    canonical = "\n".join(
        [
            request.method,
            quote(unquote(urlsplit(raw).path), safe="/-_.~"),
            "&".join(f"{name}={each}" for name, each in asked),
            headers,
            signed[2],
            told,
        ]
    )
    scope = f"{date}/{region}/s3/aws4_request"
    to_sign = "\n".join(
        ["AWS4-HMAC-SHA256", request.headers["x-amz-date"], scope, hashlib.sha256(canonical.encode()).hexdigest()]
    )
    signing = f"AWS4{SECRET}".encode()
    for word in (date, region, "s3", "aws4_request"):
        signing = hmac.new(signing, word.encode(), "sha256").digest()
    if not hmac.compare_digest(hmac.new(signing, to_sign.encode(), "sha256").hexdigest(), signed[3]):
        raise _Refused(403, "SignatureDoesNotMatch")


def _etag(content: bytes) -> str:
    return f'"{hashlib.sha256(content).hexdigest()[:32]}"'


def _xml(name: str, inner: str) -> Response[bytes]:
    text = f'<?xml version="1.0" encoding="UTF-8"?><{name} xmlns="{_XMLNS}">{inner}</{name}>'
    return Response(text.encode(), media_type="application/xml", status_code=200)
