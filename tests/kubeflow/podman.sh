#!/bin/bash
# Sees to containers where there is neither an engine nor an image registry.
#
#   eval "$(tests/kubeflow/podman.sh STATE_DIR)"
#   eval "$(tests/kubeflow/podman.sh STATE_DIR socket)"
#
# Where docker works, or podman with debian:trixie-slim, it does nothing. Else, as root, it
# installs podman and makes the image from Debian's own packages. `socket` also offers
# podman's Docker-compatible API, for kfp.local; its process id is in STATE_DIR/service.pid.
#
# What it prints are the variables that later calls of podman and docker clients need; what
# it says goes to stderr. Images, containers and configuration are all under STATE_DIR: the
# host's own podman is not touched. Calling it again costs nothing.
set -euo pipefail

readonly SUITE=trixie
readonly IMAGE=docker.io/library/debian:$SUITE-slim
readonly PACKAGES=(podman runc iptables debootstrap debian-archive-keyring)
readonly CA_DIR=/usr/local/share/ca-certificates # where Debian keeps a host's own CAs
readonly SECONDS_TO_PULL=120                     # no registry: podman retries for long
readonly SOCKET_PATH_LIMIT=107                   # bytes, the kernel's

say() { echo "podman.sh: $*" >&2; }

fail() {
  say "$@"
  exit 1
}

# Runs a command quietly; its output is shown only when it fails.
quietly() {
  "$@" >"$STATE/last.log" 2>&1 || {
    tail -n 30 "$STATE/last.log" >&2
    fail "failed: $*"
  }
}

docker_works() { command -v docker && timeout 20 docker info; } &>/dev/null

podman_works() {
  command -v podman && timeout "$SECONDS_TO_PULL" podman run --rm "$IMAGE" true
} &>/dev/null

install_packages() {
  local package missing=()
  for package in "${PACKAGES[@]}"; do
    [[ $(dpkg-query -Wf '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] ||
      missing+=("$package")
  done
  [[ ${#missing[@]} -gt 0 ]] || return 0
  say "installing ${missing[*]}"
  quietly apt-get update
  quietly env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y --no-install-recommends "${missing[@]}"
}

# What a container wants, or less where root may not have it: without CAP_SYS_RESOURCE,
# podman's own defaults fail.
limit() { # NAME WANTED HARD_LIMIT
  local value=$2
  [[ $3 == unlimited || $3 -ge $2 ]] || value=$3
  echo "\"$1=$value:$value\""
}

# Whole or not at all: another process's podman may be reading the file.
write_file() { # NAME, and the content on stdin
  cat >"$STATE/$1.new"
  mv "$STATE/$1.new" "$STATE/$1"
}

write_configuration() {
  local volumes=
  # In every RUN and every container: Debian's ca-certificates takes up what it finds
  # there when it is installed, so that no Dockerfile has to know of a host's proxy.
  if compgen -G "$CA_DIR/*.crt" >/dev/null; then
    volumes="\"$CA_DIR:$CA_DIR:ro\""
  fi
  # The host's network: a bridge needs rights that root in a sandbox does not have, and
  # steps are to reach the tests' servers on the loopback.
  write_file containers.conf <<CONF
[containers]
default_ulimits = [$(limit nofile 20000 "$(ulimit -Hn)"), $(limit nproc 8192 "$(ulimit -Hu)")]
netns = "host"
volumes = [$volumes]

[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
CONF
  write_file storage.conf <<CONF
[storage]
driver = "overlay"
graphroot = "$STATE/storage"
runroot = "$STATE/run"
CONF
}

# The first repository that this host's apt has under a label, if any.
mirror() { # LABEL
  # shellcheck disable=SC2016  # apt's own format
  apt-get indextargets --format '$(LABEL) $(REPO_URI)' 'Created-By: Packages' |
    awk -v label="$1" '$1 == label && !seen++ { print $2 }'
}

# Debian's minimal system without its documentation, as the official slim image has it.
make_image() {
  local root=$STATE/root main security dir
  say "making $IMAGE"
  main=$(mirror Debian)
  if [[ -z $main ]]; then # the labels come from the indexes that apt downloads
    quietly apt-get update
    main=$(mirror Debian)
  fi
  security=$(mirror Debian-Security)
  rm -rf "$root"
  # Without a mirror, debootstrap knows where Debian's is.
  quietly debootstrap --variant=minbase "$SUITE" "$root" ${main:+"$main"}
  [[ -z $main ]] ||
    echo "deb $main $SUITE-updates main" >>"$root/etc/apt/sources.list"
  [[ -z $security ]] ||
    echo "deb $security $SUITE-security main" >>"$root/etc/apt/sources.list"
  for dir in /usr/share/{doc,info,lintian,locale,man}; do
    echo "path-exclude $dir/*"
    rm -rf "${root:?}$dir"/*
  done >"$root/etc/dpkg/dpkg.cfg.d/slim"
  rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/* "$root"/var/log/*.log \
    "$root"/etc/{resolv.conf,hostname}
  # shellcheck disable=SC2016
  quietly bash -o pipefail -c \
    'tar -C "$1" --numeric-owner -c . | podman import --change CMD=bash - "$2"' \
    - "$root" "$IMAGE"
  rm -rf "$root"
}

find_or_make() {
  # What an earlier call has made comes first: to ask elsewhere can take a minute.
  if [[ ! -e $STATE/made ]]; then
    if docker_works; then
      say "docker works: nothing to do"
      ENGINE=docker
      return
    fi
    if podman_works; then
      say "podman works and has $IMAGE: nothing to do"
      return
    fi
    [[ $EUID -eq 0 ]] ||
      fail "there is no docker or podman that can run $IMAGE, and making one takes root;" \
        "this is uid $EUID. Install docker or podman, or call this as root."
  fi
  install_packages
  write_configuration
  export CONTAINERS_CONF=$STATE/containers.conf
  export CONTAINERS_STORAGE_CONF=$STATE/storage.conf
  podman image exists "$IMAGE" || make_image
  touch "$STATE/made"
  printf 'export %s=%q\n' CONTAINERS_CONF "$CONTAINERS_CONF" \
    CONTAINERS_STORAGE_CONF "$CONTAINERS_STORAGE_CONF"
}

offer_socket() {
  local url=unix://$STATE/podman.sock seconds
  [[ $ENGINE == podman ]] || return 0 # docker's clients find its own socket
  [[ ${#url} -le $((SOCKET_PATH_LIMIT + 7)) ]] ||
    fail "${url#unix://} is too long for a socket: at most $SOCKET_PATH_LIMIT bytes"
  if ! podman --remote --url "$url" info &>/dev/null; then
    rm -f "$STATE/podman.sock"
    setsid nohup podman system service --time=0 "$url" \
      </dev/null &>"$STATE/service.log" 9>&- &
    echo $! >"$STATE/service.pid"
    for ((seconds = 0; seconds < 30; seconds++)); do
      podman --remote --url "$url" info &>/dev/null && break
      sleep 1
    done
    [[ $seconds -lt 30 ]] || fail "podman's API does not answer: $STATE/service.log"
  fi
  printf 'export DOCKER_HOST=%q\n' "$url"
}

if [[ $# -lt 1 || $# -gt 2 || -z $1 || $1 == -* || ${2:-socket} != socket ]]; then
  echo "usage: $0 STATE_DIR [socket]" >&2
  exit 2
fi
mkdir -p -m 700 "$1"
STATE=$(cd "$1" && pwd)
readonly STATE
ENGINE=podman

# One caller at a time: a second one waits, and then finds it done.
exec 9>"$STATE/lock"
flock 9
find_or_make 9>&-
[[ $# -eq 1 ]] || offer_socket
