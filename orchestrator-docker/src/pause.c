/* The program of a sandbox container: holds the namespaces of a pod and does nothing else.
 *
 * It is process 1 of its PID namespace, where signals without a handler are dropped. Blocked signals are not: so TERM,
 * INT and CHLD are blocked and waited for. TERM and INT end it, CHLD makes it reap what it inherited.
 * Without a C library where the system calls are known (ORCHESTRATOR_PAUSE_BARE), else with one. */

#ifdef ORCHESTRATOR_PAUSE_BARE

#if defined(__x86_64__)
enum { SYS_SIGPROCMASK = 14, SYS_SIGTIMEDWAIT = 128, SYS_WAIT4 = 61, SYS_EXIT = 231 };
static long call(long number, long a, long b, long c, long d) {
    long result;
    register long fourth __asm__("r10") = d;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(fourth)
                     : "rcx", "r11", "memory");
    return result;
}
#elif defined(__aarch64__)
enum { SYS_SIGPROCMASK = 135, SYS_SIGTIMEDWAIT = 137, SYS_WAIT4 = 260, SYS_EXIT = 94 };
static long call(long number, long a, long b, long c, long d) {
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
    return x0;
}
#else
#error "no bare system calls for this machine"
#endif

enum { BLOCK = 0, INT = 2, TERM = 15, CHLD = 17, NO_HANG = 1, SET_BYTES = 8 };

__attribute__((noreturn)) void _start(void) {
    unsigned long set = 1UL << (INT - 1) | 1UL << (TERM - 1) | 1UL << (CHLD - 1);
    call(SYS_SIGPROCMASK, BLOCK, (long)&set, 0, SET_BYTES);
    for (;;) {
        long number = call(SYS_SIGTIMEDWAIT, (long)&set, 0, 0, SET_BYTES);
        if (number == INT || number == TERM) call(SYS_EXIT, 0, 0, 0, 0);
        while (call(SYS_WAIT4, -1, 0, NO_HANG, 0) > 0) {}
    }
}

#else

#include <signal.h>
#include <stddef.h>
#include <sys/wait.h>

int main(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, NULL);
    for (;;) {
        int number = sigwaitinfo(&set, NULL);
        if (number == SIGINT || number == SIGTERM) return 0;
        while (waitpid(-1, NULL, WNOHANG) > 0) {}
    }
}

#endif
