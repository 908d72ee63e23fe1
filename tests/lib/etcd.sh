# An etcd for the benchmarks; to be sourced by a POSIX shell after packages.sh and go.sh, in the project's root.
#
#   need_etcd   sets and exports ORCH_TEST_ETCD: the etcd that is here if it is a current one, or else one that is built from its
#               authors' sources (tests/etcd).

# The first that counts as current.
ETCD_MINOR_MIN=6
# What the sources need.
ETCD_GO_MINOR_MIN=26

need_etcd() {
    ORCH_TEST_ETCD=$(command -v etcd || :)
    export ORCH_TEST_ETCD
    etcd_minor=$([ -z "$ORCH_TEST_ETCD" ] || "$ORCH_TEST_ETCD" --version 2>/dev/null | sed -n 's/^etcd Version: 3\.\([0-9]*\)\..*/\1/p')
    [ "${etcd_minor:-0}" -lt "$ETCD_MINOR_MIN" ] || return 0
    need_go "$ETCD_GO_MINOR_MIN" || return 1
    # Quick when it was built before: Go remembers.
    say "building etcd; this takes a minute once"
    ORCH_TEST_ETCD=$PWD/target/etcd/etcd
    (cd tests/etcd && "$GO_PROGRAM" build -trimpath -o "$ORCH_TEST_ETCD" .)
}
