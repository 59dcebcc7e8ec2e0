"""`GET /v1/usage`: what the caller's own key has used."""

import asyncio
from dataclasses import asdict
from datetime import date
from typing import Annotated, Any

from fastapi import Query, Request
from fastapi.responses import JSONResponse, Response

from longrope_server.errors import UsageError
from longrope_server.front_end.accounting.books import Books
from longrope_server.front_end.authentication import key_of
from longrope_server.front_end.openai_error import Refusal
from longrope_server.keys import usage_ledger
from longrope_server.keys.key_file import NOBODY


async def usage(
    request: Request,
    since: Annotated[date | None, Query(description="The first day, in UTC.")] = None,
) -> Any:
    """By day (UTC) and factor set. Without required keys: the use of all requests."""
    books: Books | None = request.app.state.longrope_books
    key = key_of(request.scope)
    if books is None:
        return _refused(404, "no_accounts", "This server keeps no accounts of usage.")
    name = key.name if key else NOBODY
    first_day = since.isoformat() if since else ""
    try:
        rows = await asyncio.to_thread(usage_ledger.read, books.directory, name, first_day)
    except UsageError:
        return _refused(503, "accounts_unreadable", "The accounts of usage cannot be read now.")
    return {
        "object": "usage",
        "key": key.name if key else None,
        "data": [
            {"day": account.day, "factor_set": account.factor_set or None, **asdict(amounts)}
            for account, amounts in rows
        ],
        "total": asdict(usage_ledger.total(rows)),
    }


def _refused(status: int, code: str, message: str) -> Response:
    return JSONResponse(Refusal(status, code, message).document(), status)
