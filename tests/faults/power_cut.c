/*
 * What would be left of a directory after a power cut, kept up to date while the process runs.
 *
 * LD_PRELOAD this into a process with
 *
 *   POWER_CUT_LIVE    a directory that exists; only the files directly in it are watched
 *   POWER_CUT_MIRROR  an empty directory on the same file system; it gets
 *                       inodes/   what the disk has of each file, by number
 *                       names/    what the disk has of the directory: links to the files above
 *
 * then kill the process at any moment (SIGKILL keeps the page cache, a power cut does not): `names/` is the
 * directory that the next boot finds, if the disk had written nothing but what it was asked to write.
 *
 * The model is the least that POSIX promises, so it is worse than every real file system:
 *
 * - What is there at the start is on disk.
 * - The content and the length of a file are on disk as they are when fsync() or fdatasync() of *that file* is
 *   called. Nothing else brings them there: no close(), no rename(), no sync_file_range(), no time that passes.
 *   A write() or a mapped page that was not synced leaves the old bytes; a truncation that was not synced leaves
 *   the old length.
 * - The names in the directory are on disk as they are when the *directory* is synced. Without that, a new file
 *   is not there, a deleted one is there again, and a renamed one has its old name.
 * - Each sync of a file and each name is on its own: a cut within a sync leaves any part of it.
 *
 * What a disk writes without being asked (any block, in any order) is left to the test, which can copy blocks
 * from the live directory; see tests/faults/shim.py.
 *
 * Which blocks of a file have changed is known from write(), pwrite(), and ftruncate(): SQLite writes its database
 * and its log by pwrite64() and ftruncate64() (checked with strace); its -shm file, which it maps, is never synced.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define BLOCK 4096
#define FILES 256

struct file {
    dev_t device;
    ino_t inode;
    int number;            /* its name in inodes/ */
    int source;            /* for reading; never closed, which keeps the inode's number its own, and the process's
                              POSIX locks on the file (closing any descriptor drops them) */
    unsigned char *dirty;  /* by block: written since the last sync */
    off_t blocks;          /* length of dirty */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct file files[FILES];
static int known;
static char live[PATH_MAX], mirror[PATH_MAX];
static dev_t live_device;
static ino_t live_inode;

#define REAL(name) ((__typeof__(&name))real_##name())
#define DECLARE(name)                                    \
    static void *real_##name(void)                       \
    {                                                    \
        static void *found;                              \
        if (!found) found = dlsym(RTLD_NEXT, #name);     \
        return found;                                    \
    }
DECLARE(fsync)
DECLARE(fdatasync)
DECLARE(write)
DECLARE(writev)
DECLARE(pwrite64)
DECLARE(pwritev64)
DECLARE(ftruncate64)

static void die(const char *what)
{
    dprintf(2, "power_cut: %s: %s\n", what, strerror(errno));
    _exit(99); /* a test that goes on without its mirror would say something false */
}

static void path_of(const struct file *file, char *path)
{
    snprintf(path, PATH_MAX, "%s/inodes/%d", mirror, file->number);
}

static void mark(struct file *file, off_t from, off_t to)
{
    off_t last = (to + BLOCK - 1) / BLOCK;
    if (last > file->blocks) {
        off_t blocks = last + 1024;
        file->dirty = realloc(file->dirty, blocks);
        if (!file->dirty) die("memory");
        memset(file->dirty + file->blocks, 0, blocks - file->blocks);
        file->blocks = blocks;
    }
    for (off_t block = from / BLOCK; block < last; block++) file->dirty[block] = 1;
}

static struct file *find(const struct stat *status)
{
    for (int i = 0; i < known; i++)
        if (files[i].inode == status->st_ino && files[i].device == status->st_dev) return &files[i];
    return NULL;
}

/* Take up a file at its first sync, or when its name becomes durable: so far the disk has nothing of it. */
static struct file *take_up(const char *path, const struct stat *status)
{
    if (known == FILES) die("too many files");
    struct file *file = &files[known];
    *file = (struct file){status->st_dev, status->st_ino, known, -1, NULL, 0};
    file->source = open(path, O_RDONLY | O_CLOEXEC);
    if (file->source < 0) return NULL; /* gone meanwhile */
    char copy[PATH_MAX];
    path_of(file, copy);
    int made = open(copy, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (made < 0) die(copy);
    close(made);
    mark(file, 0, status->st_size);
    known++;
    return file;
}

/* The disk has the file as it is now. */
static void keep_content(struct file *file)
{
    char path[PATH_MAX], block[BLOCK];
    struct stat status;
    path_of(file, path);
    int copy = open(path, O_WRONLY | O_CLOEXEC);
    if (copy < 0 || fstat(file->source, &status)) die(path);
    if (REAL(ftruncate64)(copy, status.st_size)) die(path);
    for (off_t i = 0; i < file->blocks && i * BLOCK < status.st_size; i++) {
        if (!file->dirty[i]) continue;
        ssize_t length = pread(file->source, block, BLOCK, i * BLOCK);
        if (length < 0 || REAL(pwrite64)(copy, block, length, i * BLOCK) != length) die(path);
    }
    memset(file->dirty, 0, file->blocks);
    close(copy);
}

/* The disk has the directory as it is now; of files that were never synced, no more than that they are there. */
static void keep_names(int with_content)
{
    char path[PATH_MAX], name[PATH_MAX], temporary[PATH_MAX];
    struct stat status;
    struct dirent *entry;
    snprintf(temporary, PATH_MAX, "%s/link", mirror);
    DIR *directory = opendir(live);
    if (!directory) die(live);
    while ((entry = readdir(directory))) {
        snprintf(path, PATH_MAX, "%s/%s", live, entry->d_name);
        if (lstat(path, &status) || !S_ISREG(status.st_mode)) continue;
        struct file *file = find(&status);
        if (!file && !(file = take_up(path, &status))) continue;
        if (with_content) keep_content(file);
        path_of(file, path);
        snprintf(name, PATH_MAX, "%s/names/%s", mirror, entry->d_name);
        unlink(temporary);
        if (link(path, temporary) || rename(temporary, name)) die(name); /* replaced at once, as rename() does */
    }
    closedir(directory);
    snprintf(path, PATH_MAX, "%s/names", mirror);
    if (!(directory = opendir(path))) die(path);
    while ((entry = readdir(directory))) {
        snprintf(path, PATH_MAX, "%s/%s", live, entry->d_name);
        snprintf(name, PATH_MAX, "%s/names/%s", mirror, entry->d_name);
        if (entry->d_name[0] != '.' && lstat(path, &status)) unlink(name);
    }
    closedir(directory);
}

__attribute__((constructor)) static void begin(void)
{
    const char *directory = getenv("POWER_CUT_LIVE"), *copy = getenv("POWER_CUT_MIRROR");
    struct stat status;
    char path[PATH_MAX];
    unsetenv("LD_PRELOAD"); /* what this process starts must not write to the same mirror */
    if (!directory || !copy) return;
    if (!realpath(directory, live) || !realpath(copy, mirror) || stat(live, &status)) die("directories");
    live_device = status.st_dev;
    live_inode = status.st_ino;
    snprintf(path, PATH_MAX, "%s/inodes", mirror);
    if (mkdir(path, 0755)) die(path);
    snprintf(path, PATH_MAX, "%s/names", mirror);
    if (mkdir(path, 0755)) die(path);
    keep_names(1);
}

static void written(int descriptor, off_t from, ssize_t length)
{
    struct stat status;
    int error = errno;
    if (length > 0 && live[0] && !fstat(descriptor, &status) && S_ISREG(status.st_mode) &&
        status.st_dev == live_device) {
        pthread_mutex_lock(&lock);
        struct file *file = find(&status);
        if (file) mark(file, from, from + length);
        pthread_mutex_unlock(&lock);
    }
    errno = error;
}

static void synced(int descriptor)
{
    struct stat status;
    char link[64], path[PATH_MAX];
    int error = errno;
    if (!live[0] || fstat(descriptor, &status)) return;
    pthread_mutex_lock(&lock);
    if (S_ISDIR(status.st_mode) && status.st_dev == live_device && status.st_ino == live_inode) {
        keep_names(0);
    } else if (S_ISREG(status.st_mode)) {
        struct file *file = find(&status);
        if (!file) {
            snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
            ssize_t length = readlink(link, path, sizeof path - 1);
            path[length > 0 ? length : 0] = 0;
            char *slash = strrchr(path, '/');
            if (slash && slash - path == (ssize_t)strlen(live) && !strncmp(path, live, slash - path))
                file = take_up(link, &status);
        }
        if (file) keep_content(file);
    }
    pthread_mutex_unlock(&lock);
    errno = error;
}

/* -- what the process calls ---------------------------------------------------------------------------- */

int fsync(int descriptor)
{
    int result = REAL(fsync)(descriptor);
    if (!result) synced(descriptor); /* a sync that fails promises nothing */
    return result;
}

int fdatasync(int descriptor)
{
    int result = REAL(fdatasync)(descriptor);
    if (!result) synced(descriptor);
    return result;
}

ssize_t write(int descriptor, const void *bytes, size_t size)
{
    ssize_t length = REAL(write)(descriptor, bytes, size);
    if (length > 0 && live[0]) {
        int error = errno;
        off_t end = lseek(descriptor, 0, SEEK_CUR);
        errno = error;
        if (end >= length) written(descriptor, end - length, length);
    }
    return length;
}

ssize_t writev(int descriptor, const struct iovec *parts, int count)
{
    ssize_t length = REAL(writev)(descriptor, parts, count);
    if (length > 0 && live[0]) {
        int error = errno;
        off_t end = lseek(descriptor, 0, SEEK_CUR);
        errno = error;
        if (end >= length) written(descriptor, end - length, length);
    }
    return length;
}

ssize_t pwrite64(int descriptor, const void *bytes, size_t size, off64_t from)
{
    ssize_t length = REAL(pwrite64)(descriptor, bytes, size, from);
    written(descriptor, from, length);
    return length;
}

ssize_t pwrite(int descriptor, const void *bytes, size_t size, off_t from)
{
    return pwrite64(descriptor, bytes, size, from);
}

ssize_t pwritev64(int descriptor, const struct iovec *parts, int count, off64_t from)
{
    ssize_t length = REAL(pwritev64)(descriptor, parts, count, from);
    written(descriptor, from, length);
    return length;
}

/* Where a file ends changes what its last blocks hold, even if they are written again later. */
int ftruncate64(int descriptor, off64_t size)
{
    struct stat before;
    int known_size = live[0] && !fstat(descriptor, &before);
    int result = REAL(ftruncate64)(descriptor, size);
    if (!result && known_size) {
        off_t low = before.st_size < size ? before.st_size : size;
        off_t high = before.st_size < size ? size : before.st_size;
        written(descriptor, low, high - low);
    }
    return result;
}

int ftruncate(int descriptor, off_t size)
{
    return ftruncate64(descriptor, size);
}
