#pragma once
/// \file
/// Room kernels: the kernels in plain C++: the specification of every other policy, the fallback where a
/// processor has nothing better, and the baseline of the benchmarks.

#include <cstdint>

#include <zipml/base/index.hpp>
#include <zipml/base/isa.hpp>
#include <zipml/base/rounded.hpp>
#include <zipml/kernels/kernel_policy.hpp>

namespace zipml::inline ZIPML_ABI {

/// See kernel_policy.hpp for the contract.
struct ScalarKernels {
  static constexpr Isa isa = Isa::scalar;
  static constexpr const char* name = name_of(isa);

  static void margins(const PackedView& view, const PlaneList& planes, GroupRange groups,
                      const std::int8_t* model, std::int32_t* out) {
    packed_margins(view, planes, groups, model, out);
  }
  static void margins(const PackedView& view, const PlaneList& planes, GroupRange groups, const float* model,
                      float* out) {
    packed_margins(view, planes, groups, model, out);
  }
  static void accumulate(const PackedView& view, const PlaneList& planes, GroupRange groups,
                         const std::int8_t* residuals, std::int32_t* gradient) {
    packed_accumulate(view, planes, groups, residuals, gradient);
  }
  static void accumulate(const PackedView& view, const PlaneList& planes, GroupRange groups,
                         const float* residuals, float* gradient) {
    packed_accumulate(view, planes, groups, residuals, gradient);
  }

  static void margins(const PackedView& view, const PlaneList& planes, TableView table, GroupRange groups,
                      const float* model, float* out) {
    const Index d = view.width;
    for (Index i = 0; i < groups.rows(); ++i) {
      const RowCodes codes(view.codes, view.layout, planes, groups.first * group_rows + i);
      float sum = 0.0f;
      for (Index j = 0; j < d; ++j) sum += table.tables[j * table.stride + codes[j]] * model[j];
      out[i] = sum;
    }
  }
  static void accumulate(const PackedView& view, const PlaneList& planes, TableView table, GroupRange groups,
                         const float* residuals, float* gradient) {
    const Index d = view.width;
    for (Index i = 0; i < groups.rows(); ++i) {
      const float r = residuals[i];
      if (r == 0.0f) continue;
      const RowCodes codes(view.codes, view.layout, planes, groups.first * group_rows + i);
      for (Index j = 0; j < d; ++j) gradient[j] += r * table.tables[j * table.stride + codes[j]];
    }
  }

  static void margins(const PackedView& view, const PlaneList& planes, CodeTable table, GroupRange groups,
                      const std::int8_t* model, std::int32_t* out) {
    const Index d = view.width;
    for (Index i = 0; i < groups.rows(); ++i) {
      const RowCodes codes(view.codes, view.layout, planes, groups.first * group_rows + i);
      std::int32_t sum = 0;
      for (Index j = 0; j < d; ++j) sum += table.entries[codes[j]] * model[j];
      out[i] = sum;
    }
  }
  static void accumulate(const PackedView& view, const PlaneList& planes, CodeTable table, GroupRange groups,
                         const std::int8_t* residuals, std::int32_t* gradient) {
    const Index d = view.width;
    for (Index i = 0; i < groups.rows(); ++i) {
      const std::int32_t r = residuals[i];
      if (r == 0) continue;
      const RowCodes codes(view.codes, view.layout, planes, groups.first * group_rows + i);
      for (Index j = 0; j < d; ++j) gradient[j] += r * table.entries[codes[j]];
    }
  }

  static void margins(const DenseRows& rows, const float* model, float* out) {
    for (Index i = 0; i < rows.count; ++i) {
      const float* a = rows.values + i * rows.stride;
      out[i] = dot<float>(rows.cols, [a, model](Index j) { return a[j] * model[j]; });
    }
  }
  static void accumulate(const DenseRows& rows, const float* residuals, float* gradient) {
    for (Index i = 0; i < rows.count; ++i) {
      const float* a = rows.values + i * rows.stride;
      const float r = residuals[i];
      for (Index j = 0; j < rows.cols; ++j) gradient[j] += r * a[j];
    }
  }

  static void gram(const PackedView& view, const PlaneList& planes, CodeTable table, GroupRange groups,
                   GramSums out) {
    detail::gram_plainly(view, planes, table, groups, out);
  }

  static void round_symmetric(const float* v, Index n, const VectorRounding& how, std::int8_t* codes) {
    zipml::round_symmetric(v, n, how, codes);
  }
  static void half_words(const Random& random, const RandomPlace& place, Index n, std::uint16_t* out) {
    zipml::half_words(random, place, n, out);
  }

  ZIPML_BATCH_MATH()
  /// sum_j a_j b_j, rounded products in 16 lanes of double that are added up by halving: the same bits in
  /// every policy.
  static double dot(const float* a, const float* b, Index padded) {
    const detail::Rounded<float> rounded;
    double lanes[16] = {};
    for (Index j = 0; j < padded; j += 16)
      for (Index l = 0; l < 16; ++l) {
        const float product = rounded(a[j + l] * b[j + l]);
        lanes[l] += static_cast<double>(product);
      }
    for (Index half = 8; half > 0; half /= 2)
      for (Index l = 0; l < half; ++l) lanes[l] += lanes[l + half];
    return lanes[0];
  }
  static void decode_row(const RowCodes& row, const RowLevels& levels, Index d, float* values, Index padded) {
    detail::decode_row_plainly(row, levels, d, values, padded);
  }
  ZIPML_ROW_MATH()
  /// Takes the step, then <next, x>.
  static float descend_to_row(const RowStep& by, float* x, const float* next, Index padded) {
    descend_row(by, x, padded);
    return dot<float>(padded, [&](Index j) { return next[j] * x[j]; });
  }

 private:
  /// sum of term(j), j < n, in 16 lanes that a compiler can keep in vector registers.
  template <class T, class Term>
  static T dot(Index n, const Term& term) {
    constexpr Index lanes = 16;
    T sums[lanes] = {};
    const Index whole = n / lanes * lanes;
    for (Index j = 0; j < whole; j += lanes)
      for (Index lane = 0; lane < lanes; ++lane) sums[lane] += term(j + lane);
    T total{};
    for (Index j = whole; j < n; ++j) total += term(j);
    for (const T sum : sums) total += sum;
    return total;
  }

  template <class X, class T>
  static void packed_margins(const PackedView& view, const PlaneList& planes, GroupRange groups,
                             const X* model, T* out) {
    const Index d = view.width;
    for (Index g = 0; g < groups.count; ++g)
      for (int r = 0; r < group_rows; ++r) {
        T sum{};
        for (int p = 0; p < planes.count; ++p) {
          const Row row(view, planes[p], groups.first + g, r);
          sum += static_cast<T>(1 << planes[p].shift) * dot<T>(d, [&row, model](Index j) {
                   return static_cast<T>(row[j]) * static_cast<T>(model[j]);
                 });
        }
        out[g * group_rows + r] = sum;
      }
  }

  template <class X, class T>
  static void packed_accumulate(const PackedView& view, const PlaneList& planes, GroupRange groups,
                                const X* residuals, T* gradient) {
    const Index d = view.width;
    for (Index g = 0; g < groups.count; ++g)
      for (int r = 0; r < group_rows; ++r) {
        const X residual = residuals[g * group_rows + r];
        if (residual == X{}) continue;
        for (int p = 0; p < planes.count; ++p) {
          const Row row(view, planes[p], groups.first + g, r);
          const T factor = static_cast<T>(residual) * static_cast<T>(1 << planes[p].shift);
          for (Index j = 0; j < d; ++j) gradient[j] += factor * static_cast<T>(row[j]);
        }
      }
  }

  /// The bits of one row of a group in one plane.
  struct Row {
    Row(const PackedView& view, const Plane& plane, Index group, int row)
        : bytes(view.group(plane, group) + row / (8 / plane.width) * view.layout.cols),
          shift(row % (8 / plane.width) * plane.width),
          mask((1 << plane.width) - 1) {}
    int operator[](Index j) const { return bytes[j] >> shift & mask; }
    const std::uint8_t* bytes;
    int shift;
    int mask;
  };
};

static_assert(KernelPolicy<ScalarKernels>);

}  // namespace zipml::inline ZIPML_ABI
