/*
 * The parent of a container's processes. It outlives the program that started it, keeps none of its descriptors, writes
 * down when the command started and how it ended, keeps the log, and leaves no process behind.
 *
 *   supervisor run DIR BELLS LOG_BYTES_MAX STDIO WORKDIR COMMAND ARG...
 *     Becomes a daemon, runs the command with its own environment and prints to standard output, before it closes it:
 *     "ok" (the command runs, ran, or runs under another supervisor), "invalid REASON" or "failed REASON".
 *     Files in DIR: `lock` (a POSIX write lock, held while it lives), `started` ("PID START_TICKS BOOT_ID SECONDS"),
 *     `exited` ("CODE SECONDS MESSAGE"), `log` and the older `log.1` ("TIME STREAM F|P TEXT"), and the
 *     socket `attach`. At the end a byte goes to each FIFO in BELLS. For STDIO and `attach` see attach.c.
 *
 *   supervisor forward DIR (ADDRESS PORT TARGET TARGET_PORT)...
 *     See forward.c.
 *
 *   supervisor exec WORKDIR COMMAND ARG...
 *     Runs the command and ends with its exit code. When standard input ends first, everything is killed.
 */
#define _GNU_SOURCE
#include "supervisor.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    PIECE_BYTES_MAX = 16 * 1024,  /* of a line in the log; longer lines are kept in pieces */
    OUT_BYTES_MAX = 128 * 1024,   /* of the log's write buffer; holds what one read makes of empty lines */
    LEFTOVER_ROUNDS_MAX = 500,    /* of killing what the command left, 10 ms each */
    CODE_NOT_FOUND = 127,
    CODE_NOT_RUN = 126,
};

/* The command and what is known of it. */
static pid_t command_pid;
static int command_status;
static int command_ended;

/* ---- small helpers ---- */

static void write_all(int fd, const char *bytes, size_t length) {
    while (length > 0) {
        ssize_t written = write(fd, bytes, length);
        if (written < 0 && errno == EINTR) continue;
        if (written <= 0) return; /* a full disk must not stop the command */
        bytes += written;
        length -= (size_t)written;
    }
}

void close_from(int first) {
#ifdef SYS_close_range
    if (syscall(SYS_close_range, (unsigned)first, ~0U, 0U) == 0) return;
#endif
    long end = sysconf(_SC_OPEN_MAX);
    if (end < 0 || end > 1 << 20) end = 1 << 20;
    for (int fd = first; fd < end; fd++) close(fd);
}

void to_null(int fd, int flags) {
    int null = open("/dev/null", flags | O_CLOEXEC);
    if (null < 0) return;
    dup2(null, fd);
    close(null);
}

/* Replaces the file `name` in the directory at once. */
static int replace_file(int dir, const char *name, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static int replace_file(int dir, const char *name, const char *format, ...) {
    char text[512], temporary[64];
    va_list list;
    va_start(list, format);
    int length = vsnprintf(text, sizeof text, format, list);
    va_end(list);
    if (length < 0) return -1;
    if ((size_t)length >= sizeof text) length = sizeof text - 1;
    snprintf(temporary, sizeof temporary, "%s.tmp", name);
    int fd = openat(dir, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0) return -1;
    int ok = write(fd, text, (size_t)length) == length;
    close(fd);
    return ok ? renameat(dir, temporary, dir, name) : -1;
}

static ssize_t read_text(const char *path, char *text, size_t size) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return -1;
    ssize_t length = read(fd, text, size - 1);
    close(fd);
    if (length >= 0) text[length] = 0;
    return length;
}

/* Field `number` (from 1) of /proc/PID/stat as a number; fields up to 2 are not supported. */
static unsigned long long stat_field(pid_t pid, int number) {
    char path[64], text[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    if (read_text(path, text, sizeof text) <= 0) return 0;
    char *at = strrchr(text, ')'); /* the name before it may hold anything */
    for (int field = 2; at && field < number; field++) at = strchr(at + 1, ' ');
    return at ? strtoull(at + 1, NULL, 10) : 0;
}

void report(const char *format, ...) {
    char text[512];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    write_all(1, text, strlen(text));
    to_null(1, O_WRONLY);
}

int become_daemon(void) {
    pid_t pid = fork();
    if (pid < 0) report("failed fork: %s", strerror(errno));
    if (pid != 0) return 0;
    setsid();
    umask(077);
    return 1;
}

int own_directory(const char *path) {
    int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0 || chdir("/") != 0) {
        report("failed %s: %s", path, strerror(errno));
        return -1;
    }
    int fd = openat(dir, "lock", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    /* The descriptor stays open: closing it would drop the lock. */
    if (fd >= 0 && fcntl(fd, F_SETLK, &lock) == 0) return dir;
    if (fd >= 0 && (errno == EAGAIN || errno == EACCES)) report("ok"); /* another does the work */
    else report("failed lock: %s", strerror(errno));
    return -1;
}

/* ---- starting ---- */

static void block_all_signals(void) {
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
}

static int exit_code(int status) {
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* Turns the forked child into the command. With `go`, tells there when it leads its own process group, and waits for a word.
   On failure writes errno to `failure`, if it is a descriptor, and to standard error if not. */
static void become_command(pid_t parent, const char *workdir, char **command, int go, int failure) {
    setsid();
    if (isatty(0)) ioctl(0, TIOCSCTTY, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(CODE_NOT_RUN);
    for (int number = 1; number < NSIG; number++) signal(number, SIG_DFL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    umask(022);
    char byte = '!';
    if (go >= 0 && (write(go, &byte, 1) != 1 || read(go, &byte, 1) != 1)) _exit(CODE_NOT_RUN);
    int at_directory = chdir(workdir) != 0;
    if (!at_directory) execvp(command[0], command);
    int error = errno;
    if (failure >= 0) {
        int report[2] = {error, at_directory};
        write_all(failure, (const char *)report, sizeof report);
    } else {
        dprintf(2, "%s: %s\n", at_directory ? workdir : command[0], strerror(error));
    }
    _exit(error == ENOENT ? CODE_NOT_FOUND : CODE_NOT_RUN);
}

/* ---- ending ---- */

/* Reaps what has ended; kills the command's group before its id can be used again. Returns 0 when no child is left. */
static int reap(void) {
    for (;;) {
        siginfo_t info;
        memset(&info, 0, sizeof info);
        if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) != 0) return errno == EINTR;
        if (info.si_pid == 0) return 1;
        int status = 0;
        if (info.si_pid == command_pid) kill(-command_pid, SIGKILL);
        waitpid(info.si_pid, &status, 0);
        if (info.si_pid == command_pid) {
            command_status = status;
            command_ended = 1;
        }
    }
}

static void kill_children(void) {
    DIR *processes = opendir("/proc");
    struct dirent *entry;
    while (processes && (entry = readdir(processes))) {
        pid_t pid = (pid_t)atoi(entry->d_name);
        if (pid > 0 && (pid_t)stat_field(pid, 4) == getpid()) kill(pid, SIGKILL);
    }
    if (processes) closedir(processes);
}

/* Kills all descendants: what loses its parent becomes a child of this subreaper. */
static void kill_leftovers(void) {
    if (!command_ended) kill(-command_pid, SIGKILL);
    for (int round = 0; round < LEFTOVER_ROUNDS_MAX && reap(); round++) {
        kill_children();
        struct timespec pause = {0, round ? 10 * 1000 * 1000 : 1000 * 1000};
        nanosleep(&pause, NULL);
    }
}

static int child_signals(void) {
    sigset_t child;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    return signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* Returns whether TERM was among them. */
static int drain_signals(int signals) {
    struct signalfd_siginfo info;
    int term = 0;
    while (read(signals, &info, sizeof info) == (ssize_t)sizeof info) term |= info.ssi_signo == SIGTERM;
    return term;
}

/* ---- the log ---- */

struct stream {
    int fd;
    const char *name;
    size_t length;
    char piece[PIECE_BYTES_MAX];
};

static struct stream streams[2] = {{-1, "stdout", 0, {0}}, {-1, "stderr", 0, {0}}};
static int log_dir, log_fd = -1;
static long long log_bytes, log_bytes_max;
static char out[OUT_BYTES_MAX];
static size_t out_length;

static void open_log(void) {
    log_fd = openat(log_dir, "log", O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600);
    struct stat stat;
    log_bytes = log_fd >= 0 && fstat(log_fd, &stat) == 0 ? stat.st_size : 0;
}

static void flush_log(void) {
    if (out_length == 0) return;
    if (log_bytes > 0 && log_bytes + (long long)out_length > log_bytes_max) {
        renameat(log_dir, "log", log_dir, "log.1");
        close(log_fd);
        open_log();
    }
    if (log_fd >= 0) write_all(log_fd, out, out_length);
    log_bytes += (long long)out_length;
    out_length = 0;
}

static void keep_piece(struct stream *stream, char tag) {
    struct timespec now;
    struct tm utc;
    char date[32];
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S", &utc);
    if (out_length + stream->length + 80 > sizeof out) flush_log();
    out_length += (size_t)snprintf(out + out_length, 80, "%s.%09ldZ %s %c ", date, now.tv_nsec,
                                   stream->name, tag);
    memcpy(out + out_length, stream->piece, stream->length);
    out_length += stream->length;
    out[out_length++] = '\n';
    stream->length = 0;
}

static void end_stream(struct stream *stream) {
    if (stream->length > 0) keep_piece(stream, 'P');
    close(stream->fd);
    stream->fd = -1;
}

/* Reads once. Returns 0 when there is nothing more for now. */
static int read_stream(struct stream *stream) {
    char bytes[READ_BYTES_MAX];
    ssize_t length = read(stream->fd, bytes, sizeof bytes);
    if (length < 0 && (errno == EAGAIN || errno == EINTR)) return 0;
    if (length <= 0) {
        end_stream(stream);
        return 0;
    }
    attach_show(stream == &streams[0] ? 'o' : 'e', bytes, (size_t)length);
    for (const char *at = bytes, *end = bytes + length; at < end;) {
        const char *line_end = memchr(at, '\n', (size_t)(end - at));
        size_t take = (size_t)((line_end ? line_end : end) - at);
        size_t room = PIECE_BYTES_MAX - stream->length;
        if (take > room) take = room;
        memcpy(stream->piece + stream->length, at, take);
        stream->length += take;
        at += take;
        if (at < end && *at == '\n') {
            keep_piece(stream, 'F');
            at++;
        } else if (stream->length == PIECE_BYTES_MAX) {
            keep_piece(stream, 'P');
        }
    }
    return 1;
}

/* ---- supervisor run ---- */

/* Wakes all who wait for a change; removes the FIFOs that nobody reads any more. */
static void ring(const char *bells) {
    DIR *dir = opendir(bells);
    struct dirent *entry;
    while (dir && (entry = readdir(dir))) {
        if (entry->d_name[0] == '.') continue;
        int fd = openat(dirfd(dir), entry->d_name, O_WRONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);
        if (fd >= 0) write_all(fd, "!", 1);
        if (fd >= 0) close(fd);
        else if (errno == ENXIO) unlinkat(dirfd(dir), entry->d_name, 0);
    }
    if (dir) closedir(dir);
}

static void write_exit(int dir, const char *bells, int code, const char *message) {
    replace_file(dir, "exited", "%d %lld %s\n", code, (long long)time(NULL), message);
    ring(bells);
}

static int write_start(int dir) {
    char boot[64];
    if (read_text("/proc/sys/kernel/random/boot_id", boot, sizeof boot) <= 0) strcpy(boot, "-");
    boot[strcspn(boot, "\n")] = 0;
    return replace_file(dir, "started", "%d %llu %s %lld\n", (int)command_pid,
                        stat_field(command_pid, 22), boot, (long long)time(NULL));
}

/* Whether the directory still is where it was: one that was moved away is being removed. */
static int still_at(const char *path, int dir) {
    struct stat there, ours;
    return stat(path, &there) == 0 && fstat(dir, &ours) == 0 && there.st_ino == ours.st_ino &&
           there.st_dev == ours.st_dev;
}

static void supervise(int signals) {
    while (!command_ended) {
        int waits = attach_waits();
        struct pollfd polled[3 + ATTACH_POLLED_MAX] = {{signals, POLLIN, 0},
                                                       {waits ? -1 : streams[0].fd, POLLIN, 0},
                                                       {waits ? -1 : streams[1].fd, POLLIN, 0}};
        if (poll(polled, (nfds_t)(3 + attach_poll(polled + 3)), -1) < 0) {
            if (errno == EINTR) continue;
            break;
        }
        for (int i = 0; i < 2; i++)
            if (polled[i + 1].revents && !attach_waits()) read_stream(&streams[i]);
        flush_log();
        attach_handle(polled + 3);
        if (polled[0].revents) {
            drain_signals(signals);
            reap();
        }
    }
    kill_leftovers();
    for (int i = 0; i < 2; i++) {
        for (attach_settle(); streams[i].fd >= 0 && read_stream(&streams[i]); attach_settle()) flush_log();
        if (streams[i].fd >= 0) end_stream(&streams[i]);
    }
    attach_settle();
    flush_log();
}

static int run(const char *path, const char *bells, const char *bytes_max, const char *stdio,
               const char *workdir, char **command) {
    int theirs[3], ours[3], go[2], failure[2], fault[2] = {0, 0};
    if (!become_daemon()) return 0;
    int dir = own_directory(path);
    if (dir < 0) return 0;
    if (faccessat(dir, "started", F_OK, 0) == 0 || faccessat(dir, "exited", F_OK, 0) == 0) {
        report("ok"); /* it ran already, and runs once */
        return 0;
    }
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    log_dir = dir;
    log_bytes_max = atoll(bytes_max);
    open_log();
    int signals = child_signals();
    if (log_fd < 0 || signals < 0 || tie_streams(stdio, theirs, ours) || attach_listen(dir) ||
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, go) || pipe2(failure, O_CLOEXEC)) {
        report("failed to prepare: %s", strerror(errno));
        return 0;
    }
    pid_t self = getpid();
    command_pid = fork();
    if (command_pid < 0) {
        report("failed fork: %s", strerror(errno));
        return 0;
    }
    if (command_pid == 0) {
        close(go[1]); /* the supervisor's death must end the wait for it */
        for (int i = 0; i < 3; i++) dup2(theirs[i], i);
        become_command(self, workdir, command, go[0], failure[1]);
    }
    for (int i = 0; i < 3; i++)
        if (i == 0 || theirs[i] != theirs[0]) close(theirs[i]);
    close(failure[1]);
    close(go[0]);
    /* Known before it runs: whoever comes later finds it, however early this supervisor dies. And who removes the
       container moves it away first, then looks for us: one of the two sees the other. */
    char ready;
    if (read(go[1], &ready, 1) != 1 || write_start(dir) != 0 || !still_at(path, dir)) {
        report("failed to write its state in %s", path);
        kill_leftovers();
        return 0;
    }
    write_all(go[1], "!", 1);
    close(go[1]);
    if (read(failure[0], fault, sizeof fault) == (ssize_t)sizeof fault) {
        const char *culprit = fault[1] ? workdir : command[0];
        char message[400];
        snprintf(message, sizeof message, "cannot run %.300s: %s", culprit, strerror(fault[0]));
        kill_leftovers();
        write_exit(dir, bells, fault[0] == ENOENT ? CODE_NOT_FOUND : CODE_NOT_RUN, message);
        report("invalid %s", message);
        return 0;
    }
    close(failure[0]);
    report("ok");
    for (int i = 0; i < 2; i++) streams[i].fd = ours[i + 1];
    supervise(signals);
    write_exit(dir, bells, exit_code(command_status), "");
    return 0;
}

/* ---- supervisor exec ---- */

static int run_attached(const char *workdir, char **command) {
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    int signals = child_signals();
    pid_t self = getpid();
    command_pid = fork();
    if (command_pid < 0) return CODE_NOT_RUN;
    if (command_pid == 0) {
        to_null(0, O_RDONLY);
        become_command(self, workdir, command, -1, -1);
    }
    to_null(1, O_WRONLY);
    to_null(2, O_WRONLY);
    while (!command_ended) {
        struct pollfd polled[2] = {{signals, POLLIN, 0}, {0, POLLIN, 0}};
        if (poll(polled, 2, -1) < 0 && errno != EINTR) break;
        if (polled[0].revents) {
            drain_signals(signals);
            reap();
        }
        if (polled[1].revents) break;
    }
    kill_leftovers();
    return exit_code(command_status);
}

/* Runs a command for somebody at the other end of this program's own input and output, until it ends, or until TERM comes
   or this program's parent is gone: then it and all it started are killed. */
static int run_session(const char *workdir, char **command) {
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    sigset_t watched;
    sigemptyset(&watched);
    sigaddset(&watched, SIGCHLD);
    sigaddset(&watched, SIGTERM);
    int signals = signalfd(-1, &watched, SFD_CLOEXEC | SFD_NONBLOCK);
    pid_t self = getpid();
    command_pid = fork();
    if (command_pid < 0) return CODE_NOT_RUN;
    if (command_pid == 0) become_command(self, workdir, command, -1, -1);
    to_null(0, O_RDONLY);
    to_null(1, O_WRONLY);
    to_null(2, O_WRONLY);
    while (!command_ended) {
        struct pollfd polled = {signals, POLLIN, 0};
        if (poll(&polled, 1, -1) < 0 && errno != EINTR) break;
        if (drain_signals(signals)) break;
        reap();
    }
    kill_leftovers();
    return exit_code(command_status);
}

int main(int argc, char **argv) {
    close_from(3);
    block_all_signals();
    if (argc >= 8 && strcmp(argv[1], "run") == 0)
        return run(argv[2], argv[3], argv[4], argv[5], argv[6], argv + 7);
    if (argc >= 4 && strcmp(argv[1], "exec") == 0) return run_attached(argv[2], argv + 3);
    if (argc >= 4 && strcmp(argv[1], "session") == 0) return run_session(argv[2], argv + 3);
    if (argc >= 7 && strcmp(argv[1], "forward") == 0) return forward(argv[2], argv + 3);
    return 2;
}
