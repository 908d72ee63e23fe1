# Etcds for tests and benchmarks; to be sourced by a POSIX shell after packages.sh and go.sh, in the project's root.
#
#   need_etcd      sets and exports ORCH_TEST_ETCD: the etcd that is here if it is a current one, or else one that is built from its
#                  authors' sources (tests/etcd).
#   need_old_etcd  sets and exports ORCH_TEST_ETCD_OLD: the etcd that is here if it is an old one that is still supported, or else
#                  Debian's.

# The first that counts as current, and the oldest that is supported.
ETCD_MINOR_MIN=6
ETCD_MINOR_OLD=4
# What the sources need.
ETCD_GO_MINOR_MIN=26
ETCD_DIR=target/etcd

need_etcd() {
    ORCH_TEST_ETCD=$(command -v etcd || :)
    export ORCH_TEST_ETCD
    [ "$(etcd_minor "$ORCH_TEST_ETCD")" -lt "$ETCD_MINOR_MIN" ] || return 0
    need_go "$ETCD_GO_MINOR_MIN" || return 1
    # Quick when it was built before: Go remembers.
    say "building etcd; this takes a minute once"
    ORCH_TEST_ETCD=$PWD/$ETCD_DIR/etcd
    (cd tests/etcd && "$GO_PROGRAM" build -trimpath -o "$ORCH_TEST_ETCD" .)
}

need_old_etcd() {
    export ORCH_TEST_ETCD_OLD
    for candidate in "$(command -v etcd || :)" "$PWD/$ETCD_DIR/debian/usr/bin/etcd"; do
        ORCH_TEST_ETCD_OLD=$candidate
        etcd_found=$(etcd_minor "$candidate")
        [ "$etcd_found" -lt "$ETCD_MINOR_OLD" ] || [ "$etcd_found" -ge "$ETCD_MINOR_MIN" ] || return 0
    done
    say "fetching Debian's etcd"
    unpack_package etcd-server "$ETCD_DIR"
}

# Prints an etcd's minor version, or 0 when it is none.
etcd_minor() {
    etcd_version=$([ -z "$1" ] || "$1" --version 2>/dev/null | sed -n 's/^etcd Version: 3\.\([0-9]*\)\..*/\1/p')
    echo "${etcd_version:-0}"
}
