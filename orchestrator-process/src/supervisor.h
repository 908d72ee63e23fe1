/* What the parts of the supervisor share. */
#ifndef SUPERVISOR_H
#define SUPERVISOR_H

#include <poll.h>
#include <stddef.h>

enum {
    READ_BYTES_MAX = 2 * 1024, /* of one read of what the command prints */
    CLIENTS_MAX = 16,          /* that are attached to the command at once */
    ATTACH_POLLED_MAX = 2 + CLIENTS_MAX,
};

/* Closes all descriptors from `first` on. */
void close_from(int first);
/* Makes descriptor `fd` /dev/null. */
void to_null(int fd, int flags);
/* Says on standard output how the start went, and closes it. */
void report(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Leaves the caller's session and process tree. Returns 0 in the process to end, 1 in the daemon. */
int become_daemon(void);
/* Opens a directory and takes the lock in it. Returns -1, after a report, if it cannot be had. */
int own_directory(const char *path);
/* Forwards ports of the host to a pod until it is killed. `ports` holds quadruples: ADDRESS PORT TARGET TARGET_PORT. */
int forward(const char *path, char **ports);

/* Makes the ends of a command's streams: `theirs` become its own, `ours` are read from, where not -1. `stdio` is `-`, or of
   the letters `i` (it has input), `o` (that ends with a client), `t` (it has a terminal). Returns -1 on failure. */
int tie_streams(const char *stdio, int theirs[3], int ours[3]);
/* Listens for clients at the socket `attach` in a directory. Returns -1 on failure. */
int attach_listen(int dir);
/* Says what to wait for, at most ATTACH_POLLED_MAX. Returns how many. */
int attach_poll(struct pollfd *polled);
/* Does what can be done of that. */
void attach_handle(const struct pollfd *polled);
/* Whether a client has not taken what was printed last: nothing may be shown then. */
int attach_waits(void);
/* Shows clients what the command printed to a stream (`o`, `e`), at most READ_BYTES_MAX bytes. */
void attach_show(char stream, const char *bytes, size_t length);
/* Waits until clients have taken the last, and gives up those that do not in time. */
void attach_settle(void);

#endif
