"""Take files from people, and hand out what the agent has for them."""

from typing import Any

from litestar import Request, get, put
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery
from litestar.response import Stream

from agent.file_names import disposition
from agent.files import Files, too_large
from agent.protocol import MAX_FILE_BYTES, Attachment, Role


@put("/files/{chat_id:str}/{file_id:str}", request_max_body_size=None)
async def upload(
    request: Request[Any, Any, Any],
    *,
    chat_id: FromPath[str],
    file_id: FromPath[str],
    files: NamedDependency[Files],
    name: FromQuery[str] = "",
    role: FromQuery[Role] = Role.VISITOR,
    media_type: FromQuery[str] = "",
) -> Attachment:
    """Keep a file, whose bytes are the body."""
    if (request.content_length or 0) > MAX_FILE_BYTES:
        raise too_large()
    return await files.of(role, chat_id).receive(file_id, name, media_type, request.stream())


@get("/files/{chat_id:str}/{file_id:str}")
async def download(chat_id: FromPath[str], file_id: FromPath[str], files: NamedDependency[Files]) -> Stream:
    """Hand out a file of this chat."""
    file, chunks = await files.open(chat_id, file_id)
    headers = {
        "Content-Length": str(file.size),
        "Content-Disposition": disposition(file.name),
        "X-Content-Type-Options": "nosniff",
    }
    return Stream(chunks, media_type=file.media_type, headers=headers)
