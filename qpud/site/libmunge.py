"""The functions of libmunge.so.2 that qpud calls, with Python types (munge.h of munge 0.5.15, munge(3)).

A context belongs to one thread. Codes other than 0 are munge's own; `reason` has the sentence to the last one.
"""

from __future__ import annotations

import ctypes
import enum
from typing import NewType

from qpud.core.errors import Unavailable

Context = NewType("Context", int)
"""A munge_ctx_t."""

LIBRARY = "libmunge.so.2"


class Code(enum.IntEnum):
    """munge_err_t: the answers that qpud tells apart."""

    SUCCESS = 0
    SOCKET = 6
    TIMEOUT = 7
    BAD_CREDENTIAL = 8  # 9 to 13: bad version, cipher, MAC, compression, realm
    INVALID = 14
    EXPIRED = 15
    REWOUND = 16
    REPLAYED = 17
    UNAUTHORIZED = 18


class Option(enum.IntEnum):
    """munge_opt_t: the options of a context that qpud reads or sets."""

    TTL = 4
    ENCODE_TIME = 6
    SOCKET = 8
    UID_RESTRICTION = 9


class Libmunge:
    """The loaded library.

    Raises:
        Unavailable: It cannot be loaded.
    """

    def __init__(self, name: str = LIBRARY) -> None:
        try:
            self._munge = ctypes.CDLL(name)  # its calls ask munged: other threads run meanwhile
            self._quick = ctypes.PyDLL(name)  # its calls ask nobody: waiting to run again would cost more than they do
        except OSError as error:
            advice = "install the package that has it (libmunge2, munge-libs) or set AuthType = none"
            raise Unavailable(f"{name} cannot be loaded ({error}); {advice}") from None
        self._libc = ctypes.PyDLL(None)
        self._declare()

    def new_context(self, socket: bytes) -> Context:
        """A context for one thread; to be freed. `socket` b"" is libmunge's default."""
        context = self._quick.munge_ctx_create()
        if not context:
            raise Unavailable("libmunge has no memory for a context")
        if socket:
            self._quick.munge_ctx_set(context, Option.SOCKET, ctypes.c_char_p(socket))
        return Context(context)

    def free_context(self, context: Context) -> None:
        """Free a context; it may not be used afterwards."""
        self._quick.munge_ctx_destroy(context)

    def set_number(self, context: Context, option: Option, number: int) -> None:
        """Set an int or uid_t option."""
        self._quick.munge_ctx_set(context, option, ctypes.c_int(number))

    def ttl(self, context: Context) -> int:
        """Seconds for which the credential decoded last is good."""
        number = ctypes.c_int()
        self._quick.munge_ctx_get(context, Option.TTL, ctypes.byref(number))
        return number.value

    def encoded_at(self, context: Context) -> int:
        """When the credential decoded last was made, in seconds since the epoch."""
        seconds = ctypes.c_long()  # time_t
        self._quick.munge_ctx_get(context, Option.ENCODE_TIME, ctypes.byref(seconds))
        return seconds.value

    def reason(self, context: Context) -> str:
        """The sentence to the last error of a context."""
        text: bytes | None = self._quick.munge_ctx_strerror(context)
        return (text or b"no reason given").decode(errors="replace")

    def decode(self, credential: bytes, context: Context) -> tuple[int, int, int]:
        """Code, uid and gid; uid and gid mean nothing unless the code is SUCCESS. The payload is dropped."""
        payload, length = ctypes.c_void_p(), ctypes.c_int()
        uid, gid = ctypes.c_uint(), ctypes.c_uint()
        numbers = (ctypes.byref(length), ctypes.byref(uid), ctypes.byref(gid))
        code = self._munge.munge_decode(credential, context, ctypes.byref(payload), *numbers)
        # munge.h: expired, rewound and replayed credentials leave their payload too
        self._libc.free(payload)
        return code, uid.value, gid.value

    def encode(self, context: Context) -> tuple[int, str]:
        """Code and a credential without payload."""
        found = ctypes.c_void_p()
        code = self._munge.munge_encode(ctypes.byref(found), context, None, 0)
        credential = ctypes.string_at(found.value).decode("ascii") if found.value else ""
        self._libc.free(found)
        return code, credential

    def _declare(self) -> None:
        pointer, number, text = ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p
        numbers = ctypes.POINTER(ctypes.c_int)
        ids = ctypes.POINTER(ctypes.c_uint)
        self._libc.free.argtypes, self._libc.free.restype = [pointer], None
        quick, library = self._quick, self._munge
        quick.munge_ctx_create.argtypes, quick.munge_ctx_create.restype = [], pointer
        quick.munge_ctx_destroy.argtypes, quick.munge_ctx_destroy.restype = [pointer], None
        quick.munge_ctx_strerror.argtypes, quick.munge_ctx_strerror.restype = [pointer], text
        # variadic: what follows the option is passed with its ctypes type
        quick.munge_ctx_set.argtypes, quick.munge_ctx_set.restype = [pointer, number], number
        quick.munge_ctx_get.argtypes, quick.munge_ctx_get.restype = [pointer, number], number
        library.munge_encode.argtypes = [ctypes.POINTER(pointer), pointer, pointer, number]
        library.munge_decode.argtypes = [text, pointer, ctypes.POINTER(pointer), numbers, ids, ids]
        library.munge_encode.restype = library.munge_decode.restype = number
