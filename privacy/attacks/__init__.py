"""One attack per file, each a frozen dataclass found here by its name."""

import sys

from conf.registry import Registry, import_parts

ATTACKS = Registry("attack")
import_parts(sys.modules[__name__])
