// The C interface of the kernel: one engine trains one model (engine.hpp). Vectors are flat, in the order of
// pipeline.models.parameters; tokens are windows of n_ctx + 1.

#include "engine.hpp"

extern "C" {

Engine* native_create(const Shape* shape, const Settings* settings) {
    Engine* engine = new Engine(*shape, *settings);
    if (engine->allocate()) return engine;
    delete engine;
    return nullptr;
}

void native_destroy(Engine* engine) { delete engine; }

// which: 0 parameters, 1 first moment, 2 second moment, 3 gradient
void native_copy(Engine* engine, int which, float* flat, int in) {
    if (in)
        engine->write(which, flat);
    else
        engine->read(which, flat);
}

double native_gradient(Engine* engine, const uint16_t* tokens, int64_t batch, int64_t step) {
    FlushTiny flush;
    const double loss = engine->differentiate(tokens, batch, step, nullptr);
    engine->take_mean(batch);
    return loss;
}

// measured: loss, gradient norm and, with `noise`, the squared gradient norms of both halves of the batch
void native_step(Engine* engine, const uint16_t* tokens, int64_t batch, int64_t step, double lr, int noise,
                 double* measured) {
    FlushTiny flush;
    measured[0] = engine->differentiate(tokens, batch, step, noise ? measured + 2 : nullptr);
    measured[1] = engine->update(lr, step, batch);
}

void native_evaluate(Engine* engine, const uint16_t* tokens, int64_t count, double* sums) {
    FlushTiny flush;
    engine->evaluate(tokens, count, sums);
}
}
