/* === section extensions: needs nothing === */
/* Words beside C99 that gcc and clang know. */
#if defined(__GNUC__) && !defined(PLAIN_C99)
#define EXTENSIONS 1
#else
#define EXTENSIONS 0
#endif

/* === section independent: needs extensions === */
/* The iterations of the next loop touch nothing of each other's: they may run side by side. */
#if EXTENSIONS && defined(__clang__)
#pragma clang diagnostic ignored "-Wpass-failed" /* a loop that is not worth it stays as it is */
#define INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#elif EXTENSIONS
#define INDEPENDENT _Pragma("GCC ivdep")
#else
#define INDEPENDENT
#endif
