"""One generator per file, each a frozen dataclass found here by its name."""

import sys

from conf.registry import Registry, import_parts

GENERATORS = Registry("generator")
CLIP_GENERATORS = Registry("clip generator")
import_parts(sys.modules[__name__])
