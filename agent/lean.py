"""Imported before the rest: what a server never uses is not loaded. Idle agents wait on small machines."""

import sys

# Litestar imports the debugger, and that a console's line editor: 0.9 MB.
sys.modules.setdefault("readline", None)  # type: ignore[arg-type]  # None is how Python is told that there is none
