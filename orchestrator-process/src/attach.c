/*
 * The command's streams as `run` ties them, and the clients that are attached to them through the socket `attach` in DIR.
 *
 * The socket keeps messages apart (SOCK_SEQPACKET); the first byte of each says what it is. From a client: `i` and input
 * (none says that there will be), `e` the end of its input, `s` and a terminal's size (columns and rows, 16 bits each, the
 * high byte first). To a client: first `h1` (attached, version 1 of this protocol) or `b` (too many are), then `o` and `e`
 * with what the command prints to standard output and error. The command's end is the end of the connection.
 *
 * What one side does not take, the other does not send: the command waits for the slowest client, and a client for it.
 */
#define _GNU_SOURCE
#include "supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum {
    MESSAGE_BYTES_MAX = 1 + READ_BYTES_MAX,
    FAREWELL_MS_MAX = 2000, /* that clients have to take the last output */
    END_OF_TRANSMISSION = 4,
};

struct client {
    int fd;
    int gives;  /* it sends input */
    int behind; /* it has not taken `last` */
    int gone;   /* what it sent is still to be read */
};

static struct client clients[CLIENTS_MAX];
static int client_count;
static int listener = -1;
/* What was printed last. */
static char last[MESSAGE_BYTES_MAX];
static size_t last_length;

/* Where the command's input goes, its terminal, and whether its input ends with a client. */
static int input = -1, terminal = -1, input_once;
/* Input that the command has not taken; nothing is read from clients meanwhile. */
static char pending[MESSAGE_BYTES_MAX];
static size_t pending_start, pending_length;
static int input_ends;
static char last_input = '\n';

/* ---- the command's ends ---- */

static int open_terminal(int theirs[3], int ours[3]) {
    char name[64];
    terminal = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (terminal < 0 || grantpt(terminal) || unlockpt(terminal) || ptsname_r(terminal, name, sizeof name))
        return -1;
    /* Open here until the command has it: a terminal that nobody has open is at its end. */
    theirs[0] = theirs[1] = theirs[2] = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
    ours[1] = fcntl(terminal, F_DUPFD_CLOEXEC, 3);
    return theirs[0] < 0 || ours[1] < 0 ? -1 : 0;
}

int tie_streams(const char *stdio, int theirs[3], int ours[3]) {
    int fds[2], has_input = strchr(stdio, 'i') != NULL;
    input_once = strchr(stdio, 'o') != NULL;
    for (int i = 0; i < 3; i++) theirs[i] = ours[i] = -1;
    if (strchr(stdio, 't')) {
        if (open_terminal(theirs, ours) != 0) return -1;
        if (has_input && (input = fcntl(terminal, F_DUPFD_CLOEXEC, 3)) < 0) return -1;
    } else {
        for (int i = 1; i < 3; i++) {
            if (pipe2(fds, O_CLOEXEC) != 0) return -1;
            ours[i] = fds[0];
            theirs[i] = fds[1];
        }
        if (has_input) {
            if (pipe2(fds, O_CLOEXEC) != 0) return -1;
            theirs[0] = fds[0];
            input = fds[1];
        } else if ((theirs[0] = open("/dev/null", O_RDONLY | O_CLOEXEC)) < 0) {
            return -1;
        }
    }
    for (int i = 1; i < 3; i++)
        if (ours[i] >= 0) fcntl(ours[i], F_SETFL, O_NONBLOCK);
    if (input >= 0) fcntl(input, F_SETFL, terminal >= 0 ? O_RDWR | O_NONBLOCK : O_NONBLOCK);
    return 0;
}

/* ---- input ---- */

static void drop_input(void) {
    if (input >= 0) close(input);
    input = -1;
    pending_length = 0;
}

static void flush_input(void) {
    while (pending_length > 0) {
        ssize_t written = write(input, pending + pending_start, pending_length);
        if (written < 0 && errno == EINTR) continue;
        if (written < 0 && errno == EAGAIN) return;
        if (written <= 0) return drop_input(); /* the command takes none any more */
        pending_start += (size_t)written;
        pending_length -= (size_t)written;
    }
    if (input_ends) drop_input();
}

static void give_input(const char *bytes, size_t length) {
    if (input < 0 || input_ends || length == 0) return;
    memcpy(pending, bytes, length);
    pending_start = 0;
    pending_length = length;
    last_input = bytes[length - 1];
    flush_input();
}

/* Ends it after what is pending. */
static void end_input(void) {
    /* At a terminal the first ends a line that was begun. */
    char ends[2] = {END_OF_TRANSMISSION, END_OF_TRANSMISSION};
    if (terminal >= 0 && pending_length == 0) give_input(ends, last_input == '\n' ? 1 : 2);
    input_ends = 1;
    flush_input();
}

/* ---- clients ---- */

int attach_listen(int dir) {
    struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "attach"};
    listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (listener < 0) return -1;
    unlinkat(dir, "attach", 0);
    /* By a relative path: a whole one may be longer than an address can be. */
    int bound = fchdir(dir) == 0 && bind(listener, (struct sockaddr *)&address, sizeof address) == 0;
    int error = errno;
    if (chdir("/") != 0 || !bound) return errno = error, -1;
    return listen(listener, CLIENTS_MAX);
}

static void let_go(struct client *client) {
    /* A session at a terminal can be taken up again. */
    int ends = client->gives && input_once && terminal < 0 && !input_ends;
    close(client->fd);
    *client = clients[--client_count];
    if (ends) end_input();
}

static void welcome(void) {
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) return;
    /* A place is worth more than the input of somebody who is gone, which the command has not taken. */
    for (int i = 0; i < client_count && client_count == CLIENTS_MAX; i++)
        if (clients[i].gone) let_go(&clients[i]);
    const char *word = client_count < CLIENTS_MAX ? "h1" : "b";
    if (send(fd, word, strlen(word), MSG_NOSIGNAL) < 0 || *word == 'b') close(fd);
    else clients[client_count++] = (struct client){.fd = fd};
}

/* Sends a client what was printed last. */
static void show(struct client *client) {
    client->behind = 0;
    if (client->gone || send(client->fd, last, last_length, MSG_NOSIGNAL) >= 0) return;
    if (errno == EAGAIN) client->behind = 1;
    else client->gone = 1;
}

/* Reads one message. Nothing is pending. Returns whether the client is still there. */
static int listen_to(struct client *client) {
    char message[MESSAGE_BYTES_MAX];
    ssize_t length = recv(client->fd, message, sizeof message, 0);
    /* A reset comes before what was sent until then. */
    if (length < 0 && (errno == EAGAIN || errno == EINTR || errno == ECONNRESET)) return 1;
    if (length <= 0) return let_go(client), 0;
    const unsigned char *size = (const unsigned char *)message + 1;
    switch (message[0]) {
    case 'i':
        client->gives = 1;
        give_input(message + 1, (size_t)length - 1);
        break;
    case 'e':
        if (input < 0 || input_ends) break; /* there was none to end */
        if (!input_once) return let_go(client), 0;
        end_input();
        break;
    case 's':
        if (terminal >= 0 && length == 5) {
            struct winsize winsize = {.ws_col = (unsigned short)(size[0] << 8 | size[1]),
                                      .ws_row = (unsigned short)(size[2] << 8 | size[3])};
            ioctl(terminal, TIOCSWINSZ, &winsize);
        }
        break;
    }
    return 1;
}

int attach_poll(struct pollfd *polled) {
    polled[0] = (struct pollfd){listener, POLLIN, 0};
    polled[1] = (struct pollfd){pending_length > 0 ? input : -1, POLLOUT, 0};
    for (int i = 0; i < client_count; i++) {
        short events = (short)((pending_length > 0 ? 0 : POLLIN) | (clients[i].behind ? POLLOUT : 0));
        int waits = clients[i].gone && pending_length > 0; /* else its hang-up wakes us all the time */
        polled[2 + i] = (struct pollfd){waits ? -1 : clients[i].fd, events, 0};
    }
    return 2 + client_count;
}

void attach_handle(const struct pollfd *polled) {
    if (polled[1].revents) flush_input();
    /* From the last: one that is let go of is replaced by the last. */
    for (int i = client_count - 1; i >= 0; i--) {
        short events = polled[2 + i].revents;
        if (events & (POLLHUP | POLLERR)) clients[i].gone = 1;
        if (clients[i].behind && (events & (POLLOUT | POLLHUP | POLLERR))) show(&clients[i]);
        if ((events & (POLLIN | POLLHUP | POLLERR)) && pending_length == 0) listen_to(&clients[i]);
    }
    if (polled[0].revents) welcome();
}

int attach_waits(void) {
    for (int i = 0; i < client_count; i++)
        if (clients[i].behind) return 1;
    return 0;
}

void attach_show(char stream, const char *bytes, size_t length) {
    last[0] = stream;
    memcpy(last + 1, bytes, length);
    last_length = 1 + length;
    for (int i = 0; i < client_count; i++) show(&clients[i]);
}

static long long now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

void attach_settle(void) {
    static long long until;
    if (until == 0) until = now_ms() + FAREWELL_MS_MAX;
    while (attach_waits()) {
        struct pollfd polled[CLIENTS_MAX];
        long long left = until - now_ms();
        for (int i = 0; i < client_count; i++)
            polled[i] = (struct pollfd){clients[i].behind ? clients[i].fd : -1, POLLOUT, 0};
        int ready = left > 0 ? poll(polled, (nfds_t)client_count, (int)left) : 0;
        for (int i = 0; i < client_count; i++) {
            if (ready <= 0 || (polled[i].revents & (POLLHUP | POLLERR))) clients[i].gone = 1;
            if (ready <= 0 || polled[i].revents) show(&clients[i]);
        }
    }
}
