"""One format per file: each reader is a frozen dataclass with `read(...) -> Cohort`, found here by its name."""

import sys

from conf.registry import Registry, import_parts

READERS = Registry("cohort")
import_parts(sys.modules[__name__])
