// use.cc - the same from C++: lists of sizes, a lambda as the body of a function, an error caught,
// a model that is not there.
#include <picograd.h>

#include <cstdio>
#include <vector>

int main() {
    std::vector<float> values{1, 2, 3, 4};
    PgTensor *x = pg_from_data(PG_F32, PG_SHAPE(2, 2), values.data());
    PgTensor *y = pg_softmax(pg_matmul(x, pg_transpose(x, 0, 1)), -1);
    std::printf("sum %.4f\n", pg_item(pg_sum(y, PG_ALL_AXES, false)));

    PgFunction *cube = pg_function(
        [](void *, PgTensor **in, PgTensor **out) { out[0] = pg_mul(in[0], pg_mul(in[0], in[0])); },
        nullptr, 1, 1);
    PgTensor *out;
    if (pg_call(cube, &x, &out)) return 1;
    pg_print(out);
    pg_function_free(cube);

    int status = pg_try([](void *x) { pg_reshape(static_cast<PgTensor *>(x), PG_SHAPE(3)); }, x);
    std::printf("status %d: %s\n", status, pg_error());
    if (!pg_model_open("no/such.gguf", 0)) std::printf("%.24s\n", pg_error());
    return 0;
}
