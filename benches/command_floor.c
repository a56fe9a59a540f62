/* What a probe by a command costs at least: processor time of a program of one thread that starts
 * `true` twenty times a second, reads its output to the end, waits for it by a pidfd, and does
 * nothing else. With a folder of cgroup2 as its argument each has a group of its own.
 * Run by benches/limits.py; prints seconds for each command. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { COMMANDS = 200 };

static int once(int groups) {
    int output[2], pidfd = -1, group = -1;
    if (pipe2(output, O_CLOEXEC) < 0)
        return 1;
    if (groups >= 0) {
        mkdirat(groups, "command", 0755);
        group = openat(groups, "command", O_DIRECTORY | O_CLOEXEC);
    }
    struct clone_args how = {
        .flags = CLONE_VFORK | CLONE_PIDFD | (group >= 0 ? CLONE_INTO_CGROUP : 0),
        .pidfd = (unsigned long)&pidfd,
        .exit_signal = SIGCHLD,
        .cgroup = group,
    };
    long pid = syscall(SYS_clone3, &how, sizeof how);
    if (pid < 0)
        return 1;
    if (pid == 0) {
        dup2(output[1], 1);
        dup2(output[1], 2);
        setsid();
        execlp("true", "true", (char *)NULL);
        _exit(127);
    }
    close(output[1]);
    char text[4096];
    while (read(output[0], text, sizeof text) > 0)
        continue;
    struct pollfd end = {.fd = pidfd, .events = POLLIN};
    poll(&end, 1, -1);
    siginfo_t exit;
    waitid(P_PIDFD, pidfd, &exit, WEXITED);
    close(output[0]);
    close(pidfd);
    if (group >= 0) {
        close(group);
        unlinkat(groups, "command", AT_REMOVEDIR);
    }
    return exit.si_status;
}

int main(int count, char **words) {
    int groups = count > 1 ? open(words[1], O_DIRECTORY | O_CLOEXEC) : -1;
    if (count > 1 && groups < 0)
        return 1;
    for (int number = 0; number < COMMANDS; number++) {
        if (once(groups) != 0)
            return 1;
        usleep(50000);
    }
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    double own = used.ru_utime.tv_sec + used.ru_stime.tv_sec +
                 (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
    printf("%.7f\n", own / COMMANDS);
    return 0;
}
