"""All that a site says about why it did not answer: a number, never words."""

from enum import IntEnum


class Code(IntEnum):
    """All that a site says about why it did not answer."""

    REFUSED_POLICY = 101
    REFUSED_BUDGET = 102
    REFUSED_CODE = 103
    UNREADABLE = 104
    FAILED = 105
    OVER_TIME = 106
    REFUSED_FOREIGN = 107
    UNRECORDED = 108
