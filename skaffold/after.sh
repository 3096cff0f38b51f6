#!/usr/bin/env bash
# After a deployment: wait for the venue, and give the gate an account and a token of a week.
set -euo pipefail
engine=(kubectl -n tradsys exec tradsys-a-0 -c engine -- tradsys)
kubectl -n tradsys wait venue/tradsys --for=condition=Ready --timeout=5m
"${engine[@]}" admin account create gate
token=$("${engine[@]}" token --account gate --ttl 7d)
kubectl -n tradsys create secret generic tradsys-gate --from-literal=token="$token" --dry-run=client -o yaml |
    kubectl apply -f -
