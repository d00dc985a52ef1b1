"""A folder with a file on which every worker dies, as one does that runs out of memory."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from stylesdk.batch.places import Folder


class DeadlyFolder(Folder):
    def fetch(self, name: str, scratch: Path) -> Path:
        if name == "deadly.png":
            os.kill(os.getpid(), signal.SIGKILL)
        return super().fetch(name, scratch)
