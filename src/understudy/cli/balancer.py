"""Gives a load balancer's configuration: each request goes to the member that its cookie names, or to another.

The cookie is ``<id>.<route>``, and the route is the name of the session's primary. A balancer that follows it spares
members the asking; one that does not loses nothing, for any member serves any session. So in each of these texts a
member that does not answer is passed over; a request whose connection could not be made goes to another member, and
so does one that was cut off, where the balancer can and if the method may be repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from understudy.config import Address

CONNECT_S = 1
"""A machine that has died refuses nothing: it does not answer. On a local network one second is long."""
AGAIN_S = 2
"""After so long a member that did not answer is tried again, where nothing else asks after it."""
COOKIE_NAME = r"[A-Za-z0-9_.-]+"
"""What all four write without quoting; a cookie's name may hold more."""


class Upstream(NamedTuple):
    """One member, and where its web server is reached."""

    name: str
    address: Address


class Plan(NamedTuple):
    """What the balancer is to do. ``check``: a path that answers 2xx while the member is ready; "": a connection."""

    members: Sequence[Upstream]
    cookie: str
    bind: Address
    check: str = ""


def haproxy(plan: Plan) -> str:
    """A whole haproxy.cfg."""
    cookie = f"req.cook({plan.cookie})"
    return _text(
        "# haproxy.cfg, for HAProxy 2.4 or newer",
        "defaults",
        "    mode http",
        f"    timeout connect {CONNECT_S}s",
        "    timeout http-request 10s",
        "    timeout client 60s",
        "    timeout server 60s",
        "    timeout tunnel 1h  # websockets",
        "",
        "frontend web",
        f"    bind {plan.bind}",
        "    option forwardfor",
        "    http-request set-header X-Forwarded-Proto %[ssl_fc,iif(https,http)]",
        "    default_backend members",
        "",
        "backend members",
        "    balance roundrobin",
        "    # a connection for each request: one that fails has cost nothing, and the request goes to another member",
        "    option http-server-close",
        "    option redispatch 1",
        "    retries 3",
        "    # cut off before the answer began: repeated elsewhere only where repeating does no harm",
        "    retry-on conn-failure empty-response",
        "    http-request disable-l7-retry unless { method GET HEAD OPTIONS }",
        "    # the route is the part after the cookie's dot; one that names no living member is passed over",
        f"    use-server %[{cookie},field(-1,.)] if {{ {cookie} -m found }}",
        *([f"    option httpchk GET {plan.check}"] if plan.check else []),
        "    default-server check inter 1s fall 2 rise 1",
        *(f"    server {name} {address}" for name, address in plan.members),
    )


def nginx(plan: Plan) -> str:
    """A file for nginx's ``conf.d``: what stands inside ``http { }``."""
    return _text(
        "# for nginx's http { }: /etc/nginx/conf.d/understudy.conf",
        *(["# nginx has no checks of its own: a member that does not answer is passed over"] if plan.check else []),
        "map $http_cookie $understudy_members {",
        "    default understudy_any;",
        *(f'    "~{_pattern(plan, name)}" understudy_{name};' for name, _ in plan.members),
        "}",
        "map $http_upgrade $understudy_connection {",
        "    default upgrade;  # websockets",
        '    "" close;',
        "}",
        "upstream understudy_any {",
        f"    zone understudy {256 + len(plan.members) ** 2}k;  # all its workers know of a dead member",
        *(f"    {_nginx_server(address)};" for _, address in plan.members),
        "}",
        *(line for name, _ in plan.members for line in _nginx_upstream(plan, name)),
        "server {",
        f"    listen {plan.bind};",
        "    location / {",
        "        proxy_pass http://$understudy_members;",
        f"        proxy_connect_timeout {CONNECT_S}s;",
        "        # a request that was sent already is repeated only where repeating does no harm (no non_idempotent)",
        "        proxy_next_upstream error timeout;",
        "        proxy_http_version 1.1;",
        "        proxy_set_header Upgrade $http_upgrade;",
        "        proxy_set_header Connection $understudy_connection;",
        "        proxy_set_header Host $http_host;",
        "        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;",
        "        proxy_set_header X-Forwarded-Proto $scheme;",
        "    }",
        "}",
    )


def apache(plan: Plan) -> str:
    """A file for Apache's ``sites-available``."""
    modules = "headers lbmethod_byrequests proxy proxy_balancer proxy_hcheck proxy_http slotmem_shm"
    check = f"hcmethod=GET hcuri={plan.check}" if plan.check else "hcmethod=TCP"
    bind = f"*:{plan.bind.port}" if plan.bind.wildcard else str(plan.bind)
    return _text(
        f"# for Apache 2.4.47 or newer, with: a2enmod {modules}",
        # The configurations that distributions deliver listen on these two, and twice is an error.
        *([f"Listen {bind}"] if plan.bind.port not in (80, 443) else []),
        f"<VirtualHost {bind}>",
        '    <Proxy "balancer://understudy">',
        *(
            f'        BalancerMember "http://{address}" route={name} connectiontimeout={CONNECT_S} retry={AGAIN_S}'
            f" disablereuse=On upgrade=websocket {check} hcinterval=1 hcpasses=1 hcfails=2"
            for name, address in plan.members
        ),
        "        # the route is what follows the first dot of the cookie; without one the members are taken in turn",
        f"        ProxySet stickysession={plan.cookie}",
        "    </Proxy>",
        "    ProxyPreserveHost On",
        '    RequestHeader set X-Forwarded-Proto "expr=%{REQUEST_SCHEME}"',
        '    ProxyPass "/" "balancer://understudy/"',
        "</VirtualHost>",
    )


def caddy(plan: Plan) -> str:
    """A whole Caddyfile."""
    text = _text(
        "# Caddyfile, for Caddy 2.6 or newer; before 2.11.3 it answers 502 to a POST whose member has just died",
        "(members) {",
        "    # a request that was sent already is sent again only if it is a GET",
        f"    lb_try_duration {CONNECT_S + AGAIN_S}s",
        f"    fail_duration {AGAIN_S}s",
        *([f"    health_uri {plan.check}", "    health_interval 1s"] if plan.check else []),
        "    transport http {",
        f"        dial_timeout {CONNECT_S}s",
        "        # a connection for each request: one that fails has cost nothing",
        "        keepalive off",
        "    }",
        "}",
        f"http://:{plan.bind.port} {{",
        f"    bind {plan.bind.host}",
        *(line for name, _ in plan.members for line in _caddy_route(plan, name)),
        "    handle {",
        f"        reverse_proxy {_addresses(plan.members)} {{",
        "            lb_policy round_robin",
        "            import members",
        "        }",
        "    }",
        "}",
    )
    return text.replace("    ", "\t")  # as `caddy fmt` wants it


KINDS: dict[str, Callable[[Plan], str]] = {"haproxy": haproxy, "nginx": nginx, "apache": apache, "caddy": caddy}


def _nginx_upstream(plan: Plan, name: str) -> list[str]:
    first, *others = _beginning_with(plan.members, name)
    return [
        f"upstream understudy_{name} {{",
        "    zone understudy;",
        f"    {_nginx_server(first.address)};",
        *(f"    {_nginx_server(other.address)} backup;" for other in others),
        "}",
    ]


def _nginx_server(address: Address) -> str:
    return f"server {address} max_fails=1 fail_timeout={AGAIN_S}s"


def _caddy_route(plan: Plan, name: str) -> list[str]:
    return [
        f'    @{name} header_regexp Cookie "{_pattern(plan, name)}"',
        f"    handle @{name} {{",
        f"        reverse_proxy {_addresses(_beginning_with(plan.members, name))} {{",
        "            lb_policy first",
        "            import members",
        "        }",
        "    }",
    ]


def _beginning_with(members: Sequence[Upstream], name: str) -> list[Upstream]:
    """That member, then those after it in the circle: each one's successor is another."""
    at = next(at for at, member in enumerate(members) if member.name == name)
    return [*members[at:], *members[:at]]


def _addresses(members: Iterable[Upstream]) -> str:
    return " ".join(str(member.address) for member in members)


def _pattern(plan: Plan, name: str) -> str:
    """Finds the cookie with this route among the others of its header."""
    cookie = plan.cookie.replace(".", r"\.")
    return rf"(^|; ?){cookie}=[^;.]*\.{name}(;|$)"


def _text(*lines: str) -> str:
    return "\n".join(lines) + "\n"
