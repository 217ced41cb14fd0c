"""The keys of each section, derived from the fields of the policy: name, type, unit, range, default.

`slice_seconds` is written `SliceSeconds`: each part of the field's name with a capital. Nothing is listed twice.
"""

from __future__ import annotations

import enum
import functools
import types
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from qpud.config import values
from qpud.core.terms import UNLIMITED_SECONDS, DriverKind, Key, TcpListen, Unit, UnixListen

LONGEST_SECONDS = 365 * 86400.0
"""Longest duration of a key that cannot be UNLIMITED and sets no bound of its own."""

Kind = type[msgspec.Struct]
"""The policy struct of a section: DaemonPolicy, QueuePolicy…"""


class Form(msgspec.Struct, frozen=True):
    """How one kind of value is read and written."""

    read: Callable[[str], Any]
    write: Callable[[Any], str]
    allowed: str
    """What may be written, for messages."""


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """One key of a section."""

    field: str
    name: str
    """CamelCase, as written in the file."""
    key: Key
    form: Form
    optional: bool
    """Whether the field may be None."""
    is_list: bool
    default: Any

    @property
    def allowed(self) -> str:
        """What may be written, with its range."""
        text = ", ".join([self.form.allowed, *_range(self.key, self.form)])
        if self.key.unlimited:
            return f"{text}, or UNLIMITED"
        return f"{text}, or {self.key.none or 'nothing'}" if self.optional else text

    def applies_to(self, driver: DriverKind) -> bool:
        """Whether a resource with this driver has the key."""
        return not self.key.drivers or driver in self.key.drivers

    def read(self, text: str) -> Any:
        """The value of a text. Raises: ValueError with the rest of the sentence."""
        if self.optional and text.upper() == self.key.none:
            return None
        if self.is_list:
            return self._read_list(text)
        return self._read_one(text)

    def write(self, value: Any) -> str:
        """The text of a value, such that `read` gives it back."""
        if value is None:
            return self.key.none
        if self.is_list:
            return ", ".join(self.form.write(item) for item in value)
        return self.form.write(value)

    def _read_list(self, text: str) -> tuple[Any, ...]:
        items = [item.strip() for item in text.split(",")] if text else []
        if len(items) > 1 and (problems := [why for item in items if (why := self._problem(item))]):
            raise ValueError("; ".join(problems))
        found = tuple(self._read_one(item) for item in items)
        if len(set(found)) < len(found):
            raise ValueError("names something twice")
        return found

    def _problem(self, item: str) -> str:
        """What is wrong with one of several items."""
        try:
            self._read_one(item)
        except ValueError as problem:
            return f"{item or 'an empty item'} {problem}"
        return ""

    def _read_one(self, text: str) -> Any:
        if not text:
            raise ValueError("lacks a value")
        if self.key.unlimited and text.upper() == "UNLIMITED":
            return UNLIMITED_SECONDS
        if text.upper() in self.key.later:
            supported = self.form.allowed.replace(" or ", " and ")
            raise ValueError(f"is not supported, this version supports {supported}")
        value = self.form.read(text)
        if self.key.unlimited:
            value = min(value, UNLIMITED_SECONDS)
        _check_range(value, self.key, self.form)
        return value


@functools.cache
def settings(kind: Kind) -> dict[str, Setting]:
    """The keys of a section by lower-case name, in the order of the fields."""
    hints = typing.get_type_hints(kind, include_extras=True)
    found = [_setting(field, hints[field.name]) for field in msgspec.structs.fields(kind) if field.name != "name"]
    return {setting.name.lower(): setting for setting in found}


def camel(field: str) -> str:
    """`slice_seconds` → `SliceSeconds`."""
    return "".join("QPU" if part == "qpu" else part.capitalize() for part in field.split("_"))


def _setting(field: msgspec.structs.FieldInfo, hint: Any) -> Setting:
    bare, key = typing.get_args(hint)
    options = typing.get_args(bare) if isinstance(bare, types.UnionType) else (bare,)
    item = next(option for option in options if option is not types.NoneType)
    is_list = typing.get_origin(item) is tuple
    if is_list:
        item = typing.get_args(item)[0]
    return Setting(
        field=field.name,
        name=camel(field.name),
        key=key,
        form=_form(item, key),
        optional=types.NoneType in options,
        is_list=is_list,
        default=field.default,
    )


def _form(item: Any, key: Key) -> Form:
    if key.choices:
        return _choice({word: word for word in key.choices})
    if isinstance(item, type) and issubclass(item, enum.Enum):
        return _choice({str(member.value): member for member in item})
    if item == UnixListen | TcpListen:
        return Form(values.read_listen, values.write_listen, values.LISTEN_FORM)
    return _by_unit(key.unit) or _by_type(item)


def _by_unit(unit: Unit) -> Form | None:
    match unit:
        case Unit.SECONDS:
            return Form(values.read_duration, values.write_duration, values.DURATION_FORM)
        case Unit.BYTES:
            return Form(values.read_size, values.write_size, values.SIZE_FORM)
        case Unit.MODE:
            return Form(values.read_mode, values.write_mode, values.MODE_FORM)
        case Unit.URL:
            return Form(values.read_url, str, "http://[user:password@]host:port[/prefix]")
        case Unit.WORDS:
            return Form(values.read_words, str, "options quoted as for a shell")
        case Unit.PLAIN:
            return None


def _by_type(item: Any) -> Form:
    forms = {
        bool: Form(values.read_truth, values.write_truth, "yes or no"),
        int: Form(values.read_integer, str, "an integer"),
        float: Form(values.read_number, values.write_number, "a number"),
        Path: Form(values.read_path, str, "an absolute path"),
        str: Form(values.read_name, str, "a name"),
    }
    form: Form = forms[item]
    return form


def _choice(members: dict[str, Any]) -> Form:
    by_lower = {word.lower(): member for word, member in members.items()}

    def read(text: str) -> Any:
        if text.lower() not in by_lower:
            raise UnknownWord(tuple(members))
        return by_lower[text.lower()]

    *others, last = members
    return Form(read, str, f"{', '.join(others)} or {last}" if others else last)


class UnknownWord(ValueError):
    """A word that is none of the choices, which `words` holds for the nearest match."""

    def __init__(self, words: tuple[str, ...]) -> None:
        super().__init__("is unknown")
        self.words = words


def _check_range(value: Any, key: Key, form: Form) -> None:
    if key.at_least is not None and value < key.at_least:
        raise ValueError(f"is below {_bound(key.at_least, form)}")
    if key.above is not None and value <= key.above:
        raise ValueError(f"is not above {_bound(key.above, form)}")
    at_most = _at_most(key)
    if at_most is not None and value > at_most:
        raise ValueError(f"is above {_bound(at_most, form)}")


def _range(key: Key, form: Form) -> list[str]:
    bounds = {"at least": key.at_least, "above": key.above, "at most": _at_most(key)}
    return [f"{word} {_bound(bound, form)}" for word, bound in bounds.items() if bound is not None]


def _at_most(key: Key) -> float | None:
    if key.unit is not Unit.SECONDS or key.unlimited:
        return key.at_most
    return key.at_most or LONGEST_SECONDS


def _bound(bound: float, form: Form) -> str:
    if form.write in {values.write_size, values.write_mode, str}:
        return form.write(int(bound))
    return form.write(bound)
