"""Frozen dataclasses to JSON and back, by their annotations.

A domain's process is not trusted, so what it sends is never unpickled: pickle would run its code
with the platform's rights.
"""

from __future__ import annotations

import dataclasses
import json
import types
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

__all__ = ["decode", "encode"]

T = TypeVar("T")


def encode(value: object) -> bytes:
    """
    Write a value as JSON.

    >>> from levada.errors import Fault
    >>> encode({"fault": Fault("a.sql", 1, "no"), "at": datetime(2013, 1, 1)})
    b'{"fault":{"path":"a.sql","line":1,"wrong":"no","right":""},"at":"2013-01-01T00:00:00"}'
    """
    return json.dumps(_plain(value), separators=(",", ":")).encode()


def _plain(value: object) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    # Whatever else YAML may hold (dates, above all) is told as text.
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def decode(kind: type[T], data: bytes) -> T:
    """
    Read a value of this type back. Raises ValueError where the data is of another shape.

    >>> from levada.errors import Fault
    >>> decode(Fault, encode(Fault("a.sql", 1, "no")))
    Fault(path='a.sql', line=1, wrong='no', right='')
    >>> decode(Fault, b'{"path": "a.sql", "line": "one", "wrong": "no"}')
    Traceback (most recent call last):
    ValueError: 'one' is no int
    """
    return cast("T", _read(kind, json.loads(data)))


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _read(kind: Any, value: Any) -> object:
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        return _either(get_args(kind), value)
    if origin is tuple:
        return _tuple(get_args(kind), value)
    if origin is not None:  # a Mapping
        if not isinstance(value, dict):
            raise ValueError(f"{value!r} is no mapping")
        return {key: _read(get_args(kind)[1], item) for key, item in value.items()}
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, dict):
            raise ValueError(f"{value!r} is no {kind}")
        hints = _hints(cast("type", kind))
        return cast("type", kind)(**{key: _read(hints[key], item) for key, item in value.items()})
    return _scalar(kind, value)


def _either(kinds: tuple[Any, ...], value: Any) -> object:
    if value is None and type(None) in kinds:
        return None
    return _read(next(k for k in kinds if k is not type(None)), value)


def _tuple(kinds: tuple[Any, ...], value: Any) -> tuple[object, ...]:
    if not isinstance(value, list):
        raise ValueError(f"{value!r} is no list")
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        return tuple(_read(kinds[0], item) for item in value)
    return tuple(_read(k, item) for k, item in zip(kinds, value, strict=True))


def _scalar(kind: Any, value: Any) -> object:
    if kind in (object, Any):
        return value
    if kind is datetime:
        return datetime.fromisoformat(value)
    if kind is Path:
        return Path(value)
    if kind is float and isinstance(value, int):
        return float(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"{value!r} is no {kind.__name__}")
    return cast("object", value)
