"""Claims of ``understudy.client.conversation``: which questions a request asks, and what it makes of the answers."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from tests.workers import MINUTE_MS, SETTINGS, Clock, Worker, local_worker

from understudy import limits
from understudy.client.conversation import Answer, Ask, commit
from understudy.errors import (
    SessionConflict,
    SessionEnded,
    SessionPartitioned,
    SessionUnavailable,
    SessionUnprotected,
    StoreFull,
)
from understudy.model.commit import Outcome
from understudy.model.entry import Entry, Role
from understudy.protocol.messages import (
    AcknowledgeMode,
    CommitAnswer,
    CommitRequest,
    FetchAnswer,
    FetchOutcome,
    FetchRequest,
    SettleRequest,
    TouchRequest,
)
from understudy.store.memory import MemoryStore


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def worker(clock: Clock) -> Worker:
    return local_worker(clock)


def kinds(worker: Worker) -> list[str]:
    return [type(asked.request).__name__ for asked in worker.asked]


def placed(worker: Worker, cookie: str, **changes: object) -> Entry:
    """Puts the session's entry into the store with other fields, as an agent would have left it."""
    key = worker.world.keys.key("shop", worker.world.keys.read_cookie(cookie)[0])  # type: ignore[index]
    with worker.store.write() as transaction:
        entry = transaction.get(key)
        assert entry is not None
        entry = msgspec.structs.replace(entry, **changes)
        transaction.put(key, entry)
        if changes.get("number"):
            transaction.outbox_add(entry.number, key)
    return entry


def agent(worker: Worker, *answers: Answer | Callable[[], Answer]) -> None:
    """From now on the worker asks an agent that gives these answers, one after another."""
    left = list(answers)

    def answer(asked: Ask) -> Answer:
        if not asked.waits:
            return None
        given = left.pop(0)
        return given() if callable(given) else given

    worker.answer = answer
    worker.asked.clear()


# --- which id opens what ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cookie", ["", "x", "a" * 32, "a" * 32 + ".a", "é" * 32, "a" * 5000, "." * 64])
def test_a_forged_id_is_refused_without_a_look_up(worker: Worker, cookie: str) -> None:
    """S05, S51: nobody is asked, nothing is read, and a write mints another id."""

    def no_read(key: bytes) -> object:
        raise AssertionError("looked up")

    worker.world = msgspec.structs.replace(worker.world, store=_Guard(worker.store, no_read))  # type: ignore[arg-type]
    session = worker.begin(cookie)
    assert session.is_new and not session
    assert worker.asked == []
    session["n"] = 1
    new = worker.finish(session)
    assert new is not None and new.split(".")[0] != cookie.split(".")[0]


class _Guard:
    def __init__(self, store: MemoryStore, read: Callable[[bytes], object]) -> None:
        self.read, self.now_ms = read, store.now_ms


def test_an_unknown_id_is_never_adopted(worker: Worker, clock: Clock) -> None:
    """S05: a valid id of a session that nobody has gives a new session with a new id."""
    stranger = local_worker(clock)
    stranger.random_calls = 1_000
    foreign = stranger.request(n=1)
    session = worker.begin(foreign)
    assert session.is_new and "n" not in session
    session["n"] = 2
    new = worker.finish(session)
    assert new is not None and new.split(".")[0] != foreign.split(".")[0]
    assert worker.begin(foreign).is_new


def test_an_expired_session_is_no_session(worker: Worker, clock: Clock) -> None:
    """Also while its entry is still in the store; a write then begins another one."""
    cookie = worker.request(n=1)
    clock.ms += 30 * MINUTE_MS
    session = worker.begin(cookie)
    assert session.is_new and "n" not in session
    session["n"] = 2
    assert worker.finish(session) not in (None, cookie)


def test_the_cookie_is_sent_again_only_for_another_id_or_route(worker: Worker) -> None:
    """A cookie with no route, or a stale one, gets the primary's; the right one is left alone."""
    cookie = worker.request(n=1)
    for presented, sent in ((cookie, None), (cookie[:-2], cookie), (cookie[:-1] + "z", cookie)):
        session = worker.begin(presented)
        assert session["n"] == 1
        assert worker.finish(session) == sent


# --- parallel requests -----------------------------------------------------------------------------------------------


def test_a_slow_reader_undoes_nothing(worker: Worker) -> None:
    """S01: a request that read before another wrote does not write back what it read."""
    cookie = worker.request(cart=[1], user="ada")
    slow = worker.begin(cookie)
    assert slow["cart"] == [1] and slow["user"] == "ada"
    worker.request(cookie, cart=[1, 2])
    worker.finish(slow)
    assert worker.begin(cookie)["cart"] == [1, 2]


@pytest.mark.parametrize("first_ends_first", [True, False])
def test_requests_that_change_different_attributes_keep_both(worker: Worker, first_ends_first: bool) -> None:
    """S02, S10: whichever began or ended first, also if one of them deletes."""
    cookie = worker.request(old=1)
    one, two = worker.begin(cookie), worker.begin(cookie)
    one["a"] = 1
    del two["old"]
    two["b"] = 2
    for session in (one, two) if first_ends_first else (two, one):
        worker.finish(session)
    assert dict(worker.begin(cookie)) == {"a": 1, "b": 2}


def test_logout_is_final(worker: Worker) -> None:
    """S04: a request that began before it writes nothing, sends no cookie, and mints no id."""
    cookie = worker.request(user="ada")
    slow, reader = worker.begin(cookie), worker.begin(cookie)
    assert slow["user"] == reader["user"] == "ada"
    leaving = worker.begin(cookie)
    leaving.invalidate()
    assert worker.finish(leaving) == ""
    slow["user"] = "ghost"
    assert worker.finish(slow) is None and slow.ended
    assert worker.finish(reader) is None
    assert worker.begin(cookie).is_new
    slow["again"] = 1
    assert worker.finish(slow, late=True) is None
    assert kinds(worker).count("CommitRequest") == 3


def test_what_the_logout_itself_writes_begins_a_new_session(worker: Worker) -> None:
    """S04: "you are logged out" is shown under a new id; nothing of the old session is in it."""
    cookie = worker.request(user="ada")
    session = worker.begin(cookie)
    session["pending"] = 1
    session.invalidate()
    session["flash"] = "bye"
    new = worker.finish(session)
    assert new and new.split(".")[0] != cookie.split(".")[0]
    assert dict(worker.begin(new)) == {"flash": "bye"}
    assert worker.begin(cookie).is_new


def test_a_logout_that_comes_second_mints_nothing(worker: Worker) -> None:
    """S04: of two logouts at once one has ended the session; the other's later writes go nowhere."""
    cookie = worker.request(user="ada")
    one, two = worker.begin(cookie), worker.begin(cookie)
    for session in (one, two):
        session.invalidate()
        session["flash"] = "bye"
    assert worker.finish(one)
    assert worker.finish(two) is None and two.ended


# --- rotation --------------------------------------------------------------------------------------------------------


def test_a_renewal_keeps_the_session_and_lets_the_old_id_in_for_its_grace(worker: Worker, clock: Clock) -> None:
    """S11: same data, new cookie; the old id works for ten seconds, and its responses send no cookie."""
    cookie = worker.request(n=1)
    session = worker.begin(cookie)
    session.rotate()
    new = worker.finish(session)
    assert new and new != cookie and worker.begin(new)["n"] == 1
    old = worker.begin(cookie)
    old["m"] = 2
    assert worker.finish(old) is None and not old.ended
    assert dict(worker.begin(new)) == {"n": 1, "m": 2}
    clock.ms += 10_000
    assert worker.begin(cookie).is_new and not worker.begin(new).is_new


def test_of_two_renewals_at_once_one_wins(worker: Worker) -> None:
    """S11: only the winner's cookie is sent, and it opens the session with both requests' changes."""
    cookie = worker.request(n=1)
    one, two = worker.begin(cookie), worker.begin(cookie)
    one["a"], two["b"] = 1, 2
    one.rotate()
    two.rotate()
    new, none = worker.finish(one), worker.finish(two)
    assert new and none is None and not two.ended
    assert dict(worker.begin(new)) == {"n": 1, "a": 1, "b": 2}


@pytest.mark.parametrize("renewed", [False, True])
def test_a_commit_finds_out_whether_its_id_is_current(worker: Worker, renewed: bool) -> None:
    """S11: for a framework that sends the cookie with each change: without a second question unless it was renewed."""
    cookie = worker.request(n=1)
    slow, other = worker.begin(cookie), worker.begin(cookie)
    slow.visit.confirms = True
    slow["slow"], other["other"] = 1, 2
    if renewed:
        other.rotate()
    new = worker.finish(other)
    worker.asked.clear()
    assert worker.finish(slow) is None and slow.visit.cookie_now == (None if renewed else cookie)
    assert kinds(worker) == ["CommitRequest"] * (2 if renewed else 1)
    assert dict(worker.begin(new or cookie)) == {"n": 1, "slow": 1, "other": 2}


def test_after_a_login_the_old_id_opens_nothing(worker: Worker) -> None:
    """S11 (fixation): it sees an empty session and writes nothing; no cookie overwrites the login's."""
    fixed = worker.request(cart=[1])
    parallel = worker.begin(fixed)
    assert parallel["cart"] == [1]
    login = worker.begin(fixed)
    login.rotate(principal="ada")
    new = worker.finish(login)
    assert new and worker.begin(new)["cart"] == [1] and worker.begin(new).principal == "ada"
    parallel["cart"].append("late")
    assert worker.finish(parallel) is None and parallel.ended
    intruder = worker.begin(fixed)
    assert dict(intruder) == {} and intruder.principal is None and intruder.id is None
    intruder["cart"] = ["mine"]
    assert worker.finish(intruder) is None and intruder.ended
    assert worker.begin(new)["cart"] == [1]


def test_a_login_whose_answer_was_lost_can_be_repeated(worker: Worker) -> None:
    """S11: the same person logs in again with the old id, and has the session with all that is in it."""
    cookie = worker.request(cart=[1])
    lost = worker.begin(cookie)
    lost.rotate(principal="ada")
    lost_cookie = worker.finish(lost)
    again = worker.begin(cookie)
    again["lang"] = "de"
    again.rotate(principal="ada")
    new = worker.finish(again)
    assert new and new != lost_cookie
    assert dict(worker.begin(new)) == {"cart": [1], "lang": "de"}


def test_another_persons_login_with_a_replaced_id_gets_nothing_of_the_session(worker: Worker) -> None:
    """S11 (fixation): who planted the id cannot take over what its victim's login has made of it."""
    fixed = worker.request(cart=[1])
    victim = worker.begin(fixed)
    victim.rotate(principal="ada")
    cookie = worker.finish(victim) or ""
    intruder = worker.begin(fixed)
    intruder.rotate(principal="mallory")
    other = worker.finish(intruder) or ""
    assert worker.world.keys.read_cookie(other)[0].locator != worker.world.keys.read_cookie(cookie)[0].locator  # type: ignore[index]
    assert dict(worker.begin(other)) == {} and worker.begin(other).principal == "mallory"
    assert worker.begin(cookie).principal == "ada"


def test_a_renewal_without_grace_fences_the_old_id(worker: Worker) -> None:
    """S11 (fixation): whoever is logged in, or nobody; who comes with it again begins a session of his own."""
    old = worker.request(cart=[1])
    for principal in (None, "ada"):
        session = worker.begin(old)
        session.rotate(principal=principal, grace=False)
        session.rotate(grace=False)
        new = worker.finish(session) or ""
        assert new and worker.begin(new)["cart"] == [1] and worker.begin(new).principal == principal
        assert dict(worker.begin(old)) == {}
        again = worker.begin(old)
        again.rotate(principal=None)
        again["n"] = 1
        other = worker.finish(again) or ""
        assert dict(worker.begin(other)) == {"n": 1} and worker.begin(new)["cart"] == [1]
        old = new


def test_a_session_may_have_a_timeout_of_its_own(worker: Worker, clock: Clock) -> None:
    """S44: from its beginning, or changed alone later; an access is recorded while half of it is still left."""
    session = worker.begin()
    session["n"] = 1
    session.visit.idle_timeout_ms = 20_000
    cookie = worker.finish(session) or ""
    clock.ms += 10_000
    assert worker.begin(cookie)["n"] == 1
    reader = worker.begin(cookie)
    assert reader["n"] == 1
    worker.finish(reader)
    clock.ms += 19_999
    assert worker.begin(cookie)["n"] == 1
    longer = worker.begin(cookie)
    assert longer["n"] == 1
    longer.visit.idle_timeout_ms = 90_000
    worker.finish(longer)
    clock.ms += 89_999
    assert worker.begin(cookie)["n"] == 1
    clock.ms += 1
    assert worker.begin(cookie).is_new


def test_a_logout_ends_both_ids(worker: Worker) -> None:
    """S11: the current one and the one in its grace time."""
    old = worker.request(n=1)
    session = worker.begin(old)
    session.rotate()
    new = worker.finish(session) or ""
    leaving = worker.begin(old)
    leaving.invalidate()
    worker.finish(leaving)
    assert worker.begin(old).is_new and worker.begin(new).is_new


def test_nothing_is_minted_once_the_response_has_begun(worker: Worker) -> None:
    """No cookie can be sent any more: a new session is not begun, an id is not replaced, other changes are kept."""
    late = worker.begin()
    late["n"] = 1
    assert worker.finish(late, late=True) is None
    assert worker.asked == []
    cookie = worker.request(n=1)
    session = worker.begin(cookie)
    session["n"] = 2
    session.rotate()
    worker.finish(session, late=True)
    assert worker.begin(cookie)["n"] == 2


# --- access times ----------------------------------------------------------------------------------------------------


def test_accesses_are_recorded_at_their_bounded_rate(worker: Worker, clock: Clock) -> None:
    """S07: a clean read asks for nothing, but once a minute that the access be recorded; nobody waits for that."""
    cookie = worker.request(n=1)
    worker.asked.clear()
    for _ in range(3):
        clock.ms += MINUTE_MS - 1
        session = worker.begin(cookie)
        assert session["n"] == 1
        worker.finish(session)
        worker.finish(session, late=True)
    assert kinds(worker) == ["TouchRequest"]
    assert not worker.asked[0].waits
    for _ in range(20):
        clock.ms += 10 * MINUTE_MS
        session = worker.begin(cookie)
        assert session["n"] == 1, "a session in use expired"
        worker.finish(session)


def test_a_commit_needs_no_record_of_its_access(worker: Worker, clock: Clock) -> None:
    """It brings the access time itself."""
    cookie = worker.request(n=1)
    clock.ms += 20 * MINUTE_MS
    worker.asked.clear()
    worker.request(cookie, n=2)
    assert kinds(worker) == ["CommitRequest"]
    clock.ms += 20 * MINUTE_MS
    assert worker.begin(cookie)["n"] == 2


# --- with an agent ---------------------------------------------------------------------------------------------------


def test_a_primary_is_served_in_place_while_every_backups_lease_runs(worker: Worker, clock: Clock) -> None:
    """One lapsed lease of two, or one that ends just now, and the agent is asked first."""
    cookie = worker.request(n=1)
    placed(worker, cookie, backups=("b", "c"))
    worker.leases = {"b": clock.ms + 1, "c": clock.ms + 1}
    agent(worker)
    assert worker.begin(cookie)["n"] == 1
    for leases in ({"b": clock.ms + 1, "c": clock.ms}, {"b": clock.ms + 1}, {}):
        worker.leases = leases
        agent(worker, FetchAnswer(FetchOutcome.HERE))
        assert worker.begin(cookie)["n"] == 1
        assert kinds(worker) == ["FetchRequest"]


def test_here_means_read_again(worker: Worker) -> None:
    """The agent may have changed the entry before it said so: what is served is read after its answer."""
    cookie = worker.request(n=1)
    before = placed(worker, cookie, backups=("b",))

    def changed() -> Answer:
        placed(worker, cookie, attributes={**before.attributes, "n": before.attributes["m"]})
        return FetchAnswer(FetchOutcome.HERE)

    worker.answer = lambda asked: FetchAnswer(FetchOutcome.HERE)
    worker.leases = {"b": 1 << 60}
    before = placed(worker, cookie, attributes={**before.attributes, "m": before.attributes["n"]})
    worker.leases = {}
    agent(worker, changed)
    assert worker.begin(cookie)["n"] == 1
    placed(worker, cookie, role=Role.BACKUP, primary="b", backups=("a",))
    agent(worker, *[FetchAnswer(FetchOutcome.HERE)] * limits.LOCATE_HOPS_MAX)
    with pytest.raises(SessionUnavailable, match="moves"):
        worker.begin(cookie)["n"]


def test_a_session_from_elsewhere_is_fetched_with_what_is_here_already(worker: Worker) -> None:
    """The agent is told the context of the copy here and the cookie's route; the primary's entry is what is served."""
    cookie = worker.request(n=1)
    entry = placed(worker, cookie, role=Role.BACKUP, primary="b", backups=("a",))
    attributes = {**entry.attributes, "m": entry.attributes["n"]}
    newer = msgspec.structs.replace(entry, role=Role.PRIMARY, attributes=attributes)
    agent(worker, FetchAnswer(FetchOutcome.FOUND, "b", newer))
    session = worker.begin(cookie[:-1] + "z")
    assert dict(session) == {"n": 1, "m": 1} and session.role == "backup" and session.primary == "b"
    assert worker.asked[0].request == FetchRequest(0, session.visit.opened.key, entry.context, "z")  # type: ignore[union-attr]
    assert worker.finish(session) == cookie[:-1] + "b"
    agent(worker, FetchAnswer(FetchOutcome.NOT_MODIFIED, "b"))
    assert dict(worker.begin(cookie)) == {"n": 1}


@pytest.mark.parametrize("outcome", [FetchOutcome.UNKNOWN, FetchOutcome.ENDED])
def test_only_a_certain_no_begins_a_new_session(worker: Worker, outcome: FetchOutcome) -> None:
    """S31: "unknown" and "ended" do; "nobody answers" raises, and the cookie is left alone."""
    cookie = worker.request(n=1)
    placed(worker, cookie, role=Role.PROXY, primary="b", attributes={})
    agent(worker, FetchAnswer(outcome))
    assert worker.begin(cookie).is_new
    agent(worker, FetchAnswer(FetchOutcome.UNAVAILABLE))
    session = worker.begin(cookie)
    with pytest.raises(SessionUnavailable):
        session["n"] = 1
    assert worker.finish(session) is None


@pytest.mark.parametrize("unsure", [{"number": 7}, {"unconfirmed": True}], ids=["under way", "unconfirmed"])
def test_an_end_that_others_may_not_know_of_is_asked_about(worker: Worker, unsure: dict[str, object]) -> None:
    """S04, S12: its agent waits until nobody is shown the session; of another tombstone nobody is asked."""
    cookie = worker.request(n=1)
    placed(worker, cookie, ended_ms=1, attributes={})
    agent(worker)
    assert worker.begin(cookie).is_new and kinds(worker) == []
    placed(worker, cookie, **unsure)
    agent(worker, FetchAnswer(FetchOutcome.ENDED))
    assert worker.begin(cookie).is_new and kinds(worker) == ["FetchRequest"]


def test_a_commit_is_waited_for_as_acknowledge_says(clock: Clock) -> None:
    """ "none" does not wait; but what makes, moves or ends an id is always in the store before the response."""
    for mode, waits in ((AcknowledgeMode.BACKUP, True), (AcknowledgeMode.LOCAL, True), (AcknowledgeMode.NONE, False)):
        worker = local_worker(clock, SETTINGS._replace(acknowledge=mode))
        cookie = worker.request(n=1)
        worker.request(cookie, n=2)
        counting = worker.begin(cookie)
        counting.transact(lambda s: s.update(n=3))
        session = worker.begin(cookie)
        session.rotate()
        cookie = worker.finish(session) or ""
        leaving = worker.begin(cookie)
        leaving.invalidate()
        worker.finish(leaving)
        waited = [asked.waits for asked in worker.asked if isinstance(asked.request, CommitRequest)]
        assert waited == [True, waits, True, True, True]
        modes = [a.request.acknowledge for a in worker.asked if isinstance(a.request, CommitRequest)]
        assert modes == [max(mode, AcknowledgeMode.LOCAL), mode, *[max(mode, AcknowledgeMode.LOCAL)] * 3]


def test_an_unsettled_value_is_settled_before_the_response_leaves(worker: Worker, clock: Clock) -> None:
    """Nobody is shown what a failover could take back; a commit that itself waits for the backup is enough."""
    cookie = worker.request(n=1)
    entry = placed(worker, cookie, number=7)
    session = worker.begin(cookie)
    assert session["n"] == 1 and not session.protected
    agent(worker, CommitAnswer(Outcome.COMMITTED, True, "a"))
    worker.finish(session)
    worker.finish(session, late=True)
    assert [asked.request for asked in worker.asked] == [SettleRequest(0, session.visit.opened.key, entry.number)]  # type: ignore[union-attr]
    assert session.protected
    agent(worker, CommitAnswer(Outcome.COMMITTED, True, "a"))
    worker.request(cookie, n=2)
    assert kinds(worker) == ["CommitRequest"]


def test_protected_tells_the_truth(worker: Worker) -> None:
    """It is what the last commit's answer said."""
    for protected in (True, False):
        agent(worker, CommitAnswer(Outcome.COMMITTED, protected, "a", 1, 1))
        session = worker.begin()
        session["n"] = 1
        worker.finish(session)
        assert session.protected is protected


@pytest.mark.parametrize("backups", [("b",), ("b", "c")])
def test_one_backup_of_two_does_not_protect(worker: Worker, clock: Clock, backups: tuple[str, ...]) -> None:
    """S12: with two copies wanted, a reader is told while the list is shorter, as a writer is."""
    cookie = worker.request(n=1)
    placed(worker, cookie, backups=backups)
    worker.leases = {"b": clock.ms + 1, "c": clock.ms + 1}
    worker.world = msgspec.structs.replace(worker.world, settings=SETTINGS._replace(copies=2))
    session = worker.begin(cookie)
    assert session["n"] == 1 and session.protected is (len(backups) == 2)


def test_an_older_change_that_is_settled_protects_no_newer_one(worker: Worker) -> None:
    """S12: a request read a change that was not acknowledged yet, and its own was answered without protection: that
    the older one is settled does not change the flag.
    """
    cookie = worker.request(n=1)
    placed(worker, cookie, number=7)
    session = worker.begin(cookie)
    agent(worker, CommitAnswer(Outcome.COMMITTED, False, "a", 1, 8), CommitAnswer(Outcome.COMMITTED, True, "a"))
    session.transact(lambda current: current.update(n=2))
    worker.finish(session)
    assert kinds(worker)[-1] == "SettleRequest" and not session.protected


@pytest.mark.parametrize("protected", [True, False])
def test_protected_tells_the_truth_of_an_end(worker: Worker, protected: bool) -> None:
    """After `invalidate` the flag says whether a second machine knows that the session has ended."""
    session = worker.begin(worker.request(n=1))
    session.invalidate()
    agent(worker, CommitAnswer(Outcome.COMMITTED, protected, "a", 1, 1))
    worker.finish(session)
    assert session.protected is protected


@pytest.mark.parametrize("outcome", [Outcome.UNKNOWN, Outcome.ENDED, Outcome.FENCED])
def test_a_commit_into_a_session_that_is_over_is_silent(worker: Worker, outcome: Outcome) -> None:
    """S04: nothing is written, no error page, no cookie; ``transact`` alone says so."""
    cookie = worker.request(n=1)
    session = worker.begin(cookie)
    session["n"] = 2
    agent(worker, CommitAnswer(outcome))
    assert worker.finish(session) is None and session.ended
    session["n"] = 3
    assert worker.finish(session) is None and len(worker.asked) == 1
    with pytest.raises(SessionEnded):
        session.transact(lambda s: s.update(n=4))


def test_refusals_say_what_happened(worker: Worker) -> None:
    """Each outcome that an application must know is an error of its own."""
    agent(
        worker,
        CommitAnswer(Outcome.STORE_FULL),
        CommitAnswer(Outcome.REFUSED),
        CommitAnswer(Outcome.REFUSED, unsure=True),
        CommitAnswer(Outcome.MINORITY),
    )
    for error, words in (
        (StoreFull, "no new session"),
        (SessionUnavailable, "nothing was written"),
        (SessionUnavailable, "may have been committed"),
        (SessionPartitioned, "members_expected"),
    ):
        session = worker.begin()
        session["n"] = 1
        with pytest.raises(error, match=words):
            worker.finish(session)
    worker.world = msgspec.structs.replace(worker.world, settings=SETTINGS._replace(unprotected_refused=True))
    agent(worker, CommitAnswer(Outcome.REFUSED))
    session = worker.begin()
    session["n"] = 1
    with pytest.raises(SessionUnprotected, match="no backup"):
        worker.finish(session)


def test_an_overlapped_assignment_stands_while_its_request_lives(worker: Worker) -> None:
    """S24: where another request's value came between, the worker asks again over it, with the same commit id; the
    later assignment stands, and the other attribute of the first is untouched."""
    cookie = worker.request(n=1)
    slow, quick = worker.begin(cookie), worker.begin(cookie)
    slow["n"], quick["n"], quick["m"] = 2, 3, 4
    worker.finish(quick)
    worker.asked.clear()
    worker.finish(slow)
    commits = [asked.request.commit for asked in worker.asked if isinstance(asked.request, CommitRequest)]
    assert len(commits) == 2 and len({commit.id for commit in commits}) == 1
    assert dict(worker.begin(cookie)) == {"n": 2, "m": 4}


def test_the_commit_of_a_killed_worker_undoes_nothing(worker: Worker) -> None:
    """S24: it arrives after the client's next request, and nobody is there to ask again over that."""
    cookie = worker.request(n=1)
    killed = worker.begin(cookie)
    killed["n"] = 2
    conversation = commit(worker.world, killed.visit)
    asked = next(conversation)
    worker.request(cookie, n=3)
    late = worker.answer(asked)
    assert isinstance(late, CommitAnswer) and late.outcome is Outcome.OUTDATED
    assert worker.begin(cookie)["n"] == 3


def test_a_hot_attribute_is_written_after_some_tries(worker: Worker) -> None:
    """However many others write it meanwhile: then the commit is made over whatever is there."""
    cookie = worker.request(n=1)
    session = worker.begin(cookie)
    session["n"] = 2
    outdated = CommitAnswer(Outcome.OUTDATED, found={"n": ((7, 7),)})
    agent(worker, *[outdated] * limits.OVERWRITE_TRIES_MAX, CommitAnswer(Outcome.COMMITTED, True, "a", 1, 9))
    worker.finish(session)
    replaced = [a.request.commit.replaces for a in worker.asked if isinstance(a.request, CommitRequest)]
    assert replaced[1:-1] == [{"n": ((7, 7),)}] * (limits.OVERWRITE_TRIES_MAX - 1) and replaced[-1] is None


def test_who_waits_for_nothing_asks_for_nothing_twice(worker: Worker) -> None:
    """``acknowledge = "none"``: nobody would hear that the commit is outdated, so it is made over whatever is there."""
    cookie = worker.request(n=1)
    settings = worker.world.settings._replace(acknowledge=AcknowledgeMode.NONE)
    worker.world = msgspec.structs.replace(worker.world, settings=settings)
    session = worker.begin(cookie)
    session["n"] = 2
    worker.asked.clear()
    worker.finish(session)
    assert [a.request.commit.replaces for a in worker.asked if isinstance(a.request, CommitRequest)] == [None]


def test_transact_gives_up_after_its_tries(worker: Worker) -> None:
    """A conflict each time is an error in the end, not an endless loop."""
    cookie = worker.request(n=1)
    agent(worker, *[CommitAnswer(Outcome.CONFLICT)] * limits.TRANSACT_TRIES_MAX)
    session = worker.begin(cookie)
    calls: list[int] = []
    with pytest.raises(SessionConflict):
        session.transact(lambda s: (calls.append(1), s.update(n=s["n"] + 1)))
    assert len(calls) == limits.TRANSACT_TRIES_MAX
    assert session["n"] == 1


def test_a_conditional_commit_names_everything_that_was_read(worker: Worker) -> None:
    """Also that an attribute was absent; what was only written is no condition."""
    cookie = worker.request(n=1, m=2, o=3)
    session = worker.begin(cookie)
    session.transact(lambda s: s.update(w=s["n"] + s.get("absent", 0)))
    request = worker.asked[-1].request
    assert isinstance(request, CommitRequest) and request.commit.expects is not None
    assert sorted(request.commit.expects) == ["absent", "n"] and request.commit.expects["absent"] == ()


def test_without_a_wait_a_touch_is_sent_for_sessions_from_elsewhere_too(worker: Worker, clock: Clock) -> None:
    """The primary learns that its session is in use on another member."""
    cookie = worker.request(n=1)
    entry = placed(worker, cookie, role=Role.BACKUP, primary="b", backups=("a",))
    clock.ms += 2 * MINUTE_MS
    agent(worker, FetchAnswer(FetchOutcome.FOUND, "b", msgspec.structs.replace(entry, role=Role.PRIMARY)))
    session = worker.begin(cookie)
    assert session["n"] == 1
    worker.finish(session)
    assert worker.asked[-1] == Ask(TouchRequest(session.visit.opened.key, primary="b"), waits=False)  # type: ignore[union-attr]


def test_two_first_requests_on_a_member_that_does_not_hold_the_session_see_one(worker: Worker) -> None:
    """S08: both are given the primary's entry, and both commit into it; no second session is begun."""
    cookie = worker.request(n=1)
    entry = placed(worker, cookie, role=Role.BACKUP, primary="b", backups=("a",))
    found = FetchAnswer(FetchOutcome.FOUND, "b", msgspec.structs.replace(entry, role=Role.PRIMARY))
    done = CommitAnswer(Outcome.COMMITTED, True, "b", 1, 2)
    agent(worker, found, found, done, done)
    one, two = worker.begin(cookie), worker.begin(cookie)
    one["a"], two["b"] = one["n"], two["n"]
    routed = cookie[:-1] + "b"
    assert worker.finish(one) == worker.finish(two) == routed and one.id == two.id
    requests = [asked.request for asked in worker.asked if isinstance(asked.request, CommitRequest)]
    assert [request.key for request in requests] == [one.visit.opened.key] * 2  # type: ignore[union-attr]
    assert all(request.commit.creates is None for request in requests)
