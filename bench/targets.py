"""Names what we set out to reach, so that the page can put beside each of it what was measured, reached or not.

A benchmark's claim says with ``target`` to which of these it belongs; the limits themselves are the claims'.
"""

from __future__ import annotations

TARGETS = {
    "clean-read": "a clean read in the worker, all of our code from the cookie to the first attribute: at most 15 µs,"
    " 0 packets, 0 wake-ups; redis-py's `GET` takes at least 8 times as long",
    "write": 'a write with `acknowledge = "none"`: at most 40 µs; with `"local"`: at most 0.6 × redis-py\'s `SET`',
    "protected-loopback": "a protected write (on two machines before the answer), on loopback: at most 0.9 × redis-py's"
    " `SET` and then `WAIT 1`, at most 1.3 × the two in one pipeline",
    "protected-apart": "the same with 1 ms each way between machines: at most 0.5 × and 0.7 ×",
    "protected-tomcat": "a protected write: at most what Tomcat's replication adds to a request",
    "proxy-read": "a remote read on a proxy: at most 2 × redis-py's `GET`",
    "page": 'a Flask page with a session, half reads and half writes, under gunicorn (`"local"`): at least 90 % of the'
    " page without a session, at least Flask's own signed cookie, at least 1.3 × Flask-Session on Redis",
    "bytes": "one small attribute changed in a 10 kB session: at most 200 bytes of payload between members, 1 message"
    " and its acknowledgement",
    "read-only": "a read-only request: 0 messages",
    "memory": "memory: a 1 kB session at most 2.2 kB a copy, all told, our own fields at most 300 bytes of it; a proxy"
    " entry at most 130 bytes, 0 under rendezvous",
    "memory-tomcat": "memory: less than Tomcat's in every role",
    "hop": "a hop to another member: at most 1 ms added, flat from 3 to 9 members",
    "killed": "kill -9 to the first answer elsewhere, 30 kills: median at most 300 ms, longest at most 600 ms",
    "silent": "a silent or cut-off member: median at most 1 s, longest at most 1.5 s",
    "again": "100,000 sessions of 1 kB protected again: at most 10 s, while requests' p99 stays under 3 × normal",
    "agent": "an agent: at least 10,000 protected commits a second on one core, batched; at most 60 MB of its own"
    " memory when idle",
    "import": "`import understudy.flask`: at most 60 ms above Flask's own",
}
