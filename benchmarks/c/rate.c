/* Prints the GFLOP/s that one core reaches in multiply-adds: independent vector chains that stay in registers.
   Compile with -DREAL=float or double, for the machine at hand. */
#include "clock.h"
#include <stdio.h>

#if defined(__AVX512F__)
#define BYTES 64
#elif defined(__AVX__)
#define BYTES 32
#else
#define BYTES 16
#endif

typedef REAL vector __attribute__((vector_size(BYTES)));
enum { LANES = BYTES / sizeof(REAL), CHAINS = 12, STEPS = 2000000, TRIES = 9 };

int main(void) {
    volatile REAL half = (REAL)0.5, one = 1;
    vector m, a, chain[CHAINS];
    int64_t best = INT64_MAX;
    REAL sum = 0;
    for (int l = 0; l < LANES; l++) m[l] = half, a[l] = one;
    for (int k = 0; k < CHAINS; k++)
        for (int l = 0; l < LANES; l++) chain[k][l] = (REAL)k;
    for (int try = 0; try < TRIES; try++) {
        const int64_t start = nanoseconds();
        for (int step = 0; step < STEPS; step++)
            for (int k = 0; k < CHAINS; k++) chain[k] = chain[k] * m + a; /* tends to 2 */
        const int64_t took = nanoseconds() - start;
        if (took < best) best = took;
    }
    for (int k = 0; k < CHAINS; k++) sum += chain[k][0]; /* so that no chain is dropped */
    if (sum < CHAINS) return 1;
    printf("%.3f\n", 2.0 * STEPS * CHAINS * LANES / (double)best);
    return 0;
}
