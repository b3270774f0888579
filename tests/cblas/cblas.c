/* Products as the reference BLAS defines them, by three loops; what no BLAS would take ends the program. */
#include "cblas.h"

#include <stdio.h>
#include <stdlib.h>

int cblas_calls = 0;

static void refuse(int fine, const char *what)
{
    if (!fine) {
        fprintf(stderr, "cblas: %s\n", what);
        abort();
    }
}

#define GEMM(name, real)                                                                                                   \
    void name(CBLAS_ORDER order, CBLAS_TRANSPOSE a_turned, CBLAS_TRANSPOSE b_turned, int m, int n, int k, real alpha,       \
              const real *a, int lda, const real *b, int ldb, real beta, real *c, int ldc)                                 \
    {                                                                                                                      \
        cblas_calls++;                                                                                                     \
        refuse(order == CblasRowMajor && m >= 0 && n >= 0 && k >= 0, "order or sizes");                                    \
        refuse(lda >= (a_turned == CblasNoTrans ? k : m), "lda");                                                          \
        refuse(ldb >= (b_turned == CblasNoTrans ? n : k), "ldb");                                                          \
        refuse(ldc >= n, "ldc");                                                                                           \
        for (int i = 0; i < m; i++) {                                                                                      \
            for (int j = 0; j < n; j++) {                                                                                  \
                real sum = 0;                                                                                              \
                for (int l = 0; l < k; l++) {                                                                              \
                    sum += (a_turned == CblasNoTrans ? a[(size_t)i * (size_t)lda + (size_t)l]                              \
                                                     : a[(size_t)l * (size_t)lda + (size_t)i]) *                           \
                           (b_turned == CblasNoTrans ? b[(size_t)l * (size_t)ldb + (size_t)j]                              \
                                                     : b[(size_t)j * (size_t)ldb + (size_t)l]);                            \
                }                                                                                                          \
                real *to = c + (size_t)i * (size_t)ldc + (size_t)j;                                                        \
                *to = beta == 0 ? alpha * sum : alpha * sum + beta * *to;                                                  \
            }                                                                                                              \
        }                                                                                                                  \
    }

GEMM(cblas_sgemm, float)
GEMM(cblas_dgemm, double)
