# Kubectls for the tests; to be sourced by a POSIX shell after packages.sh and go.sh, in the project's root.
#
#   need_kubectl   sets and exports ORCH_TEST_KUBECTL: a kubectl from 1.31 to 1.33 that is here, or else one that is built from
#                  its authors' sources (tests/kubectl).
#   need_kubectls  sets and exports ORCH_TEST_KUBECTLS: that one and every other minor version that is here, with `:` between
#                  them; builds one from 1.27 to 1.30 if there is none, and fetches Debian's if that is still older.

# The first from which exec needs a WebSocket only, and the last that was tried.
KUBECTL_MINOR_MIN=31
KUBECTL_MINOR_MAX=33
# The first that does everything but streams.
KUBECTL_MINOR_OLD=27
# What the sources need.
KUBECTL_GO_MINOR_MIN=24
KUBECTL_DIR=target/kubectl

need_kubectl() {
    list_kubectls
    ORCH_TEST_KUBECTL=$(find_kubectl "$KUBECTL_MINOR_MIN" "$KUBECTL_MINOR_MAX")
    if [ -z "$ORCH_TEST_KUBECTL" ]; then
        build_kubectl go.mod kubectl || return 1
        ORCH_TEST_KUBECTL=$PWD/$KUBECTL_DIR/kubectl
    fi
    export ORCH_TEST_KUBECTL
}

need_kubectls() {
    [ -n "$(find_kubectl "$KUBECTL_MINOR_OLD" $((KUBECTL_MINOR_MIN - 1)))" ] || build_kubectl old.mod kubectl-old || return 1
    [ -n "$(find_kubectl 0 $((KUBECTL_MINOR_OLD - 1)))" ] || fetch_debian_kubectl
    list_kubectls
    kubectl_newest=$(echo "$kubectls" | awk -v max="$KUBECTL_MINOR_MAX" '$1 <= max && !seen[$1]++')
    ORCH_TEST_KUBECTLS=$(echo "$kubectl_newest" | cut -d ' ' -f 2- | paste -s -d :)
    export ORCH_TEST_KUBECTLS
    say "kubectls of these minor versions are tested: $(echo "$kubectl_newest" | cut -d ' ' -f 1 | paste -s -d ' ')"
}

# Looks at what is on the path, at files beside it such as kubectl.1.32, and at what was built or fetched before: lines of
# minor version and file in $kubectls.
list_kubectls() {
    kubectl_file=$(readlink -f "$(command -v kubectl || echo /nowhere)")
    kubectls=
    for candidate in "$kubectl_file" "${kubectl_file%/*}"/kubectl.1.* "$PWD/$KUBECTL_DIR"/kubectl \
        "$PWD/$KUBECTL_DIR"/kubectl-old "$PWD/$KUBECTL_DIR"/debian/usr/bin/kubectl; do
        [ -x "$candidate" ] || continue
        candidate_minor=$("$candidate" version --client -o yaml 2>/dev/null | sed -n 's/^ *gitVersion: v1\.\([0-9]*\).*/\1/p')
        kubectls="$kubectls${kubectls:+
}${candidate_minor:-0} $candidate"
    done
}

# Prints the first kubectl between two minor versions, if there is one.
find_kubectl() {
    echo "$kubectls" | awk -v min="$1" -v max="$2" 'NF > 1 && $1 >= min && $1 <= max { print $2; exit }'
}

# Builds what a mod file in tests/kubectl names. Quick when it was built before: Go remembers.
build_kubectl() {
    need_go "$KUBECTL_GO_MINOR_MIN" || return 1
    say "building $2; this takes a few minutes once"
    kubectl_target=$PWD/$KUBECTL_DIR/$2
    # A kubectl knows its version from whoever builds it.
    kubectl_version=$(sed -n 's/^\tk8s\.io\/kubectl v0\.\(.*\)$/v1.\1/p' "tests/kubectl/$1")
    kubectl_flags="-X k8s.io/component-base/version.gitVersion=$kubectl_version"
    (cd tests/kubectl && "$GO_PROGRAM" build -modfile="$1" -trimpath -ldflags "$kubectl_flags" -o "$kubectl_target" .)
}

# Unpacks Debian's kubectl without installing it. Another release may have none, or a newer one, which is no fault.
fetch_debian_kubectl() {
    say "fetching Debian's kubectl"
    if ! unpack_package kubernetes-client "$KUBECTL_DIR"; then
        say "there is none here: no kubectl before 1.$KUBECTL_MINOR_OLD is tested"
    fi
}
