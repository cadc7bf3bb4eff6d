#!/usr/bin/env bash
# Ray Serve checks an application builder's arguments only where annotations aren't postponed.
#
# Version: ray 2.60.0 (with its extra serve), pydantic 2.14.4.
# Guess before the run: a builder typed with a pydantic model gets that model, checked, from
#   `serve run module:builder name=value`, as the documentation has it; a line
#   `from __future__ import annotations` above it changes nothing.
# Seen: with that line the annotation is a text, which is not looked up: the builder gets a plain
#   dict of strings, and what the model would refuse or convert goes through:
#     as written: Settings(replicas=2)
#     postponed: {'replicas': '2'}
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q 'ray[serve]==2.60.0' pydantic==2.14.4
cat >"$dir/written.py" <<'PY'
from pydantic import BaseModel
from ray import serve

class Settings(BaseModel):
    replicas: int

@serve.deployment
class Replica:
    pass

def build(settings: Settings):
    print(f"seen: {settings!r}", flush=True)
    return Replica.bind()
PY
{ echo 'from __future__ import annotations'; cat "$dir/written.py"; } >"$dir/postponed.py"
cd "$dir"
export RAY_USAGE_STATS_ENABLED=0
seen() { "$dir/venv/bin/serve" run --non-blocking "$1:build" replicas=2 2>/dev/null | sed -n 's/^seen: //p'; }
written=$(seen written)
postponed=$(seen postponed)
printf 'as written: %s\npostponed: %s\n' "$written" "$postponed"
[[ $written == "Settings(replicas=2)" && $postponed == "{'replicas': '2'}" ]]
