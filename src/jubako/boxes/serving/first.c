/* The first process of a box that a server makes ahead: carries out the script it is given, waits for a command, runs
   it, reaps what it leaves, and says how it ended. What Python's first process does (commands/first.py), without Python's
   memory to be copied. It decides nothing: every call that makes the view and gives up rights is in the script
   (kernel/script.py), and where one fails, the box is made by Python instead, which knows what to say.

       descriptor 3   the socket to the server, and once a command runs to who asked for it
       descriptor 4   the script; the descriptors from 5 on are the script's own
       arguments      the umask, and "kill" if it is to end what the command leaves
*/
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { REPORT = 3, SCRIPT = 4, FIRST_FREE = 4, DESCRIPTORS = 5 };
enum { SETUP_FAILED = 125, NOT_EXECUTABLE = 126, NOT_FOUND = 127 };
enum { ITSELF, IN_BLOB, RESULT };

struct header { char magic[4]; uint32_t steps, relocations, blob; };
struct argument { uint64_t means, value; };
struct step { uint32_t number, tolerated; struct argument arguments[6]; };
struct pair { uint32_t at, target; };

static const int relayed[] = {SIGTERM, SIGHUP, SIGUSR1, SIGUSR2, SIGINT, SIGQUIT};
enum { RELAYED = sizeof relayed / sizeof *relayed };
static volatile pid_t command;

/* A fact for who listens: two strings, in one packet. */
static void say(const char *key, const char *value)
{
    char packet[8192];
    size_t keys = strlen(key) + 1, values = strlen(value) + 1;
    if (keys + values > sizeof packet)
        values = sizeof packet - keys;
    memcpy(packet, key, keys);
    memcpy(packet + keys, value, values - 1);
    packet[keys + values - 1] = 0;
    send(REPORT, packet, keys + values, MSG_NOSIGNAL);
}

static void say_number(const char *key, long number)
{
    char text[24];
    snprintf(text, sizeof text, "%ld", number);
    say(key, text);
}

static void *map_file(int fd, size_t *size)
{
    struct stat status;
    if (fstat(fd, &status) < 0 || status.st_size == 0)
        _exit(SETUP_FAILED);
    *size = status.st_size;
    void *data = mmap(NULL, *size, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    if (data == MAP_FAILED)
        _exit(SETUP_FAILED);
    close(fd);
    return data;
}

/* Carries out the script. A call that fails ends the process, which says which one it was. */
static void perform(void)
{
    size_t size;
    char *data = map_file(SCRIPT, &size);
    struct header *header = (struct header *)data;
    if (memcmp(header->magic, "jbk1", 4))
        _exit(SETUP_FAILED);
    struct step *steps = (struct step *)(data + sizeof *header);
    struct pair *pairs = (struct pair *)(steps + header->steps);
    char *blob = (char *)(pairs + header->relocations);
    long *results = calloc(header->steps ? header->steps : 1, sizeof *results);
    if (!results)
        _exit(SETUP_FAILED);
    for (uint32_t at = 0; at < header->relocations; at++) {
        uint64_t address = (uintptr_t)(blob + pairs[at].target);
        memcpy(blob + pairs[at].at, &address, sizeof address);
    }
    for (uint32_t at = 0; at < header->steps; at++) {
        long words[6];
        for (int which = 0; which < 6; which++) {
            struct argument *one = &steps[at].arguments[which];
            words[which] = one->means == RESULT ? results[one->value]
                           : one->means == IN_BLOB ? (long)(blob + one->value) : (long)one->value;
        }
        results[at] = syscall(steps[at].number, words[0], words[1], words[2], words[3], words[4], words[5]);
        if (results[at] == -1 && (!steps[at].tolerated || (uint32_t)errno != steps[at].tolerated)) {
            char text[48];
            snprintf(text, sizeof text, "%u %u %d", at, steps[at].number, errno);
            say("refused", text);
            _exit(SETUP_FAILED);
        }
    }
    free(results);
    munmap(data, size);
}

/* Waits for a command: a file with its words, its three descriptors, and the socket of who asked for it. */
static char *receive(size_t *size)
{
    char word[8];
    union { char space[CMSG_SPACE(DESCRIPTORS * sizeof(int))]; struct cmsghdr aligned; } control;
    struct iovec piece = {word, sizeof word};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    ssize_t got;
    do
        got = recvmsg(REPORT, &message, MSG_CMSG_CLOEXEC);
    while (got < 0 && errno == EINTR);
    struct cmsghdr *given = got > 0 ? CMSG_FIRSTHDR(&message) : NULL;
    if (!given || given->cmsg_len != CMSG_LEN(DESCRIPTORS * sizeof(int)))
        _exit(0); /* no command will come */
    int fds[DESCRIPTORS];
    memcpy(fds, CMSG_DATA(given), sizeof fds);
    char *words = map_file(fds[0], size);
    for (int number = 0; number < 3; number++)
        dup2(fds[number + 1], number);
    dup3(fds[4], REPORT, O_CLOEXEC);
    syscall(SYS_close_range, FIRST_FREE, ~0U, 0);
    return words;
}

static void hand_down(int number)
{
    if (command > 0)
        kill(command, number);
}

/* Has signals handed down; those that come before there is a command are kept for it. */
static void relay(sigset_t *mask)
{
    struct sigaction action = {.sa_handler = hand_down};
    sigset_t early;
    sigemptyset(&early);
    for (int at = 0; at < RELAYED; at++) {
        sigaddset(&early, relayed[at]);
        sigaction(relayed[at], &action, NULL);
    }
    sigprocmask(SIG_BLOCK, &early, mask);
}

static int is_file(const char *path)
{
    struct stat status;
    return stat(path, &status) == 0 && S_ISREG(status.st_mode);
}

/* The file that a shell would execute for `name`; NULL if there is none. */
static const char *find_program(const char *name, char **environment)
{
    static char found[2][4096];
    const char *path = "/bin:/usr/bin";
    if (strchr(name, '/'))
        return name;
    for (char **one = environment; *one; one++)
        if (!strncmp(*one, "PATH=", 5))
            path = *one + 5;
    found[1][0] = 0;
    for (const char *end; ; path = end + 1) {
        end = strchrnul(path, ':');
        int length = snprintf(found[0], sizeof found[0], "%.*s%s%s", (int)(end - path), path,
                              end == path || end[-1] == '/' ? "" : "/", name);
        if (length < (int)sizeof found[0] && is_file(found[0])) {
            if (access(found[0], X_OK) == 0)
                return found[0];
            if (!found[1][0])
                strcpy(found[1], found[0]);
        }
        if (!*end)
            return found[1][0] ? found[1] : NULL;
    }
}

/* Starts the command; the error if it cannot be executed. */
static int start(char **argv, char **environment, const sigset_t *mask)
{
    const char *path = find_program(argv[0], environment);
    volatile int failed = 0;
    if (!path)
        return ENOENT;
    pid_t child = vfork();
    if (child == 0) {
        for (int at = 0; at < RELAYED; at++)
            signal(relayed[at], SIG_DFL);
        sigprocmask(SIG_SETMASK, mask, NULL);
        execve(path, argv, environment);
        failed = errno;
        _exit(SETUP_FAILED);
    }
    if (child < 0)
        return errno;
    if (failed) {
        waitpid(child, NULL, 0);
        return failed;
    }
    command = child;
    return 0;
}

static int wait_for_command(void)
{
    int status;
    for (;;) {
        pid_t ended = waitpid(-1, &status, 0);
        if (ended == command)
            return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        if (ended < 0 && errno != EINTR)
            return SETUP_FAILED;
    }
}

static int run(char *words, size_t size, const sigset_t *mask)
{
    char *cwd = words, *end = words + size;
    char *count = cwd + strlen(cwd) + 1;
    long arguments = strtol(count, NULL, 10), soft, hard, all = 0;
    char *word = count + strlen(count) + 1;
    soft = strtol(word, NULL, 10);
    word += strlen(word) + 1;
    hard = strtol(word, NULL, 10);
    word += strlen(word) + 1;
    for (char *one = word; one < end; one += strlen(one) + 1)
        all++;
    char **list = calloc(all + 2, sizeof *list);
    if (!list || arguments < 1 || arguments > all)
        _exit(SETUP_FAILED);
    char **argv = list, **environment = list + arguments + 1;
    for (long at = 0; at < all; at++, word += strlen(word) + 1)
        list[at < arguments ? at : at + 1] = word;

    struct rlimit files = {(rlim_t)soft, (rlim_t)hard};
    setrlimit(RLIMIT_NOFILE, &files);
    if (chdir(cwd) < 0) {
        int code = errno;
        say("cwd", cwd);
        say_number("cwd_errno", code);
        return SETUP_FAILED;
    }
    say("started", ""); /* before the command, which could report anything */
    int code = start(argv, environment, mask);
    if (code) {
        say_number("exec_errno", code);
        return code == ENOENT || code == ENOTDIR ? NOT_FOUND : NOT_EXECUTABLE;
    }
    sigprocmask(SIG_SETMASK, mask, NULL);
    int status = wait_for_command();
    struct rusage usage;
    if (getrusage(RUSAGE_CHILDREN, &usage) == 0)
        say_number("peak", usage.ru_maxrss);
    return status;
}

int main(int count, char **arguments)
{
    if (count != 3)
        return SETUP_FAILED;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_NAME, "jubako-box");
    setsid(); /* or a command that signals its process group would hit the server and every other box */
    sigset_t mask;
    relay(&mask);
    umask(022);
    perform();
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* to enter a user namespace makes the kernel forget it */
    umask(strtol(arguments[1], NULL, 8));
    say("ready", "");
    size_t size;
    char *words = receive(&size);
    int status = run(words, size, &mask);
    if (!strcmp(arguments[2], "kill")) {
        kill(-1, SIGKILL);
        while (waitpid(-1, NULL, 0) > 0 || errno == EINTR)
            continue;
        say_number("ended", status);
        syscall(SYS_close_range, 0, ~0U, 0);
    }
    _exit(status);
}
