/*
 * A wall clock that the test turns while the process runs.
 *
 * LD_PRELOAD this into a process with
 *
 *   CLOCK_OFFSET    a file of 8 bytes, a native signed 64-bit number: how many nanoseconds the wall clock is ahead
 *                   of the true time. It is mapped, so that a write to it is a step of the clock.
 *
 * Only CLOCK_REALTIME is turned, as by date(1) or a bad NTP server; CLOCK_MONOTONIC goes on. What is turned:
 *
 * - reading it: clock_gettime, gettimeofday, time, timespec_get;
 * - waiting for a moment of it: pthread_cond_timedwait, sem_timedwait, and futex(2) with FUTEX_CLOCK_REALTIME.
 *   A step ends or prolongs such a wait, as the kernel's would, because the wait is cut into pieces and the clock
 *   is read after each. A condition variable or futex may always wake for nothing, so that the end of a piece is
 *   shown to the caller as such a wake-up.
 *
 * Not turned: the times that the kernel writes itself (files), and what libc does inside (syslog).
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000LL
#define PIECE (SECOND / 20)
#define CONDITIONS 4096 /* a power of two */

static volatile const int64_t *offset;

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("CLOCK_OFFSET");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *mapped = mmap(NULL, sizeof *offset, PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (mapped == MAP_FAILED) _exit(99);
    offset = mapped;
}

/* Of several versions of a function dlsym() may find the one from before 2003; everybody is linked to this one. */
static void *real(const char *name)
{
    void *found = dlvsym(RTLD_NEXT, name, "GLIBC_2.3.2");
    return found ? found : dlsym(RTLD_NEXT, name);
}
#define REAL(name, ...)                                    \
    ({                                                     \
        static __typeof__(&name) found;                    \
        if (!found) found = (__typeof__(&name))real(#name); \
        found(__VA_ARGS__);                                \
    })

static int64_t true_now(void)
{
    struct timespec now;
    REAL(clock_gettime, CLOCK_REALTIME, &now);
    return now.tv_sec * SECOND + now.tv_nsec;
}

static int64_t turned_now(void)
{
    return true_now() + (offset ? *offset : 0);
}

static struct timespec spec(int64_t time)
{
    return (struct timespec){time / SECOND, time % SECOND};
}

/* -- reading ------------------------------------------------------------------------------------------- */

int clock_gettime(clockid_t clock, struct timespec *now)
{
    int result = REAL(clock_gettime, clock, now);
    if (!result && offset && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        *now = spec(now->tv_sec * SECOND + now->tv_nsec + *offset);
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    int result = REAL(gettimeofday, now, zone);
    if (!result && offset) {
        int64_t turned = turned_now() / 1000;
        *now = (struct timeval){turned / 1000000, turned % 1000000};
    }
    return result;
}

time_t time(time_t *now)
{
    time_t turned = turned_now() / SECOND;
    if (now) *now = turned;
    return turned;
}

int timespec_get(struct timespec *now, int base)
{
    int result = REAL(timespec_get, now, base);
    if (result == TIME_UTC) *now = spec(turned_now());
    return result;
}

/* -- waiting ------------------------------------------------------------------------------------------- */

/* The end of the next piece of a wait, in true time; the past if the moment has come. */
static struct timespec piece(const struct timespec *moment)
{
    int64_t left = moment->tv_sec * SECOND + moment->tv_nsec - turned_now();
    return spec(true_now() + (left < PIECE ? left : PIECE));
}

static int has_come(const struct timespec *moment)
{
    return turned_now() >= moment->tv_sec * SECOND + moment->tv_nsec;
}

/* Condition variables that wait by another clock: by address, with open addressing, never removed. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
    const void *condition;
    int other;
} conditions[CONDITIONS];

/* Its place, or the free one that it would get; the lock must be held. */
static unsigned place_of(const void *condition)
{
    unsigned place = ((uintptr_t)condition >> 4) * 2654435761u;
    for (unsigned step = 0; step < CONDITIONS; step++, place++) {
        const void *there = conditions[place & (CONDITIONS - 1)].condition;
        if (!there || there == condition) return place & (CONDITIONS - 1);
    }
    _exit(99); /* the table is too small for this process */
}

static int waits_by_other_clock(const void *condition)
{
    pthread_mutex_lock(&lock);
    int other = conditions[place_of(condition)].other;
    pthread_mutex_unlock(&lock);
    return other;
}

static void note_clock(const void *condition, int other)
{
    pthread_mutex_lock(&lock);
    unsigned place = place_of(condition);
    if (other) conditions[place].condition = condition;
    conditions[place].other = other;
    pthread_mutex_unlock(&lock);
}

int pthread_cond_init(pthread_cond_t *restrict condition, const pthread_condattr_t *restrict attributes)
{
    clockid_t clock = CLOCK_REALTIME;
    if (attributes) pthread_condattr_getclock(attributes, &clock);
    note_clock(condition, clock != CLOCK_REALTIME);
    return REAL(pthread_cond_init, condition, attributes);
}

int pthread_cond_destroy(pthread_cond_t *condition)
{
    note_clock(condition, 0);
    return REAL(pthread_cond_destroy, condition);
}

int pthread_cond_timedwait(pthread_cond_t *restrict condition, pthread_mutex_t *restrict mutex,
                           const struct timespec *restrict moment)
{
    if (!offset || waits_by_other_clock(condition)) return REAL(pthread_cond_timedwait, condition, mutex, moment);
    struct timespec end = piece(moment);
    int result = REAL(pthread_cond_timedwait, condition, mutex, &end);
    return result == ETIMEDOUT && !has_come(moment) ? 0 : result;
}

int sem_timedwait(sem_t *restrict semaphore, const struct timespec *restrict moment)
{
    int result;
    do {
        struct timespec end = piece(moment);
        result = REAL(sem_timedwait, semaphore, &end);
    } while (result && errno == ETIMEDOUT && !has_come(moment));
    return result;
}

long syscall(long number, ...)
{
    long a[6];
    va_list arguments;
    va_start(arguments, number);
    for (int i = 0; i < 6; i++) a[i] = va_arg(arguments, long);
    va_end(arguments);
    if (number == SYS_clock_gettime) return clock_gettime(a[0], (struct timespec *)a[1]);
    const struct timespec *moment = (const struct timespec *)a[3];
    /* Other operations have no timeout there, but then the flag makes no sense either. */
    if (number != SYS_futex || !(a[1] & FUTEX_CLOCK_REALTIME) || !moment || !offset)
        return REAL(syscall, number, a[0], a[1], a[2], a[3], a[4], a[5]);
    struct timespec end = piece(moment);
    long result = REAL(syscall, number, a[0], a[1], a[2], &end, a[4], a[5]);
    if (result < 0 && errno == ETIMEDOUT && !has_come(moment)) errno = EINTR;
    return result;
}
