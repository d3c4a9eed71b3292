/* Preloaded into a storage node: a disk whose write cache loses what it was given. While the file named by EVENKEEL_FAIL_SYNC
 * exists, fdatasync of a file whose path contains that file's content fails with EIO, and what was last written to it becomes zeros,
 * as when a kernel drops pages that it could not write and calls them clean. Every later fdatasync of such a file succeeds again,
 * and is noted like the failure: one line each in the file with ".log" behind its name. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FDS 4096

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct { off64_t at; size_t len; } last[FDS];
static int failed;

static void note(const char *trigger, const char *what) {
    char path[4096];
    snprintf(path, sizeof path, "%s.log", trigger);
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0644);
    if (fd >= 0) {
        if (write(fd, what, strlen(what)) < 0) abort();
        close(fd);
    }
}

ssize_t pwrite64(int fd, const void *bytes, size_t len, off64_t at) {
    static ssize_t (*real)(int, const void *, size_t, off64_t);
    if (!real) real = (ssize_t (*)(int, const void *, size_t, off64_t))dlsym(RTLD_NEXT, "pwrite64");
    if (fd >= 0 && fd < FDS) {
        pthread_mutex_lock(&lock);
        last[fd].at = at;
        last[fd].len = len;
        pthread_mutex_unlock(&lock);
    }
    return real(fd, bytes, len, at);
}

int fdatasync(int fd) {
    static int (*real)(int);
    if (!real) real = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    const char *trigger = getenv("EVENKEEL_FAIL_SYNC");
    int armed = trigger ? open(trigger, O_RDONLY) : -1;
    if (armed < 0) return real(fd);
    char wanted[256] = {0}, link[64], path[4096] = {0};
    ssize_t got = read(armed, wanted, sizeof wanted - 1);
    close(armed);
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    if (got <= 0 || readlink(link, path, sizeof path - 1) < 0 || !strstr(path, wanted)) return real(fd);
    pthread_mutex_lock(&lock);
    int first = !failed;
    failed = 1;
    note(trigger, first ? "failed\n" : "again\n");
    if (first && fd < FDS && last[fd].len) {
        void *zeros = calloc(1, last[fd].len);
        if (zeros && pwrite(fd, zeros, last[fd].len, last[fd].at) < 0) abort();
        free(zeros);
    }
    pthread_mutex_unlock(&lock);
    if (!first) return real(fd);
    errno = EIO;
    return -1;
}
