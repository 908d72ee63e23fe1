/* What the parts of the supervisor share. */
#ifndef SUPERVISOR_H
#define SUPERVISOR_H

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

#endif
