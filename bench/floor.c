// The floor of one box, for bench/box_start.py: clone into namespaces, an overlay, /proc, /dev, /run, exec, wait. No policy:
// nothing is planned, dropped or checked. Root's overlay is of "/" and becomes the root directory; an ordinary user's covers one
// directory in place, with the rest read-only, since the kernel allows no more.
//
//     floor COVERED DIRECTORY ROOTLESS ROUNDS PROGRAM
//
// prints the microseconds of each round. DIRECTORY is for its files.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const char *root, *program;
static char upper[4200], work[4200], merged[4200];
static int rootless, uid, gid;

static void check(int failed, const char *what) {
    if (failed) {
        fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
        _exit(125);
    }
}

static void put(const char *path, const char *text) {
    int fd = open(path, O_WRONLY);
    check(fd < 0 || write(fd, text, strlen(text)) < 0, path);
    close(fd);
}

static void make_box(void) {
    char options[16384], map[64];
    if (rootless) {
        put("/proc/self/setgroups", "deny");
        snprintf(map, sizeof map, "%d %d 1", uid, uid);
        put("/proc/self/uid_map", map);
        snprintf(map, sizeof map, "%d %d 1", gid, gid);
        put("/proc/self/gid_map", map);
    }
    check(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL), "make private");
    snprintf(options, sizeof options, "lowerdir=%s,upperdir=%s,workdir=%s,volatile%s", root, upper, work,
             rootless ? ",userxattr" : "");
    if (rootless) {
        struct mount_attr attributes = {.attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID};
        check(mount("overlay", root, "overlay", MS_NOSUID | MS_NODEV, options), "overlay");
        check(syscall(SYS_mount_setattr, AT_FDCWD, "/", AT_RECURSIVE, &attributes, sizeof attributes), "read-only");
    } else {
        check(mount("overlay", merged, "overlay", 0, options), "overlay");
        check(chdir(merged), "chdir");
        check(mount("/dev", "dev", NULL, MS_BIND | MS_REC, NULL), "dev");
        check(syscall(SYS_pivot_root, ".", "."), "pivot_root");
        check(umount2(".", MNT_DETACH), "umount");
    }
    check(mount("tmpfs", "/run", "tmpfs", MS_NOSUID | MS_NODEV, "size=1m"), "run");
    check(mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL), "proc");
}

static int box(void *unused) {
    (void)unused;
    pid_t command;
    int status;
    make_box();
    command = vfork();
    if (command == 0) {
        execl(program, program, NULL);
        _exit(127);
    }
    waitpid(command, &status, 0);
    _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
}

int main(int count, char **words) {
    static char stack[1 << 16];
    if (count != 6) return 2;
    root = words[1];
    rootless = atoi(words[3]);
    program = words[5];
    uid = geteuid();
    gid = getegid();
    snprintf(merged, sizeof merged, "%s/merged", words[2]);
    check(mkdir(merged, 0755), merged);
    for (int round = atoi(words[4]); round > 0; round--) {
        struct timespec from, to;
        int status;
        snprintf(upper, sizeof upper, "%s/upper-%d", words[2], round);
        snprintf(work, sizeof work, "%s/work-%d", words[2], round);
        check(mkdir(upper, 0755) || mkdir(work, 0755), upper);
        clock_gettime(CLOCK_MONOTONIC, &from);
        pid_t pid = clone(box, stack + sizeof stack,
                          SIGCHLD | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | (rootless ? CLONE_NEWUSER : 0), NULL);
        check(pid < 0 || waitpid(pid, &status, 0) < 0, "clone");
        clock_gettime(CLOCK_MONOTONIC, &to);
        if (status) return 1;
        printf("%ld\n", (to.tv_sec - from.tv_sec) * 1000000 + (to.tv_nsec - from.tv_nsec) / 1000);
    }
    return 0;
}
