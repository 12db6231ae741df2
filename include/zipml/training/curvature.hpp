#pragma once
/// \file
/// Layer 6: measures on a store what a safe step depends on.

#include <algorithm>

#include <zipml/model/step_sizes.hpp>
#include <zipml/storage/sample_store.hpp>
#include <zipml/vector_math.hpp>

namespace zipml::inline ZIPML_ABI {

namespace detail {

/// Reads decoded rows of a store, without its type: what follows is compiled once for all stores.
struct RowReader {
  const void* store;
  void (*read)(const void* store, Index i, float* out);
  Index rows;
  Index cols;

  template <class Store>
  explicit RowReader(const Store& s)
      : store(&s),
        read([](const void* self, Index i, float* out) {
          static_cast<const Store*>(self)->decode_row(i, 0, out);
        }),
        rows(s.rows()),
        cols(s.cols()) {}
  void operator()(Index i, float* out) const { read(store, i, out); }
};

/// Norms over the rows of a store, all of them up to 2^24 values, then a strided selection; top eigenvalue by
/// a dozen steps of the power method on the first rows (a random sample of the data). A 1 is appended to each
/// row for the intercept. O(values).
inline Curvature measure_curvature(const RowReader& row_of) {
  constexpr Index norm_values = Index{1} << 24;
  constexpr Index power_values = Index{1} << 19;
  Curvature curvature;
  const Index d = row_of.cols;
  const Index stride =
      std::max<Index>(1, row_of.rows / std::max<Index>(256, norm_values / std::max<Index>(d, 1)));
  Buffer<float> row(d);
  Buffer<double> squares(d);
  Buffer<double> weighted(d);
  double norms = 0.0;
  Index count = 0;
  for (Index i = 0; i < row_of.rows; i += stride, ++count) {
    row_of(i, row.data());
    double norm = 1.0;
    for (Index j = 0; j < d; ++j) norm += pinned(static_cast<double>(row[j]) * static_cast<double>(row[j]));
    for (Index j = 0; j < d; ++j) {
      const double square = pinned(static_cast<double>(row[j]) * static_cast<double>(row[j]));
      squares[j] += square;
      weighted[j] += pinned(norm * square);
    }
    norms += norm;
  }
  curvature.mean_norm = curvature.weighted_norm = norms / static_cast<double>(count);
  for (Index j = 0; j < d; ++j)
    if (squares[j] > 0.0)
      curvature.weighted_norm = std::max(curvature.weighted_norm, weighted[j] / squares[j]);

  const Index n = std::min(row_of.rows, std::clamp<Index>(power_values / std::max<Index>(d, 1), 256, 16384));
  Buffer<float> rows(checked_product(n, d, "a sample of the rows"));
  for (Index i = 0; i < n; ++i) row_of(i, rows.data() + i * d);
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
  curvature.top_eigenvalue = std::max(curvature.top_eigenvalue, 1.0);  // the intercept's own
  return curvature;
}

}  // namespace detail

/// What a safe step on this store depends on. O(values), of 2^24 at most.
template <SampleStore Store>
Curvature measure_curvature(const Store& store) {
  return detail::measure_curvature(detail::RowReader(store));
}

}  // namespace zipml::inline ZIPML_ABI
