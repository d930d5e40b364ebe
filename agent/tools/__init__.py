"""What an agent can do. Each tool is a typed function with a docstring; who may use it says `agent.policy`."""

from agent.toolbox import Tool
from agent.tools.ask import ask
from agent.tools.delegate import delegate
from agent.tools.files import edit_file, list_files, read_file, search_files, send_file, write_file
from agent.tools.images import generate_image
from agent.tools.memory import forget, remember
from agent.tools.recall import recall
from agent.tools.remind import cancel_reminder, remind, reminders
from agent.tools.shell import shell
from agent.tools.skills import load_skill
from agent.tools.web import web_fetch, web_search

IN_WORKSPACE: tuple[Tool, ...] = (shell, read_file, write_file, edit_file, list_files, search_files, send_file)
"""Without a wall only those that are not `agent.policy.UNCONFINED`, unless the owner turns these on."""
PAINTING: tuple[Tool, ...] = (generate_image,)
ON_THE_WEB: tuple[Tool, ...] = (web_search, web_fetch)
ALWAYS: tuple[Tool, ...] = (
    remember,
    forget,
    recall,
    remind,
    reminders,
    cancel_reminder,
    ask,
    load_skill,
    delegate,
)
