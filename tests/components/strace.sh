#!/usr/bin/env bash
# strace.sh install: print the path of strace (Debian's, unpacked); it injects errors into system calls (-e inject=...).
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
S=$(command -v strace || true)
[ -n "$S" ] || { locked strace deb_unpack strace strace libunwind8; S="$TOOLS_DIR/deb-strace/root/usr/bin/strace"; }
[ "${1:-}" = install ] && { echo "$S"; exit 0; }
LIBS=$(find "$TOOLS_DIR/deb-strace/root" -name 'libunwind.so.8*' -printf '%h' -quit 2>/dev/null || true)
# The library path is strace's alone; the traced program keeps ours.
exec env ${LIBS:+LD_LIBRARY_PATH="$LIBS"} "$S" "$@"
