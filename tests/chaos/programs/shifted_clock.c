/* Moves the wall clock of programs: preloaded, it adds the seconds in a file (a 64-bit number, read anew at every call)
 * to every answer about the time of day. Other clocks stay as they are. */
#define _GNU_SOURCE

#include <fcntl.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t *shift;

__attribute__((constructor)) static void find_file(void)
{
    int descriptor = open("/opt/chaos/clock", O_RDONLY | O_CLOEXEC);
    if (descriptor == -1)
        return;
    void *found = mmap(NULL, sizeof *shift, PROT_READ, MAP_SHARED, descriptor, 0);
    shift = found == MAP_FAILED ? NULL : found;
    close(descriptor);
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    int result = (int)syscall(SYS_clock_gettime, clock, now);
    if (result == 0 && shift && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        now->tv_sec += *shift;
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    struct timespec exact;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &exact);
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *answer)
{
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    if (answer)
        *answer = exact.tv_sec;
    return exact.tv_sec;
}
