/* The same for a function that CasADi generated: compile beside its file, with -DFUNCTION=name -DREAL=float or double. */
#include "clock.h"

int FUNCTION(const REAL **arg, REAL **res, long long *iw, REAL *w, int mem);

int64_t bench_run(int64_t calls, const REAL **arg, REAL **res, long long *iw, REAL *w) {
    const int64_t start = nanoseconds();
    for (int64_t call = 0; call < calls; call++)
        if (FUNCTION(arg, res, iw, w, 0) != 0) return -1;
    return nanoseconds() - start;
}
