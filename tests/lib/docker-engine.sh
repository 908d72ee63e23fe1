# A private Docker engine for tests; to be sourced by a POSIX shell, as root.
#
#   start_engine          starts an engine of its own: data, socket and network namespace; makes the image busybox:test.
#                         Sets and exports ORCH_TEST_DOCKER_HOST (unix:///…) and ORCH_TEST_ENGINE_DIR.
#   in_engine COMMAND…    runs a command in the engine's network namespace, where pods can be reached.
#   stop_engine           ends the engine and removes all of it. Safe to call twice, and from a trap.
#
# Needs dockerd, curl, ip, nsenter, tar and a static busybox. The machine's own engine and firewall stay as they are.

# How many tenths of a second an engine may take to answer, or to end.
ENGINE_TENTHS_MAX=600

start_engine() {
    ORCH_TEST_ENGINE_DIR=$(mktemp -d "${TMPDIR:-/tmp}/orch-engine.XXXXXX") || return 1
    ENGINE_NETNS=${ORCH_TEST_ENGINE_DIR##*/}
    ENGINE_SOCKET=$ORCH_TEST_ENGINE_DIR/docker.sock
    ORCH_TEST_DOCKER_HOST=unix://$ENGINE_SOCKET
    export ORCH_TEST_ENGINE_DIR ORCH_TEST_DOCKER_HOST
    mkdir "$ORCH_TEST_ENGINE_DIR/data" "$ORCH_TEST_ENGINE_DIR/exec" || return 1
    case $(dockerd --version) in
    # This one would leave a key in /etc/docker.
    *' version 20.'*) engine_settings="\"deprecated-key-path\": \"$ORCH_TEST_ENGINE_DIR/key.json\"" ;;
    *) engine_settings= ;;
    esac
    echo "{ $engine_settings }" >"$ORCH_TEST_ENGINE_DIR/daemon.json"

    ip netns add "$ENGINE_NETNS" || return 1
    in_engine ip link set lo up || return 1
    # Not by `ip netns exec`: that hides the control groups.
    nsenter --net="/run/netns/$ENGINE_NETNS" dockerd \
        --config-file "$ORCH_TEST_ENGINE_DIR/daemon.json" \
        --data-root "$ORCH_TEST_ENGINE_DIR/data" --exec-root "$ORCH_TEST_ENGINE_DIR/exec" \
        --default-address-pool base=10.208.0.0/12,size=24 \
        --pidfile "$ORCH_TEST_ENGINE_DIR/docker.pid" --host "$ORCH_TEST_DOCKER_HOST" \
        >"$ORCH_TEST_ENGINE_DIR/log" 2>&1 &
    ENGINE_PID=$!

    engine_wait engine_answers || {
        echo "the test engine did not start; the end of its log:" >&2
        tail -n 20 "$ORCH_TEST_ENGINE_DIR/log" >&2
        return 1
    }
    engine_busybox
}

stop_engine() {
    [ -n "${ORCH_TEST_ENGINE_DIR:-}" ] || return 0
    if [ -n "${ENGINE_PID:-}" ]; then
        engine_kill_containers || :
        kill "$ENGINE_PID" 2>/dev/null || :
        engine_wait engine_ended || kill -9 "$ENGINE_PID" 2>/dev/null || :
        wait "$ENGINE_PID" 2>/dev/null || :
    fi
    # What an engine that was killed left mounted; the innermost first.
    awk -v dir="$ORCH_TEST_ENGINE_DIR/" 'index($5, dir) == 1 { print $5 }' /proc/self/mountinfo |
        sort -r | while read -r point; do umount -l "$point" || :; done
    ip netns del "$ENGINE_NETNS" 2>/dev/null || :
    rm -rf "$ORCH_TEST_ENGINE_DIR"
    unset ENGINE_PID ENGINE_NETNS ENGINE_SOCKET ORCH_TEST_ENGINE_DIR ORCH_TEST_DOCKER_HOST
}

in_engine() {
    nsenter --net="/run/netns/$ENGINE_NETNS" -- "$@"
}

engine_api() { # METHOD PATH [curl arguments…]
    engine_method=$1 engine_path=$2
    shift 2
    curl --silent --show-error --fail --unix-socket "$ENGINE_SOCKET" \
        --request "$engine_method" "$@" "http://engine$engine_path"
}

engine_answers() {
    kill -0 "$ENGINE_PID" 2>/dev/null || return 2
    engine_api GET /_ping >/dev/null 2>&1
}

engine_ended() {
    # A zombie has ended too: its state is the word after the name in brackets.
    [ -d "/proc/$ENGINE_PID" ] || return 0
    case $(sed 's/.*) //' "/proc/$ENGINE_PID/stat" 2>/dev/null) in Z* | '') return 0 ;; esac
    return 1
}

# Waits until a command says yes (0); gives up when it says never (2) or too late.
engine_wait() {
    engine_tenths=0
    while [ "$engine_tenths" -lt "$ENGINE_TENTHS_MAX" ]; do
        engine_code=0
        "$1" || engine_code=$?
        case $engine_code in 0) return 0 ;; 2) return 1 ;; esac
        sleep 0.1
        engine_tenths=$((engine_tenths + 1))
    done
    return 1
}

# An engine that ends waits 15 s for each container that does not heed TERM; tests leave such behind when they fail.
engine_kill_containers() {
    engine_api GET '/containers/json?all=true' 2>/dev/null |
        grep -o '"Id":"[0-9a-f]*"' | cut -d '"' -f 4 | while read -r engine_id; do
        engine_api DELETE "/containers/$engine_id?force=true&v=true" >/dev/null 2>&1 || :
    done
}

engine_busybox() {
    engine_root=$ORCH_TEST_ENGINE_DIR/busybox
    mkdir -p "$engine_root/bin" "$engine_root/etc" "$engine_root/tmp" "$engine_root/usr" || return 1
    cp "$(command -v busybox)" "$engine_root/bin/busybox" || return 1
    "$engine_root/bin/busybox" --list | while read -r engine_applet; do
        [ "$engine_applet" = busybox ] || ln -s busybox "$engine_root/bin/$engine_applet"
    done
    tar -C "$engine_root" -cf - . | engine_api POST \
        '/images/create?fromSrc=-&repo=busybox&tag=test' \
        --header 'Content-Type: application/x-tar' --data-binary @- >/dev/null
}
