#!/usr/bin/env bash
# Starts a Ray head on one machine, with a token for every client and the dashboard on loopback only.
# Further options are passed to `ray start`, such as --num-cpus=8 --block.
set -euo pipefail

export RAY_AUTH_MODE=token
token=${RAY_AUTH_TOKEN_PATH:-$HOME/.ray/auth_token}
if [[ -z ${RAY_AUTH_TOKEN:-} && ! -s $token ]]; then
    ray get-auth-token --generate >/dev/null # without one, `ray start` needs no token from clients
fi
exec ray start --head --dashboard-host=127.0.0.1 --disable-usage-stats "$@"
