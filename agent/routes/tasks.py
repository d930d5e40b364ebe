"""Show the sub-agents that work in a chat, and stop one."""

from litestar import get, post
from litestar.di import NamedDependency
from litestar.params import FromPath

from agent.delegate import Delegates
from agent.protocol import Tasks


@get("/chat/{chat_id:str}/tasks")
async def tasks(chat_id: FromPath[str], delegates: NamedDependency[Delegates]) -> Tasks:
    """List what runs now."""
    return Tasks(tasks=delegates.running(chat_id))


@post("/chat/{chat_id:str}/tasks/{task_id:str}/stop", status_code=200)
async def stop_task(
    chat_id: FromPath[str], task_id: FromPath[str], delegates: NamedDependency[Delegates]
) -> dict[str, bool]:
    """Stop one; the turn that it belongs to goes on."""
    return {"stopped": delegates.stop(chat_id, task_id)}
