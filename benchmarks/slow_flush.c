/* Lengthens the flushes of the WAL: loaded into a Postgres server by LD_PRELOAD.

   A flush takes FLUSH_MICROSECONDS at least, the real one included. Files outside of pg_wal are flushed as ever. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

static int is_wal(int descriptor)
{
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0)
        return 0;
    path[length] = 0;
    return strstr(path, "/pg_wal/") != NULL;
}

static void sleep_until_over(const struct timespec *start)
{
    const char *text = getenv("FLUSH_MICROSECONDS");
    struct timespec end = *start;
    end.tv_nsec += text == NULL ? 0 : 1000L * atol(text);
    end.tv_sec += end.tv_nsec / 1000000000L;
    end.tv_nsec %= 1000000000L;
    prctl(PR_SET_TIMERSLACK, 1UL); /* else a sleep takes up to 0.05 ms longer */
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &end, NULL) != 0)
        ; /* interrupted by a signal */
}

static int flush(const char *name, int descriptor)
{
    int (*real)(int) = (int (*)(int)) dlsym(RTLD_NEXT, name);
    struct timespec start;
    clock_gettime(CLOCK_MONOTONIC, &start);
    int result = real(descriptor);
    if (is_wal(descriptor))
        sleep_until_over(&start);
    return result;
}

int fsync(int descriptor) { return flush("fsync", descriptor); }

int fdatasync(int descriptor) { return flush("fdatasync", descriptor); }
