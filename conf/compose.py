"""Overrides become one frozen `Experiment` and its digest. Nothing outside this folder sees Hydra.

Hydra's state is one per process, and composing from two threads breaks it: `compose` holds a lock and cleans up.
"""

import difflib
import enum
import hashlib
import json
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, NoReturn

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from conf.registry import Registry
from conf.schema import Experiment

FILES = "experiment"  # the group of the YAML files in conf/experiment
_LOCK = threading.Lock()


class UsageError(ValueError):
    """What was asked for does not exist or is out of bounds; one line that names what would do instead."""


def compose(overrides: Sequence[str], *, groups: Mapping[str, Registry]) -> tuple[Experiment, str]:
    """Return the experiment that `overrides` ask for, and its digest.

    Args:
        overrides: `NAME=VALUE` in Hydra's grammar: a file (`experiment=camus`), a part (`generator=latent_flow`) or a
            setting (`budget.epsilon=4`).
        groups: for each field of `Experiment` that holds a part, the registry of its parts.

    Raises:
        UsageError: an unknown name, a value of the wrong type or out of bounds, or a missing one.
    """
    parsed = [_parse(override) for override in overrides]
    with _LOCK:
        _store(groups)
        GlobalHydra.instance().clear()
        try:
            with hydra.initialize_config_module("conf", version_base="1.3", job_name="pericard"):
                tree = _tree(parsed, groups)
        finally:
            GlobalHydra.instance().clear()
    experiment = _freeze(tree, "")
    return experiment, digest(to_json(experiment, groups=groups))


def compose_part(registry: Registry, name: str, settings: Sequence[str]) -> Any:
    """Return the part `name` of `registry` with `settings`, each NAME=VALUE; lists and maps as YAML: `keep=[a,b]`.

    Raises:
        UsageError: an unknown part or setting, or a value of the wrong type or out of bounds.
    """
    dotted = []
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise UsageError(f"{setting!r} is no override: write NAME=VALUE")
        dotted.append(f"{key}={value or repr('')}")  # to YAML an empty value is none, to whoever typed it an empty word
    try:
        return part_of(registry, name, OmegaConf.from_dotlist(dotted))
    except OmegaConfBaseException as error:
        raise UsageError(_first_line(error)) from error


def part_of(registry: Registry, name: str, settings: Mapping[str, Any] | DictConfig) -> Any:
    """Return the part `name` of `registry` with `settings`; errors as of `compose_part`."""
    if name not in list(registry):
        _unknown(registry.kind, name, list(registry))
    node = _thawed(registry[name])
    for key in settings:
        if key not in node:
            _unknown("setting", str(key), map(str, node))
    try:
        return _freeze(OmegaConf.merge(node, settings), "")
    except (OmegaConfBaseException, ValueError) as error:
        raise UsageError(_first_line(error)) from error


def to_json(experiment: Experiment, *, groups: Mapping[str, Registry]) -> str:
    """Return `experiment` as canonical JSON; `from_json(to_json(e)) == e`. A part is `{its name: its fields}`."""

    def plain(value: Any) -> Any:
        if is_dataclass(value):
            return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
        if isinstance(value, (list, tuple)):
            return [plain(v) for v in value]
        if isinstance(value, Mapping):
            return {str(k): plain(v) for k, v in value.items()}
        return value.name if isinstance(value, enum.Enum) else value

    tree = plain(experiment)
    for group, registry in groups.items():
        tree[group] = {registry.name_of(getattr(experiment, group)): tree[group]}
    return json.dumps(tree, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def from_json(text: str, *, groups: Mapping[str, Registry]) -> Experiment:
    """Return the experiment that `to_json` wrote; every name, type and bound is checked again."""
    try:
        tree = json.loads(text)
        for group, registry in groups.items():
            ((name, settings),) = tree[group].items()
            tree[group] = OmegaConf.merge(_thawed(registry[name]), settings)
        whole: Experiment = _freeze(OmegaConf.merge(_thawed(Experiment), tree), "")
    except UsageError:
        raise
    except (OmegaConfBaseException, KeyError, AttributeError, TypeError, ValueError) as error:
        raise UsageError(f"this is not an experiment: {_first_line(error)}") from error
    return whole


def digest(text: str) -> str:
    """Return the SHA-256 of canonical JSON, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


def _store(groups: Mapping[str, Registry]) -> None:
    store = ConfigStore.instance()
    store.store(name="schema", node=_thawed(Experiment))
    for group, registry in groups.items():
        for name in registry:
            node = _thawed(registry[name])
            if node.get("root") == "":
                node.root = "???"  # a reader's folder has no default that could be right: it must be given
            store.store(group=group, name=name, node=node)


def _thawed(kind: type[Any]) -> DictConfig:
    """Return the node of a frozen dataclass, writable: a read-only one refuses every override."""
    node: DictConfig = OmegaConf.structured(kind)
    pending = [node]
    while pending:
        at = pending.pop()
        OmegaConf.set_readonly(at, None)
        if OmegaConf.get_type(at) is dict:
            OmegaConf.set_struct(at, False)  # a map of names has whatever names it is given
        if OmegaConf.is_dict(at) and not at._is_missing() and not at._is_none():
            pending += [child for key in at if isinstance(child := at._get_node(key), DictConfig)]
    return node


def _tree(parsed: Sequence[Override], groups: Mapping[str, Registry]) -> DictConfig:
    known = {group: list(registry) for group, registry in groups.items()}
    options = GlobalHydra.instance().config_loader().get_group_options
    known[FILES] = options(FILES)
    chosen = [o for o in parsed if o.key_or_group in known]
    for choice in chosen:
        if choice.value() not in known[choice.key_or_group]:
            _unknown(choice.key_or_group, str(choice.value()), known[choice.key_or_group])
    first_words = {*known, *(field.name for field in fields(Experiment))}
    for override in parsed:
        if override.key_or_group.split(".")[0] not in first_words:
            _unknown("setting", override.key_or_group, first_words)
    # A setting that shares its name with a folder of conf (`policy`) is one to us, a choice of files to Hydra.
    shadowed = [o for o in parsed if o.key_or_group not in known and options(o.key_or_group)]
    try:
        tree = hydra.compose("config", [str(o.input_line) for o in parsed if o not in shadowed])
        for override in shadowed:
            OmegaConf.update(tree, override.key_or_group, override.value())
    except (HydraException, OmegaConfBaseException) as error:
        _explain(parsed, chosen, known)
        raise UsageError(_first_line(error)) from error
    return tree


def _explain(parsed: Sequence[Override], chosen: Sequence[Override], known: Mapping[str, Sequence[str]]) -> None:
    """Raise `UsageError` for the first override that names no setting of the chosen parts."""
    try:
        settings = _paths(hydra.compose("config", [str(o.input_line) for o in chosen]))
    except (HydraException, OmegaConfBaseException):
        return  # then the parts themselves do not fit together, and that is what went wrong
    for override in parsed:
        if override not in chosen and override.key_or_group not in settings:
            _unknown("setting", override.key_or_group, {*settings, *known})


def _parse(text: str) -> Override:
    try:
        override = OverridesParser.create().parse_override(text)
    except HydraException as error:
        raise UsageError(f"{text!r} is no override: write NAME=VALUE") from error
    if override.type is not OverrideType.CHANGE or override.package is not None or override.is_sweep_override():
        raise UsageError(f"{text!r} is no override: write NAME=VALUE with one value")
    return override


def _paths(tree: DictConfig, above: str = "") -> list[str]:
    """Return the dotted name of every setting and of every folder of settings."""
    found: list[str] = []
    for key in map(str, tree):
        node = tree._get_node(key)
        found.append(f"{above}{key}")
        if isinstance(node, DictConfig) and not node._is_missing() and not node._is_none():
            found += _paths(node, f"{above}{key}.")
    return found


def _freeze(node: Any, path: str) -> Any:
    """Return the value of a node: dataclasses are built, so their bounds are checked, and lists become tuples."""
    if isinstance(node, (ListConfig, DictConfig)):
        keys: Iterable[int | str] = range(len(node)) if isinstance(node, ListConfig) else map(str, node)
        for key in keys:
            if OmegaConf.is_interpolation(node, key):
                raise UsageError(f"{path or 'experiment'}: {key} holds ${{…}}; a setting says its value itself")
    if isinstance(node, ListConfig):
        return tuple(_freeze(value, f"{path}[{i}]") for i, value in enumerate(node))
    if not isinstance(node, DictConfig):
        return node
    prefix = f"{path}." if path else ""
    try:
        values = {key: _freeze(node[key], f"{prefix}{key}") for key in map(str, node)}
    except MissingMandatoryValue as error:
        missing = prefix + str(error.key)
        raise UsageError(f"{missing} is missing: add {missing}=VALUE") from error
    kind = OmegaConf.get_type(node)
    if not is_dataclass(kind):
        return values
    try:
        return kind(**values)
    except ValueError as error:
        named = any(str(error).startswith(field.name) for field in fields(kind))
        raise UsageError(f"{prefix}{error}" if named or not path else f"{path}: {error}") from error


def _unknown(kind: str, name: str, known: Iterable[str]) -> NoReturn:
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.7)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are: {', '.join(n for n in names if '.' not in n)}"
    raise UsageError(f"unknown {kind} {name!r}; {hint}")


def _first_line(error: BaseException) -> str:
    """Return the innermost reason: Hydra wraps what OmegaConf says, which adds lines about its own nodes."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).splitlines() or [type(error).__name__]
    key = next((line.split(":", 1)[1].strip() for line in lines if line.strip().startswith("full_key:")), "")
    return f"{key}: {lines[0]}" if key and key not in lines[0] else lines[0]
