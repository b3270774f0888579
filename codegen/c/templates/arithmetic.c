/* Bounds of loops, where an array begins, sums in parts. */

/* === section lesser: needs nothing === */
static inline ptrdiff_t lesser(ptrdiff_t a, ptrdiff_t b)
{
    return a < b ? a : b;
}

/* === section greater: needs nothing === */
static inline ptrdiff_t greater(ptrdiff_t a, ptrdiff_t b)
{
    return a > b ? a : b;
}

/* === section floor_div: needs nothing === */
/* The greatest integer that is at most a/b, for b > 0. */
static inline ptrdiff_t floor_div(ptrdiff_t a, ptrdiff_t b)
{
    return a / b - (a % b < 0);
}

/* === section ceil_div: needs nothing === */
/* The least integer that is at least a/b, for b > 0. */
static inline ptrdiff_t ceil_div(ptrdiff_t a, ptrdiff_t b)
{
    return a / b + (a % b > 0);
}

/* === section modulo: needs nothing === */
/* What floor_div leaves: the slot of an entry of a circular axis. */
static inline ptrdiff_t modulo(ptrdiff_t a, ptrdiff_t b)
{
    return (a % b + b) % b;
}

/* === section first_of: needs nothing === */
/* Where a share of total iterations begins, at a multiple of grain; share THREADS, which the file defines, begins at the end. */
static inline ptrdiff_t first_of(ptrdiff_t share, ptrdiff_t total, ptrdiff_t grain)
{
    return share == THREADS ? total : share*((total + grain - 1)/grain)/THREADS*grain;
}

/* === section later: needs nothing === */
static inline size_t later(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* === section room: needs nothing === */
/* The bytes of an array, rounded up to whole cache lines. */
static inline size_t room(size_t entries, size_t each)
{
    return (entries * each + 63) / 64 * 64;
}

/* === section aligned: needs nothing === */
/* The first place in a workspace where a cache line begins. */
static inline unsigned char *aligned(void *workspace)
{
    unsigned char *const bytes = (unsigned char *)workspace;
    return bytes + (64 - (uintptr_t)workspace % 64) % 64;
}

/* === section larger: needs select === */
/* The larger of two numbers; a NaN is larger than all. */
static inline real larger(real a, real b)
{
    return real_select((b > a) | (b != b), b, a);
}

/* === section fill_parts: needs nothing === */
/* A sum or a maximum is kept in so many parts, side by side, and put together in the end. */
enum { PARTS = 16 };

static inline void fill_parts(real *parts, real value)
{
    for (int lane = 0; lane < PARTS; ++lane) {
        parts[lane] = value;
    }
}

/* === section sum_parts: needs fill_parts === */
static inline real sum_parts(real *parts)
{
    for (int width = PARTS / 2; width > 0; width /= 2) {
        for (int lane = 0; lane < width; ++lane) {
            parts[lane] += parts[lane + width];
        }
    }
    return parts[0];
}

/* === section largest_part: needs fill_parts, larger === */
static inline real largest_part(real *parts)
{
    for (int width = PARTS / 2; width > 0; width /= 2) {
        for (int lane = 0; lane < width; ++lane) {
            parts[lane] = larger(parts[lane], parts[lane + width]);
        }
    }
    return parts[0];
}
