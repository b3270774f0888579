/* Scalar functions. Pasted by section into a generated file, after
 *
 *     typedef float real;           (or double)
 *     #define REAL_IS_FLOAT 1       (or 0)
 *     #define EXTENSIONS 1          (or 0)
 *     <math.h>, <stddef.h>, <stdint.h>, <string.h>
 *
 * exp, expm1, tanh, sigmoid, log, log1p, softplus and log_sigmoid have no branch and no call, so that a loop over them
 * vectorises: gcc -O3, clang -O2; with -march=native for vectors as wide as the machine has (float64 with gcc needs at least
 * -msse4.2). No part of -ffast-math is needed; under it NaN, infinities and subnormal numbers are no longer right. They are
 * right without it, and so is the sign of a zero. Rounding is to nearest.
 *
 * Largest errors found, in ulp, with and without fused multiply-add; all float32 inputs, 40 million float64 inputs:
 *
 *                  float32  float64
 *     exp             1.05     1.05
 *     tanh            2.56     2.49
 *     sigmoid         2.41     2.43
 *     log             0.86     0.87
 *     expm1           1.73     2.09
 *     log1p           1.42     1.36
 *     softplus        1.71     1.66
 *     log_sigmoid     1.71     1.68
 *
 * (python -m tests.sweep_functions). The other functions are libm's.
 */

/* === section bits: needs nothing === */
/* A real seen as an unsigned integer of its size: sign, exponent (biased), fraction. */
#if REAL_IS_FLOAT
typedef uint32_t real_uint;
#define REAL_FRACTION 23 /* bits of the fraction */
#define REAL_BIAS 127
#define REAL_ROUNDER 12582912.0f /* 1.5 * 2^23: adding it to |x| < 2^22 leaves round(x) in the last bits */
#define REAL_LOG2 0.693359375f   /* log 2 = REAL_LOG2 + REAL_LOG2_REST; n * REAL_LOG2 is exact for any exponent n */
#define REAL_LOG2_REST (-2.12194440e-4f)
#else
typedef uint64_t real_uint;
#define REAL_FRACTION 52
#define REAL_BIAS 1023
#define REAL_ROUNDER 6755399441055744.0 /* 1.5 * 2^52 */
#define REAL_LOG2 6.93147180369123816490e-01
#define REAL_LOG2_REST 1.90821492927058770002e-10
#endif

static inline real_uint real_bits(real x)
{
    real_uint u;
    memcpy(&u, &x, sizeof u);
    return u;
}

static inline real real_of_bits(real_uint u)
{
    real x;
    memcpy(&x, &u, sizeof x);
    return x;
}

/* === section select: needs bits === */
/* a if c is 1, b if c is 0: without a branch, into which gcc would move the arithmetic that follows (then the loop would not
 * vectorise, unless with -fno-trapping-math); it becomes a blend, a minimum or a maximum of vectors. */
static inline real real_select(int c, real a, real b)
{
    const real_uint mask = (real_uint)0 - (real_uint)c;
    return real_of_bits((real_bits(a) & mask) | (real_bits(b) & ~mask));
}

/* === section power_of_two: needs bits === */
/* 2^n from the biased exponent n + REAL_BIAS in the last bits of u, before them a 0 for the sign; higher bits of u are shifted out. */
static inline real real_power_of_two(real_uint u)
{
    return real_of_bits(u << REAL_FRACTION);
}

/* === section fma: needs nothing === */
/* a*b + c, rounded once where the machine has an instruction for it: fma() by software would be slow. */
static inline real real_fma(real a, real b, real c)
{
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
#if REAL_IS_FLOAT
    return fmaf(a, b, c);
#else
    return fma(a, b, c);
#endif
#else
    return a * b + c;
#endif
}

/* === section abs: needs nothing === */
static inline real real_abs(real x)
{
#if REAL_IS_FLOAT
    return fabsf(x);
#else
    return fabs(x);
#endif
}

/* === section exp_reduced: needs bits, fma === */
/* expm1(r), where x = n log 2 + r, |r| <= log(2)/2: exp(x) = 2^n (1 + expm1(r)). The last bits of *u hold n + offset. */
static inline real real_exp_reduced(real x, real offset, real_uint *u)
{
    *u = real_bits(real_fma(x, (real)1.4426950408889634, REAL_ROUNDER + offset));
    const real n = real_of_bits(*u) - (REAL_ROUNDER + offset);
    const real r = real_fma(-n, REAL_LOG2_REST, real_fma(-n, REAL_LOG2, x));
    /* expm1(r) = r + r^2 p(r), p by the Remez algorithm */
#if REAL_IS_FLOAT
    real p = 1.3946051e-03f;
    p = real_fma(p, r, 8.366374e-03f);
    p = real_fma(p, r, 4.1666288e-02f);
    p = real_fma(p, r, 1.6666545e-01f);
    p = real_fma(p, r, 0.5f);
#else
    real p = 2.5114003104214087e-08;
    p = real_fma(p, r, 2.7625600888160956e-07);
    p = real_fma(p, r, 2.7557229568041815e-06);
    p = real_fma(p, r, 2.480150655997371e-05);
    p = real_fma(p, r, 0.00019841269901055286);
    p = real_fma(p, r, 0.0013888888930272017);
    p = real_fma(p, r, 0.008333333333315594);
    p = real_fma(p, r, 0.04166666666658179);
    p = real_fma(p, r, 0.16666666666666685);
    p = real_fma(p, r, 0.5000000000000004);
#endif
    return real_fma(r * r, p, r);
}

/* === section exp: needs exp_reduced, power_of_two, select === */
/* 2^n in two factors, so that the result may be infinite or subnormal. Beyond the bounds it is infinite or 0. */
static inline real real_exp(real x)
{
    const real lowest = REAL_IS_FLOAT ? -104 : -746;
    const real highest = REAL_IS_FLOAT ? 89 : 710;
    x = real_select(x < lowest, lowest, x);
    x = real_select(x > highest, highest, x);
    real_uint u;
    const real q = real_exp_reduced(x, 2 * REAL_BIAS, &u);
    const real half = real_power_of_two(u >> 1);
    return real_fma(q, half, half) * real_power_of_two(u - (u >> 1));
}

/* === section expm1: needs abs, exp_reduced, power_of_two, select === */
/* 2^n (1 + q) - 1 = 2 (2^(n-1) q + (2^(n-1) - 1/2)), which overflows in the last step only. */
static inline real real_expm1(real x)
{
    const real lowest = REAL_IS_FLOAT ? -18 : -38;
    const real highest = REAL_IS_FLOAT ? 89 : 710;
#if REAL_IS_FLOAT
    const real tiny = 0x1p-24f; /* x + x^2/2 rounds to x below it */
#else
    const real tiny = 0x1p-53;
#endif
    real y = real_select(x < lowest, lowest, x);
    y = real_select(y > highest, highest, y);
    real_uint u;
    const real q = real_exp_reduced(y, REAL_BIAS - 1, &u);
    const real s = real_power_of_two(u);
    y = 2 * real_fma(s, q, s - (real)0.5);
    return real_select(real_abs(x) < tiny, x, y);
}

/* === section tanh: needs abs, exp_reduced, power_of_two, select === */
/* tanh(a) = e/(e + 2), e = expm1(2a) = s q + (s - 1), s = 2^n, a = |x|. */
static inline real real_tanh(real x)
{
    const real highest = REAL_IS_FLOAT ? (real)9.25 : 20;
    real a = real_abs(x);
    a = real_select(a > highest, highest, a);
    real_uint u;
    const real q = real_exp_reduced(2 * a, REAL_BIAS, &u);
    const real s = real_power_of_two(u);
    const real e = real_fma(s, q, s - 1);
    const real y = e / (e + 2);
    const real_uint sign = (real_uint)1 << (sizeof(real) * 8 - 1);
    return real_of_bits(real_bits(y) | (real_bits(x) & sign));
}

/* === section exp_minus: needs exp_reduced, power_of_two, select === */
/* exp(-a) for a >= 0. */
static inline real real_exp_minus(real a)
{
    const real highest = REAL_IS_FLOAT ? 104 : 746;
    const real shift = REAL_IS_FLOAT ? 64 : 600;
    a = real_select(a > highest, highest, a);
    real_uint u;
    const real q = real_exp_reduced(-a, REAL_BIAS + shift, &u);
    const real s = real_power_of_two(u); /* 2^(n + shift) */
#if REAL_IS_FLOAT
    return real_fma(q, s, s) * 0x1p-64f;
#else
    return real_fma(q, s, s) * 0x1p-600;
#endif
}

/* === section sigmoid: needs abs, exp_minus === */
/* 1/(1 + exp(-x)) = exp(x)/(1 + exp(x)). */
static inline real real_sigmoid(real x)
{
    const real e = real_exp_minus(real_abs(x));
    return real_select(x < 0, e, 1) / (1 + e);
}

/* === section log_reduced: needs bits, fma === */
/* k log 2 + log(1 + f) for 1 + f from sqrt(1/2) to sqrt(2): log(1 + f) = 2 atanh(s), s = f/(2 + f). */
static inline real real_log_reduced(real k, real f)
{
    const real s = f / (2 + f);
    const real z = s * s;
    const real h = (real)0.5 * f * f;
#if REAL_IS_FLOAT
    real p = 2.9582566e-01f;
    p = real_fma(p, z, 3.9988708e-01f);
    p = real_fma(p, z, 6.6666687e-01f);
#else
    real p = 0.14618416871215997;
    p = real_fma(p, z, 0.15331552896669207);
    p = real_fma(p, z, 0.18182894545355477);
    p = real_fma(p, z, 0.22222211054622024);
    p = real_fma(p, z, 0.28571428626510875);
    p = real_fma(p, z, 0.399999999998982);
    p = real_fma(p, z, 0.666666666666667);
#endif
    /* log(1 + f) = f - (h - s (h + z p)), the largest term last */
    const real small = real_fma(k, REAL_LOG2_REST, s * real_fma(z, p, h)) - h;
    return real_fma(k, REAL_LOG2, f + small);
}

/* === section log_parts: needs bits, select === */
/* The biased exponent k + REAL_BIAS of x = 2^k m, sqrt(1/2) <= m < sqrt(2), for a normal x > 0. */
static inline real_uint real_split(real x, real *m)
{
#if REAL_IS_FLOAT
    const real_uint root = 0x3f3504f3; /* the bits of sqrt(1/2) */
#else
    const real_uint root = 0x3fe6a09e667f3bcc;
#endif
    const real_uint u = real_bits(x) + (((real_uint)REAL_BIAS << REAL_FRACTION) - root);
    *m = real_of_bits((u & (((real_uint)1 << REAL_FRACTION) - 1)) + root);
    return u >> REAL_FRACTION;
}

/* The small integer k as a real number. */
static inline real real_of_small(real_uint k)
{
    return real_of_bits(real_bits(REAL_ROUNDER) + k) - REAL_ROUNDER;
}

/* What a logarithm of x is where it is no number of its own: y elsewhere. */
static inline real real_log_ends(real x, real y)
{
    y = real_select(x < 0, (real)NAN, y);
    y = real_select(x == 0, -(real)INFINITY, y);
    return real_select(x < (real)INFINITY, y, x);
}

/* === section log: needs log_parts, log_reduced === */
/* Subnormal numbers are scaled first. */
static inline real real_log(real x)
{
#if REAL_IS_FLOAT
    const int subnormal = x < 0x1p-126f;
    const real y = real_select(subnormal, x * 0x1p25f, x);
    const real bias = real_select(subnormal, REAL_BIAS + 25, REAL_BIAS);
#else
    const int subnormal = x < 0x1p-1022;
    const real y = real_select(subnormal, x * 0x1p54, x);
    const real bias = real_select(subnormal, REAL_BIAS + 54, REAL_BIAS);
#endif
    real m;
    const real k = real_of_small(real_split(y, &m)) - bias;
    return real_log_ends(x, real_log_reduced(k, m - 1));
}

/* === section log1p: needs log_parts, log_reduced, power_of_two === */
/* 1 + x = sum + rest exactly; sum = 2^k m, so that log(1 + x) = k log 2 + log(m + 2^-k rest). */
static inline real real_log1p(real x)
{
    const real sum = 1 + x;
    const real other = sum - 1;
    const real rest = (1 - (sum - other)) + (x - other);
    real m;
    const real_uint u = real_split(sum, &m);
    const real scale = real_power_of_two(2 * REAL_BIAS + 2 - u); /* 2^(2-k) */
    const real y = real_log_reduced(real_of_small(u) - REAL_BIAS, (m - 1) + rest * scale * (real)0.25);
    return real_select(x == 0, x, real_log_ends(sum, y));
}

/* === section softplus: needs abs, exp_minus, log_reduced === */
/* log(1 + exp(x)) = max(x, 0) + log(1 + e), e = exp(-|x|), where 1 + e is halved if it is greater than sqrt(2). */
static inline real real_softplus(real x)
{
    const real e = real_exp_minus(real_abs(x));
    const int half = e > (real)0.41421356;
    const real y = real_log_reduced(real_select(half, 1, 0), real_select(half, (e - 1) * (real)0.5, e));
    return real_select(x < 0, 0, x) + y;
}

/* === section log_sigmoid: needs softplus === */
/* log(1/(1 + exp(-x))). */
static inline real real_log_sigmoid(real x)
{
    return -real_softplus(-x);
}

/* === section sqrt: needs extensions === */
/* Declared again as a function that leaves errno alone (nothing here reads it), so that a loop may use the instruction. */
#if EXTENSIONS
#if REAL_IS_FLOAT
extern float sqrtf(float) __attribute__((const));
#else
extern double sqrt(double) __attribute__((const));
#endif
#endif

static inline real real_sqrt(real x)
{
#if REAL_IS_FLOAT
    return sqrtf(x);
#else
    return sqrt(x);
#endif
}

/* === section sin: needs nothing === */
static inline real real_sin(real x)
{
#if REAL_IS_FLOAT
    return sinf(x);
#else
    return sin(x);
#endif
}

/* === section cos: needs nothing === */
static inline real real_cos(real x)
{
#if REAL_IS_FLOAT
    return cosf(x);
#else
    return cos(x);
#endif
}

/* === section tan: needs nothing === */
static inline real real_tan(real x)
{
#if REAL_IS_FLOAT
    return tanf(x);
#else
    return tan(x);
#endif
}

/* === section sinh: needs nothing === */
static inline real real_sinh(real x)
{
#if REAL_IS_FLOAT
    return sinhf(x);
#else
    return sinh(x);
#endif
}

/* === section cosh: needs nothing === */
static inline real real_cosh(real x)
{
#if REAL_IS_FLOAT
    return coshf(x);
#else
    return cosh(x);
#endif
}

/* === section atan: needs nothing === */
static inline real real_atan(real x)
{
#if REAL_IS_FLOAT
    return atanf(x);
#else
    return atan(x);
#endif
}

/* === section erf: needs nothing === */
static inline real real_erf(real x)
{
#if REAL_IS_FLOAT
    return erff(x);
#else
    return erf(x);
#endif
}

/* === section pow: needs nothing === */
/* x to the power y, as libm has it. */
static inline real real_pow(real x, real y)
{
#if REAL_IS_FLOAT
    return powf(x, y);
#else
    return pow(x, y);
#endif
}

/* === section square: needs nothing === */
static inline real real_square(real x)
{
    return x * x;
}

/* === section relu: needs select === */
/* max(x, 0); NaN stays NaN. */
static inline real real_relu(real x)
{
    return real_select(x <= 0, 0, x);
}

/* === section sign: needs select === */
/* -1, 0 or 1; NaN stays NaN. */
static inline real real_sign(real x)
{
    const real y = real_select(x > 0, 1, real_select(x < 0, -1, 0));
    return real_select(x == x, y, x);
}

/* === section max2: needs select === */
/* The greater of a and b, a where they are equal, NaN where either is NaN. */
static inline real real_max2(real a, real b)
{
    return real_select((a >= b) | (a != a), a, b);
}

/* === section min2: needs select === */
/* The lesser of a and b, a where they are equal, NaN where either is NaN. */
static inline real real_min2(real a, real b)
{
    return real_select((a <= b) | (a != a), a, b);
}

/* === section clip: needs max2, min2 === */
/* x between low and high; high where low > high. */
static inline real real_clip(real x, real low, real high)
{
    return real_min2(real_max2(x, low), high);
}

/* === section where: needs select === */
/* a where c is not 0, else b. */
static inline real real_where(real c, real a, real b)
{
    return real_select(c != 0, a, b);
}

/* === section gt: needs select === */
static inline real real_gt(real a, real b)
{
    return real_select(a > b, 1, 0);
}

/* === section ge: needs select === */
static inline real real_ge(real a, real b)
{
    return real_select(a >= b, 1, 0);
}

/* === section lt: needs select === */
static inline real real_lt(real a, real b)
{
    return real_select(a < b, 1, 0);
}

/* === section le: needs select === */
static inline real real_le(real a, real b)
{
    return real_select(a <= b, 1, 0);
}

/* === section eq: needs select === */
static inline real real_eq(real a, real b)
{
    return real_select(a == b, 1, 0);
}

/* === section ne: needs select === */
static inline real real_ne(real a, real b)
{
    return real_select(a != b, 1, 0);
}
