"""One downstream task per file, each a frozen dataclass found here by its name."""

import sys

from conf.registry import Registry, import_parts

TASKS = Registry("task")
CLIP_TASKS = Registry("task of clips")
import_parts(sys.modules[__name__])
