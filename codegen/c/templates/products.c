/* Products of matrices, for one core.

   Needs before it: real (float or double), REAL_IS_FLOAT, EXTENSIONS (each 1 or 0), <stddef.h>, <stdint.h>, <string.h>; <cblas.h> where
   REAL_CBLAS is defined. Paste `vectors` first, before every other function of the file. All functions are static and use
   no memory but their arguments and at most 16 KB of stack.

   Matrices are row-major with strides in elements: A[i,k] is a[i*a_rows + k*a_columns]. C has unit column stride: C[i,n] is
   c[i*c_rows + n], and overlaps nothing else. add != 0: C += A B, else C = A B and C is not read. Sizes may be 0. Scratch and packed
   matrices need the alignment of real only; they are fastest at a multiple of 64 bytes. Their sizes, in reals, are those of the last
   sections. Offsets come in any order.

     product(M, N, K, a, a_rows, a_columns, b, b_rows, b_columns, c, c_rows, add, scratch)     C[M,N] (+)= A[M,K] B[K,N]
     pack_b(K, N, b, b_rows, b_columns, packed)                                               B, in the order of its use
     product_packed(M, N, K, a, a_rows, a_columns, packed, c, c_rows, add)                    C[M,N] (+)= A[M,K] B[K,N]
     product_at(M, N, K, a, a_rows, a_columns, b, b_row_offsets, b_column_offsets,
                c, c_rows, add, scratch)                                 the same, B[k,n] = b[b_row_offsets[k] + b_column_offsets[n]]
     product_scatter(M, N, K, a, a_rows, a_columns, d, d_rows, d_columns,
                     base, rows, columns, scratch)                       base[rows[k] + columns[n]] += sum_m A[m,k] D[m,n]

   How: a tile of C, 8 rows by 3 vectors (4 by 3 where there are 16 registers), stays in registers while k runs; B is read where it is,
   or first packed vector by vector in blocks that fit the second-level cache. Tiles of the same rows follow one another where the rows
   of C are long, else tiles of the same columns. C with few columns may be made turned, C' = B' A'. Where both have their neighbours
   along k and there are few rows, tiles of dot products need no packing. Each sum is split by lanes and by blocks of k, never reordered
   by the compiler.
   gcc -O2 is enough, clang wants -O3; both want -march=native. */

/* === section vectors: needs extensions === */
/* A vector is LANES neighbours of a row. A tile of C, up to ROWS rows by 3 vectors, is held in registers. */
#if EXTENSIONS
#if defined(__AVX512F__)
enum { VECTOR_BYTES = 64, ROWS = 8 };
#elif defined(__AVX__)
enum { VECTOR_BYTES = 32, ROWS = 4 };
#elif defined(__aarch64__)
enum { VECTOR_BYTES = 16, ROWS = 8 };
#else
enum { VECTOR_BYTES = 16, ROWS = 4 };
#endif
typedef real vector __attribute__((vector_size(VECTOR_BYTES)));
#if REAL_IS_FLOAT
typedef int32_t integer;
#else
typedef int64_t integer;
#endif
typedef integer bits __attribute__((vector_size(VECTOR_BYTES)));
#define INLINE static inline __attribute__((always_inline))
#define LANE(v, l) ((v)[l])
/* a*b + c is one instruction where the machine has it, from here to the end of the file. ISO C allows it; gcc
   -std=c99 must be told. */
#if defined(__clang__)
#pragma STDC FP_CONTRACT ON
#define ONCE __attribute__((noinline))
#define UNROLL
#else
#pragma GCC optimize ("fp-contract=fast")
#define ONCE __attribute__((noinline, noclone))
#define UNROLL _Pragma("GCC unroll 24")
#endif
#else
enum { VECTOR_BYTES = 8 * sizeof(real), ROWS = 4 };
typedef struct { real lane[8]; } vector;
#define INLINE static inline
#define LANE(v, l) ((v).lane[l])
#define ONCE
#define UNROLL
#endif
enum { LANES = VECTOR_BYTES / sizeof(real) };

/* === section lanes: needs extensions, vectors === */
INLINE vector load(const real *p) { vector v; memcpy(&v, p, sizeof v); return v; }
INLINE void store(real *p, vector v) { memcpy(p, &v, sizeof v); }
INLINE vector zeros(void) { vector v; memset(&v, 0, sizeof v); return v; }

/* The last count lanes of v, zeros in the others. */
INLINE vector last_lanes(vector v, size_t count)
{
#if EXTENSIONS
    bits lane;
    for (int l = 0; l < LANES; l++) lane[l] = l;
    return (vector)((bits)v & (lane >= LANES - (integer)count));
#else
    for (size_t l = 0; l < LANES - count; l++) v.lane[l] = 0;
    return v;
#endif
}

/* === section tile: needs extensions, vectors, lanes === */
/* sum += s*v */
INLINE void add_scaled(vector *sum, real s, const vector *v)
{
#if EXTENSIONS
    *sum += s * *v;
#else
    for (size_t l = 0; l < LANES; l++) sum->lane[l] += s * v->lane[l];
#endif
}

INLINE vector plus(vector v, vector w)
{
#if EXTENSIONS
    return v + w;
#else
    for (size_t l = 0; l < LANES; l++) v.lane[l] += w.lane[l];
    return v;
#endif
}

/* One vector of each row, where the matrix ends: c[rows,LANES] (+)= sums[rows,LANES]. lanes < 0: the first -lanes
   lanes, all that there are. Else the last lanes, which others have not written. */
static void put_edge(size_t rows, const real *sums, real *c, size_t c_rows, ptrdiff_t lanes, int add)
{
    for (size_t i = 0; i < rows; i++) {
        real *p = c + i*c_rows;
        const real *q = sums + i*LANES;
        if (lanes >= 0) {
            store(p, add ? plus(load(p), last_lanes(load(q), (size_t)lanes)) : load(q));
        } else {
            for (size_t l = 0; l < (size_t)-lanes; l++) p[l] = add ? p[l] + q[l] : q[l];
        }
    }
}

/* One tile, rows by vectors, both known where it is inlined: C[i, at[v]+l] (+)= sum_k A[i,k] B[k, v, l], where the
   vectors of row k of B are at b[v] + k*b_rows or, where there are offsets, at b[v] + offsets[k]. Of the last vector,
   `lanes` are written as put_edge says. */
INLINE void tile_of(const size_t rows, const size_t vectors, size_t K, const real *a, size_t a_rows, size_t a_columns,
                    const real *const *b, size_t b_rows, const ptrdiff_t *offsets,
                    real *c, size_t c_rows, const size_t *at, ptrdiff_t lanes, int add)
{
    const size_t whole = lanes == LANES ? vectors : vectors - 1;
    const real *column[8], *row_of_a[ROWS];
    vector sum[ROWS][8];
    UNROLL
    for (size_t v = 0; v < vectors; v++) column[v] = b[v];
    UNROLL
    for (size_t i = 0; i < rows; i++) {
        row_of_a[i] = a + i*a_rows;
        UNROLL
        for (size_t v = 0; v < vectors; v++) sum[i][v] = zeros();
    }
    for (size_t k = 0; k < K; k++) {
        vector row[8];
        const ptrdiff_t offset = offsets ? offsets[k] : (ptrdiff_t)(k*b_rows);
        UNROLL
        for (size_t v = 0; v < vectors; v++) row[v] = load(column[v] + offset);
        UNROLL
        for (size_t i = 0; i < rows; i++) {
            const real s = row_of_a[i][k*a_columns];
            UNROLL
            for (size_t v = 0; v < vectors; v++) add_scaled(&sum[i][v], s, &row[v]);
        }
    }
    if (whole < vectors) {
        real edge[ROWS * LANES];
        UNROLL
        for (size_t i = 0; i < rows; i++) store(edge + i*LANES, sum[i][vectors - 1]);
        put_edge(rows, edge, c + at[vectors - 1], c_rows, lanes, add);
    }
    UNROLL
    for (size_t i = 0; i < rows; i++) {
        UNROLL
        for (size_t v = 0; v < vectors; v++) {
            real *p = c + i*c_rows + at[v];
            if (v < whole) store(p, add ? plus(load(p), sum[i][v]) : sum[i][v]);
        }
    }
}

/* The same for rows = 1..ROWS. */
INLINE void tile_rows(size_t rows, const size_t vectors, size_t K, const real *a, size_t a_rows, size_t a_columns,
                      const real *const *b, size_t b_rows, const ptrdiff_t *offsets,
                      real *c, size_t c_rows, const size_t *at, ptrdiff_t lanes, int add)
{
    switch (rows) {
    case 1: tile_of(1, vectors, K, a, a_rows, a_columns, b, b_rows, offsets, c, c_rows, at, lanes, add); break;
    case 2: tile_of(2, vectors, K, a, a_rows, a_columns, b, b_rows, offsets, c, c_rows, at, lanes, add); break;
    case 3: tile_of(3, vectors, K, a, a_rows, a_columns, b, b_rows, offsets, c, c_rows, at, lanes, add); break;
    case 4: tile_of(4, vectors, K, a, a_rows, a_columns, b, b_rows, offsets, c, c_rows, at, lanes, add); break;
#if EXTENSIONS && (defined(__AVX512F__) || defined(__aarch64__))
    case 5: tile_of(5, vectors, K, a, a_rows, a_columns, b, b_rows, offsets, c, c_rows, at, lanes, add); break;
    case 6: tile_of(6, vectors, K, a, a_rows, a_columns, b, b_rows, offsets, c, c_rows, at, lanes, add); break;
    case 7: tile_of(7, vectors, K, a, a_rows, a_columns, b, b_rows, offsets, c, c_rows, at, lanes, add); break;
    case 8: tile_of(8, vectors, K, a, a_rows, a_columns, b, b_rows, offsets, c, c_rows, at, lanes, add); break;
#endif
    default: break;
    }
}

/* The same for ROWS by 2 or 3 where A has its neighbours along m: one address for all rows leaves registers for others. */
ONCE static void tile_down(size_t vectors, size_t K, const real *a, size_t a_columns, const real *const *b, size_t b_rows,
                           real *c, size_t c_rows, const size_t *at, ptrdiff_t lanes, int add)
{
    if (vectors == 3) tile_of(ROWS, 3, K, a, 1, a_columns, b, b_rows, NULL, c, c_rows, at, lanes, add);
    else tile_of(ROWS, 2, K, a, 1, a_columns, b, b_rows, NULL, c, c_rows, at, lanes, add);
}

/* The same for vectors = 1, 2, 3, or 8 where there is one row. */
ONCE static void tile(size_t rows, size_t vectors, size_t K, const real *a, size_t a_rows, size_t a_columns,
                      const real *const *b, size_t b_rows, real *c, size_t c_rows, const size_t *at, ptrdiff_t lanes, int add)
{
    switch (vectors) {
    case 1: tile_rows(rows, 1, K, a, a_rows, a_columns, b, b_rows, NULL, c, c_rows, at, lanes, add); break;
    case 2: tile_rows(rows, 2, K, a, a_rows, a_columns, b, b_rows, NULL, c, c_rows, at, lanes, add); break;
    case 3: tile_rows(rows, 3, K, a, a_rows, a_columns, b, b_rows, NULL, c, c_rows, at, lanes, add); break;
    default: tile_of(1, 8, K, a, a_rows, a_columns, b, b_rows, NULL, c, c_rows, at, lanes, add); break;
    }
}

/* === section columns: needs extensions, vectors === */
/* N columns are ceil(N / LANES) vectors. The last ends with the last column: it overlaps the one before, or, where N
   < LANES, is padded with zeros. So every access is inside the matrix. */
static size_t vectors_of(size_t N) { return (N + LANES - 1) / LANES; }

/* The first column of vector v. */
static size_t column_of(size_t v, size_t N) { return (v + 1) * LANES <= N ? v * LANES : N < LANES ? 0 : N - LANES; }

/* The parts of total, each at most `most`, as equal as they can be: the size of all but the last. */
static size_t part_of(size_t total, size_t most)
{
    const size_t parts = (total + most - 1) / most;
    return (total + parts - 1) / parts;
}

/* === section strip: needs extensions, vectors, lanes, tile, columns === */
/* Vectors v0..v1-1 of C[M,N] (+)= A[M,K] B[K,N], a few vectors at a time for all rows. Vector v of B begins at b + (v
   - v0)*b_vectors, or, where b_vectors is 0, at b + its column; its rows are b_rows apart. */
ONCE static void strip(size_t M, size_t N, size_t K, const real *a, size_t a_rows, size_t a_columns, size_t a_parts,
                       const real *b, size_t b_rows, size_t b_vectors, size_t v0, size_t v1, real *c, size_t c_rows, int add)
{
    const size_t part = part_of(M, ROWS), vectors_in_all = vectors_of(N);
    for (size_t v = v0; v < v1;) {
        const size_t left = v1 - v;
        const size_t vectors = part == 1 && left >= 8 ? 8 : left == 4 ? 2 : left < 3 ? left : 3;
        const int ends = v + vectors == vectors_in_all;
        const ptrdiff_t lanes = !ends ? LANES : N < LANES ? -(ptrdiff_t)N : (ptrdiff_t)(N - (vectors_in_all - 1)*LANES);
        const real *column[8];
        size_t at[8];
        for (size_t j = 0; j < vectors; j++) {
            at[j] = column_of(v + j, N);
            column[j] = b + (b_vectors ? (v + j - v0) * b_vectors : at[j]);
        }
        for (size_t i = 0; i < M; i += part) {
            const size_t rows = M - i < part ? M - i : part;
            const real *from = a + i/part*a_parts;
            if (a_rows == 1 && rows == ROWS && (vectors == 2 || vectors == 3)) {
                tile_down(vectors, K, from, a_columns, column, b_rows, c + i*c_rows, c_rows, at, lanes, add);
            } else {
                tile(rows, vectors, K, from, a_rows, a_columns, column, b_rows, c + i*c_rows, c_rows, at, lanes, add);
            }
        }
        v += vectors;
    }
}

/* === section transpose: needs extensions, vectors, lanes === */
/* A quad is 16 bytes of a vector. */
enum { QUAD = 16 / sizeof(real), QUADS = VECTOR_BYTES / 16 };

#if EXTENSIONS
/* Lanes n, n + 1, ... of two vectors in turn, as many as half a quad has, in each quad. */
#if REAL_IS_FLOAT
#define IN_TURN(n) n, LANES + n, n + 1, LANES + n + 1
#else
#define IN_TURN(n) n, LANES + n
#endif
#if defined(__AVX512F__)
#define IN_EACH_QUAD(n) IN_TURN(n), IN_TURN(n + QUAD), IN_TURN(n + 2*QUAD), IN_TURN(n + 3*QUAD)
#elif defined(__AVX__)
#define IN_EACH_QUAD(n) IN_TURN(n), IN_TURN(n + QUAD)
#else
#define IN_EACH_QUAD(n) IN_TURN(n)
#endif
#if defined(__clang__)
INLINE vector first_halves(vector p, vector q) { return __builtin_shufflevector(p, q, IN_EACH_QUAD(0)); }
INLINE vector second_halves(vector p, vector q) { return __builtin_shufflevector(p, q, IN_EACH_QUAD(QUAD/2)); }
#else
INLINE vector first_halves(vector p, vector q) { return __builtin_shuffle(p, q, (bits){IN_EACH_QUAD(0)}); }
INLINE vector second_halves(vector p, vector q) { return __builtin_shuffle(p, q, (bits){IN_EACH_QUAD(QUAD/2)}); }
#endif

/* Quad by quad, the matrix of the QUAD rows v is transposed. */
INLINE void transpose(vector *v)
{
#if REAL_IS_FLOAT
    const vector p0 = first_halves(v[0], v[2]), p1 = second_halves(v[0], v[2]);
    const vector p2 = first_halves(v[1], v[3]), p3 = second_halves(v[1], v[3]);
    v[0] = first_halves(p0, p2), v[1] = second_halves(p0, p2), v[2] = first_halves(p1, p3), v[3] = second_halves(p1, p3);
#else
    const vector p0 = first_halves(v[0], v[1]);
    v[1] = second_halves(v[0], v[1]), v[0] = p0;
#endif
}
#endif

/* === section pack: needs extensions, vectors, lanes, columns, transpose === */
/* to[k*LANES + l] = from[l*from_rows + k] for k < LANES, l < width; 0 for the other l < LANES */
INLINE void copy_transposed(size_t width, const real *from, size_t from_rows, real *to)
{
#if EXTENSIONS
    UNROLL
    for (size_t l = 0; l < LANES; l += QUAD) {
        vector v[QUAD];
        UNROLL
        for (size_t j = 0; j < QUAD; j++) v[j] = l + j < width ? load(from + (l + j)*from_rows) : zeros();
        transpose(v);
        UNROLL
        for (size_t j = 0; j < QUAD; j++) {
            UNROLL
            for (size_t k = 0; k < QUADS; k++) memcpy(to + (k*QUAD + j)*LANES + l, (const char *)&v[j] + 16*k, 16);
        }
    }
#else
    for (size_t k = 0; k < LANES; k++) {
        for (size_t l = 0; l < LANES; l++) to[k*LANES + l] = l < width ? from[l*from_rows + k] : 0;
    }
#endif
}

/* packed[k,l] = B[k,l] for l < width, 0 for the other lanes: one vector of each row of B[K,width] */
static void pack_vector(size_t K, size_t width, const real *b, size_t b_rows, size_t b_columns, real *packed)
{
    if (b_rows == 1 && K >= LANES) {
        for (size_t k = 0; k < K; k += LANES) {
            const size_t from = k + LANES <= K ? k : K - LANES;
            copy_transposed(width, b + from, b_columns, packed + from*LANES);
        }
        return;
    }
    for (size_t k = 0; k < K; k++) {
        for (size_t l = 0; l < width; l++) packed[k*LANES + l] = b[k*b_rows + l*b_columns];
        for (size_t l = width; l < LANES; l++) packed[k*LANES + l] = 0;
    }
}

/* Vectors v0..v1-1 of B[K,N], each as packed[K,LANES]. */
ONCE static void pack_vectors(size_t N, size_t K, const real *b, size_t b_rows, size_t b_columns,
                              size_t v0, size_t v1, real *packed)
{
    if (b_columns == 1 && N >= LANES) {
        for (size_t k0 = 0; k0 < K; k0 += 8) { /* few rows at once: of both matrices, few pages and whole runs */
            for (size_t v = v0; v < v1; v++) {
                const real *from = b + column_of(v, N);
                real *to = packed + (v - v0)*K*LANES;
                for (size_t k = k0; k < K && k < k0 + 8; k++) store(to + k*LANES, load(from + k*b_rows));
            }
        }
        return;
    }
    for (size_t v = v0; v < v1; v++) {
        const size_t width = N < LANES ? N : LANES;
        pack_vector(K, width, b + column_of(v, N)*b_columns, b_rows, b_columns, packed + (v - v0)*K*LANES);
    }
}

/* === section packed: needs extensions, vectors, lanes, tile, columns, strip, transpose, pack === */
/* B[K,N] -> packed[ceil(N / LANES), K, LANES]; room: K*N reals with N rounded up to a multiple of 64 bytes */
static void pack_b(size_t K, size_t N, const real *b, size_t b_rows, size_t b_columns, real *packed)
{
    pack_vectors(N, K, b, b_rows, b_columns, 0, vectors_of(N), packed);
}

/* C[M,N] (+)= A[M,K] B[K,N] */
static void product_packed(size_t M, size_t N, size_t K, const real *a, size_t a_rows, size_t a_columns, const real *packed,
                           real *c, size_t c_rows, int add)
{
    const size_t block = M > ROWS && K > 256 ? part_of(K, 256) : K;
    size_t k = 0;
    if (M == 0 || N == 0) return;
    do {
        const size_t depth = K - k < block ? K - k : block;
        strip(M, N, depth, a + k*a_columns, a_rows, a_columns, part_of(M, ROWS)*a_rows, packed + k*LANES, LANES, K*LANES,
              0, vectors_of(N), c, c_rows, add || k);
        k += depth;
    } while (k < K);
}

/* === section dots: needs extensions, vectors, lanes, transpose === */
/* sum += v*w, lane by lane */
INLINE void add_product(vector *sum, const vector *v, const vector *w)
{
#if EXTENSIONS
    *sum += *v * *w;
#else
    for (size_t l = 0; l < LANES; l++) sum->lane[l] += v->lane[l] * w->lane[l];
#endif
}

#if EXTENSIONS
typedef real quad __attribute__((vector_size(16)));
#endif

/* sums[j] = the sum of the lanes of v[j], j < count, which is known where it is inlined */
INLINE void sum_lanes(const size_t count, const vector *v, real *sums)
{
    size_t done = 0;
#if EXTENSIONS
    UNROLL
    for (; done + QUAD <= count; done += QUAD) {
        vector part[QUAD];
        quad q[QUADS];
        UNROLL
        for (size_t j = 0; j < QUAD; j++) part[j] = v[done + j];
        transpose(part);
        UNROLL
        for (size_t j = 1; j < QUAD; j++) part[0] += part[j];
        memcpy(q, part, sizeof q);
        UNROLL
        for (size_t k = 1; k < QUADS; k++) q[0] += q[k];
        memcpy(sums + done, q, sizeof(quad));
    }
#endif
    for (; done < count; done++) {
        real total = 0;
        for (size_t l = 0; l < LANES; l++) total += LANE(v[done], l);
        sums[done] = total;
    }
}

/* One tile, rows by columns, both known where it is inlined: C[i,n] (+)= sum_k A[i,k] B[k,n], both with neighbours
   along k, K >= LANES. Written are only the rows from first_row and the columns from first_column on. */
INLINE void dots_of(const size_t rows, const size_t columns, size_t K, const real *a, size_t a_rows,
                    const real *b, size_t b_columns, real *c, size_t c_rows, size_t c_columns,
                    size_t first_row, size_t first_column, int add)
{
    vector sum[24];
    real sums[24];
    size_t k = 0;
    UNROLL
    for (size_t j = 0; j < rows * columns; j++) sum[j] = zeros();
    for (; k + LANES <= K; k += LANES) {
        vector w[8];
        UNROLL
        for (size_t n = 0; n < columns; n++) w[n] = load(b + n*b_columns + k);
        UNROLL
        for (size_t i = 0; i < rows; i++) {
            const vector v = load(a + i*a_rows + k);
            UNROLL
            for (size_t n = 0; n < columns; n++) add_product(&sum[i*columns + n], &v, &w[n]);
        }
    }
    if (k < K) {
        vector w[8];
        UNROLL
        for (size_t n = 0; n < columns; n++) w[n] = last_lanes(load(b + n*b_columns + K - LANES), K - k);
        UNROLL
        for (size_t i = 0; i < rows; i++) {
            const vector v = last_lanes(load(a + i*a_rows + K - LANES), K - k);
            UNROLL
            for (size_t n = 0; n < columns; n++) add_product(&sum[i*columns + n], &v, &w[n]);
        }
    }
    sum_lanes(rows * columns, sum, sums);
    UNROLL
    for (size_t i = 0; i < rows; i++) {
        UNROLL
        for (size_t n = 0; n < columns; n++) {
            real *p = c + i*c_rows + n*c_columns;
            if (i >= first_row && n >= first_column) *p = add ? *p + sums[i*columns + n] : sums[i*columns + n];
        }
    }
}

/* C[M,N] (+)= A[M,K] B[K,N], both with neighbours along k, K >= LANES: 4 by DOTS, 1 by 8, or 1 by 1 dot products at
   once. */
enum { DOTS = ROWS == 8 ? 6 : 3 };

ONCE static void dots(size_t M, size_t N, size_t K, const real *a, size_t a_rows, const real *b, size_t b_columns,
                      real *c, size_t c_rows, size_t c_columns, int add)
{
    const size_t rows = M >= 4 && N >= DOTS ? 4 : 1, columns = rows == 4 ? DOTS : N >= 8 ? 8 : 1;
    for (size_t n = 0; n < N; n += columns) {
        const size_t n0 = n + columns <= N ? n : N - columns;
        for (size_t i = 0; i < M; i += rows) {
            const size_t i0 = i + rows <= M ? i : M - rows;
            const real *x = a + i0*a_rows, *y = b + n0*b_columns;
            real *z = c + i0*c_rows + n0*c_columns;
            if (rows == 4) dots_of(4, DOTS, K, x, a_rows, y, b_columns, z, c_rows, c_columns, i - i0, n - n0, add);
            else if (columns == 8) dots_of(1, 8, K, x, a_rows, y, b_columns, z, c_rows, c_columns, 0, n - n0, add);
            else dots_of(1, 1, K, x, a_rows, y, b_columns, z, c_rows, c_columns, 0, 0, add);
        }
    }
}

/* === section library: needs nothing === */
#if defined(REAL_CBLAS)
/* C[M,N] (+)= A[M,K] B[K,N] by the library, and 1; 0 where the product is too small for it to be worth a call, or no product of
   its matrices: each has neighbours along one axis and no entry twice. */
static int by_library(size_t M, size_t N, size_t K, const real *a, size_t a_rows, size_t a_columns,
                      const real *b, size_t b_rows, size_t b_columns, real *c, size_t c_rows, int add)
{
    const size_t most = 0x7fffffff;
    const size_t a_step = a_columns == 1 ? a_rows : a_columns, b_step = b_columns == 1 ? b_rows : b_columns;
    const CBLAS_TRANSPOSE a_turned = a_columns == 1 ? CblasNoTrans : CblasTrans;
    const CBLAS_TRANSPOSE b_turned = b_columns == 1 ? CblasNoTrans : CblasTrans;
    if (M < 8 || N < 8 || K < 8 || M > most || N > most || K > most || a_step > most || b_step > most || c_rows > most) return 0;
    if ((a_columns != 1 && a_rows != 1) || a_step < (a_columns == 1 ? K : M)) return 0;
    if ((b_columns != 1 && b_rows != 1) || b_step < (b_columns == 1 ? N : K)) return 0;
#if REAL_IS_FLOAT
    cblas_sgemm(CblasRowMajor, a_turned, b_turned, (int)M, (int)N, (int)K, 1.0f, a, (int)a_step, b, (int)b_step,
                add ? 1.0f : 0.0f, c, (int)c_rows);
#else
    cblas_dgemm(CblasRowMajor, a_turned, b_turned, (int)M, (int)N, (int)K, 1.0, a, (int)a_step, b, (int)b_step,
                add ? 1.0 : 0.0, c, (int)c_rows);
#endif
    return 1;
}
#endif

/* === section product: needs extensions, vectors, lanes, tile, columns, strip, transpose, pack, dots, library === */
/* A block of B, DEPTH rows by BLOCK_VECTORS vectors, stays in the second-level cache while A passes, BLOCK_ROWS rows at a time
   or COPIED_ROWS: 512 KB of B where vectors have 64 bytes, half of it elsewhere, and 256 KB of float of A. */
enum { DEPTH = 256, BLOCK_VECTORS = (VECTOR_BYTES == 64 ? 2048 : 1024) / VECTOR_BYTES, BLOCK_ROWS = 128, COPIED_ROWS = 256 };

/* A[M,K], whose neighbours are along m, `part` rows at a time: copy[m / part, k, m % part] = A[m,k]. Few k at once:
   few pages of A. */
static void copy_rows(size_t M, size_t K, size_t part, const real *a, size_t a_columns, real *copy)
{
    for (size_t k0 = 0; k0 < K; k0 += 16) {
        for (size_t i = 0; i < M; i += part) {
            for (size_t k = k0; k < K && k < k0 + 16; k++) {
                const real *from = a + k*a_columns + i;
                real *to = copy + i*K + k*part;
                if (part == ROWS && i + ROWS <= M) {
                    memcpy(to, from, ROWS * sizeof(real));
                } else {
                    for (size_t h = 0; h < part && i + h < M; h++) to[h] = from[h];
                }
            }
        }
    }
}

/* C[M,N] (+)= turned[N,M]' */
INLINE void put_turned(size_t M, size_t N, const real *turned, real *c, size_t c_rows, int add)
{
    for (size_t i = 0; i < M; i++) {
        for (size_t n = 0; n < N; n++) c[i*c_rows + n] = add ? c[i*c_rows + n] + turned[n*M + i] : turned[n*M + i];
    }
}

/* C[M,N] (+)= A[M,K] B[K,N] */
ONCE static void product(size_t M, size_t N, size_t K, const real *a, size_t a_rows, size_t a_columns,
                         const real *b, size_t b_rows, size_t b_columns, real *c, size_t c_rows, int add, real *scratch)
{
    if (M == 0 || N == 0) return;
    if (K == 0) {
        for (size_t i = 0; i < M && !add; i++) memset(c + i*c_rows, 0, N * sizeof(real));
        return;
    }
#if defined(REAL_CBLAS)
    if (by_library(M, N, K, a, a_rows, a_columns, b, b_rows, b_columns, c, c_rows, add)) return;
#endif
    /* An axis of one element has any stride. */
    if (M == 1) a_rows = 1;
    if (K == 1) a_columns = 1, b_rows = 1;
    if (N == 1) b_columns = 1;
    if (N == 1 && c_rows == 1 && M > 1 && a_columns != 1 && a_rows == 1) { /* C' = B' A' */
        product(1, M, K, b, 1, b_rows, a, a_columns, 1, c, M, add, scratch);
        return;
    }
    if (a_columns == 1 && b_rows == 1 && K >= LANES && (M == 1 || N == 1 || (K >= 12*M && K >= 64 && M >= 4 && N >= DOTS))) {
        /* C' = B' A' where that leaves fewer places of tiles empty */
        const size_t wide = (N + DOTS - 1)/DOTS*DOTS * ((M + 3)/4*4), turned = (M + DOTS - 1)/DOTS*DOTS * ((N + 3)/4*4);
        const size_t block = part_of(K, M == 1 || N == 1 ? K : 1024);
        for (size_t k = 0; k < K; k += block) {
            const size_t depth = K - k < block ? K - k : block;
            if (N == 1 || (M >= DOTS && turned < wide)) dots(N, M, depth, b + k, b_columns, a + k, a_rows, c, 1, c_rows, add || k);
            else dots(M, N, depth, a + k, a_rows, b + k, b_columns, c, c_rows, 1, add || k);
        }
        return;
    }
    if (N < LANES && M >= LANES && a_rows == 1 && K >= 4) {
        /* Few columns, and neighbours along m: C' = B' A', a few rows of C at once. */
        enum { HEIGHT = 4 * LANES };
        real turned[(LANES - 1) * HEIGHT];
        for (size_t i = 0; i < M; i += HEIGHT) {
            const size_t height = M - i < HEIGHT ? M - i : HEIGHT;
            product(N, height, K, b, b_columns, b_rows, a + i, a_columns, 1, turned, height, 0, scratch);
            put_turned(height, N, turned, c + i*c_rows, c_rows, add);
        }
        return;
    }
    if (N >= LANES && N <= 64 && M >= 2*N && K >= 4*N && a_rows == 1 && b_columns == 1) {
        /* The same in the scratch, where that leaves fewer places of tiles empty, or as many and K is large: it reads longer rows
           of A. There is room: C' has no more rows than K, and columns than a copy of A has rows. */
        const size_t wide = (N + LANES - 1)/LANES*LANES * ((M + ROWS - 1)/ROWS*ROWS);
        const size_t tall = (M + LANES - 1)/LANES*LANES * ((N + ROWS - 1)/ROWS*ROWS), height = part_of(M, COPIED_ROWS);
        if (tall < wide || (tall == wide && M >= 128 && M <= COPIED_ROWS && K >= 4*M)) {
            for (size_t i = 0; i < M; i += height) {
                const size_t rows = M - i < height ? M - i : height;
                product(N, rows, K, b, 1, b_rows, a + i, a_columns, 1, scratch, rows, 0, scratch + N*rows);
                put_turned(rows, N, scratch, c + i*c_rows, c_rows, add);
            }
            return;
        }
    }
    const size_t vectors = vectors_of(N), depths = part_of(K, DEPTH), widths = part_of(vectors, BLOCK_VECTORS);
    const int direct = b_columns == 1 && N >= LANES && M <= BLOCK_ROWS;
    const int copied = a_rows == 1 && a_columns * depths * sizeof(real) >= 1 << 18 && N > 2*LANES && M > ROWS;
    const size_t heights = copied ? COPIED_ROWS : BLOCK_ROWS;
    /* Rows of C that are long: a few rows at a time for all vectors, which touches few pages; else a few vectors for all rows. */
    const int by_rows = VECTOR_BYTES == 64 && !direct && vectors > 16;
    real *copy = scratch + (direct ? 0 : depths*widths*LANES);
    for (size_t k = 0; k < K; k += depths) {
        const size_t depth = K - k < depths ? K - k : depths;
        for (size_t v0 = 0; v0 < vectors; v0 += widths) {
            const size_t v1 = v0 + widths < vectors ? v0 + widths : vectors;
            if (!direct) pack_vectors(N, depth, b + k*b_rows, b_rows, b_columns, v0, v1, scratch);
            for (size_t i = 0; i < M; i += heights) {
                const size_t height = M - i < heights ? M - i : heights, part = part_of(height, ROWS);
                const size_t step = by_rows ? part : height;
                const real *rows = a + i*a_rows + k*a_columns;
                if (copied) copy_rows(height, depth, part, rows, a_columns, copy);
                for (size_t h = 0; h < height; h += step) {
                    strip(height - h < step ? height - h : step, N, depth, copied ? copy + h*depth : rows + h*a_rows,
                          a_rows, copied ? part : a_columns, part * (copied ? depth : a_rows),
                          direct ? b + k*b_rows : scratch, direct ? b_rows : LANES, direct ? 0 : depth*LANES, v0, v1,
                          c + (i + h)*c_rows, c_rows, add || k);
                }
            }
        }
    }
}

/* === section offsets: needs extensions, vectors, lanes === */
/* The length of the run that begins at offsets[n], each one more than the one before. */
static size_t run_of(const ptrdiff_t *offsets, size_t n, size_t N)
{
    size_t end = n + 1;
    while (end < N && offsets[end] - offsets[end - 1] == 1) end++;
    return end - n;
}

/* === section product_at: needs extensions, vectors, lanes, tile, columns, strip, transpose, pack, dots, library, product, offsets === */
/* One run of `run` >= piece columns, in pieces whose size is known where it is inlined: to[k*to_rows + n] =
   base[rows[k] + n]. The last piece overlaps the one before it. */
INLINE void gather_run(const size_t piece, size_t K, size_t run, const real *base, const ptrdiff_t *rows, real *to, size_t to_rows)
{
    for (size_t n = 0; n < run; n += piece) {
        const size_t from = n + piece <= run ? n : run - piece;
        for (size_t k = 0; k < K; k++) memcpy(to + k*to_rows + from, base + rows[k] + from, piece * sizeof(real));
    }
}

/* to[k*to_rows + n] = base[rows[k] + columns[n]] */
static void gather(size_t K, size_t N, const real *base, const ptrdiff_t *rows, const ptrdiff_t *columns, real *to, size_t to_rows)
{
    for (size_t n = 0, run; n < N; n += run) {
        run = run_of(columns, n, N);
        if (run >= LANES) gather_run(LANES, K, run, base + columns[n], rows, to + n, to_rows);
        else if (run >= LANES / 2) gather_run(LANES / 2, K, run, base + columns[n], rows, to + n, to_rows);
        else if (run >= 4) gather_run(4, K, run, base + columns[n], rows, to + n, to_rows);
        else gather_run(1, K, run, base + columns[n], rows, to + n, to_rows);
    }
}

/* The vectors that cover N columns run by run, each inside a run; 0 where a run is shorter than a vector. */
static size_t vectors_in_runs(const ptrdiff_t *columns, size_t N)
{
    size_t vectors = 0;
    for (size_t n = 0, run; n < N; n += run) {
        run = run_of(columns, n, N);
        if (run < LANES) return 0;
        vectors += vectors_of(run);
    }
    return vectors;
}

/* C[M,N] = A[M,K] B[K,N], where B[k,n] = b[rows[k] + columns[n]], read where it is: every run of columns has LANES or
   more. Vectors that overlap write the same twice. */
static void product_in_runs(size_t M, size_t N, size_t K, const real *a, size_t a_rows, size_t a_columns,
                            const real *b, const ptrdiff_t *rows, const ptrdiff_t *columns, real *c, size_t c_rows)
{
    const size_t part = part_of(M, ROWS);
    for (size_t n = 0, run; n < N; n += run) {
        run = run_of(columns, n, N);
        for (size_t v = 0; v < vectors_of(run); v += 2) {
            const size_t at[2] = {n + column_of(v, run), n + column_of(v + 1, run)};
            const real *const column[2] = {b + columns[at[0]], b + columns[at[1]]};
            for (size_t i = 0; i < M; i += part) {
                const size_t height = M - i < part ? M - i : part;
                const real *x = a + i*a_rows;
                if (v + 1 < vectors_of(run)) {
                    tile_rows(height, 2, K, x, a_rows, a_columns, column, 0, rows, c + i*c_rows, c_rows, at, LANES, 0);
                } else {
                    tile_rows(height, 1, K, x, a_rows, a_columns, column, 0, rows, c + i*c_rows, c_rows, at, LANES, 0);
                }
            }
        }
    }
}

/* C[M,N] (+)= A[M,K] B[K,N], where B[k,n] = b[b_row_offsets[k] + b_column_offsets[n]]: read where it is, or gathered,
   WIDTH columns and 256 KB at a time */
static void product_at(size_t M, size_t N, size_t K, const real *a, size_t a_rows, size_t a_columns,
                       const real *b, const ptrdiff_t *b_row_offsets, const ptrdiff_t *b_column_offsets,
                       real *c, size_t c_rows, int add, real *scratch)
{
    enum { WIDTH = 1024 / sizeof(real), GATHERED = (1 << 18) / sizeof(real) };
    const size_t widest = N < WIDTH ? N : WIDTH;
    const int by_rows = K && N && run_of(b_row_offsets, 0, K) > run_of(b_column_offsets, 0, N);
    size_t k = 0;
    if (M == 0 || N == 0) return;
    if (!add && !by_rows && M <= 4*ROWS) {
        const size_t vectors = vectors_in_runs(b_column_offsets, N);
        if (vectors && 2*vectors*LANES <= 3*N) {
            product_in_runs(M, N, K, a, a_rows, a_columns, b, b_row_offsets, b_column_offsets, c, c_rows);
            return;
        }
    }
    do {
        const size_t block = K ? part_of(K, GATHERED / widest) : 1, depth = K - k < block ? K - k : block;
        for (size_t n = 0; n < N; n += widest) {
            const size_t width = N - n < widest ? N - n : widest;
            if (by_rows) gather(width, depth, b, b_column_offsets + n, b_row_offsets + k, scratch, depth);
            else gather(depth, width, b, b_row_offsets + k, b_column_offsets + n, scratch, width);
            product(M, width, depth, a + k*a_columns, a_rows, a_columns, scratch, by_rows ? 1 : width, by_rows ? depth : 1,
                    c + n, c_rows, add || k, scratch + depth*width);
        }
        k += depth;
    } while (k < K);
}

/* === section product_scatter: needs extensions, vectors, lanes, tile, columns, strip, transpose, pack, dots, library, product, offsets === */
/* base[rows[k] + columns[n]] += from[k*from_rows + n], N <= RUNS. A row k is added as a whole before the next, which
   falls on nearly the same places. */
enum { RUNS = 1024 / sizeof(real) };

static void scatter(size_t K, size_t N, const real *from, size_t from_rows,
                    real *base, const ptrdiff_t *rows, const ptrdiff_t *columns)
{
    size_t runs[RUNS], count = 0;
    for (size_t n = 0; n < N; n += runs[count++]) runs[count] = run_of(columns, n, N);
    for (size_t k = 0; k < K; k++) {
        const real *p = from + k*from_rows;
        for (size_t r = 0, n = 0; r < count; n += runs[r++]) {
            const size_t run = runs[r];
            real *q = base + rows[k] + columns[n];
            size_t l = 0;
            for (; l + LANES <= run; l += LANES) store(q + l, plus(load(q + l), load(p + n + l)));
            for (; l + LANES / 2 <= run; l += LANES / 2) {
                real sums[LANES / 2];
                for (size_t j = 0; j < LANES / 2; j++) sums[j] = q[l + j] + p[n + l + j];
                memcpy(q + l, sums, sizeof sums);
            }
            for (; l < run; l++) q[l] += p[n + l];
        }
    }
}

/* base[rows[k] + columns[n]] += sum_m A[m,k] D[m,n] */
static void product_scatter(size_t M, size_t N, size_t K, const real *a, size_t a_rows, size_t a_columns,
                            const real *d, size_t d_rows, size_t d_columns,
                            real *base, const ptrdiff_t *rows, const ptrdiff_t *columns, real *scratch)
{
    enum { HEIGHT = 32 };
    for (size_t n = 0; n < N; n += RUNS) {
        const size_t width = N - n < RUNS ? N - n : RUNS;
        for (size_t k = 0; k < K; k += HEIGHT) {
            const size_t height = K - k < HEIGHT ? K - k : HEIGHT;
            product(height, width, M, a + k*a_columns, a_columns, a_rows, d + n*d_columns, d_rows, d_columns, scratch, width, 0,
                    scratch + height*width);
            scatter(height, width, scratch, width, base, rows + k, columns + n);
        }
    }
}

/* === section least_of: needs nothing === */
static size_t least_of(size_t m, size_t n) { return m < n ? m : n; }

/* === section packed_size: needs nothing === */
/* The reals of a packed matrix: N rounded up to 64 bytes. */
static size_t packed_size(size_t K, size_t N)
{
    const size_t line = 64 / sizeof(real);
    return K * ((N + line - 1) / line * line);
}

/* === section product_scratch: needs least_of, packed_size === */
/* The reals that product may use, whatever the vectors of the machine. */
static size_t product_scratch(size_t M, size_t N, size_t K)
{
    return least_of(K, 256) * (least_of(packed_size(1, N), 2048 / sizeof(real)) + least_of((M + 7) / 8 * 8, 256));
}

/* === section product_at_scratch: needs least_of, product_scratch === */
static size_t product_at_scratch(size_t M, size_t N, size_t K)
{
    return least_of(K * least_of(N, 1024 / sizeof(real)), (1 << 18) / sizeof(real)) + product_scratch(M, N, K);
}

/* === section product_scatter_scratch: needs least_of, product_scratch === */
static size_t product_scatter_scratch(size_t M, size_t N, size_t K)
{
    return least_of(K, 32) * least_of(N, 1024 / sizeof(real)) + product_scratch(K, N, M);
}
