# What the tests need from Debian packages; to be sourced by a POSIX shell, as root.
#
#   need COMMAND PACKAGE  installs a package unless the command is there.
#   need_engine           installs what a private engine needs (see docker-engine.sh).
#   unpack_package PACKAGE DIR  unpacks a package below DIR/debian without installing it.

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
    update_apt
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

unpack_package() {
    update_apt
    mkdir -p "$2"
    # Whoever downloads for apt has no rights here.
    (cd "$2" && apt-get download -qq -o APT::Sandbox::User=root "$1" >/dev/null 2>&1) || return 1
    dpkg -x "$2/$1"_*.deb "$2/debian"
    rm "$2/$1"_*.deb
}

update_apt() {
    [ -z "${apt_updated:-}" ] || return 0
    apt-get update -qq
    apt_updated=yes
}
