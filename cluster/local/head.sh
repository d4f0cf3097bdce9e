#!/usr/bin/env bash
# One machine: a Ray head that asks every client for the token; its dashboard on loopback alone.
# Further options go to `ray start`, such as --num-cpus=8 --block.
set -euo pipefail

export RAY_AUTH_MODE=token
token=${RAY_AUTH_TOKEN_PATH:-$HOME/.ray/auth_token}
if [[ -z ${RAY_AUTH_TOKEN:-} && ! -s $token ]]; then
    ray get-auth-token --generate >/dev/null # without one, `ray start` begins unguarded
fi
exec ray start --head --dashboard-host=127.0.0.1 --disable-usage-stats "$@"
