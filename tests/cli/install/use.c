/* use.c - a program of a user's: a network's loss and slope, compiled, beside functions of its own
 * whose names are used inside of the library, too. */
#include <picograd.h>

#include <stdio.h>

int fail(const char *what);
void say(const char *what);
int fail(const char *what) { return printf("fail %s\n", what), 1; }
void say(const char *what) { printf("say %s\n", what); }

static void loss_and_slope(void *context, PgTensor **in, PgTensor **out) {
    (void)context;
    PgTensor *error = pg_sub(pg_matmul(in[0], in[1]), in[2]);
    out[0] = pg_mean(pg_mul(error, error), PG_ALL_AXES, false);
    pg_grad(out[0], 1, &in[1], &out[1]);
}

int main(void) {
    PgTensor *in[] = {pg_from_data(PG_F32, PG_SHAPE(2, 2), (float[]){1, 2, 3, 4}),
                      pg_from_data(PG_F32, PG_SHAPE(2, 1), (float[]){1, -1}),
                      pg_from_data(PG_F32, PG_SHAPE(2, 1), (float[]){0, 1})};
    PgTensor *out[2];
    PgFunction *function = pg_function(loss_and_slope, NULL, 3, 2);
    if (pg_call(function, in, out)) return fail(pg_error());
    printf("loss %.2f\n", pg_item(out[0]));
    pg_print(pg_reshape(out[1], PG_SHAPE(2)));
    pg_function_free(function);
    say("done");
    return 0;
}
