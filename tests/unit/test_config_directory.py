"""The member's directory and the cluster's secret: where they are, who may touch them, and what is refused."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from understudy import limits
from understudy.config import Config, load, member_directory, open_directory, read_secrets, secret_origin
from understudy.config.directory import write_once
from understudy.errors import ConfigurationError, DirectoryError

UID = os.getuid()
LOOPBACK = {"UNDERSTUDY_LISTEN": "127.0.0.1:7401", "UNDERSTUDY_SEEDS": "127.0.0.1:7401,localhost:7402"}
FAR = {"UNDERSTUDY_LISTEN": "10.0.0.1:7400", "UNDERSTUDY_SEEDS": "10.0.0.2:7400"}
LONG = "0123456789abcdef-0123456789abcdef"


def configured(tmp_path: Path, **variables: str) -> Config:
    environ = {"UNDERSTUDY_" + name: value for name, value in variables.items()}
    return load(environ={"UNDERSTUDY_MEMBER": "a", **environ}, cwd=tmp_path, hostname="host")


def clustered(tmp_path: Path, environ: dict[str, str], **variables: str) -> Config:
    return configured(
        tmp_path, **{name.removeprefix("UNDERSTUDY_"): value for name, value in environ.items()}, **variables
    )


def opened(tmp_path: Path, config: Config, **environ: str) -> Path:
    return open_directory(config, environ, UID, tmp_path / "base")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# --- the directory -----------------------------------------------------------------------------------------------


def test_where_the_directory_is(tmp_path: Path) -> None:
    """Without UNDERSTUDY_DIR it is computed from user, cluster and member; with it, it is that; relative is refused."""
    config = configured(tmp_path, NAME="shop")
    assert member_directory(config, {}, 1234) == Path("/var/tmp/understudy/1234/shop/a")
    assert member_directory(config, {"UNDERSTUDY_DIR": "/run/x/../y/"}, 1234) == Path("/run/y")
    with pytest.raises(DirectoryError, match="UNDERSTUDY_DIR: 'x' is not an absolute path"):
        member_directory(config, {"UNDERSTUDY_DIR": "x"}, 1234)


def test_opening_makes_it_private_and_again_changes_nothing(tmp_path: Path) -> None:
    """All directories of ours are 0700 whatever the umask, the member file is 0600, and a second opening agrees."""
    umask = os.umask(0o277)
    try:
        path = opened(tmp_path, configured(tmp_path))
    finally:
        os.umask(umask)
    assert path == tmp_path / "base" / str(UID) / "default" / "a"
    assert [mode(path), mode(path.parent), mode(path.parent.parent)] == [0o700] * 3
    assert (path / "member").read_text() == "a\n" and mode(path / "member") & 0o077 == 0
    assert opened(tmp_path, configured(tmp_path)) == path
    assert os.listdir(path) == ["member"]


def test_the_default_base_is_for_all_users_only_when_root_made_it(tmp_path: Path) -> None:
    """The directory above all users' own is sticky when root makes it, else private to the user who did."""
    opened(tmp_path, configured(tmp_path))
    assert mode(tmp_path / "base") == (0o1777 if UID == 0 else 0o700)


def test_a_given_directory_is_made_with_its_parents(tmp_path: Path) -> None:
    """UNDERSTUDY_DIR is made with what is missing above it; what was there keeps its mode."""
    tmp_path.chmod(0o755)
    path = opened(tmp_path, configured(tmp_path), UNDERSTUDY_DIR=str(tmp_path / "x" / "y"))
    assert [mode(path), mode(path.parent), mode(tmp_path)] == [0o700, 0o700, 0o755]


def test_another_members_directory_is_refused(tmp_path: Path) -> None:
    """Opening a directory under another member's name names both and changes nothing."""
    where = {"UNDERSTUDY_DIR": str(tmp_path / "d")}
    path = opened(tmp_path, configured(tmp_path), **where)
    with pytest.raises(DirectoryError, match=r"belongs to member 'a', not to 'b' \(environment UNDERSTUDY_MEMBER\)"):
        opened(tmp_path, configured(tmp_path, MEMBER="b"), **where)
    assert (path / "member").read_text() == "a\n"


def test_a_foreign_owner_is_refused(tmp_path: Path) -> None:
    """A directory, a base and a file of another user are refused by owner."""
    config = configured(tmp_path)
    (tmp_path / "d").mkdir(0o700)
    with pytest.raises(DirectoryError, match=f"belongs to uid {UID}, not to this process's uid {UID + 1}"):
        open_directory(config, {"UNDERSTUDY_DIR": str(tmp_path / "d")}, UID + 1)
    (tmp_path / "f").touch(0o600)
    with pytest.raises(DirectoryError, match=f"is not a private file of uid {UID + 1}"):
        write_once(tmp_path / "f", b"x", UID + 1)
    if UID == 0:
        (tmp_path / "base").mkdir()
        os.chown(tmp_path / "base", 1234, 1234)
        with pytest.raises(DirectoryError, match="belongs to uid 1234, neither to root nor"):
            opened(tmp_path, config)


def test_a_directory_open_to_others_is_refused_unless_empty(tmp_path: Path) -> None:
    """An empty directory of ours is closed to others; a filled one is refused with the command to mend it."""
    path = tmp_path / "d"
    path.mkdir()
    path.chmod(0o755)
    assert mode(opened(tmp_path, configured(tmp_path), UNDERSTUDY_DIR=str(path))) == 0o700
    path.chmod(0o750)
    with pytest.raises(DirectoryError, match=r"open to other users \(mode 0750\).*chmod 700.*UNDERSTUDY_DIR"):
        opened(tmp_path, configured(tmp_path), UNDERSTUDY_DIR=str(path))


def test_a_base_that_others_can_write_is_refused(tmp_path: Path) -> None:
    """A base that is not sticky lets others exchange what is in it, and is refused."""
    (tmp_path / "base").mkdir()
    (tmp_path / "base").chmod(0o777)
    with pytest.raises(DirectoryError, match=r"is not sticky \(mode 0777\)"):
        opened(tmp_path, configured(tmp_path))


@pytest.mark.parametrize("step", ["base", f"base/{UID}", f"base/{UID}/default", f"base/{UID}/default/a"])
def test_symbolic_links_on_the_way_are_refused(tmp_path: Path, step: str) -> None:
    """No directory that we would make may be a symbolic link."""
    (tmp_path / "elsewhere").mkdir(0o700)
    for parent in reversed((tmp_path / step).parents):
        if parent.is_relative_to(tmp_path) and parent != tmp_path:
            parent.mkdir(0o700)
    (tmp_path / step).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DirectoryError, match="is a symbolic link"):
        opened(tmp_path, configured(tmp_path))
    assert os.listdir(tmp_path / "elsewhere") == []


def test_a_file_in_the_way_and_a_missing_parent_are_refused(tmp_path: Path) -> None:
    """Something that is no directory, and a place where none can be made, are refused with what to set."""
    (tmp_path / "d").touch()
    with pytest.raises(DirectoryError, match="is not a directory"):
        opened(tmp_path, configured(tmp_path), UNDERSTUDY_DIR=str(tmp_path / "d"))
    with pytest.raises(DirectoryError, match=r"cannot be (made|used).*UNDERSTUDY_DIR"):
        opened(tmp_path, configured(tmp_path), UNDERSTUDY_DIR=str(tmp_path / "d" / "e"))
    with pytest.raises(DirectoryError, match=r"cannot be made .*UNDERSTUDY_DIR"):
        open_directory(configured(tmp_path), {}, UID, tmp_path / "no" / "base")


def test_a_path_too_long_for_a_socket_is_refused(tmp_path: Path) -> None:
    """The longest path that a socket allows is accepted, one byte more is refused and UNDERSTUDY_DIR named."""
    room = limits.SOCKET_PATH_BYTES_MAX - len(os.fsencode(tmp_path)) - len("//agent.sock")
    longest = tmp_path / ("d" * room)
    assert opened(tmp_path, configured(tmp_path), UNDERSTUDY_DIR=str(longest)) == longest
    with pytest.raises(DirectoryError, match="would have 108 bytes and the most is 107; set UNDERSTUDY_DIR"):
        opened(tmp_path, configured(tmp_path), UNDERSTUDY_DIR=str(longest) + "d")


def test_the_longest_names_fit_the_default_directory(tmp_path: Path) -> None:
    """Cluster and member names of full length under a large uid still leave room for the socket."""
    path = member_directory(configured(tmp_path, NAME="c" * 32, MEMBER="m" * 32), {}, 2**32 - 1)
    assert len(os.fsencode(path / "agent.sock")) <= limits.SOCKET_PATH_BYTES_MAX


def test_a_tool_that_only_looks_makes_nothing(tmp_path: Path) -> None:
    """``create=False`` refuses a directory that does not exist and leaves no trace."""
    with pytest.raises(DirectoryError, match="does not exist: member 'a' of cluster 'default' has not run here"):
        open_directory(configured(tmp_path), {}, UID, tmp_path / "base", create=False)
    assert os.listdir(tmp_path) == []


# --- secrets -----------------------------------------------------------------------------------------------------


def test_a_made_secret_is_made_once(tmp_path: Path) -> None:
    """Without configuration 32 random bytes are made once in the member's directory, private, and read again."""
    config = configured(tmp_path)
    path = opened(tmp_path, config)
    (secret,) = read_secrets(config, path)
    assert len(bytes.fromhex(secret.decode())) == 32
    assert mode(path / "secret") == 0o600
    assert read_secrets(config, path) == (secret,)
    assert secret_origin(config, path) == f"made here, in {path}/secret"
    assert sorted(os.listdir(path)) == ["member", "secret"]


def test_processes_that_make_it_at_once_agree(tmp_path: Path) -> None:
    """Of many that write the file at the same time one wins and all get its content; nothing else is left."""
    barrier = threading.Barrier(8)
    got: list[bytes] = []

    def write(content: bytes) -> None:
        barrier.wait()
        got.append(write_once(tmp_path / "secret", content, UID))

    threads = [threading.Thread(target=write, args=(bytes([65 + number]) * 32,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 8 and len(set(got)) == 1
    assert os.listdir(tmp_path) == ["secret"]


def test_members_on_loopback_share_one_secret(tmp_path: Path) -> None:
    """Two members on the loopback interface with different directories read the same made secret."""
    base = tmp_path / "base"
    one, two = (clustered(tmp_path, LOOPBACK, MEMBER=name, NAME="shop") for name in ("a", "b"))
    first = read_secrets(one, tmp_path / "a", uid=UID, base=base)
    assert first == read_secrets(two, tmp_path / "b", uid=UID, base=base)
    assert (base / str(UID) / "shop" / "secret").exists() and mode(base / str(UID) / "shop") == 0o700


@pytest.mark.parametrize(
    "environ",
    [
        FAR,
        {"UNDERSTUDY_LISTEN": "0.0.0.0:1"},
        LOOPBACK | {"UNDERSTUDY_SEEDS": "10.0.0.2:1"},
        LOOPBACK | {"UNDERSTUDY_MULTICAST": "1"},
    ],
)
def test_off_loopback_a_secret_is_needed(tmp_path: Path, environ: dict[str, str]) -> None:
    """S53: a cluster that another machine could reach has no made secret; the message says how to make one."""
    config = clustered(tmp_path, environ)
    with pytest.raises(ConfigurationError, match=r"secrets\.token_urlsafe.*UNDERSTUDY_SECRET_FILE"):
        read_secrets(config, tmp_path, base=tmp_path / "base")
    assert os.listdir(tmp_path) == []


def test_several_secrets(tmp_path: Path) -> None:
    """Each line is a secret, the first mints; blank lines, line ends of any kind and spaces around do not count."""
    (tmp_path / "s").write_bytes(f"\n  {LONG}1 \r\n\n{LONG}2".encode())
    config = clustered(tmp_path, FAR, SECRET_FILE="s")
    assert read_secrets(config, tmp_path) == (f"{LONG}1".encode(), f"{LONG}2".encode())
    assert secret_origin(config, tmp_path) == f"file {tmp_path}/s (environment UNDERSTUDY_SECRET_FILE)"


def test_the_variable_wins_over_the_file(tmp_path: Path) -> None:
    """UNDERSTUDY_SECRET wins over `secret_file` in the file; both in the environment are a contradiction."""
    (tmp_path / "understudy.toml").write_text('[cluster]\nsecret_file = "gone"')
    config = clustered(tmp_path, FAR, SECRET=f"{LONG}\n{LONG}2\n")
    assert read_secrets(config, tmp_path) == (LONG.encode(), f"{LONG}2".encode())
    assert secret_origin(config, tmp_path) == "environment UNDERSTUDY_SECRET"
    with pytest.raises(ConfigurationError, match="both environment UNDERSTUDY_SECRET and `secret_file`"):
        read_secrets(clustered(tmp_path, FAR, SECRET=LONG, SECRET_FILE="s"), tmp_path)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "holds no secret"),
        (b" \n\n", "holds no secret"),
        (LONG.encode() + b"\nshort\n", "line 2 has 5 bytes and the least is 16"),
        (b"\xff\xfe" + bytes(range(40)), "is not text"),
        (LONG.encode() + b"\n" + b"\x00" * 32, "line 2 is not text"),
        (b"x" * 20_000, "has more than 16384 bytes"),
        ((LONG + "\n").encode() * 9, "holds 9 secrets; the most is 8"),
    ],
)
def test_wrong_secret_files(tmp_path: Path, content: bytes, says: str) -> None:
    """S54: a wrong secret file is refused by its name and line, and the message holds nothing of its content."""
    (tmp_path / "s").write_bytes(content)
    with pytest.raises(ConfigurationError) as caught:
        read_secrets(clustered(tmp_path, FAR, SECRET_FILE="s"), tmp_path)
    assert says in str(caught.value) and f"{tmp_path}/s" in str(caught.value)
    assert LONG not in str(caught.value) and "short" not in str(caught.value)


def test_a_missing_secret_file_and_a_short_variable(tmp_path: Path) -> None:
    """A secret file that cannot be read and a secret that is too short are refused by where they stand."""
    with pytest.raises(ConfigurationError, match=r"gone \(environment UNDERSTUDY_SECRET_FILE\): cannot be read"):
        read_secrets(clustered(tmp_path, FAR, SECRET_FILE="gone"), tmp_path)
    with pytest.raises(ConfigurationError, match="environment UNDERSTUDY_SECRET: line 1 has 6 bytes"):
        read_secrets(configured(tmp_path, SECRET="hunter"), tmp_path)


def test_a_made_secret_that_others_could_read_is_refused(tmp_path: Path) -> None:
    """A made secret with a loose mode, or a link in its place, is not used."""
    config = configured(tmp_path)
    path = opened(tmp_path, config)
    read_secrets(config, path)
    (path / "secret").chmod(0o644)
    with pytest.raises(DirectoryError, match=r"mode 0644\); run `chmod 600`"):
        read_secrets(config, path)
    (path / "secret").rename(path / "other")
    (path / "secret").symlink_to(path / "other")
    with pytest.raises(DirectoryError, match="cannot be read"):
        read_secrets(config, path)
