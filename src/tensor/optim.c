/* optim.c - optimizers: each a function of one weight, its gradient and its state.
 * In: memory to update, and gradients.  Out: the same memory; no history.
 * Invariant: everything is read before anything is written, and all state is the caller's tensors,
 * so that a step can be traced, compiled, saved.
 *   pg_grad(loss, 1, &w, &g); pg_sgd(w, g, NULL, pg_scalar(0.1), 0, 0);                          */
#include "tensor/tensor.h"

// velocity = momentum * velocity + grad; weight -= rate * velocity
void pg_sgd(PgTensor *weight, PgTensor *grad, PgTensor *velocity, PgTensor *rate, double momentum,
            double decay) {
    bool recording = pg_no_grad(true);
    if (decay != 0) grad = pg_add(grad, scaled(weight, decay));
    if (velocity) {
        pg_assign(velocity, pg_add(scaled(velocity, momentum), grad));
        grad = velocity;
    }
    pg_assign(weight, pg_sub(weight, pg_mul(grad, rate)));
    pg_no_grad(recording);
}

// state = keep * state + (1 - keep) * news, and what it would be had it not started at 0
static PgTensor *averaged(PgTensor *state, PgTensor *news, double keep, PgTensor *step) {
    pg_assign(state, pg_add(scaled(state, keep), scaled(news, 1 - keep)));
    PgTensor *missing = pg_pow(pg_scalar(keep), pg_cast(step, PG_F32));
    return pg_div(state, pg_sub(pg_scalar(1), missing));
}

// Decay is apart from the gradient: I. Loshchilov and F. Hutter, Decoupled Weight Decay (2019).
void pg_adamw(PgTensor *weight, PgTensor *grad, PgTensor *mean, PgTensor *square, PgTensor *step,
              PgTensor *rate, PgAdam how) {
    bool recording = pg_no_grad(true);
    PgTensor *direction = averaged(mean, grad, how.beta1, step);
    PgTensor *size = averaged(square, pg_mul(grad, grad), how.beta2, step);
    direction = pg_div(direction, shifted(pg_sqrt(size), how.epsilon));
    direction = pg_add(direction, scaled(weight, how.decay));
    pg_assign(weight, pg_sub(weight, pg_mul(direction, rate)));
    pg_no_grad(recording);
}
