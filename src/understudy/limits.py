"""Every limit, with its unit in its name and its reason beside it.

Settings that a user may change live in ``config``; these are the bounds that hold whatever is configured.
"""

from __future__ import annotations

FORMAT_VERSION = 1
"""Of store rows and messages; a member of another version is refused."""

# --- ids, names ----------------------------------------------------------------------------------------------------

COOKIE_CHARS_MAX = 128
"""Longer cookie values are refused before they are parsed: an id has 32 characters, a route at most 32."""
COOKIES_REMEMBERED_MAX = 1_024
"""Whose check and hashes a process keeps, some 600 bytes each: a browser sends its cookie many times in a row."""
MEMBER_NAME_CHARS_MAX = 32
"""A member's name is the route in every cookie, and a field of every proxy entry."""
SOCKET_PATH_BYTES_MAX = 107
"""``sun_path`` of a Unix socket on Linux, less its final zero."""
CLUSTER_NAME_CHARS_MAX = 32
"""With a member's name of full length the default directory still leaves room for the socket's path."""
APPLICATION_NAME_CHARS_MAX = 64
"""Hashed into every key; long enough for a dotted module path."""

# --- secrets and settings ------------------------------------------------------------------------------------------

SECRET_BYTES_MIN = 16
"""128 bits if it is random; shorter ones are typed words, and every id's MAC hangs on it."""
SECRETS_MAX = 8
"""Valid at once: each costs one more hash for a cookie that none of them made."""
SECRET_FILE_BYTES_MAX = 16_384
"""``SECRETS_MAX`` long secrets; a larger file was given by mistake."""
CONFIG_FILE_BYTES_MAX = 1 << 20
"""A ``pyproject.toml`` may be large; more than this is not a file of settings."""

# --- values and sessions ---------------------------------------------------------------------------------------------

SESSION_BYTES_MAX = 1 << 20
"""Default of ``session_bytes_max``: a session is replicated whole when a copy is new."""
SESSION_BYTES_WARN_PERCENT = 80
"""Of ``session_bytes_max``: above it a line in the log names the largest attributes, while requests still succeed."""
SESSION_BYTES_WARN_EVERY_MS = 600_000
"""Between two such lines of one application in one process: it is one fault, however many sessions have it."""
ATTRIBUTES_MAX = 4096
"""Attributes of one session; bounds the work of one merge."""
ATTRIBUTE_NAME_CHARS_MAX = 256
VALUE_DEPTH_MAX = 32
"""Nesting of one value; below the interpreter's recursion limit in every worker kind."""
SIBLINGS_MAX = 64
"""Concurrent values kept side by side for one attribute; more than members could have written in one partition."""
RECENT_COMMITS_MAX = 64
"""Commit ids an entry remembers: more than the commits of one session while one of them waits for a new agent."""
RECENT_COMMITS_KEPT = 16
"""Of those after a pause, so that sessions at rest, which are most, are small."""
RECENT_PAUSE_MS = 10_000
"""Without any use: longer than a worker repeats a commit (``agent_timeout_ms`` and ``commit_timeout_ms``, 5 s)."""
CONTEXT_INCARNATIONS_MAX = 64
"""Incarnations in one entry's context, where each attribute was written lately: those below, and the members' own."""
CONTEXT_FINISHED_FROM = 16
"""Incarnations in a context from which on those are looked for that have ended for good."""
CONTEXT_OVER_MAX = 32
"""Of those, so many are remembered in the context itself, until every copy knows."""
LIVES_OVER_MAX = 256
"""Incarnations of which a member notes since when it has seen nothing; a few for each restart of a member."""
ENTRIES_REMEMBERED_MAX = 512
"""That a worker keeps decoded; with the next line 4 MB at most: a page and its parts are requests for one session."""
ENTRY_REMEMBERED_BYTES_MAX = 4_096
"""Of an entry's row: larger ones are rare, and decoded each time."""
MAP_PARTS = 256
"""Entries that a replicated dictionary spreads its keys over: each is replicated by itself, and a key that was never
set costs one question to all until its part exists."""
TRANSACT_TRIES_MAX = 50
"""Tries of ``transact`` before it gives up; each try means that another request succeeded."""
OVERWRITE_TRIES_MAX = 8
"""Times that a commit is asked for over values that came between its request's reading and writing; then it is made
over whatever is there. Each try means that another request wrote the same attribute."""

# --- frames ----------------------------------------------------------------------------------------------------------

FRAME_BYTES_MAX = 4 << 20
"""One frame on a socket or one message between members: a whole session, its names and its header, with room."""
BATCH_ENTRIES_MAX = 64
"""Entries that one agent transaction, one announcement or one comparison touches: bounds how long others wait."""
WORKER_CONNECTIONS_MAX = 1024
"""Connections from workers and tools to one agent."""
REQUESTS_IN_FLIGHT_MAX = 16_384
"""Unanswered requests that an agent holds; further ones are answered "unavailable" at once."""

# --- store -----------------------------------------------------------------------------------------------------------

STORE_BYTES_MAX = 1 << 30
"""Default of ``store_bytes_max``: the size of the sparse map; only used pages take room."""
STORE_SOFT_LIMIT = 0.9
"""Share of the map above which new sessions are refused, so that changes and deletions always find pages."""
STORE_READERS_MAX = 4096
"""LMDB's reader table; its own default of 126 fails with many threads."""
STORE_RESERVE = 0.03
"""Share of the map that no growing entry may take: logging out and expiring need free pages to change a tree at all."""
STORE_RESERVE_BYTES_MIN = 256 << 10
"""The reserve of a small map: 64 pages, the paths of one transaction in seven trees."""
STORE_PROBLEMS_MAX = 100
"""Problems that one check describes; the rest are counted. A damaged store has as many as it has entries."""

# --- protocol --------------------------------------------------------------------------------------------------------

MEMBERS_MAX = 128
"""A mesh of agents; more members want zenoh's own routers between them."""
LEASE_SLOTS_MAX = 512
"""Slots of the lease board: two for each member, and twice the members, so that names that left do not crowd out new
ones."""
ACKNOWLEDGED_CONTEXTS_MAX = 200_000
"""Contexts remembered per (peer, session) as the base of the next delta; a forgotten one costs one whole entry."""
ANSWERS_REMEMBERED_MAX = 4_096
"""Answers to other members' commits that are given again when the commit comes again: more than come from all of them
in the time after which one counts as late."""
SERVED_ELSEWHERE_MAX = 10_000
"""Sessions of which an agent remembers who serves them from elsewhere, and which have just moved to it."""
MOVES_MAX = 64
"""Primaryships on their way to where they are used, at once."""
PATROL_ITEMS_MAX = 1_024
"""Entries that one check compares at most; where more differ the next round goes on, and a loss is not the patrol's."""
BACKUPS_MOVED_PER_PAGE_MAX = 5
"""Backups that are moved to others for a fair share, in each of 20 pages a second: 100 whole sessions a second."""
SWEPT_IN_FLIGHT_MAX = 64
"""Sessions that sweeps have begun to promote, protect or hand over and not finished: the next ones wait. With twice as
many their copies stand in the way of each other's answers, and are sent again."""
SWEPT_PER_TURN_MAX = 16
"""Of those in one turn of the agent, 2 ms: so much longer a request takes for each of its turns meanwhile."""
ENTRUSTED_BYTES_MAX = 32 << 10
"""Of copies in one message: with its head it fits a direct path, and its receiver stands still for 2 ms at most."""
ENTRUSTED_HEAD_BYTES = 256
"""What a copy is taken for beside its values, and each attribute beside its value."""
LOCATE_HOPS_MAX = 4
"""Hints followed for one request before all members are asked."""
LOCATES_PER_SECOND_MAX = 200
"""Questions to all members per second and agent."""
UNKNOWN_REMEMBERED_MAX = 10_000
"""Keys remembered as unknown to all, so that a repeated foreign cookie costs no second question."""
UNKNOWN_REMEMBERED_MS = 5_000
"""How long such a negative answer is believed."""

# --- transport -------------------------------------------------------------------------------------------------------

LIVES_REMEMBERED_MAX = 4_096
"""Lives of members whose frames are known as seen, and towards which frames are numbered: 32 restarts of each of
``MEMBERS_MAX`` members within one life of an agent."""
REPLAY_WINDOW_FRAMES = 4_096
"""How far frames of one sender may overtake each other: at 5,000 frames a second a large one may be 800 ms late."""
BULK_FRAME_BYTES = 60_000
"""From here on a frame does not fit one 64 KiB batch of the network library, is cut up, and may have to wait for
the link between its parts: a thread waits, not the agent."""
BULK_QUEUE_BYTES_MAX = 32 << 20
"""Large frames that wait for that thread; further ones are lost like frames on the network, and asked for again."""
BULK_WAIT_MS_MAX = 500
"""What one large frame may wait for a busy link before it is dropped: 4 MiB at 100 Mbit/s take 340 ms."""
REFUSALS_REMEMBERED_MAX = 1_024
"""Strangers that are reported once each; further ones are only counted, so that a flood fills no memory and no log."""

# --- agent ---------------------------------------------------------------------------------------------------------

HELLO_BYTES_MAX = 1_024
"""Of a connection's first frame: whoever has not said who it is gets no more room."""
REQUESTS_IN_FLIGHT_BYTES_MAX = 256 << 20
"""Of all unanswered requests: their number alone would allow 16,384 whole sessions."""
SOCKET_UNREAD_BYTES_MAX = 64 << 20
"""Of frames that have begun to arrive, on all connections of an agent."""
SOCKET_UNSENT_BYTES_MAX = 32 << 20
"""Of answers that one connection does not read; then it ends."""
INBOX_FRAMES_MAX = 20_000
"""Frames from the network that wait for a turn of the agent; further ones are dropped, as on the network."""
INBOX_BYTES_MAX = 64 << 20
"""The same in bytes."""
LOG_LINES_PER_SECOND_MAX = 100
"""Further facts of that second are counted, not logged: a sweep may promote a hundred thousand sessions."""
UNPROTECTED_COUNTED_MAX = 512
"""Entries that name lost members which ``status`` looks into to count those without a living copy: 2 to 3 ms, for so
long requests wait each time that somebody asks."""
QUARANTINED_MAX = 64
"""Keys on which an agent of this member has died; more than a few are a fault of the program, not of entries."""
OWN_LIVES_MAX = 8
"""Earlier incarnations of a member whose unanswered commits its store may still hold."""
AGENT_NICE = 10
"""By so much an agent goes before the workers of its machine, where it may: leases are a quarter of a second."""
NAME_TAKEN_MS = 2_000
"""How long an unknown life under our own name must be seen before we refuse to start: longer than the network takes to
notice that a life which was killed a moment ago has ended."""
DRAIN_MS_MAX = 30_000
"""How long an agent that was asked to end hands over; then it goes, and its peers take over what is left."""
COMMAND_STOP_MS_MAX = 35_000
"""How long ``understudy run`` lets its command end by itself: gunicorn's own graceful limit is 30 s."""

# --- files -----------------------------------------------------------------------------------------------------------

LOG_BYTES_MAX = 10_000_000
"""One agent log file; two are kept."""
