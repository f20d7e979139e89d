#!/usr/bin/env bash
# systemd's own judge of units; needs no running systemd. Arguments are handed through; `install` only fetches it.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
install() { command -v systemd-analyze >/dev/null || deb_unpack systemd-analyze systemd libsystemd-shared; }
locked systemd-analyze install
[ "${1:-}" = install ] && exit 0
command -v systemd-analyze >/dev/null && exec systemd-analyze "$@"
ROOT="$TOOLS_DIR/deb-systemd-analyze/root"
export LD_LIBRARY_PATH="$ROOT/usr/lib/$(uname -m)-linux-gnu/systemd:$ROOT/lib/$(uname -m)-linux-gnu/systemd"
for program in "$ROOT/usr/bin/systemd-analyze" "$ROOT/bin/systemd-analyze"; do
  [ -x "$program" ] && exec "$program" "$@"
done
die "systemd-analyze was not in its package"
