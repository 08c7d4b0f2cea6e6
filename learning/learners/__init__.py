"""One model family per file, each a frozen dataclass found here by its name."""

import sys

from conf.registry import Registry, import_parts

LEARNERS = Registry("learner")
CLIP_LEARNERS = Registry("learner of clips")
import_parts(sys.modules[__name__])
