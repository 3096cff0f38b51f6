"""`kubectl tradsys`: what a venue is doing, and the orders that a release takes.

A kubectl plugin is a program named kubectl-tradsys on the PATH; it asks the cluster through kubectl, with the
rights of whoever calls. Orders are annotations with a nonce: the spec, which may belong to GitOps, is never
edited."""

from __future__ import annotations

import argparse
import json
import secrets
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

ORDERS = {
    "promote": "end baking, or let bake what its gate has refused",
    "abort": "take the candidate back; the stable revision serves",
    "retry": "try again what paused or failed",
}


class KubectlFailed(Exception):
    """What kubectl said."""


def main(argv: list[str] | None = None) -> int:
    chosen = _arguments(argv)
    try:
        match chosen.command:
            case "status":
                print(status(_venue(chosen), _gate_runs(chosen)))
            case "pin-check":
                venue = _venue(chosen)
                print(pin_check(venue))
                return 0 if pinned(venue) else 1
            case "report":
                print(report(_gate_runs(chosen)))
            case "pause":
                spec = json.dumps({"spec": {"paused": not chosen.off}})
                print(_kubectl(chosen, "patch", "venue", chosen.venue, "--type=merge", "-p", spec).strip())
            case verb:
                nonce = f"tradsys.dev/{verb}={secrets.token_hex(4)}"
                print(_kubectl(chosen, "annotate", "--overwrite", "venue", chosen.venue, nonce).strip())
    except KubectlFailed as failed:
        print(failed, file=sys.stderr)
        return 1
    return 0


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="kubectl tradsys", description="Venues: what they do, and releases."
    )
    parser.add_argument("-n", "--namespace", default="")
    parser.add_argument("--context", default="")
    parser.add_argument("--kubeconfig", default="")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("status", "phase, shards, conditions, the release under way"),
        ("pin-check", "each engine's CPUs; exit code 1 if one has none of its own"),
        ("report", "the evidence of the newest gate"),
        ("pause", "let the operator touch nothing (--off: let it work again)"),
        *ORDERS.items(),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("venue")
        if name == "pause":
            command.add_argument("--off", action="store_true")
    return parser.parse_args(argv)


def _kubectl(chosen: argparse.Namespace, *arguments: str) -> str:
    where = [
        f"--{key}={value}"
        for key in ("namespace", "context", "kubeconfig")
        if (value := getattr(chosen, key))
    ]
    try:
        ended = subprocess.run(["kubectl", *where, *arguments], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise KubectlFailed(f"kubectl: {error}") from error
    if ended.returncode:
        raise KubectlFailed(ended.stderr.strip())
    return ended.stdout


def _venue(chosen: argparse.Namespace) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(_kubectl(chosen, "get", "venue", chosen.venue, "-o", "json"))
    return found


def _gate_runs(chosen: argparse.Namespace) -> list[dict[str, Any]]:
    found = json.loads(
        _kubectl(chosen, "get", "gaterun", "-l", f"tradsys.dev/venue={chosen.venue}", "-o", "json")
    )
    return sorted(found["items"], key=lambda run: str(run["metadata"].get("creationTimestamp", "")))


def status(venue: dict[str, Any], runs: list[dict[str, Any]]) -> str:
    """A page about a venue."""
    said = venue.get("status", {})
    lines = [f"{venue['metadata']['name']}: {said.get('phase', 'not seen by an operator yet')}"]
    for title in ("stable", "candidate", "failed"):
        revision = said.get(title)
        if revision:
            lines.append(
                f"  {title:<10} {revision['revision']}  {revision['image']}  since {revision['since']}"
            )
    under_way = said.get("rollout")
    if under_way:
        until = f", until {under_way['deadline']}" if under_way.get("deadline") else ""
        reason = f" ({under_way['reason']})" if under_way.get("reason") else ""
        lines.append(f"  release    {said['phase']} since {under_way['phaseSince']}{until}{reason}")
    rows = [
        (
            each["name"],
            "ready" if each.get("ready") else "not ready",
            each.get("revision", ""),
            each.get("pod", ""),
            each.get("node", ""),
        )
        for each in said.get("shards", [])
    ]
    if rows:
        lines += ["", *table(("SHARD", "STATE", "REVISION", "POD", "NODE"), rows)]
    conditions = [
        (each["type"], each["status"], each["reason"], each.get("message", ""))
        for each in said.get("conditions", [])
    ]
    if conditions:
        lines += ["", *table(("CONDITION", "STATUS", "REASON", "MESSAGE"), conditions)]
    if runs:
        last = runs[-1]
        found = last.get("status", {})
        lines += ["", f"last gate  {last['metadata']['name']}: {_verdict(found)}"]
    return "\n".join(lines)


def _verdict(found: dict[str, Any]) -> str:
    if found.get("phase") != "Complete":
        return f"{found.get('phase', 'Pending')}, {len(found.get('rounds', []))} rounds"
    return f"{found['verdict']} ({found['reason']}): {found.get('message', '')}"


def pinned(venue: dict[str, Any]) -> bool:
    found = venue.get("status", {}).get("pinning", {})
    return bool(found.get("podsTotal")) and found.get("podsPinned") == found.get("podsTotal")


def pin_check(venue: dict[str, Any]) -> str:
    """Each engine's CPUs, as it read them itself."""
    pods = venue.get("status", {}).get("pinning", {}).get("pods", [])
    rows = [
        (
            each["pod"],
            each["verdict"],
            each.get("cpus", ""),
            str(each.get("requested", "")),
            each.get("node", ""),
            each.get("reason", ""),
        )
        for each in pods
    ]
    return "\n".join(table(("POD", "VERDICT", "CPUS", "ASKED", "NODE", "WHY"), rows))


def report(runs: list[dict[str, Any]]) -> str:
    """The newest gate, round by round."""
    if not runs:
        return "no release has been compared yet"
    run = runs[-1]
    spec, found = run["spec"], run.get("status", {})
    rows = [
        (
            str(each["index"]),
            each["side"],
            str(each.get("exitCode", "")),
            str(each.get("samples", "")),
            f"{each.get('latencyMicroseconds', 0)} µs",
            f"{each.get('throughputPerSecond', 0)}/s",
            each.get("pinning", ""),
            each.get("cpus", ""),
        )
        for each in found.get("rounds", [])
    ]
    return "\n".join(
        [
            f"{run['metadata']['name']}: {_verdict(found)}",
            f"  stable     {spec['stable']}  {spec['stableImage']}",
            f"  candidate  {spec['candidate']}  {spec['candidateImage']}",
            "",
            *table(("ROUND", "SIDE", "EXIT", "SAMPLES", "LATENCY", "RATE", "PINNING", "CPUS"), rows),
        ]
    )


def table(heading: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in (heading, *rows)) for column in range(len(heading))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (heading, *rows)
    ]


if __name__ == "__main__":
    sys.exit(main())
