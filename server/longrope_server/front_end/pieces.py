"""The pieces around vLLM's application, in their order, and what they share in one process."""

import asyncio
import logging
import signal
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from starlette.types import ASGIApp

from longrope_server.errors import UsageError
from longrope_server.front_end import authentication, metrics, takes_requests
from longrope_server.front_end.accounting.accounting import Accounting
from longrope_server.front_end.accounting.books import Books
from longrope_server.front_end.accounting.tracing import Tracing
from longrope_server.front_end.admission.admission import Admission
from longrope_server.front_end.admission.gate import Gate
from longrope_server.front_end.admission.ledger import Ledger
from longrope_server.front_end.authentication import Authentication
from longrope_server.front_end.bodies.body_limit import BodyLimit, Memory
from longrope_server.front_end.bodies.readable_json import ReadableJSON
from longrope_server.front_end.document_text import DocumentText
from longrope_server.front_end.endable import Endable, Running
from longrope_server.front_end.factor_set.factor_set_middleware import FactorSetMiddleware
from longrope_server.front_end.page import page
from longrope_server.front_end.page.announced import Announced
from longrope_server.front_end.prefill_progress import PrefillProgress
from longrope_server.front_end.prefills import Ask, Prefills
from longrope_server.front_end.settings import Settings
from longrope_server.front_end.stumbles import Stumbles
from longrope_server.front_end.takes_requests import Engine, ServerState, TakesRequests
from longrope_server.keys import key_file
from longrope_server.keys.key_file import NOBODY, Key, Keys
from longrope_server.keys.usage_ledger import Account, Amounts

# Memory for the bodies that are being read or wait; a few of the largest always fit.
BODY_MEMORY = 1 << 30
LARGEST_BODIES = 4

logger = logging.getLogger("vllm.longrope")  # vLLM gives its own loggers a handler


class FrontEnd:
    """What we add to one API process of vLLM's.

    boundaries: the longest sequences of the factor sets, ascending, the served length last.
    largest_body: in bytes, unless the settings say otherwise. max_num_seqs, kv_tokens: those of all
    engines together. ask: asks how far prefills are; None if the engine cannot tell.
    has_priorities: its scheduler heeds them. traces: vLLM exports traces.
    """

    def __init__(
        self,
        settings: Settings,
        boundaries: Sequence[int],
        largest_body: int,
        max_num_seqs: int,
        kv_tokens: int | None,
        engine: Engine | None,
        ask: Ask | None,
        has_priorities: bool = False,
        traces: bool = False,
    ) -> None:
        self.settings = settings
        self.has_priorities = has_priorities
        self.body_bytes = settings.body_bytes or largest_body
        self.memory = Memory(max(BODY_MEMORY, LARGEST_BODIES * self.body_bytes))
        self.running = Running()
        self.life = ServerState(self.running, engine)
        limits = settings.limits.completed(boundaries, max_num_seqs, kv_tokens)
        classes = metrics.ClassMetrics(list(limits.classes))
        self.gate = Gate(limits, Ledger(settings.ledger, classes.changed), classes.waited)
        self.prefills = Prefills(ask, settings.progress_seconds) if ask else None
        self.tracing = Tracing() if traces else None
        self.books: Books | None = None
        if settings.accounting is not None:
            self.books = Books(Path(settings.accounting), metrics.accounting_failed)
        self.key_metrics = metrics.KeyMetrics()
        self.keys: Keys | None = None
        if settings.key_file is not None:
            # In this order: a change of the file while it is read is not missed.
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self.reload_keys)
            keys = key_file.load(Path(settings.key_file), has_priorities)
            self.key_metrics.know(key.name for key in keys)
            self.keys = Keys(keys)

    def around(self, app: ASGIApp) -> ASGIApp:
        """`app` with every piece around it; a request meets the last one first."""
        app = Stumbles(app, metrics.refused)
        if self.prefills is not None:
            app = PrefillProgress(app, self.prefills)
        app = FactorSetMiddleware(app)
        app = Admission(app, self.gate, metrics.refused)
        app = ReadableJSON(app, metrics.refused)
        if self.settings.page:
            app = Announced(DocumentText(app, self.gate, self.body_bytes, metrics.refused))
        app = BodyLimit(
            app, self.body_bytes, self.settings.body_seconds, self.memory, metrics.refused
        )
        app = Endable(app, self.running, metrics.refused)
        if self.keys is not None:
            open_paths = {*takes_requests.LIVENESS, *self.settings.open_paths}
            if self.settings.page:
                open_paths |= page.PATHS
            app = Authentication(app, self.keys, open_paths, metrics.refused)
        app = TakesRequests(app, self.life, metrics.refused)
        if self.books is not None or self.tracing is not None:
            app = Accounting(app, self.books, self.tracing)
        return app

    def engine_request_ended(self, key: Key | None, factor_set: int, amounts: Amounts) -> None:
        """Puts what a request to the engine took down to its key."""
        name = key.name if key else NOBODY
        self.key_metrics.ended(name, amounts)
        if self.books is not None:
            day = datetime.now(UTC).date().isoformat()
            self.books.add(Account(name, day, factor_set), amounts)

    def reload_keys(self) -> None:
        """Reads the key file again, and ends the requests of keys that are no longer in it.

        A file without keys revokes all of them. One that cannot be read leaves them as they were.
        """
        assert self.keys is not None
        assert self.settings.key_file is not None
        try:
            keys = key_file.read(Path(self.settings.key_file), self.has_priorities)
        except UsageError as error:
            logger.error("The keys stay as they were: %s", error)
            return
        self.key_metrics.know(key.name for key in keys)
        revoked = self.keys.replace(keys)
        self.running.end_keys(revoked, authentication.revoked())
        logger.info("Keys were read again: %d are good, %d were revoked.", len(keys), len(revoked))
        if not keys:
            logger.warning("The key file holds no key: nobody has access.")
