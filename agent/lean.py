"""Imported before the rest: what a server never uses is not loaded. Idle agents wait on small machines."""

import sys
from types import ModuleType

NEVER_USED = ("pdb", "yaml", "pydantic.v1", "pydantic.v1.fields", "uvicorn.main")
"""What Litestar and uvicorn import at their start, for debugging, documentation, models of pydantic 1 and a command
line: 5 MB of 63."""


class _Absent(ModuleType):
    """Has every name that is asked for: classes of which nothing is an instance, and modules like it."""

    def __getattr__(self, name: str) -> "type | _Absent":
        if name.startswith("__"):
            raise AttributeError(name)
        whole = f"{self.__name__}.{name}"
        made = type(name, (), {"__module__": self.__name__}) if name[0].isupper() else _Absent(whole)
        setattr(self, name, made)
        return made


for module in NEVER_USED:
    sys.modules.setdefault(module, _Absent(module))
