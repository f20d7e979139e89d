#!/usr/bin/env bash
# Real PgBouncer (Debian) in transaction mode in front of a PostgreSQL on loopback. As root it runs as user nobody.
#   BACKEND   port of the PostgreSQL (required)
#   PGPASSWORD  of its user postgres (default postgres); clients need none
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
locked pgbouncer deb_unpack pgbouncer pgbouncer libevent-2.1-7 libc-ares2
ROOT="$TOOLS_DIR/deb-pgbouncer/root"
[ "${1:-start}" = install ] && { echo "$ROOT/usr/sbin/pgbouncer"; exit 0; }
[ -n "${BACKEND:-}" ] || die "BACKEND is the port of the PostgreSQL"
run_dir pgbouncer; on_exit
PORT=${PORT:-$(free_ports 1)}
cat >"$RUN_DIR/pgbouncer.ini" <<INI
[databases]
* = host=127.0.0.1 port=$BACKEND user=postgres password=${PGPASSWORD:-postgres}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = $PORT
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 4
INI
AS=()
if [ "$(id -u)" = 0 ]; then
  chown nobody "$RUN_DIR" "$RUN_DIR/pgbouncer.ini"
  AS=(setpriv --reuid nobody --regid "$(id -g nobody)" --clear-groups --)
fi
LIBS=$(find "$ROOT" -name 'libevent-2.1.so.7*' -printf '%h' -quit)
bg pgbouncer "${AS[@]}" env LD_LIBRARY_PATH="$LIBS" "$ROOT/usr/sbin/pgbouncer" "$RUN_DIR/pgbouncer.ini"
wait_for 20 "$CHILD" pgbouncer tcp_open "$PORT"
ready "{\"name\":\"pgbouncer\",\"pid\":$CHILD,\"port\":$PORT}"
stay
