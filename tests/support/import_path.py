"""The import path of processes that tests start: the packages, and every folder of test support."""

import os
from pathlib import Path

ROOT = Path(__file__).parents[2]
SUPPORT = Path(__file__).parent
IMPORT_PATH = os.pathsep.join(
    [str(ROOT), str(SUPPORT), *sorted(str(path) for path in SUPPORT.iterdir() if path.is_dir())]
)
