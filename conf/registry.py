"""Names of parts: a frozen config dataclass is registered in the same file as its code."""

import dataclasses
import importlib
import pkgutil
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, TypeVar

T = TypeVar("T")


class Registry:
    """Maps the name of a part to the frozen dataclass that configures it.

    Registering is loud and free of side effects: a duplicate name, a class that is not a frozen dataclass, or a part
    that fails to import stops the program.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._parts: dict[str, type[Any]] = {}

    def __call__(self, name: str) -> Callable[[type[T]], type[T]]:
        """Register the decorated frozen dataclass under `name`."""

        def register(part: type[T]) -> type[T]:
            if name in self._parts:
                raise ValueError(f"{self.kind} {name!r} is registered twice: {self._parts[name]!r} and {part!r}")
            if not dataclasses.is_dataclass(part) or not part.__dataclass_params__.frozen:  # type: ignore[attr-defined]
                raise TypeError(f"{self.kind} {name!r} must be a frozen dataclass, not {part!r}")
            self._parts[name] = part
            return part

        return register

    def __getitem__(self, name: str) -> type[Any]:
        if name not in self._parts:
            raise ValueError(f"unknown {self.kind} {name!r}; known: {', '.join(self)}")
        return self._parts[name]

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._parts))

    def __or__(self, other: "Registry") -> "Registry":
        """Return a registry of the parts of both; raises `ValueError` where they share a name."""
        if shared := sorted(self._parts.keys() & other._parts.keys()):
            raise ValueError(f"{self.kind} and {other.kind} both have {shared[0]!r}")
        both = Registry(self.kind)
        both._parts = {**self._parts, **other._parts}
        return both

    def name_of(self, part: object) -> str:
        """Return the name under which the class of `part` is registered."""
        for name, kind in self._parts.items():
            if type(part) is kind:
                return name
        raise ValueError(f"{type(part).__name__} is not a registered {self.kind}")


def import_parts(package: ModuleType) -> None:
    """Import every module beside `package`'s `__init__`, so that its parts register themselves."""
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
