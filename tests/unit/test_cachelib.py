"""Claims of ``understudy.cachelib``: a cachelib cache, and what it opens."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import flask
import pytest
from flask_caching import Cache
from flask_session import Session as FlaskSession
from werkzeug.exceptions import MethodNotAllowed

from understudy.cachelib import UnderstudyCache
from understudy.client.member import _members
from understudy.client.replicated_map import LazyReplicatedMap
from understudy.cluster import Cluster
from understudy.errors import ValueNotSupported
from understudy.testing import MemoryCluster


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UNDERSTUDY_DIR", str(tmp_path / "m"))
    yield tmp_path / "m"
    for member in list(_members.values()):
        member.close()


@pytest.fixture
def entries() -> LazyReplicatedMap:
    return Cluster.from_config().map("cache")


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    moment = [1_000_000.0]
    monkeypatch.setattr("understudy.cachelib.time.time", lambda: moment[0])
    return moment


def test_it_keeps_what_it_was_given(entries: LazyReplicatedMap) -> None:
    """As every cachelib cache; another one on the same dictionary sees it."""
    cache, other = UnderstudyCache(entries), UnderstudyCache(entries)
    assert cache.get("k") is None and not cache.has("k") and not cache.delete("k")
    assert cache.set("k", {"a": [1, (2, 3)]}) and cache.set("k" * 1000, "long")
    assert other.get("k") == {"a": [1, (2, 3)]} and other.has("k") and other.get("k" * 1000) == "long"
    assert cache.set_many({"x": 1, "y": 2}) == ["x", "y"]
    assert cache.get_many("x", "none", "y") == [1, None, 2] and cache.get_dict("x") == {"x": 1}
    assert cache.delete_many("x", "none", "y") == ["x", "none", "y"], "what is gone counts as deleted"
    assert other.delete("k") and cache.get("k") is None
    with pytest.raises(ValueNotSupported):
        cache.set("k", object())


def test_add_and_counters_are_exact(entries: LazyReplicatedMap, now: list[float]) -> None:
    """S03: ``add`` never overwrites, ``inc`` loses nothing, and keeps the time that was left."""
    cache = UnderstudyCache(entries)
    assert cache.add("k", 1, 60) and not cache.add("k", 2) and cache.get("k") == 1
    assert (cache.inc("k", 5), cache.dec("k"), cache.inc("new"), cache.dec("less", 2)) == (6, 5, 1, -2)
    now[0] += 61
    assert cache.get("k") is None and cache.add("k", 3) and cache.get("k") == 3


def test_every_member_has_what_another_one_set(entries: LazyReplicatedMap) -> None:
    """S02, S03, S12: at once, with its neighbours' keys; counters are exact over members; a loss loses nothing."""
    cache = UnderstudyCache(entries)
    with MemoryCluster(3) as cluster:
        for member in cluster.members:
            with cluster.at(member):
                cache.set(member, [member])
                assert cache.inc("n") == cluster.members.index(member) + 1
                assert cache.add("lock", member) is (member == "a")
        cluster.kill("a")
        for member in cluster.living:
            with cluster.at(member):
                assert cache.get_many("a", "b", "c", "n", "lock") == [["a"], ["b"], ["c"], 3, "a"]


def test_values_lapse(entries: LazyReplicatedMap, now: list[float]) -> None:
    """S44: after their time, or the default one; with 0 never."""
    cache = UnderstudyCache(entries, default_timeout=10)
    cache.set("default", 1)
    cache.set("minute", 2, timedelta(minutes=1))
    cache.set("ever", 3, 0)
    now[0] += 11
    assert (cache.get("default"), cache.get("minute"), cache.get("ever")) == (None, 2, 3)
    assert len(entries) == 2, "what has lapsed is removed by who asks for it"
    now[0] += 60
    assert not cache.has("minute")
    cache.delete_expired()
    assert len(entries) == 1 and cache.get("ever") == 3


def test_clear_leaves_other_prefixes_alone(entries: LazyReplicatedMap) -> None:
    """Several caches in one dictionary."""
    caches = [UnderstudyCache(entries, key_prefix=prefix) for prefix in ("", "a", "ab")]
    for number, cache in enumerate(caches):
        cache.set("k", number)
        cache.set("k" * 1000, number)
    caches[1].clear()
    assert [cache.get("k") for cache in caches] == [0, None, 2]
    assert [cache.has("k" * 1000) for cache in caches] == [True, False, True]


def test_flask_session_keeps_its_sessions_in_it(entries: LazyReplicatedMap) -> None:
    """By its own door, ``SESSION_TYPE = "cachelib"``."""
    app = flask.Flask("shop")
    app.config.update(SESSION_TYPE="cachelib", SESSION_CACHELIB=UnderstudyCache(entries))
    FlaskSession(app)

    @app.get("/")
    def count() -> str:
        flask.session["n"] = flask.session.get("n", 0) + 1
        return str(flask.session["n"])

    client = app.test_client()
    assert [client.get("/").text for _ in range(3)] == ["1", "2", "3"]
    assert len(entries) == 1


def test_flask_caching_caches_in_it() -> None:
    """By its own door, ``CACHE_TYPE``; views and functions, and what is deleted is made anew."""
    app = flask.Flask("shop")
    cache = Cache(app, config={"CACHE_TYPE": "understudy.flask_caching.cache", "CACHE_DEFAULT_TIMEOUT": 60})
    calls: list[Any] = []

    @app.get("/view")
    @cache.cached()
    def view() -> str:
        calls.append("view")
        return "page"

    @cache.memoize()
    def square(n: int) -> int:
        calls.append(n)
        return n * n

    client = app.test_client()
    assert [client.get("/view").text for _ in range(2)] == ["page", "page"]
    with app.app_context():
        assert (square(3), square(3), square(4)) == (9, 9, 16)
        cache.delete_memoized(square)
        assert square(3) == 9
        cache.clear()
    client.get("/view")
    assert calls == ["view", 3, 4, 3, "view"]
    assert len(Cluster.from_config().map("flask-caching")) > 0


def test_flask_caching_keeps_responses_and_errors() -> None:
    """Status, headers and content come back, and an error is raised again; a file is served and not kept."""
    app = flask.Flask("shop")
    cache = Cache(app, config={"CACHE_TYPE": "understudy.flask_caching.cache"})
    calls: list[str] = []

    @app.get("/<kind>")
    @cache.cached()
    def view(kind: str) -> Any:
        calls.append(kind)
        match kind:
            case "json":
                return flask.jsonify(a=[1]), 201, {"X-Shop": "tea"}
            case "response":
                return flask.Response([b"a", b"b"], 202, {"Set-Cookie": "seen=1"})
            case "error":
                flask.abort(404, "no such thing")
            case "refusal":
                flask.abort(flask.Response("stop", 418))
            case "method":
                raise MethodNotAllowed(["POST"])
            case _:
                return flask.send_file(__file__)

    client = app.test_client()
    kept = ["json", "response", "error", "refusal"]
    for kind in [*kept, "method", "file"]:
        first, second = client.get(f"/{kind}"), client.get(f"/{kind}")
        assert (first.status, first.data) == (second.status, second.data)
        assert first.headers.get_all("X-Shop") == second.headers.get_all("X-Shop")
        assert first.headers.get_all("Set-Cookie") == second.headers.get_all("Set-Cookie")
        assert first.headers.get("Allow") == second.headers.get("Allow")
    assert calls == [*kept, *["method"] * 2, *["file"] * 2]
