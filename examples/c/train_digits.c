/* Trains the network of digits.yaml on handwritten digits, with the generated digits.c and no Python: see README.md. */
#include "digits.h"

#include <stdio.h>
#include <stdlib.h>

enum { P = digits_P, H = digits_H, C = digits_C };
enum { DIGITS = 1797, UNSEEN = 360, SEEN = DIGITS - UNSEEN, BATCH = 32, EPOCHS = 30 };
enum { HIDDEN_W = 0, HIDDEN_B = HIDDEN_W + H*P, OUT_W = HIDDEN_B + H, OUT_B = OUT_W + C*H, WEIGHTS = OUT_B + C };

static digits_real images[DIGITS][P]; /* the unseen ones first */
static digits_index labels[DIGITS];
static digits_real weights[WEIGHTS], slopes[WEIGHTS];
static digits_real batch_images[BATCH][P];
static digits_index batch_labels[BATCH];
static digits_real scores[UNSEEN][C];

static const digits_params params = {weights + HIDDEN_W, weights + HIDDEN_B, weights + OUT_W, weights + OUT_B};
static const digits_grads grads = {slopes + HIDDEN_W, slopes + HIDDEN_B, slopes + OUT_W, slopes + OUT_B};

/* A number in 0..below-1 (xorshift, Marsaglia 2003). */
static unsigned drawn(unsigned below)
{
    static uint32_t state = 2463534242u;
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    return (unsigned)(state % below);
}

static void read_digits(const char *path)
{
    FILE *const file = fopen(path, "r");
    char line[P + 3];
    for (int k = 0; k < DIGITS; ++k) {
        if (file == NULL || fgets(line, sizeof line, file) == NULL) {
            fprintf(stderr, "%s: expected %d lines, a label and %d letters each\n", path, (int)DIGITS, (int)P);
            exit(2);
        }
        labels[k] = line[0] - '0';
        for (int i = 0; i < P; ++i) {
            images[k][i] = (digits_real)(line[1 + i] - 'a') / 16;
        }
    }
    fclose(file);
}

/* Stops where a call was refused. */
static void checked(int code)
{
    if (code != DIGITS_OK) {
        fprintf(stderr, "digits.h: code %d\n", code);
        exit(1);
    }
}

/* One pass over the shuffled digits; the mean loss of its batches. */
static double epoch(digits_real rate, void *workspace, size_t bytes)
{
    static int order[SEEN];
    const digits_dims dims = {BATCH};
    const digits_inputs inputs = {batch_images[0], batch_labels};
    double total = 0;
    for (int k = 0; k < SEEN; ++k) { /* shuffled while it is filled (Durstenfeld 1964) */
        const int other = (int)drawn((unsigned)k + 1);
        order[k] = order[other];
        order[other] = UNSEEN + k;
    }
    for (int first = 0; first + BATCH <= SEEN; first += BATCH) {
        for (int n = 0; n < BATCH; ++n) {
            for (int i = 0; i < P; ++i) {
                batch_images[n][i] = images[order[first + n]][i];
            }
            batch_labels[n] = labels[order[first + n]];
        }
        digits_real loss;
        checked(digits_value_and_grad(&dims, &params, &inputs, &loss, &grads, NULL, workspace, bytes));
        for (int k = 0; k < WEIGHTS; ++k) {
            weights[k] -= rate * slopes[k];
        }
        total += (double)loss;
    }
    return total / (SEEN / BATCH);
}

/* The share of unseen digits whose greatest score is at their label. */
static double accuracy(void *workspace, size_t bytes)
{
    const digits_dims dims = {UNSEEN};
    const digits_inputs inputs = {images[0], NULL}; /* no labels: predict does not need them */
    const digits_outputs outputs = {scores[0]};
    int right = 0;
    checked(digits_predict(&dims, &params, &inputs, &outputs, workspace, bytes));
    for (int n = 0; n < UNSEEN; ++n) {
        int best = 0;
        for (int c = 1; c < C; ++c) {
            best = scores[n][c] > scores[n][best] ? c : best;
        }
        right += best == labels[n];
    }
    return (double)right / UNSEEN;
}

int main(int argc, char **argv)
{
    const digits_dims most = {UNSEEN}; /* more than a batch */
    const size_t bytes = digits_workspace_bytes(&most);
    void *const workspace = malloc(bytes);
    if (workspace == NULL) {
        return 3;
    }
    read_digits(argc > 1 ? argv[1] : "digits.txt");
    for (int k = 0; k < WEIGHTS; ++k) { /* uniform, biases 0 */
        const int bias = (k >= HIDDEN_B && k < OUT_W) || k >= OUT_B;
        weights[k] = bias ? 0 : ((digits_real)drawn(2001) / 1000 - 1) * (k < HIDDEN_B ? 0.3f : 0.35f);
    }
    for (int k = 1; k <= EPOCHS; ++k) {
        printf("epoch %2d: loss %.4f\n", k, epoch(3 * k <= 2 * EPOCHS ? 0.2f : 0.02f, workspace, bytes));
    }
    const double share = accuracy(workspace, bytes);
    printf("test accuracy %.2f %% of %d digits, goal 95 %%\n", 100 * share, (int)UNSEEN);
    free(workspace);
    return share > 0.95 ? 0 : 1;
}
