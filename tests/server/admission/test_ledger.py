import multiprocessing
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
from longrope_server.front_end.admission import ledger
from longrope_server.front_end.admission.ledger import Ledger, Sum
from longrope_server.keys.key_file import Quota

LIMIT = 100


def take(path: str, together: Barrier, taken: "multiprocessing.Queue[int]") -> None:
    """Takes places one by one, until LIMIT are taken by all processes."""
    mine = Ledger(path)
    together.wait()
    count = 0
    while True:
        with mine.transaction():
            if mine.usage()["in_flight"][1].requests >= LIMIT:
                break
            mine.add(1, "key", "in_flight", 1, 10)
            count += 1
    taken.put(count)


def test_processes_never_take_more_than_there_is(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    path, together, taken = str(tmp_path / "ledger"), context.Barrier(3), context.Queue()
    processes = [context.Process(target=take, args=(path, together, taken)) for _ in range(3)]
    for process in processes:
        process.start()
    assert sum(taken.get(timeout=60) for _ in processes) == LIMIT
    for process in processes:
        process.join()
    assert Ledger(path).usage()["in_flight"] == {1: Sum(LIMIT, 10 * LIMIT)}
    assert Ledger(path).under_way("key") == LIMIT


def test_an_exception_undoes_a_transaction() -> None:
    book = Ledger()

    def fail() -> None:
        with book.transaction():
            book.add(1, "key", "queued", 1, 1)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert book.under_way("key") == 0


def test_the_largest_request_passes_once_and_then_the_balance_has_to_grow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 1000.0
    monkeypatch.setattr(ledger.time, "monotonic", lambda: now)
    book, quota = Ledger(), Quota(requests_per_minute=600, tokens_per_minute=60_000)
    assert book.wait_for("a", quota) == 0
    book.charge("a", quota, 1, 100_000)
    assert book.wait_for("a", quota) == pytest.approx(40, abs=0.01)
    assert book.wait_for("b", quota) == 0
    now += 40.1
    assert book.wait_for("a", quota) == 0
    now += 10_000
    book.charge("a", quota, 600, 0)
    assert book.wait_for("a", quota) == pytest.approx(0.1, abs=0.01)
