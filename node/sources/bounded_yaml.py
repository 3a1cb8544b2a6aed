"""YAML of strangers, with a bound on what it becomes.

An alias costs a few bytes and stands for all that its anchor does: nine lines of ten aliases each become
a billion values the moment somebody walks through them, and a long text with six thousand aliases takes
minutes to write. So they are counted before anything is made of them, and those that contain themselves are
refused.

libyaml's parser, which PyYAML's wheels bring along, reads two megabytes in a second, ten times as fast as the
one in Python: call it in a thread all the same. It crashes the process where brackets are nested fifty
thousand deep, so the depth is looked at first, event by event, which needs no stack.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import yaml

_Loader: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_DEPTH_MAX = 50
"""Maps and lists within each other. LocalAI's gallery has 6."""
_TOO_DEEP = f"it has more than {_DEPTH_MAX} lists and maps within each other"
_NUMBERS = frozenset({"tag:yaml.org,2002:int", "tag:yaml.org,2002:float"})
_DIGITS_MAX = 64
"""As many as any setting needs."""
_KEY_DIGITS_MAX = 18
"""Python's hash of longer numbers can be chosen, and a map whose keys share one takes the square of their
number."""
_TEXT_OF_A_VALUE = 64
"""Characters that count as one value more."""


class BadYaml(ValueError):
    """It is not YAML, or more than it may be. The text says what, on one line."""


def load_yaml_untrusted(content: bytes, *, values_max: int) -> Any:  # noqa: ANN401 (whatever it is)
    """What `content` says, if that is at most `values_max` keys and values with aliases written out, of 64
    characters each.

    Raises:
      BadYaml: it is none, or more than that.
    """
    try:
        _check_depth(content)
        loader = _Loader(content)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _Count(values_max).of(node)
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except BadYaml:
        raise
    except (yaml.YAMLError, ValueError) as error:
        # ValueError: a date or number that cannot be.
        raise BadYaml(" ".join(str(error).split())[:300] or type(error).__name__) from error


def _check_depth(content: bytes) -> None:
    depth = 0
    for event in yaml.parse(content, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > _DEPTH_MAX:
                raise BadYaml(_TOO_DEEP)
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


class _Count:
    """Measures what a node stands for: how many values, and how many lists and maps within each other.

    What several aliases share is measured once.
    """

    def __init__(self, values_max: int) -> None:
        self._values_max = values_max
        self._known: dict[int, tuple[int, int]] = {}
        self._open: set[int] = set()

    def of(self, node: Any) -> tuple[int, int]:  # noqa: ANN401 (PyYAML has no types for them)
        if isinstance(node, yaml.ScalarNode):
            # `1:1:1...` is a number to the base of 60, which takes minutes to make of a megabyte.
            if node.tag in _NUMBERS and len(node.value) > _DIGITS_MAX:
                raise BadYaml(f"a number of more than {_DIGITS_MAX} digits")
            return 1 + len(node.value) // _TEXT_OF_A_VALUE, 0
        known = self._known.get(id(node))
        if known is not None:
            return known
        if id(node) in self._open:
            raise BadYaml("an alias stands for something that contains it")
        self._open.add(id(node))
        if isinstance(node, yaml.MappingNode):
            _require_short_numbers(key for key, _ in node.value)
        children = (
            [each for pair in node.value for each in pair]
            if isinstance(node, yaml.MappingNode)
            else node.value
        )
        count, depth = 1, 1
        for child in children:
            count_below, depth_below = self.of(child)
            count, depth = count + count_below, max(depth, depth_below + 1)
            if count > self._values_max:
                raise BadYaml(f"it becomes more than {self._values_max} values")
            if depth > _DEPTH_MAX:
                raise BadYaml(_TOO_DEEP)
        self._open.discard(id(node))
        self._known[id(node)] = count, depth
        return count, depth


def _require_short_numbers(keys: Iterable[Any]) -> None:
    for key in keys:
        if isinstance(key, yaml.ScalarNode) and key.tag in _NUMBERS and len(key.value) > _KEY_DIGITS_MAX:
            raise BadYaml(f"a key that is a number of more than {_KEY_DIGITS_MAX} digits")
