"""Answers in JSON: Starlette's Response, rendered by msgspec."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.responses import Response

_encoder = msgspec.json.Encoder()


class Json(Response):
    """A wire value as JSON."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Encode; unlike Starlette's JSONResponse it knows structs and times."""
        return _encoder.encode(content)
