/* Calls MODEL_value_and_grad of a generated C file again and again and tells how long that took, so that a figure holds
   the function and not the way into C. Compile beside MODEL.c, with -DMODEL=name -DHEADER='"name.h"'.

   The structs of the header hold pointers alone (MODEL_dims: sizes alone), so each is filled from an array in the order
   of its fields. */
#include "clock.h"
#include HEADER
#include <string.h>

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
#define OF(name) JOIN(MODEL, name)

/* Bytes of the structs, against which the caller holds the number of fields it read from the header. */
void bench_bytes(size_t bytes[4]) {
    bytes[0] = sizeof(OF(_dims)), bytes[1] = sizeof(OF(_params));
    bytes[2] = sizeof(OF(_inputs)), bytes[3] = sizeof(OF(_grads));
}

size_t bench_workspace(const size_t *sizes) {
    OF(_dims) dims;
    memcpy(&dims, sizes, sizeof dims);
    return OF(_workspace_bytes)(&dims);
}

/* Nanoseconds of `calls` calls; a negative number is the status of the call that failed. */
int64_t bench_run(int64_t calls, const size_t *sizes, void *const *params, void *const *inputs, void *loss,
                  void *const *grads, void *workspace, size_t bytes) {
    OF(_dims) dims;
    OF(_params) given;
    OF(_inputs) batch;
    OF(_grads) found;
    memcpy(&dims, sizes, sizeof dims);
    memcpy(&given, params, sizeof given);
    memcpy(&batch, inputs, sizeof batch);
    memcpy(&found, grads, sizeof found);
    const int64_t start = nanoseconds();
    for (int64_t call = 0; call < calls; call++) {
        const int status = OF(_value_and_grad)(&dims, &given, &batch, loss, &found, NULL, workspace, bytes);
        if (status != 0) return -status;
    }
    return nanoseconds() - start;
}
