# Shared by up, down, status, kill and start: the processes of the local mesh, their ports, folders and pid files.
# Sourced, never run. Owns nothing but names; every path is below EVENKEEL_STATE_DIR.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# absolute, since processes are recognised by the path of their settings
state=$(realpath -m "${EVENKEEL_STATE_DIR:-$root/infra/local/state}")
# `up` notes the port, so that the other commands need not be told again
port=${EVENKEEL_PORT:-$(cat "$state/port" 2>/dev/null || echo 8000)}
bin=${EVENKEEL_BIN_DIR:-${CARGO_TARGET_DIR:-$root/target}/release}

# 1 to 4, noted by `up` as well
routers=${EVENKEEL_ROUTERS:-$(cat "$state/routers" 2>/dev/null || echo 2)}

# 0 to 3: one a zone
canaries=${EVENKEEL_CANARIES:-$(cat "$state/canaries" 2>/dev/null || echo 3)}

# 1: every process traces, to pages (Jaeger's) of the mesh's own
traces=${EVENKEEL_TRACES:-$(cat "$state/traces" 2>/dev/null || echo 0)}

# In the order in which they start; stopped in reverse.
processes=(nats)
[ "$traces" = 0 ] || processes+=(traces)
processes+=(storage-1 storage-2 storage-3 memds-1 memds-2 gac-1 gac-2 archiver-1 archiver-2 admin admin-2 scrubber-1)
for ((number = 1; number <= routers; number++)); do processes+=("router-$number"); done
for ((number = 1; number <= canaries; number++)); do processes+=("canary-$number"); done

die() { echo "$(basename "$0"): $*" >&2; exit 1; }

known() { # NAME
  local name
  for name in "${processes[@]}"; do [ "$name" = "$1" ] && return 0; done
  die "no process '$1'; there are: ${processes[*]}"
}

zone_of() { # NAME
  case $1 in
    nats | traces) echo - ;;
    *-2) echo az2 ;;
    *-3) echo az3 ;;
    *) echo az1 ;;
  esac
}

# Port of the service itself (routers, NATS, the receiver of traces) and of its health endpoints (of traces: its pages).
service_port() { case $1 in router-1) echo "$port" ;; router-2) echo $((port + 1)) ;; router-*) echo $((port + ${1##*-})) ;; nats) echo $((port + 2)) ;; traces) echo $((port + 36)) ;; *) echo - ;; esac; }
health_port() {
  case $1 in
    nats) echo $((port + 5)) ;;
    traces) echo $((port + 35)) ;;
    router-*) echo $((port + 5 + ${1##*-})) ;;
    storage-*) echo $((port + 10 + ${1##*-})) ;;
    memds-*) echo $((port + 20 + ${1##*-})) ;;
    gac-*) echo $((port + 24 + ${1##*-})) ;;
    archiver-*) echo $((port + 32 + ${1##*-})) ;;
    scrubber-*) echo $((port + 27 + ${1##*-})) ;;
    canary-*) echo $((port + 36 + ${1##*-})) ;;
    admin) echo $((port + 30)) ;;
    admin-2) echo $((port + 31)) ;;
  esac
}

pid_of() { cat "$state/$1.pid" 2>/dev/null || true; }

# What the command line of a process has that no other one's has.
mark() { # NAME
  case $1 in
    traces) echo "evenkeel traces --pages 127.0.0.1:$(health_port traces) " ;;
    *) echo "$state/$1.conf" ;;
  esac
}

# The pid file's process lives and is still ours (a pid can be reused by a stranger).
alive() { # NAME
  local pid
  pid=$(pid_of "$1")
  [ -n "$pid" ] && [ -d "/proc/$pid" ] && tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -qF -- "$(mark "$1")"
}

# Its health endpoint answers 200. Plain bash: a fresh machine has no curl.
ready() { # NAME
  local path=/readyz line
  case $1 in nats) path=/healthz ;; traces) path=/api/services ;; esac
  line=$(timeout 2 bash -c 'exec 3<>"/dev/tcp/127.0.0.1/$0" && printf "GET $1 HTTP/1.0\r\nHost: localhost\r\n\r\n" >&3 && head -n 1 <&3' \
    "$(health_port "$1")" "$path" 2>/dev/null) || return 1
  [[ $line == *" 200 "* ]]
}

write_settings() { # NAME
  local name=$1 number=${1##*-} file="$state/$1.conf"
  {
    case $name in
      nats)
        printf 'listen: "127.0.0.1:%s"\nhttp: "127.0.0.1:%s"\nmax_payload: 1MB\n' "$(service_port nats)" "$(health_port nats)"
        ;;
      *)
        printf '[bus]\nurls = ["nats://127.0.0.1:%s"]\n\n' "$(service_port nats)"
        # As `evenkeel dev --traces` does: every request, as long as there are few, and soon.
        [ "$traces" = 0 ] || printf '[telemetry.traces]\nendpoint = "http://127.0.0.1:%s"\nsample_ratio = 1.0\nsampled_per_second_max = 20\nbatch_ms = 100\n\n' \
          "$(service_port traces)"
        case $name in
          storage-*)
            printf '[storage]\nnode_id = %s\nzone = "%s"\ndata_dir = "%s"\nhttp = "127.0.0.1:%s"\n' \
              "$number" "$(zone_of "$name")" "$state/data/$name" "$(health_port "$name")"
            ;;
          memds-*)
            printf '[memds]\ninstance = %s\nzone = "%s"\nhttp = "127.0.0.1:%s"\n' "$number" "$(zone_of "$name")" "$(health_port "$name")"
            ;;
          gac-*)
            printf '[gac]\ninstance = %s\nzone = "%s"\nhttp = "127.0.0.1:%s"\n' "$number" "$(zone_of "$name")" "$(health_port "$name")"
            ;;
          archiver-*)
            printf '[archiver]\ninstance = %s\nzone = "%s"\nhttp = "127.0.0.1:%s"\n\n[archiver.jobs]\nrebuild_folder = "%s"\n\n[archive]\nurl = "file://%s"\n' \
              "$number" "$(zone_of "$name")" "$(health_port "$name")" "$state/data/rebuilds" "$state/data/archive"
            ;;
          scrubber-*)
            printf '[scrubber]\ninstance = %s\nzone = "%s"\ndata_dir = "%s"\nhttp = "127.0.0.1:%s"\n\n[archive]\nurl = "file://%s"\n' \
              "$number" "$(zone_of "$name")" "$state/data/$name" "$(health_port "$name")" "$state/data/archive"
            ;;
          canary-*)
            printf '[canary]\ninstance = %s\nzone = "%s"\nhttp = "127.0.0.1:%s"\naccess_key = "evenkeel"\nsecret = "evenkeel"\n' \
              "$number" "$(zone_of "$name")" "$(health_port "$name")"
            local router
            for ((router = 1; router <= routers; router++)); do
              printf '\n[[canary.endpoints]]\nzone = "%s"\nurl = "http://127.0.0.1:%s"\n' "$(zone_of "router-$router")" "$(service_port "router-$router")"
            done
            ;;
          admin | admin-*)
            [ "$number" = admin ] && number=1
            printf '[admin]\ninstance = %s\nzone = "%s"\nhttp = "127.0.0.1:%s"\n\n[admin.console]\noperator_token = "evenkeel"\n' \
              "$number" "$(zone_of "$name")" "$(health_port "$name")"
            [ "$traces" = 0 ] || printf 'trace_url = "http://127.0.0.1:%s/trace/{trace_id}"\n' "$(health_port traces)"
            ;;
          router-*)
            printf '[router]\ninstance = %s\nzone = "%s"\nlisten = "127.0.0.1:%s"\nhttp = "127.0.0.1:%s"\n\n' \
              "$number" "$(zone_of "$name")" "$(service_port "$name")" "$(health_port "$name")"
            printf '[[router.access_keys]]\nid = "evenkeel"\nsecret = "evenkeel"\n'
            ;;
        esac
        ;;
    esac
  } >"$file"
}

start() { # NAME
  local name=$1 service=${1%-[0-9]} command
  alive "$name" && return 0
  mkdir -p "$state/data" "$state/logs"
  [ "$service" = traces ] || write_settings "$name"
  if [ "$service" = traces ]; then
    [ -x "$bin/evenkeel" ] || die "$bin/evenkeel is missing: build it (infra/local/up does) or set EVENKEEL_BIN_DIR"
    command=("$bin/evenkeel" traces --pages "127.0.0.1:$(health_port traces)" --otlp "127.0.0.1:$(service_port traces)")
  elif [ "$service" = nats ]; then
    # Ten processes share the machine, and Go's scheduler looks for work on every core that it may use.
    command=(env "GOMAXPROCS=${GOMAXPROCS:-$((($(nproc) + 1) / 2))}" "$("$root/infra/local/install-nats")" --config "$state/nats.conf")
  else
    [ -x "$bin/evenkeel-$service" ] || die "$bin/evenkeel-$service is missing: build it (infra/local/up does) or set EVENKEEL_BIN_DIR"
    # The allocator keeps what was freed for longer than a flush cycle, instead of giving it back and faulting it in again.
    command=(env "MIMALLOC_PURGE_DELAY=${MIMALLOC_PURGE_DELAY:-10000}" "$bin/evenkeel-$service" --config "$state/$name.conf")
  fi
  # Requests go through chains of threads: a woken thread that waits for its turn finds more to do at once than one that pushes others aside.
  if [ "$service" != traces ] && [ "${EVENKEEL_SCHEDULING:-batch}" = batch ] && chrt --batch 0 true 2>/dev/null; then
    command=(chrt --batch 0 "${command[@]}")
  fi
  setsid nohup "${command[@]}" >>"$state/logs/$name.log" 2>&1 </dev/null &
  echo $! >"$state/$name.pid"
  # until it is recognisable (it is this script for a moment), or has ended already
  local step
  for ((step = 0; step < 1500; step++)); do
    if alive "$name" || ! [ -d "/proc/$!" ]; then break; fi
    sleep 0.02
  done
}

# Waits until NAME is gone; SIGKILL after SECONDS.
stop() { # NAME SIGNAL SECONDS
  local name=$1 pid step
  alive "$name" || { rm -f "$state/$name.pid"; return 0; }
  pid=$(pid_of "$name")
  kill "-$2" "$pid" 2>/dev/null || true
  for ((step = 0; step < $3 * 20; step++)); do
    alive "$name" || break
    sleep 0.05
  done
  if alive "$name"; then
    echo "$name did not stop within $3 s: killed" >&2
    kill -KILL "$pid" 2>/dev/null || true
  fi
  rm -f "$state/$name.pid"
}
