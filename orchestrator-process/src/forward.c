/*
 *   supervisor forward DIR (ADDRESS PORT TARGET TARGET_PORT)...
 *     Becomes a daemon that holds the lock in DIR and passes TCP connections on, until it is killed. Reports like `run`.
 *     The address `*` stands for each IPv4 address this host has now, except those of pods: a wildcard socket would keep
 *     every pod from listening on the same port of its own address.
 */
#define _GNU_SOURCE
#include "supervisor.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    LISTENERS_MAX = 256,
    CONNECTIONS_MAX = 1024, /* further ones wait in the listeners' queues */
    BUFFER_BYTES = 16 * 1024,
};

union address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

struct listener {
    int fd;
    union address target;
};

/* Side 0 is the client, side 1 the pod. What side i sent waits in bytes[i] for the other. */
struct connection {
    int fd[2];
    int connecting;
    int ended[2];
    size_t start[2], length[2];
    char bytes[2][BUFFER_BYTES];
};

static struct listener listeners[LISTENERS_MAX];
static int listener_count;
static struct connection *connections[CONNECTIONS_MAX];
static int connection_count;

static socklen_t size_of(const union address *address) {
    return address->any.sa_family == AF_INET6 ? sizeof address->v6 : sizeof address->v4;
}

static int parse_address(const char *text, const char *port, union address *address) {
    memset(address, 0, sizeof *address);
    in_port_t number = htons((unsigned short)atoi(port));
    if (inet_pton(AF_INET, text, &address->v4.sin_addr) == 1) {
        address->v4.sin_family = AF_INET;
        address->v4.sin_port = number;
        return 1;
    }
    if (inet_pton(AF_INET6, text, &address->v6.sin6_addr) != 1) return 0;
    address->v6.sin6_family = AF_INET6;
    address->v6.sin6_port = number;
    return 1;
}

static int listen_on(const union address *address, const union address *target) {
    if (listener_count == LISTENERS_MAX) return errno = ENOBUFS, 0;
    int fd = socket(address->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int on = 1;
    if (fd < 0) return 0;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (address->any.sa_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
    if (bind(fd, &address->any, size_of(address)) != 0 || listen(fd, SOMAXCONN) != 0) return 0;
    listeners[listener_count].fd = fd;
    listeners[listener_count++].target = *target;
    return 1;
}

/* Listens on all IPv4 addresses of this host that are not in 127.64.0.0/10. */
static int listen_everywhere(const char *port, const union address *target) {
    struct ifaddrs *interfaces = NULL;
    int ok = getifaddrs(&interfaces) == 0;
    for (struct ifaddrs *at = interfaces; ok && at; at = at->ifa_next) {
        if (!at->ifa_addr || at->ifa_addr->sa_family != AF_INET) continue;
        union address address;
        memset(&address, 0, sizeof address);
        memcpy(&address.v4, at->ifa_addr, sizeof address.v4);
        address.v4.sin_port = htons((unsigned short)atoi(port));
        if ((ntohl(address.v4.sin_addr.s_addr) & 0xffc00000) != 0x7f400000)
            ok = listen_on(&address, target);
    }
    int error = errno;
    if (interfaces) freeifaddrs(interfaces);
    errno = error;
    return ok;
}

static void close_connection(int index) {
    struct connection *connection = connections[index];
    close(connection->fd[0]);
    close(connection->fd[1]);
    free(connection);
    connections[index] = connections[--connection_count];
}

static void accept_connection(const struct listener *listener) {
    int client = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (client < 0) return;
    int on = 1;
    int pod = socket(listener->target.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct connection *connection = pod < 0 ? NULL : calloc(1, sizeof *connection);
    int connected = connection ? connect(pod, &listener->target.any, size_of(&listener->target)) : -1;
    if (!connection || (connected != 0 && errno != EINPROGRESS)) {
        free(connection);
        if (pod >= 0) close(pod);
        close(client);
        return;
    }
    for (int i = 0; i < 2; i++)
        setsockopt(i ? pod : client, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    connection->fd[0] = client;
    connection->fd[1] = pod;
    connection->connecting = connected != 0;
    connections[connection_count++] = connection;
}

/* What to wait for on a side; nothing hides its hang-ups too, which would wake us for ever. */
static struct pollfd wanted(const struct connection *connection, int side) {
    short events = 0;
    if (connection->connecting) {
        events = side == 1 ? POLLOUT : 0;
    } else {
        if (connection->length[side] == 0 && !connection->ended[side]) events |= POLLIN;
        if (connection->length[!side] > 0) events |= POLLOUT;
    }
    return (struct pollfd){events ? connection->fd[side] : -1, events, 0};
}

/* Moves what side `from` sent. Returns 0 when the connection has failed. */
static int move(struct connection *connection, int from, int readable, int writable) {
    char *bytes = connection->bytes[from];
    if (readable && connection->length[from] == 0 && !connection->ended[from]) {
        ssize_t length = read(connection->fd[from], bytes, BUFFER_BYTES);
        if (length < 0 && errno != EAGAIN && errno != EINTR) return 0;
        if (length == 0) {
            connection->ended[from] = 1;
            shutdown(connection->fd[!from], SHUT_WR);
        }
        connection->start[from] = 0;
        connection->length[from] = length > 0 ? (size_t)length : 0;
        writable = 1; /* most often it is, and a try costs less than a poll */
    }
    if (writable && connection->length[from] > 0) {
        ssize_t length = send(connection->fd[!from], bytes + connection->start[from],
                              connection->length[from], MSG_NOSIGNAL);
        if (length < 0 && errno != EAGAIN && errno != EINTR) return 0;
        if (length > 0) {
            connection->start[from] += (size_t)length;
            connection->length[from] -= (size_t)length;
        }
    }
    return 1;
}

/* Returns 0 when the connection is over. */
static int serve(struct connection *connection, const struct pollfd polled[2]) {
    if (connection->connecting) {
        int error = 0;
        socklen_t size = sizeof error;
        if (!polled[1].revents) return 1;
        if (getsockopt(connection->fd[1], SOL_SOCKET, SO_ERROR, &error, &size) || error) return 0;
        connection->connecting = 0;
        return 1;
    }
    for (int side = 0; side < 2; side++) {
        int readable = polled[side].revents & (POLLIN | POLLHUP | POLLERR);
        int writable = polled[!side].revents & (POLLOUT | POLLHUP | POLLERR);
        if (!move(connection, side, readable, writable)) return 0;
    }
    return !(connection->ended[0] && connection->ended[1] && !connection->length[0] &&
             !connection->length[1]);
}

static void pass_on(void) {
    static struct pollfd polled[LISTENERS_MAX + 2 * CONNECTIONS_MAX];
    for (;;) {
        nfds_t count = 0;
        for (int i = 0; i < listener_count; i++) {
            int fd = connection_count < CONNECTIONS_MAX ? listeners[i].fd : -1;
            polled[count++] = (struct pollfd){fd, POLLIN, 0};
        }
        for (int i = 0; i < connection_count; i++)
            for (int side = 0; side < 2; side++) polled[count++] = wanted(connections[i], side);
        if (poll(polled, count, -1) < 0) continue;
        /* From the end: closing moves the last one into the gap. */
        for (int i = connection_count - 1; i >= 0; i--)
            if (!serve(connections[i], polled + listener_count + 2 * i)) close_connection(i);
        for (int i = 0; i < listener_count; i++)
            if (polled[i].revents && connection_count < CONNECTIONS_MAX)
                accept_connection(&listeners[i]);
    }
}

int forward(const char *path, char **ports) {
    if (!become_daemon() || own_directory(path) < 0) return 0;
    for (char **at = ports; at[0] && at[1] && at[2] && at[3]; at += 4) {
        union address address, target;
        int everywhere = strcmp(at[0], "*") == 0;
        if ((!everywhere && !parse_address(at[0], at[1], &address)) ||
            !parse_address(at[2], at[3], &target)) {
            report("invalid hostPort %s: %s or %s is no address", at[1], at[0], at[2]);
            return 0;
        }
        if (!(everywhere ? listen_everywhere(at[1], &target) : listen_on(&address, &target))) {
            report("invalid hostPort %s on %s: %s", at[1], at[0], strerror(errno));
            return 0;
        }
    }
    report("ok");
    pass_on();
    return 0;
}
