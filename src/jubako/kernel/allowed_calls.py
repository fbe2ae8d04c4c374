"""The system calls that a program may make in a box that allows nothing else: a list, and why each group is on it.

What computes, and reads and writes files, needs: memory, files, time, processes and threads of its own, and sockets
within the box. Not here is what reaches other processes, the kernel itself, or namespaces; and what few programs use
and has been a way into the kernel. `LEFT_OUT` says why for what somebody might look for.
"""

from __future__ import annotations

__all__ = ["ALLOWED", "LEFT_OUT"]

ALLOWED: dict[str, tuple[str, ...]] = {
    "reading and writing": (
        *("read", "write", "readv", "writev", "pread64", "pwrite64", "preadv", "pwritev", "preadv2", "pwritev2"),
        *("lseek", "sendfile", "copy_file_range", "splice", "tee", "vmsplice", "readahead", "fadvise64"),
        *("io_setup", "io_submit", "io_getevents", "io_pgetevents", "io_cancel", "io_destroy"),
    ),
    "opening and closing": (
        *("open", "openat", "openat2", "creat", "close", "close_range", "dup", "dup2", "dup3", "fcntl", "ioctl"),
        *("pipe", "pipe2", "memfd_create", "memfd_secret", "eventfd", "eventfd2"),
    ),
    "looking at files": (
        *("stat", "fstat", "lstat", "newfstatat", "statx", "statfs", "fstatfs", "access", "faccessat", "faccessat2"),
        *("readlink", "readlinkat", "getdents", "getdents64", "getcwd", "chdir", "fchdir", "statmount", "listmount"),
        *("getxattr", "lgetxattr", "fgetxattr", "getxattrat", "listxattr", "llistxattr", "flistxattr", "listxattrat"),
        *("inotify_init", "inotify_init1", "inotify_add_watch", "inotify_rm_watch", "cachestat"),
    ),
    "changing files": (
        *("rename", "renameat", "renameat2", "link", "linkat", "symlink", "symlinkat", "unlink", "unlinkat"),
        *("mkdir", "mkdirat", "rmdir", "mknod", "mknodat", "truncate", "ftruncate", "fallocate", "flock", "umask"),
        *("chmod", "fchmod", "fchmodat", "fchmodat2", "chown", "fchown", "lchown", "fchownat"),
        *("utime", "utimes", "futimesat", "utimensat", "sync", "syncfs", "fsync", "fdatasync", "sync_file_range"),
        *("setxattr", "lsetxattr", "fsetxattr", "setxattrat"),
        *("removexattr", "lremovexattr", "fremovexattr", "removexattrat"),
    ),
    "memory": (
        *("brk", "mmap", "munmap", "mremap", "mprotect", "madvise", "mincore", "msync", "remap_file_pages", "mseal"),
        *("mlock", "mlock2", "munlock", "mlockall", "munlockall", "pkey_alloc", "pkey_free", "pkey_mprotect"),
        *("mbind", "get_mempolicy", "set_mempolicy", "set_mempolicy_home_node", "map_shadow_stack"),
    ),
    "time": (
        *("time", "gettimeofday", "clock_gettime", "clock_getres", "clock_nanosleep", "nanosleep", "times", "alarm"),
        *("getitimer", "setitimer", "timerfd_create", "timerfd_settime", "timerfd_gettime", "timer_create"),
        *("timer_settime", "timer_gettime", "timer_getoverrun", "timer_delete"),
    ),
    "its own processes and threads": (
        *("clone", "fork", "vfork", "execve", "execveat", "exit", "exit_group", "wait4", "waitid"),
        *("getpid", "getppid", "gettid", "getpgid", "getpgrp", "getsid", "setpgid", "setsid", "unshare"),
        *("set_tid_address", "set_robust_list", "get_robust_list", "rseq", "membarrier", "arch_prctl", "prctl"),
        *("futex", "futex_waitv", "futex_wake", "futex_wait", "futex_requeue", "restart_syscall"),
        *("pidfd_open", "pidfd_send_signal", "personality"),
    ),
    "signals": (
        *("kill", "tkill", "tgkill", "pause", "rt_sigaction", "rt_sigprocmask", "rt_sigpending", "rt_sigsuspend"),
        *("rt_sigtimedwait", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "rt_sigreturn", "sigaltstack"),
        *("signalfd", "signalfd4"),
    ),
    "waiting for several things": (
        *("poll", "ppoll", "select", "pselect6", "epoll_create", "epoll_create1", "epoll_ctl", "epoll_wait"),
        *("epoll_pwait", "epoll_pwait2"),
    ),
    "scheduling and limits": (
        *("sched_yield", "sched_getaffinity", "sched_setaffinity", "sched_getparam", "sched_setparam"),
        *("sched_getscheduler", "sched_setscheduler", "sched_getattr", "sched_setattr", "sched_rr_get_interval"),
        *("sched_get_priority_max", "sched_get_priority_min", "getpriority", "setpriority", "ioprio_get"),
        *("ioprio_set", "getrlimit", "setrlimit", "prlimit64", "getrusage", "getcpu", "sysinfo", "uname"),
    ),
    "who it is, and fewer rights": (
        *("getuid", "geteuid", "getgid", "getegid", "getgroups", "getresuid", "getresgid", "capget", "capset"),
        *("setuid", "setgid", "setreuid", "setregid", "setresuid", "setresgid", "setgroups", "setfsuid", "setfsgid"),
        *("seccomp", "landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self", "getrandom"),
    ),
    "sockets": (
        *("socket", "socketpair", "bind", "listen", "accept", "accept4", "connect", "shutdown", "getsockname"),
        *("getpeername", "getsockopt", "setsockopt", "sendto", "recvfrom", "sendmsg", "recvmsg", "sendmmsg"),
        "recvmmsg",
    ),
    "talking within the box": (
        *("shmget", "shmat", "shmctl", "shmdt", "semget", "semop", "semctl", "semtimedop"),
        *("msgget", "msgsnd", "msgrcv", "msgctl"),
        *("mq_open", "mq_unlink", "mq_timedsend", "mq_timedreceive", "mq_notify", "mq_getsetattr"),
    ),
}

LEFT_OUT: dict[str, tuple[str, ...]] = {
    "other processes' memory and descriptors": (
        *("ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "pidfd_getfd", "kcmp"),
        *("move_pages", "migrate_pages"),
    ),
    "namespaces, mounts and roots": (
        *("setns", "mount", "umount2", "pivot_root", "chroot", "fsopen", "fsconfig", "fsmount", "fspick", "move_mount"),
        *("open_tree", "open_tree_attr", "mount_setattr", "sethostname", "setdomainname"),
    ),
    "the kernel itself": (
        *("bpf", "perf_event_open", "userfaultfd", "io_uring_setup", "io_uring_enter", "io_uring_register"),
        *("init_module", "finit_module", "delete_module", "kexec_load", "kexec_file_load", "lookup_dcookie"),
        *("modify_ldt", "ioperm", "iopl", "fanotify_init", "fanotify_mark"),
    ),
    "what no namespace separates": (
        *("add_key", "request_key", "keyctl", "syslog", "quotactl", "quotactl_fd", "acct", "swapon", "swapoff"),
        *("reboot", "vhangup", "settimeofday", "clock_settime", "clock_adjtime", "adjtimex"),
    ),
    "files by handle, past every directory permission": ("open_by_handle_at", "name_to_handle_at"),
    "clone with flags that a filter cannot see: libc falls back to clone": ("clone3",),
}
