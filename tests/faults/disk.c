/*
 * A disk that refuses while the process runs, as one does that has failed or that the kernel has made read-only.
 *
 * LD_PRELOAD this into a process with
 *
 *   DISK_LIVE      a directory; only the files directly in it are refused
 *   DISK_REFUSES   a file of two native 32-bit numbers, which the test changes: the errno of every change of a
 *                  file (write, truncate, create, delete, rename), and that of every fsync and fdatasync;
 *                  0: all is well. It is mapped, so that a change of the file holds at once.
 *
 * (A mount cannot be made read-only while a file is open for writing, so mount(8) does not do for this test.)
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static volatile const int32_t *refuses;
static char live[PATH_MAX];

__attribute__((constructor)) static void begin(void)
{
    const char *directory = getenv("DISK_LIVE"), *path = getenv("DISK_REFUSES");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0 || !directory || !realpath(directory, live)) return;
    void *mapped = mmap(NULL, 2 * sizeof *refuses, PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (mapped == MAP_FAILED) _exit(99);
    refuses = mapped;
}

#define REAL(name, ...)                                                    \
    ({                                                                     \
        static __typeof__(&name) found;                                    \
        if (!found) found = (__typeof__(&name))dlsym(RTLD_NEXT, #name);    \
        found(__VA_ARGS__);                                                \
    })

static int within(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash && slash - path == (long)strlen(live) && !strncmp(path, live, slash - path);
}

static int refused_path(const char *path)
{
    if (!refuses || !refuses[0] || !within(path)) return 0;
    errno = refuses[0];
    return 1;
}

/* Asks the kernel for the file's name; only while something is refused. */
static int refused(int descriptor, int which)
{
    char link[64], path[PATH_MAX];
    if (!refuses || !refuses[which]) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    path[length > 0 ? length : 0] = 0;
    if (!within(path) && strcmp(path, live)) return 0;
    errno = refuses[which];
    return 1;
}

ssize_t write(int descriptor, const void *bytes, size_t size)
{
    return refused(descriptor, 0) ? -1 : REAL(write, descriptor, bytes, size);
}

ssize_t pwrite64(int descriptor, const void *bytes, size_t size, off64_t from)
{
    return refused(descriptor, 0) ? -1 : REAL(pwrite64, descriptor, bytes, size, from);
}

int ftruncate64(int descriptor, off64_t size)
{
    return refused(descriptor, 0) ? -1 : REAL(ftruncate64, descriptor, size);
}

int posix_fallocate64(int descriptor, off64_t from, off64_t size)
{
    return refused(descriptor, 0) ? errno : REAL(posix_fallocate64, descriptor, from, size);
}

int fsync(int descriptor)
{
    return refused(descriptor, 1) ? -1 : REAL(fsync, descriptor);
}

int fdatasync(int descriptor)
{
    return refused(descriptor, 1) ? -1 : REAL(fdatasync, descriptor);
}

int unlink(const char *path)
{
    return refused_path(path) ? -1 : REAL(unlink, path);
}

int rename(const char *from, const char *to)
{
    return refused_path(to) ? -1 : REAL(rename, from, to);
}

int open64(const char *path, int flags, ...)
{
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = va_arg(arguments, mode_t);
    va_end(arguments);
    if (flags & O_CREAT && access(path, F_OK) && refused_path(path)) return -1;
    return REAL(open64, path, flags, mode);
}
