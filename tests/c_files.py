"""C files for the tests of ``NAME_c.py``: a small model's, written by hand, and one for any model that only says what came."""

from __future__ import annotations

from typing import Any

import numpy as np

import symbolic
from codegen import build
from codegen.c.binding import binding_text, fields
from codegen.c.names import field_names
from codegen.pipeline import Options, command, source_of, stages, units
from codegen.prepared import Prepared

__all__ = ["HEADER", "OPTIONS", "SOURCE", "SPEC", "arrays", "bound", "prepared", "same", "texts"]

SPEC: dict[str, Any] = {
    "name": "lin", "dtype": "float32", "sizes": {"K": 3, "B": 4},
    "inputs": {"x": ["N", "K"], "i": {"shape": ["N"], "kind": "index", "below": "B", "ignore": -1}, "t": ["N"]},
    "layers": [{"name": "m", "type": "equations", "parameters": {"w": ["K"], "e": ["B"]}, "output": "y",
                "equations": "y[n] = w[k]*x[n,k] + e[i[n]]"}],
    "loss": {"type": "mse", "target": "t"}, "optimizer": {"type": "momentum"},
}

HEADER = """
#include <stddef.h>
#include <stdint.h>
#ifdef LIN_DOUBLE
typedef double lin_real;
#else
typedef float lin_real;
#endif
typedef int64_t lin_index;
enum { LIN_OK = 0, LIN_NULL_POINTER = 1, LIN_BAD_SIZE = 2, LIN_BAD_INDEX = 3, LIN_SMALL_WORKSPACE = 4 };
typedef struct { size_t N; } lin_dims;
typedef struct { const lin_real *m_w, *m_e; } lin_params;
typedef struct { const lin_real *x; const lin_index *i; const lin_real *t; } lin_inputs;
typedef struct { lin_real *m_w, *m_e; } lin_grads;
typedef struct { const lin_real *m_w, *m_e; } lin_direction;
typedef struct { lin_real *m_y; } lin_outputs;
"""

SOURCE = """
#include "lin.h"
#include <math.h>
enum { K = 3, B = 4 };
typedef lin_real real;

size_t lin_workspace_bytes(const lin_dims *dims) { return dims->N > SIZE_MAX/64 ? 0 : dims->N*sizeof(real); }

static real dot(const real *w, const real *e, const real *x, lin_index i) {
    return w[0]*x[0] + w[1]*x[1] + w[2]*x[2] + (i < 0 ? 0 : e[i]);
}

static int forward(const lin_dims *dims, const lin_params *p, const lin_inputs *in, const lin_outputs *out, real *y,
                   size_t bytes) {
    if (!dims || !p || !in || !y) return LIN_NULL_POINTER;
    if (dims->N < 1 || dims->N > 100000000) return LIN_BAD_SIZE;
    if (bytes < lin_workspace_bytes(dims)) return LIN_SMALL_WORKSPACE;
    for (size_t n = 0; n < dims->N; n++) if (in->i[n] < -1 || in->i[n] >= B) return LIN_BAD_INDEX;
    for (size_t n = 0; n < dims->N; n++) y[n] = dot(p->m_w, p->m_e, in->x + n*K, in->i[n]);
    if (out && out->m_y) for (size_t n = 0; n < dims->N; n++) out->m_y[n] = y[n];
    return LIN_OK;
}

int lin_predict(const lin_dims *dims, const lin_params *p, const lin_inputs *in, const lin_outputs *out, void *work,
                size_t bytes) {
    return in->t ? -1 : forward(dims, p, in, out, work, bytes);
}

int lin_value_and_grad(const lin_dims *dims, const lin_params *p, const lin_inputs *in, lin_real *loss, const lin_grads *g,
                       const lin_outputs *out, void *work, size_t bytes) {
    real *y = work, total = 0;
    int code = forward(dims, p, in, out, y, bytes);
    if (code) return code;
    if (g) for (int k = 0; k < K; k++) g->m_w[k] = 0;
    if (g) for (int b = 0; b < B; b++) g->m_e[b] = 0;
    for (size_t n = 0; n < dims->N; n++) {
        real r = y[n] - in->t[n], d = 2*r/(real)dims->N;
        total += r*r;
        if (!g) continue;
        for (int k = 0; k < K; k++) g->m_w[k] += d*in->x[n*K + (size_t)k];
        if (in->i[n] >= 0) g->m_e[in->i[n]] += d;
    }
    *loss = total/(real)dims->N;
    return LIN_OK;
}

int lin_loss(const lin_dims *dims, const lin_params *p, const lin_inputs *in, lin_real *loss, void *work, size_t bytes) {
    return lin_value_and_grad(dims, p, in, loss, NULL, NULL, work, bytes);
}

int lin_hvp(const lin_dims *dims, const lin_params *p, const lin_inputs *in, const lin_direction *v, const lin_grads *g,
            void *work, size_t bytes) {
    int code = forward(dims, p, in, NULL, work, bytes);
    if (code) return code;
    for (int k = 0; k < K; k++) g->m_w[k] = 0;
    for (int b = 0; b < B; b++) g->m_e[b] = 0;
    for (size_t n = 0; n < dims->N; n++) {
        real d = 2*dot(v->m_w, v->m_e, in->x + n*K, in->i[n])/(real)dims->N;
        for (int k = 0; k < K; k++) g->m_w[k] += d*in->x[n*K + (size_t)k];
        if (in->i[n] >= 0) g->m_e[in->i[n]] += d;
    }
    return LIN_OK;
}

int lin_jvp(const lin_dims *dims, const lin_params *p, const lin_inputs *in, const lin_direction *v, lin_real *loss,
            lin_real *slope, void *work, size_t bytes) {
    int code = lin_loss(dims, p, in, loss, work, bytes);
    real *y = work;
    if (code) return code;
    *slope = 0;
    for (size_t n = 0; n < dims->N; n++)
        *slope += 2*(y[n] - in->t[n])*dot(v->m_w, v->m_e, in->x + n*K, in->i[n])/(real)dims->N;
    return LIN_OK;
}
"""

OPTIONS = Options(tangent=True, hvp=True)


def prepared(spec: Any = SPEC, options: Options = OPTIONS) -> Prepared:
    model = spec if isinstance(spec, symbolic.Model) else symbolic.load(spec)
    done = stages(model, options)
    return Prepared(model.name, options.dtype or model.dtype, source_of(model), model.digest, command(model, "c", options),
                    model.prediction, done.program, units(done), model.initialisers, model.update, model.seed)


def texts() -> dict[str, str]:
    return {"lin.c": SOURCE, "lin.h": HEADER, "lin_c.py": binding_text(prepared(), HEADER)}


def arrays(dtype: Any = np.float32, count: int = 5, seed: int = 0) -> tuple[dict[str, Any], dict[str, Any]]:
    rng = np.random.default_rng(seed)
    real = {"m.w": (3,), "m.e": (4,), "x": (count, 3), "t": (count,)}
    made: dict[str, Any] = {name: rng.standard_normal(shape).astype(dtype) for name, shape in real.items()}
    made["i"] = rng.integers(-1, 4, count)
    return {n: made[n] for n in ("m.w", "m.e")}, {n: made[n] for n in ("x", "i", "t")}


def same(found: Any, expected: Any) -> None:
    if isinstance(expected, dict):
        assert list(found) == list(expected)
        for name, array in expected.items():
            same(found[name], array)
    elif isinstance(expected, tuple):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            same(one, other)
    else:
        assert type(found) is type(expected)
        if isinstance(expected, np.ndarray):
            assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
            assert found.flags.writeable
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def echo(made: Prepared) -> tuple[str, str]:
    """A C file and a header of the right form whose functions say which member of which struct an array is: 100, 101, ... for
    gradients, 200, ... for outputs; the loss is the sum of the first entries that came, with a weight for each array."""
    name, upper, members, program = made.name, made.name.upper(), fields(made), made.program
    own = field_names(program)

    def struct_of(what: str, names: Any, const: str) -> str:
        rows = " ".join(f"{const}{name}_{'index' if program.tensor(n).is_index else 'real'} *{own[n]};" for n in names)
        return f"typedef struct {{ {rows or 'const void *none;'} }} {name}_{what};"

    dims = " ".join(f"size_t {n};" for n in members.dims) or "size_t none;"
    header = "\n".join([
        "#include <stddef.h>", "#include <stdint.h>", f"#ifdef {upper}_DOUBLE", f"typedef double {name}_real;", "#else",
        f"typedef {'float' if made.dtype == 'float32' else 'double'} {name}_real;", "#endif", f"typedef int64_t {name}_index;",
        f"typedef struct {{ {dims} }} {name}_dims;", struct_of("params", members.params, "const "),
        struct_of("inputs", members.inputs, "const "), struct_of("grads", members.grads, ""),
        struct_of("direction", members.grads, "const "), struct_of("outputs", members.outputs, "")])
    asked = {t.name for t in next(u for u in made.units if u.kind == "predict").program.inputs}
    sums = [f"s += {k + 1}*p->{own[n]}[0];" for k, n in enumerate(members.params)]
    sums += [f"s += {k + 50}*(double)in->{own[n]}[0];" for k, n in enumerate(members.inputs) if n in asked]
    rest = [f"if (in->{own[n]}) s += {k + 50}*(double)in->{own[n]}[0];" for k, n in enumerate(members.inputs) if n not in asked]
    size = " ".join(f"s += {1000*(k + 1)}*(double)d->{n};" for k, n in enumerate(members.dims))
    gave = " ".join(f"g->{own[n]}[0] = {100 + k};" for k, n in enumerate(members.grads))
    out = " ".join(f"if (o && o->{own[n]}) o->{own[n]}[0] = {200 + k};" for k, n in enumerate(members.outputs))
    along = " ".join(f"s += {k + 7}*v->{own[n]}[0];" for k, n in enumerate(members.grads))
    head = f"const {name}_dims *d, const {name}_params *p, const {name}_inputs *in"
    tail = "void *w, size_t bytes"
    source = f"""#include "{name}.h"
size_t {name}_workspace_bytes(const {name}_dims *d) {{ (void)d; return 1000; }}
static double sum({head}) {{ double s = 0; (void)d; (void)p; (void)in; {' '.join((*sums, *rest))} {size} return s; }}
int {name}_value_and_grad({head}, {name}_real *l, const {name}_grads *g, const {name}_outputs *o, {tail}) {{
    *l = ({name}_real)sum(d, p, in); {gave} {out} return (uintptr_t)w % 64 || bytes < 1000 ? 4 : 0; }}
int {name}_loss({head}, {name}_real *l, {tail}) {{ *l = ({name}_real)sum(d, p, in); return w && bytes ? 0 : 1; }}
int {name}_predict({head}, const {name}_outputs *o, {tail}) {{
    double s = sum(d, p, in); {out} return w && bytes && s == s ? 0 : 1; }}
int {name}_jvp({head}, const {name}_direction *v, {name}_real *l, {name}_real *slope, {tail}) {{
    double s = 0; {along} *slope = ({name}_real)s; *l = ({name}_real)sum(d, p, in); return w && bytes ? 0 : 1; }}
int {name}_hvp({head}, const {name}_direction *v, const {name}_grads *g, {tail}) {{
    double s = sum(d, p, in); {along} {gave} return w && bytes && s == s ? 0 : 1; }}
"""
    return source, header


def bound(model: Any, options: Options = OPTIONS) -> Any:
    """The module over C that only says what came."""
    made = prepared(model, options)
    source, header = echo(made)
    return build.bind(made.name, {f"{made.name}.c": source, f"{made.name}.h": header,
                                  f"{made.name}_c.py": binding_text(made, header)})
