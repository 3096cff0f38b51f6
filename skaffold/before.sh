#!/usr/bin/env bash
# Before a deployment: the key that the venue's tokens are signed with, made once.
set -euo pipefail
kubectl get namespace tradsys >/dev/null 2>&1 || kubectl create namespace tradsys
kubectl -n tradsys get secret tradsys-keys >/dev/null 2>&1 ||
    kubectl -n tradsys create secret generic tradsys-keys --from-literal=hs256.key="$(openssl rand -hex 48)"
