/* What the world does to a server, for tests: loaded in front of the C library (LD_PRELOAD), it makes writes to regular
 * files fail, and the wall clock wrong, as the file named by UPDRAFT_TEST_WORLD says at that moment. The file holds two
 * 64-bit numbers: the errno of writes (0: they work), and what is added to the clock, in milliseconds. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t none[2];
static volatile int64_t *world = none;

__attribute__((constructor)) static void meet(void) {
    const char *path = getenv("UPDRAFT_TEST_WORLD");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *map = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof none, PROT_READ, MAP_SHARED, fd, 0);
    if (map != MAP_FAILED) world = map;
    if (fd >= 0) close(fd);
}

/* Whether a write fails now. Sockets, pipes and the log on standard error are no part of the disk. */
static int fails(int fd) {
    struct stat seen;
    if (!world[0] || fd == STDERR_FILENO || fstat(fd, &seen) || !S_ISREG(seen.st_mode)) return 0;
    errno = (int)world[0];
    return 1;
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t write(int fd, const void *bytes, size_t count) {
    return fails(fd) ? -1 : NEXT(write)(fd, bytes, count);
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t at) {
    return fails(fd) ? -1 : NEXT(pwrite)(fd, bytes, count, at);
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t at) {
    return fails(fd) ? -1 : NEXT(pwrite64)(fd, bytes, count, at);
}

/* A full disk opens files and makes empty ones; a read-only one does neither. */
static int no_opening(int flags) {
    if (world[0] != EROFS || (flags & O_ACCMODE) == O_RDONLY) return 0;
    errno = EROFS;
    return 1;
}

#define OPEN(name)                                                     \
    int name(const char *path, int flags, ...) {                       \
        va_list rest;                                                  \
        va_start(rest, flags);                                         \
        mode_t mode = va_arg(rest, mode_t);                            \
        va_end(rest);                                                  \
        return no_opening(flags) ? -1 : NEXT(name)(path, flags, mode); \
    }
OPEN(open)
OPEN(open64)

int clock_gettime(clockid_t clock, struct timespec *now) {
    int outcome = NEXT(clock_gettime)(clock, now);
    if (outcome == 0 && clock == CLOCK_REALTIME) {
        int64_t ms = now->tv_sec * 1000LL + now->tv_nsec / 1000000 + world[1];
        now->tv_sec = ms / 1000;
        now->tv_nsec = ms % 1000 * 1000000 + now->tv_nsec % 1000000;
    }
    return outcome;
}
