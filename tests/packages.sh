# Sourced by tests/run and tests/bench: installs what a run needs where it is missing. As root or with
# sudo on Debian or Ubuntu nothing need be there but the Rust toolchain.

as_root() {
    if [[ $EUID -eq 0 ]]; then "$@"; else sudo -n "$@"; fi
}

# Of `program:package` pairs, the packages whose program is missing. Daemons are not in everybody's PATH.
missing() {
    local need
    for need in "$@"; do
        PATH="$PATH:/usr/sbin:/sbin" type -P "${need%%:*}" >/dev/null || echo "${need#*:}"
    done
}

# RUNLEVEL=1 keeps the packages from starting services: the tests start their own.
install() {
    [[ $# -gt 0 ]] || return 0
    echo "== installing $*" >&2
    if ! { type -P apt-get && as_root apt-get update -q &&
        as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
            apt-get install -q -y --no-install-recommends "$@"; } >&2; then
        echo "$0: please install, as root, the programs of these Debian packages: $*" >&2
        exit 1
    fi
}
