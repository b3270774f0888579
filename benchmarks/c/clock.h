/* Nanoseconds of a clock that only goes forward. */
#ifndef CLOCK_H
#define CLOCK_H
#define _POSIX_C_SOURCE 199309L
#include <stdint.h>
#include <time.h>

static int64_t nanoseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}
#endif
