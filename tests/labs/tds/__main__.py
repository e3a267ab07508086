"""Serve from a process of its own: `python -m labs.tds FOLDER [PORT]`.

Prints the URL; then each line of its input is a call `[method, arguments, keywords]` of the server in
JSON, answered by a line. It ends with its input.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from labs.tds.server import Server

running = Server(Path(sys.argv[1]), port=int(sys.argv[2]) if len(sys.argv) > 2 else 0)
running.start()
print(running.url, flush=True)  # noqa: T201
for line in sys.stdin:
    method, arguments, keywords = json.loads(line)
    print(json.dumps(getattr(running, method)(*arguments, **keywords)), flush=True)  # noqa: T201
running.stop()
