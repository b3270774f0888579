/* A dense layer with squared error, written by hand: the interface of a generated header, for the tests. */
#ifndef LINE_H
#define LINE_H
#include <stddef.h>
#include <stdint.h>

#ifndef LINE_REAL
#define LINE_REAL float
#endif
typedef LINE_REAL line_real;
typedef int64_t line_index;
enum { LINE_OK = 0, LINE_NULL_POINTER = 1, LINE_BAD_SIZE = 2, LINE_BAD_INDEX = 3, LINE_SMALL_WORKSPACE = 4 };
typedef struct { size_t N; } line_dims;
typedef struct {
    const line_real *fc_W; /* [3, 4] */
    const line_real *fc_b; /* [3] */
} line_params;
typedef struct { const line_real *x, *y; /* [N, 4], [N, 3] */ } line_inputs;
typedef struct { line_real *fc_W, *fc_b; } line_grads;
typedef struct { line_real *fc_y; } line_outputs;

size_t line_workspace_bytes(const line_dims *dims);
int line_value_and_grad(const line_dims *dims, const line_params *params, const line_inputs *inputs, line_real *loss,
                        const line_grads *grads, const line_outputs *outputs, void *workspace, size_t workspace_bytes);
#endif
