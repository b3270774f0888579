/* See line.h. */
#include "line.h"

enum { D = 4, H = 3 };

size_t line_workspace_bytes(const line_dims *dims) { return dims ? dims->N * H * sizeof(line_real) : 0; }

int line_value_and_grad(const line_dims *dims, const line_params *params, const line_inputs *inputs, line_real *loss,
                        const line_grads *grads, const line_outputs *outputs, void *workspace, size_t workspace_bytes) {
    if (!dims || !params->fc_W || !params->fc_b || !inputs->x || !inputs->y || !loss || !grads || !workspace)
        return LINE_NULL_POINTER;
    if (workspace_bytes < line_workspace_bytes(dims)) return LINE_SMALL_WORKSPACE;
    line_real *d = workspace, sum = 0;
    const line_real scale = (line_real)1 / (line_real)(dims->N * H);
    for (size_t n = 0; n < dims->N; n++)
        for (size_t k = 0; k < H; k++) {
            line_real y = params->fc_b[k];
            for (size_t i = 0; i < D; i++) y += params->fc_W[k * D + i] * inputs->x[n * D + i];
            if (outputs && outputs->fc_y) outputs->fc_y[n * H + k] = y;
            y -= inputs->y[n * H + k];
            sum += y * y * scale;
            d[n * H + k] = 2 * y * scale;
        }
    *loss = sum;
    for (size_t k = 0; k < H; k++) {
        grads->fc_b[k] = 0;
        for (size_t i = 0; i < D; i++) grads->fc_W[k * D + i] = 0;
        for (size_t n = 0; n < dims->N; n++) {
            grads->fc_b[k] += d[n * H + k];
            for (size_t i = 0; i < D; i++) grads->fc_W[k * D + i] += d[n * H + k] * inputs->x[n * D + i];
        }
    }
    return LINE_OK;
}
