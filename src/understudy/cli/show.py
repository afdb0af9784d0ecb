"""Turns what the agent tells into lines for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from understudy.config.parse import format_size


def status_lines(document: Mapping[str, Any]) -> list[str]:
    """Gives the lines of ``understudy status``."""
    if "error" in document:
        return [f"the agent could not tell: {document['error']}"]
    lines = [f"member {document['member']} of cluster {document['cluster']}: {_state(document)}"]
    if "pid" in document:
        lines.append(
            f"agent: pid {document['pid']}, version {document['version']}, up {_duration(document['uptime_s'])},"
            f" incarnation {document['incarnation']}"
        )
        lines.append(_attached(document))
    if document.get("note"):
        lines.append(str(document["note"]))
    if members := document.get("members"):
        lines += ["", *table(("member", "standing", "lease", ""), [_member_row(member) for member in members])]
        lines += [different(member) for member in members if member.get("differs")]
    elif "pid" in document:
        lines += ["", "no other member is in sight: new sessions have no second copy"]
    if document.get("sessions") is not None:
        lines += ["", *counts_lines(document["sessions"])]
    sweeping = document.get("sweeping") or {}
    if any(sweeping.values()):
        lines.append(
            f"under way: {sweeping['sessions_in_flight']} sessions on their way to a new primary or backup,"
            f" {sweeping['lists']} lists not read to their end"
        )
    return lines


def different(member: Mapping[str, Any]) -> str:
    """Gives what is configured otherwise at a member than here, and what to do."""
    what = f"member {member['name']} is configured otherwise: {'; '.join(member['differs'])}"
    if member.get("unfit"):
        return f"{what}; no session is shared with it: stop all members, give them the same values, and start again"
    return f"{what}; give all members the same values"


def counts_lines(counts: Mapping[str, Any]) -> list[str]:
    """Gives how many sessions a member holds, by role."""
    used, size = counts["bytes_used"], counts["bytes_max"]
    return [
        *table(
            ("sessions", "here"),
            [
                ("primary", str(counts["primary"])),
                ("backup", str(counts["backup"])),
                ("proxy", str(counts["proxy"])),
                ("ended", str(counts["ended"])),
                ("unprotected", f"{counts['unprotected']}{' or more' if counts.get('unprotected_more') else ''}"),
                ("in the outbox", str(counts["outbox"])),
            ],
        ),
        *_quarantined(counts["quarantined"]),
        f"store: {used / 2**20:.1f} MiB of {format_size(size)} ({100 * used / size:.1f} %)",
    ]


def _quarantined(count: int) -> list[str]:
    if not count:
        return []
    return [f"quarantined: {count}, set aside because agents died of them twice; `understudy check` names them"]


def entry_lines(document: Mapping[str, Any]) -> list[str]:
    """Gives the lines of ``understudy locate``."""
    lines = [f"key       {document['key']}"]
    if not document.get("known"):
        lines.append(
            f"{document.get('error') or 'unknown'} on {document['member']}" if "member" in document else "unknown"
        )
        return lines
    reign, _, list_number = document["epoch"]
    return [
        *lines,
        f"here      {document['role']} (on {document['member']})",
        f"primary   {document['primary']}",
        f"backups   {', '.join(document['backups']) or 'none'}",
        f"epoch     reign {reign}, list {list_number}",
        *([] if document.get("settled", True) else ["change    not yet acknowledged by its backups"]),
        *([f"members   {_standing(document['members'])}"] if document.get("members") else []),
    ]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Gives aligned columns."""
    cells = [tuple(head), *(tuple(row) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    return ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in cells]


def _state(document: Mapping[str, Any]) -> str:
    if document.get("draining") or document.get("leaving"):
        return "leaving"
    if document.get("agent") is False and not document.get("ready"):
        return "no agent is running"
    return "ready" if document.get("ready") else "not ready"


def _attached(document: Mapping[str, Any]) -> str:
    workers = [c for c in document.get("connections", ()) if c["kind"] == "worker"]
    pids = sorted({c["pid"] for c in workers})
    who = f" (pid {', '.join(map(str, pids))})" if pids else ""
    return f"workers: {len(pids)} attached{who}, {document.get('requests', 0)} requests in flight"


def _member_row(member: Mapping[str, Any]) -> tuple[str, str, str, str]:
    remarks = [
        text
        for text, applies in (("leaving", member.get("leaving")), ("not ready", not member.get("ready")))
        if applies
    ]
    lease_ms = member.get("lease_ms", 0)
    return member["name"], member["standing"], f"{lease_ms} ms" if lease_ms else "none", ", ".join(remarks)


def _standing(members: Iterable[Mapping[str, Any]]) -> str:
    return ", ".join(f"{member['name']} {member['standing']}" for member in members)


def _duration(seconds: float) -> str:
    whole = int(seconds)
    parts = [(whole // 86400, "d"), (whole // 3600 % 24, "h"), (whole // 60 % 60, "m"), (whole % 60, "s")]
    shown = [f"{number}{unit}" for number, unit in parts if number]
    return " ".join(shown[:2]) or "0s"
