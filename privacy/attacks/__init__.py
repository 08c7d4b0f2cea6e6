"""One attack per file, each a frozen dataclass found here by its name.

`kind` says what an attack is given and returns: "counts" are counted at a site and judged together, "membership" scores
pictures, "model" does so with the generator's weights, "risk" guesses, "alone" sees a release and nothing else.
"""

import sys

from conf.registry import Registry, import_parts

ATTACKS = Registry("attack")


def of_kind(kind: str) -> Registry:
    """Return the attacks of one kind."""
    some = Registry(f"{kind} attack")
    for name in ATTACKS:
        if ATTACKS[name].kind == kind:
            some(name)(ATTACKS[name])
    return some


import_parts(sys.modules[__name__])
