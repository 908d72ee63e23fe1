# What the tests need from Debian packages; to be sourced by a POSIX shell, as root.
#
#   need COMMAND PACKAGE  installs a package unless the command is there.
#   need_engine           installs what a private engine needs (see docker-engine.sh).

say() {
    echo "$0: $*"
}

need() {
    command -v "$1" >/dev/null 2>&1 || install_package "$2"
}

need_engine() {
    need curl curl
    need dockerd docker.io
    need ip iproute2
    need nsenter util-linux
    need busybox busybox-static
    if ldd "$(command -v busybox)" >/dev/null 2>&1; then
        # There is one, but it needs libraries that the tests' image lacks.
        install_package busybox-static
    fi
}

# Services of the package stay down: the tests start an engine of their own and touch no other.
install_package() {
    say "installing $1"
    if [ -z "${apt_updated:-}" ]; then
        apt-get update -qq
        apt_updated=yes
    fi
    no_services=
    if [ ! -e /usr/sbin/policy-rc.d ]; then
        printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
        chmod 755 /usr/sbin/policy-rc.d
        no_services=yes
    fi
    install_code=0
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$1" >/dev/null || install_code=$?
    [ -z "$no_services" ] || rm -f /usr/sbin/policy-rc.d
    return "$install_code"
}
