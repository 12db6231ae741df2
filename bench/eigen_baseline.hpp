#pragma once
// The SGD loop, the normal equations and the Gram matrix that a user would write with Eigen, compiled with -O3 -march=native.

#include <cstddef>

/// One epoch of least squares over n x d row-major float32 samples, rows in their order; batch 1 updates
/// after each row, larger batches use two matrix-vector products. x has d entries.
__attribute__((visibility("default"))) void eigen_epoch(const float* samples, const float* labels,
                                                        std::ptrdiff_t n, std::ptrdiff_t d,
                                                        std::ptrdiff_t batch, float step, float* x);

/// Least squares with an intercept by the normal equations of the same samples, in pieces of 4,096 rows, and Eigen's LDLT in
/// double. x has d + 1 entries, the intercept last.
__attribute__((visibility("default"))) void eigen_normal_equations(const float* samples, const float* labels,
                                                                   std::ptrdiff_t n, std::ptrdiff_t d,
                                                                   double* x);

/// The lower triangle of A'A of the same samples, column-major d x d, in pieces of 2,048 rows.
__attribute__((visibility("default"))) void eigen_gram(const float* samples, std::ptrdiff_t n,
                                                       std::ptrdiff_t d, float* gram);
