#pragma once
/// \file
/// Room training: measures on a store what a safe step depends on.

#include <algorithm>
#include <cmath>

#include <zipml/base/buffer.hpp>
#include <zipml/base/random.hpp>
#include <zipml/base/rounded.hpp>
#include <zipml/base/vector_math.hpp>
#include <zipml/model/step_sizes.hpp>
#include <zipml/storage/sample_view.hpp>
#include <zipml/training/lanczos.hpp>
#include <zipml/training/row_norms.hpp>
#include <zipml/training/sample_rows.hpp>

namespace zipml::inline ZIPML_ABI {

namespace detail {

/// Some 2^19 values of the first rows, a random sample of the data, each times the root of its row's weight.
Buffer<float> first_rows(const KernelTable& kernels, const SampleView& samples);

}  // namespace detail

/// What a safe step on these samples depends on. Norms over the rows, all of them up to 2^24 values, then a
/// strided selection; top eigenvalue by a dozen steps of the power method on the first rows (a random sample
/// of the data). A 1 is appended to each row for the intercept. `mean_squares`, where it is given, gets those of the
/// columns, of the same rows. O(values).
Curvature measure_curvature(const KernelTable& kernels, const SampleView& samples, Isa isa,
                            Buffer<double>* mean_squares = nullptr);

/// Curvature::mean_inverse of the samples: v' (A + floor I)^-1 v / v'v for random signs v, an estimate of the
/// mean of 1 / (lambda + floor) (Hutchinson 1990), A = E q q' of the first rows, by 24 steps of Lanczos.
double measure_mean_inverse(const KernelTable& kernels, const SampleView& samples, std::uint64_t seed,
                            double floor);

#if ZIPML_DEFINES

namespace detail {

ZIPML_FUNCTION Buffer<float> first_rows(const KernelTable& kernels, const SampleView& samples) {
  constexpr Index values = Index{1} << 19;
  const Index d = samples.cols;
  const Index n = (std::min)(samples.rows, std::clamp<Index>(values / std::max<Index>(d, 1), 256, 16384));
  Buffer<float> rows(checked_product(n, d, "a sample of the rows"));
  SampleRows decoded(kernels, samples);
  for (Index first = 0; first < n; first += SampleRows::most) {
    const Index count = (std::min)(SampleRows::most, n - first);
    const float* const read = decoded.read(first, count);
    for (Index r = 0; r < count; ++r) {
      float* row = rows.data() + (first + r) * d;
      std::copy_n(read + r * decoded.stride(), d, row);
      if (samples.weights == nullptr) continue;
      const float root = std::sqrt(samples.weights[first + r]);
      for (Index j = 0; j < d; ++j) row[j] *= root;
    }
  }
  return rows;
}

}  // namespace detail

ZIPML_FUNCTION Curvature measure_curvature(const KernelTable& kernels, const SampleView& samples, Isa isa,
                                           Buffer<double>* mean_squares) {
  constexpr Index norm_values = Index{1} << 24;
  Curvature curvature;
  const Index d = samples.cols;
  const Index stride =
      std::max<Index>(1, samples.rows / std::max<Index>(256, norm_values / std::max<Index>(d, 1)));
  // A row of weight w adds w a a' to the matrix, and its step w^2 |a|^2 a a' to the noise.
  detail::RowNorms sums(d);
  SampleRows rows_of(kernels, samples);
  Index count = 0;
  for (Index i = 0; i < samples.rows;) {
    const Index some = stride > 1 ? 1 : (std::min)(SampleRows::most, samples.rows - i);
    const float* const rows = rows_of.read(i, some);
    for (Index r = 0; r < some; r += detail::RowNorms::together)
      sums.add(isa, rows + r * rows_of.stride(), rows_of.stride(),
               (std::min)(detail::RowNorms::together, some - r),
               samples.weights != nullptr ? samples.weights + i + r : nullptr);
    count += some;
    i += stride > 1 ? stride : some;
  }
  curvature.mean_norm = sums.norms / static_cast<double>(count);
  curvature.weighted_norm = sums.weighted / static_cast<double>(count);
  curvature.mean_eigenvalue = curvature.mean_norm / static_cast<double>(d + 1);
  for (Index j = 0; j < d; ++j)
    if (sums.squares(j) > 0.0)
      curvature.weighted_norm =
          (std::max)(curvature.weighted_norm, sums.squares_times_norm(j) / sums.squares(j));

  if (mean_squares != nullptr) {
    *mean_squares = Buffer<double>(d);
    for (Index j = 0; j < d; ++j) (*mean_squares)[j] = sums.squares(j) / static_cast<double>(count);
  }
  double fourth = sums.weighted;
  for (Index j = 0; j < d; ++j) fourth += sums.squares_times_norm(j);
  curvature.mean_weighted_norm = sums.norms > 0.0 ? fourth / sums.norms : 0.0;

  const Buffer<float> rows = detail::first_rows(kernels, samples);
  const Index n = d > 0 ? rows.size() / d : 0;
  // An underestimate by a few per cent, which the norms in the step rule cover.
  Buffer<float> direction(d);
  Buffer<float> image(d);
  Buffer<float> scratch(d);
  for (Index j = 0; j < d; ++j)
    direction[j] = 1.0f + static_cast<float>(j % 7) / 8.0f;  // no symmetry to be orthogonal to
  for (int step = 0; step < 12; ++step) {
    const double length = std::sqrt(detail::dot(direction.data(), direction.data(), scratch.data(), d));
    if (!(length > 0.0)) break;
    detail::multiply(direction.data(), static_cast<float>(1.0 / length), direction.data(), d);
    std::fill(image.begin(), image.end(), 0.0f);
    for (Index i = 0; i < n; ++i) {
      const float* sample = rows.data() + i * d;
      const auto z = static_cast<float>(detail::dot(sample, direction.data(), scratch.data(), d));
      detail::add_multiple(z, sample, image.data(), scratch.data(), d);
    }
    curvature.top_eigenvalue =
        std::sqrt(detail::dot(image.data(), image.data(), scratch.data(), d)) / static_cast<double>(n);
    std::swap(direction, image);
  }
  curvature.top_eigenvalue = (std::max)(curvature.top_eigenvalue, 1.0);  // the intercept's own
  return curvature;
}

ZIPML_FUNCTION double measure_mean_inverse(const KernelTable& kernels, const SampleView& samples,
                                           std::uint64_t seed, double floor) {
  const Random random(seed);
  const Index d = samples.cols;
  const Buffer<float> rows = detail::first_rows(kernels, samples);
  const Index n = d > 0 ? rows.size() / d : 0;
  if (n == 0) return 1.0;
  Buffer<double> signs(d);
  for (Index j = 0; j < d; ++j)
    signs[j] =
        (random.word(Stream::batch_order, 2, static_cast<std::uint32_t>(j), 0) >> 31) != 0 ? -1.0 : 1.0;
  Buffer<float> direction(d), image(d), scratch(d);
  const auto apply = [&](const double* x, double* y) {
    for (Index j = 0; j < d; ++j) direction[j] = static_cast<float>(x[j]);
    std::fill(image.begin(), image.end(), 0.0f);
    for (Index i = 0; i < n; ++i) {
      const float* sample = rows.data() + i * d;
      const auto z = static_cast<float>(detail::dot(sample, direction.data(), scratch.data(), d));
      detail::add_multiple(z, sample, image.data(), scratch.data(), d);
    }
    for (Index j = 0; j < d; ++j)
      y[j] = static_cast<double>(image[j]) / static_cast<double>(n) + pinned(floor * x[j]);
  };
  const detail::Spectrum spectrum =
      detail::lanczos(std::move(signs), 24, {.enough = 0.0}, detail::LinearMap(apply));
  return spectrum.inverse > 0.0 ? spectrum.inverse / static_cast<double>(d) : 1.0 / floor;
}

#endif

}  // namespace zipml::inline ZIPML_ABI
