# Shared by prepare and remove: a mesh over three availability zones on one machine. Each zone has an address, a nats-server (the three
# form a cluster), two storage nodes, a memds, a GAC instance, an archiver and a router; admins and scrubbers stand in the first zones. Where network namespaces can be made, each zone
# is one of its own, joined to the others by a bridge in a fourth, in which clients run. Otherwise all is on loopback.
# Sourced, never run. Owns names, addresses and ports; every path is below $state.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
port=${EVENKEEL_PORT:-8400}
# absolute, since processes are recognised by the path of their settings
state=$(realpath -m "${EVENKEEL_STATE_DIR:-$root/target/zones/$port}")
bin=$(realpath -m "${EVENKEEL_BIN_DIR:-${CARGO_TARGET_DIR:-$root/target}/release}")
nodes_a_zone=${EVENKEEL_NODES_A_ZONE:-2}
admins=${EVENKEEL_ADMINS:-2}
replace_after_ms=${EVENKEEL_REPLACE_AFTER_MS:-20000}
partitions=${EVENKEEL_PARTITIONS:-12}
zones=(1 2 3)

die() { echo "$(basename "$0"): $*" >&2; exit 1; }

# Names hold the port, so that several meshes of one machine stay apart.
namespace_of() { echo "ekp-$port-$1"; } # az1, az2, az3, hub

# Why zones can't be namespaces here; empty if they can.
no_namespaces() {
  local tool probe="ekp-$port-probe" said
  for tool in ip nft tc; do
    command -v "$tool" >/dev/null || { echo "$tool is missing (Debian: iproute2, nftables)"; return; }
  done
  [ "$(id -u)" = 0 ] || { echo "not root"; return; }
  said=$(ip netns add "$probe" 2>&1) || { echo "ip netns add: $said"; return; }
  said=$(ip netns exec "$probe" nft add table ip probe 2>&1) || echo "nft: $said"
  ip netns delete "$probe"
}

address_of() { # ZONE NUMBER
  if [ "$network" = namespaces ]; then echo "10.77.0.$1"; else echo "127.0.77.$1"; fi
}

# Pids of this mesh, by the namespaces they live in, or by the settings they run with.
mesh_pids() {
  local zone file pid
  for zone in az1 az2 az3 hub; do ip netns pids "$(namespace_of "$zone")" 2>/dev/null || true; done
  for file in "$state"/pids/*; do
    [ -f "$file" ] || continue
    pid=$(cat "$file")
    if [ -r "/proc/$pid/cmdline" ] && tr '\0' ' ' <"/proc/$pid/cmdline" | grep -qF -- "$state/settings/"; then echo "$pid"; fi
  done
}
