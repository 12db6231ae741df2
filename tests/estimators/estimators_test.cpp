// Gradient estimators by exact enumeration of all roundings of a small sample (ZipML 2017, section 2.2, and
// the formulas in estimators.hpp): their means and variances, computed with the code that trains.

#include <cmath>
#include <vector>
#include <zipml/eigen.hpp>
#include <zipml/estimators/estimators.hpp>
#include <zipml/estimators/requirements.hpp>
#include <zipml/kernels/isa.hpp>
#include <zipml/packing/fitted_levels.hpp>
#include <zipml/packing/packer.hpp>
#include <zipml/storage/dense_store.hpp>
#include <zipml/training/gradient_device.hpp>

#include "catch.hpp"

using namespace zipml;

namespace {

/// Squared loss on labels as they are: the smallest thing that is an AffineLoss.
struct PlainSquaredLoss {
  static constexpr const char* name = "plain";
  static constexpr bool classifies = false;
  static constexpr float slope = 1.0f;
  double value(double z, double y) const { return 0.5 * (z - y) * (z - y); }
  float derivative(float z, float y) const { return z - y; }
  LabelMap label_map(const LabelStatistics&) const { return {}; }
};
static_assert(AffineLoss<PlainSquaredLoss>);

/// A loss that is not affine in the margin.
struct Logistic {
  static constexpr const char* name = "logistic";
  static constexpr bool classifies = true;
  double value(double z, double y) const { return std::log1p(std::exp(-y * z)); }
  float derivative(float z, float y) const { return -y / (1.0f + std::exp(y * z)); }
  LabelMap label_map(const LabelStatistics&) const { return {}; }
};

const KernelTable scalar = kernels_of(Isa::scalar);

/// A device on a store, with its labels as they are.
struct Rig {
  template <class Store>
  explicit Rig(const Store& store, const Channels& channels = {})
      : targets(store.targets(), std::vector<LabelMap>(1)),
        device(scalar, store.samples(), targets, {.channels = channels, .seed = 1}) {}
  MappedTargets targets;
  GradientDevice device;
};
constexpr int bits = 2;
constexpr Index d = 3;

/// One sample, its label and a model; columns have levels 0, 1, 2, 3 scaled and shifted.
struct Problem {
  std::vector<double> a{0.3, 1.75, 2.1};  // in steps above the offset
  std::vector<double> offset{-1.0, 0.5, -2.0};
  std::vector<double> step{0.7, 0.25, 1.3};
  std::vector<double> x{0.9, -1.7, 0.4};
  double b = 0.8;

  double value(Index j) const { return offset[u(j)] + step[u(j)] * a[u(j)]; }
  double fraction(Index j) const { return a[u(j)] - std::floor(a[u(j)]); }
  double variance(Index j) const { return step[u(j)] * step[u(j)] * fraction(j) * (1.0 - fraction(j)); }
  double residual() const {
    double z = -b;
    for (Index j = 0; j < d; ++j) z += value(j) * x[u(j)];
    return z;
  }
  static std::size_t u(Index j) { return static_cast<std::size_t>(j); }
};

struct Moments {
  double mean[d] = {};
  double variance = 0.0;  // trace of the covariance
  double intercept = 0.0;
  double rounding = 0.0;  // mean of sum_j Var Qg(g_j), the gradient rounded to so many levels on a side
};

/// Where symmetric levels lie about a value: low, high = low + scale, and the probability of high.
struct Neighbours {
  Neighbours(double v, double scale)
      : low(scale * std::floor(v / scale)), high(low + scale), up((v - low) / scale) {}
  double variance() const { return (high - low) * (high - low) * up * (1.0 - up); }
  double low, high, up;
};

/// Mean and total variance of an estimator over all roundings of all draws.
template <class Estimator>
Moments enumerate(const Problem& p, Estimator estimator, int gradient_levels = 0) {
  using Encoding = typename Estimator::Encoding;
  using Store = PackedStore<Encoding, AffineDecoder>;
  constexpr int draws = detail::draws_taken<Encoding>;
  Eigen::VectorXf label = Eigen::VectorXf::Constant(1, static_cast<float>(p.b));
  RowMajorMatrix sample(1, d);
  for (Index j = 0; j < d; ++j) sample(0, j) = static_cast<float>(p.value(j));
  Store store(
      StoreHeader(MatrixRef(sample), VectorRef(label), column_statistics(MatrixRef(sample)), false, 1), bits);
  store.decoder.offset = Buffer<float>(d);
  store.decoder.step = Buffer<float>(d);
  Buffer<float> x(padded(d));
  for (Index j = 0; j < d; ++j) {
    store.decoder.offset[j] = static_cast<float>(p.offset[Problem::u(j)]);
    store.decoder.step[j] = static_cast<float>(p.step[Problem::u(j)]) / Encoding::summed;
    x[j] = static_cast<float>(p.x[Problem::u(j)]);
  }
  const PlainSquaredLoss loss;
  Moments m;
  double square = 0.0;
  for (unsigned outcome = 0; outcome < 1u << (d * draws); ++outcome) {
    Buffer<typename Encoding::Code> base(8 * d);
    Buffer<std::uint8_t> ups(8 * d);
    Buffer<float> bias(d);
    double probability = 1.0;
    for (Index j = 0; j < d; ++j) {
      const unsigned up = outcome >> (j * draws) & ((1u << draws) - 1u);
      const int low = static_cast<int>(std::floor(p.a[Problem::u(j)]));
      int count = 0;
      for (int draw = 0; draw < draws; ++draw) {
        count += static_cast<int>(up >> draw & 1u);
        probability *= (up >> draw & 1u) != 0 ? p.fraction(j) : 1.0 - p.fraction(j);
      }
      base[j] =
          static_cast<typename Encoding::Code>(Encoding::draws > 1 ? low : Encoding::summed * low + count);
      ups[j] = static_cast<std::uint8_t>(up);
      // One row: dbar is its own variance, and the column mean of w is its own w.
      constexpr double k = Encoding::summed;
      const double step = p.step[Problem::u(j)];
      bias[j] = static_cast<float>(
          Encoding::summed == 1 ? p.variance(j) : step * step * count * (k - count) / (k * k * (k - 1.0)));
    }
    detail::write_row<Encoding>(Isa::scalar, store.mutable_codes().data(), store.layout(), bits, 0,
                                base.data(), ups.data());
    Rig rig(store);
    GradientDevice& device = rig.device;
    if (Estimator::corrected) device.set_correction(bias);
    device.begin_batch(0, 1, x.data(), 0.0f, 0);
    while (device.next_pass()) device.add_pass(estimator, loss);
    float g[model_padding];
    m.intercept += probability * static_cast<double>(device.end_batch(g));
    for (Index j = 0; j < d; ++j) {
      m.mean[j] += probability * static_cast<double>(g[j]);
      square += probability * static_cast<double>(g[j]) * static_cast<double>(g[j]);
    }
    if (gradient_levels == 0) continue;
    double reach = 0.0;
    for (Index j = 0; j < d; ++j) reach = std::max(reach, std::fabs(static_cast<double>(g[j])));
    for (Index j = 0; j < d && reach > 0.0; ++j)
      m.rounding += probability * Neighbours(static_cast<double>(g[j]), reach / gradient_levels).variance();
  }
  m.variance = square;
  for (const double mean : m.mean) m.variance -= mean * mean;
  return m;
}

struct Terms {
  double tv = 0.0, norm = 0.0, xdx = 0.0, adx = 0.0, dx2 = 0.0, r = 0.0;
  explicit Terms(const Problem& p) : r(p.residual()) {
    for (Index j = 0; j < d; ++j) {
      const double v = p.variance(j);
      const double x = p.x[Problem::u(j)];
      tv += v;
      norm += p.value(j) * p.value(j);
      xdx += v * x * x;
      adx += p.value(j) * v * x;
      dx2 += v * v * x * x;
    }
  }
};

std::vector<Problem> problems() {
  std::vector<Problem> list(3);
  list[1].a = {1.5, 0.0, 2.5};
  list[1].x = {-0.3, 2.0, 1.1};
  list[2].a = {2.99, 1.01, 0.5};
  list[2].b = -3.0;
  return list;
}

}  // namespace

TEST_CASE("naive: the bias is exactly D x") {
  for (const Problem& p : problems()) {
    const Moments m = enumerate(p, naive);
    for (Index j = 0; j < d; ++j) {
      const double gradient = p.value(j) * p.residual();
      CHECK(m.mean[j] == Approx(gradient + p.variance(j) * p.x[Problem::u(j)]).margin(1e-5));
    }
  }
}

TEST_CASE("double sampling and its symmetrized form: no bias, variances as derived") {
  for (const Problem& p : problems()) {
    const Terms t(p);
    const Moments two = enumerate(p, double_sampling);
    const Moments sym = enumerate(p, symmetrized);
    for (Index j = 0; j < d; ++j) {
      const double gradient = p.value(j) * p.residual();
      CHECK(two.mean[j] == Approx(gradient).margin(1e-5));
      CHECK(sym.mean[j] == Approx(gradient).margin(1e-5));
    }
    CHECK(two.intercept == Approx(p.residual()).margin(1e-5));
    CHECK(sym.intercept == Approx(p.residual()).margin(1e-5));
    CHECK(two.variance == Approx(t.tv * t.r * t.r + t.norm * t.xdx + t.tv * t.xdx).epsilon(1e-4));
    CHECK(sym.variance ==
          Approx(t.tv * t.r * t.r / 2 + t.norm * t.xdx / 2 + t.r * t.adx + t.tv * t.xdx / 2 + t.dx2 / 2)
              .epsilon(1e-4));
    CHECK(sym.variance <= two.variance * (1.0 + 1e-6));
  }
}

TEST_CASE(
    "sum code with its own w, and more draws as a count: no bias, never more variance than symmetrized") {
  for (const Problem& p : problems()) {
    const Terms t(p);
    const Moments two = enumerate(p, double_sampling);
    const Moments sym = enumerate(p, symmetrized);
    const Moments sum = enumerate(p, sum_code);
    const Moments four = enumerate(p, sum_code_of<4>);
    const Moments one = enumerate(p, variance_corrected);
    for (Index j = 0; j < d; ++j) {
      const double gradient = p.value(j) * p.residual();
      for (const Moments* m : {&sum, &four, &one}) CHECK(m->mean[j] == Approx(gradient).margin(1e-5));
    }
    CHECK(sum.variance <= sym.variance * (1.0 + 1e-5));
    CHECK(sym.variance <= two.variance * (1.0 + 1e-5));
    CHECK(four.variance <= sum.variance * (1.0 + 1e-5));
    CHECK(sum.intercept == Approx(p.residual()).margin(1e-5));
  }
}

TEST_CASE(
    "end to end: rounded samples, model and gradient have no bias, and the variance of the composition") {
  for (const Problem& p : problems())
    for (const int width : {2, 3, 8}) {
      const int levels = symmetric_levels(width);
      double reach = 0.0;
      for (const double x : p.x) reach = std::max(reach, std::fabs(x));
      const Terms t(p);
      double av = 0.0, dv = 0.0;  // sum_j a_j^2 v_j, sum_j d_j v_j
      for (Index j = 0; j < d; ++j) {
        const double v = Neighbours(p.x[Problem::u(j)], reach / levels).variance();
        av += p.value(j) * p.value(j) * v;
        dv += p.variance(j) * v;
      }
      Moments all;
      double square = 0.0;
      for (unsigned outcome = 0; outcome < 1u << d; ++outcome) {
        Problem rounded = p;
        double probability = 1.0;
        for (Index j = 0; j < d; ++j) {
          const Neighbours at(p.x[Problem::u(j)], reach / levels);
          const bool up = (outcome >> j & 1u) != 0;
          rounded.x[Problem::u(j)] = up ? at.high : at.low;
          probability *= up ? at.up : 1.0 - at.up;
        }
        const Moments m = enumerate(rounded, double_sampling, levels);
        double norm = 0.0;
        for (Index j = 0; j < d; ++j) {
          all.mean[j] += probability * m.mean[j];
          norm += m.mean[j] * m.mean[j];
        }
        square += probability * (m.variance + norm + m.rounding);
        all.rounding += probability * m.rounding;
      }
      for (const double mean : all.mean) square -= mean * mean;
      for (Index j = 0; j < d; ++j) CHECK(all.mean[j] == Approx(p.value(j) * p.residual()).margin(2e-5));
      CHECK(square ==
            Approx((t.norm + t.tv) * (t.r * t.r + av + t.xdx + dv) - t.norm * t.r * t.r + all.rounding)
                .epsilon(1e-4));
    }
}

TEST_CASE("summed over the rows, sum code with the column mean of w and variance correction have no bias") {
  // Two rows and two columns, all roundings of one and of two draws, packed with the code that packs; the
  // bias terms are those of the whole column.
  const double a[2][2] = {{0.3, 1.75}, {2.6, 0.5}};
  const double x[2] = {0.9, -1.7};
  const double y[2] = {0.8, -0.4};
  double exact[2] = {};
  for (int i = 0; i < 2; ++i) {
    const double r = a[i][0] * x[0] + a[i][1] * x[1] - y[i];
    for (int j = 0; j < 2; ++j) exact[j] += 0.5 * a[i][j] * r;
  }
  const auto mean_gradient = [&](auto estimator, double* mean) {
    using Estimator = decltype(estimator);
    using Encoding = typename Estimator::Encoding;
    using Store = PackedStore<Encoding, AffineDecoder>;
    constexpr int draws = detail::draws_taken<Encoding>;
    constexpr double k = Encoding::summed;
    const RowMajorMatrix zero = RowMajorMatrix::Zero(2, 2);
    const Eigen::Vector2f labels(static_cast<float>(y[0]), static_cast<float>(y[1]));
    Store store(StoreHeader(MatrixRef(zero), VectorRef(labels), column_statistics(MatrixRef(zero)), false, 1),
                bits);
    store.decoder.offset = Buffer<float>(2);
    store.decoder.step = Buffer<float>(2);
    for (float& step : store.decoder.step) step = 1.0f / Encoding::summed;
    for (unsigned outcome = 0; outcome < 1u << (4 * draws); ++outcome) {
      Buffer<typename Encoding::Code> base(16);
      Buffer<std::uint8_t> ups(16);
      Buffer<float> bias(2);
      double probability = 1.0;
      for (int place = 0; place < 2; ++place)
        for (int j = 0; j < 2; ++j) {
          const Index row = store.row_id(place);
          const double value = a[row][j];
          const double fraction = value - std::floor(value);
          int count = 0;
          for (int draw = 0; draw < draws; ++draw) {
            const bool up = (outcome >> ((place * 2 + j) * draws + draw) & 1u) != 0;
            count += up ? 1 : 0;
            probability *= up ? fraction : 1.0 - fraction;
          }
          base[place * 2 + j] =
              static_cast<typename Encoding::Code>(Encoding::summed * std::floor(value) + count);
          const double w =
              Encoding::summed == 1 ? fraction * (1.0 - fraction) : count * (k - count) / (k * k * (k - 1));
          bias[j] += static_cast<float>(0.5 * w);
        }
      for (Index row = 0; row < 2; ++row)
        detail::write_row<Encoding>(Isa::scalar, store.mutable_codes().data(), store.layout(), bits, row,
                                    base.data() + 2 * row, ups.data() + 2 * row);
      Rig rig(store);
      GradientDevice& device = rig.device;
      device.set_correction(bias);
      const float model[model_padding] = {static_cast<float>(x[0]), static_cast<float>(x[1])};
      device.begin_batch(0, 2, model, 0.0f, 0);
      while (device.next_pass()) device.add_pass(estimator, PlainSquaredLoss{});
      float g[model_padding];
      device.end_batch(g);
      for (int j = 0; j < 2; ++j) mean[j] += probability * static_cast<double>(g[j]);
    }
  };
  double one[2] = {};
  double two[2] = {};
  double four[2] = {};
  mean_gradient(variance_corrected, one);
  mean_gradient(sum_code, two);
  mean_gradient(sum_code_of<4>, four);
  for (int j = 0; j < 2; ++j) {
    CHECK(one[j] == Approx(exact[j]).margin(1e-5));
    CHECK(two[j] == Approx(exact[j]).margin(1e-5));
    CHECK(four[j] == Approx(exact[j]).margin(1e-5));
  }
}

TEST_CASE("margins of all draws at once are those of each draw") {
  RowMajorMatrix samples(70, 40);
  Eigen::VectorXf y = Eigen::VectorXf::LinSpaced(70, -1.0f, 1.0f);
  Buffer<float> x(padded(40));
  const Random random(23);
  for (Index j = 0; j < 40; ++j) {
    x[j] =
        static_cast<float>(uniform24(random.word(Stream::generated, 2, static_cast<std::uint32_t>(j), 0))) -
        0.5f;
    for (Index i = 0; i < 70; ++i)
      samples(i, j) = static_cast<float>(uniform24(
          random.word(Stream::generated, 0, static_cast<std::uint32_t>(j), static_cast<std::uint64_t>(i))));
  }
  for (const int model_bits : {32, 8}) {
    const auto store = pack<SeparateDraws<2>>(MatrixRef(samples), VectorRef(y), uniform_levels, stochastic, 5,
                                              {.outliers = 0.1});
    REQUIRE(store.outliers.count() > 100);
    Rig rig(store, {.model = {model_bits}});
    GradientDevice& device = rig.device;
    device.begin_batch(3, 50, x.data(), 0.25f, 7);
    while (device.next_pass()) {
      std::vector<float> apart[2];
      for (int draw = 0; draw < 2; ++draw) {
        device.margins(1u << draw);
        const auto z = device.margins_of()[draw];
        apart[draw].assign(z.begin(), z.end());
      }
      device.margins(3u);
      for (int draw = 0; draw < 2; ++draw)
        for (std::size_t i = 0; i < apart[draw].size(); ++i)
          CHECK(device.margins_of()[draw][i] == Approx(apart[draw][i]).margin(1e-4));
      if (model_bits == 32) {  // and those are what the decoded rows say
        std::vector<float> row(40);
        for (Index i = 3; i < 53; ++i) {
          store.decode_row(i, 1, row.data());
          double z = 0.25;
          for (Index j = 0; j < 40; ++j)
            z += static_cast<double>(row[Problem::u(j)]) * static_cast<double>(x[j]);
          if (apart[1].size() == 50)
            CHECK(static_cast<double>(apart[1][Problem::u(i - 3)]) == Approx(z).margin(1e-4));
        }
      }
    }
  }
}

TEST_CASE("batches of any size have the margins and the gradient of the decoded rows, outliers included") {
  RowMajorMatrix samples(70, 40);
  const Eigen::VectorXf y = Eigen::VectorXf::LinSpaced(70, -1.0f, 1.0f);
  Buffer<float> x(padded(40));
  const Random random(29);
  for (Index j = 0; j < 40; ++j) {
    const auto column = static_cast<std::uint32_t>(j);
    x[j] = static_cast<float>(uniform24(random.word(Stream::generated, 2, column, 0))) - 0.5f;
    for (Index i = 0; i < 70; ++i)
      samples(i, j) = static_cast<float>(
          uniform24(random.word(Stream::generated, 0, column, static_cast<std::uint64_t>(i))));
  }
  const auto check = [&](const auto& store) {
    REQUIRE(store.outliers.count() > 100);
    Rig rig(store);
    GradientDevice& device = rig.device;
    for (const Index count : {1, 2, 7, 8, 30}) {
      device.begin_batch(3, count, x.data(), 0.25f, 0);
      double g[41] = {};
      std::vector<float> row(40);
      while (device.next_pass()) {
        device.margins(1u);
        const auto z = device.margins_of()[0];
        const auto r = device.residuals_of()[0];
        REQUIRE(static_cast<Index>(z.size()) == count);
        for (Index i = 0; i < count; ++i) {
          store.decode_row(3 + i, 0, row.data());
          double margin = 0.25;
          for (std::size_t j = 0; j < 40; ++j)
            margin += static_cast<double>(row[j]) * static_cast<double>(x[static_cast<Index>(j)]);
          CHECK(static_cast<double>(z[static_cast<std::size_t>(i)]) == Approx(margin).margin(1e-4));
          const float residual = 0.1f * static_cast<float>(i) - 0.35f;
          r[static_cast<std::size_t>(i)] = residual;
          for (std::size_t j = 0; j < 40; ++j)
            g[j] += static_cast<double>(residual) * static_cast<double>(row[j]) / static_cast<double>(count);
        }
        device.accumulate(1u);
      }
      float got[model_padding];
      device.end_batch(got);
      for (std::size_t j = 0; j < 40; ++j) CHECK(static_cast<double>(got[j]) == Approx(g[j]).margin(1e-4));
    }
  };
  check(pack<SeparateDraws<1>>(MatrixRef(samples), VectorRef(y), uniform_levels, stochastic, 5,
                               {.outliers = 0.1}));
  check(pack<SeparateDraws<1>>(MatrixRef(samples), VectorRef(y), optimal_levels, stochastic, 3,
                               {.outliers = 0.1}));
}

TEST_CASE("outliers reach the gradient: it is that of the decoded rows") {
  const RowMajorMatrix samples = RowMajorMatrix::Identity(32, 4) * 50.0f;  // one far value a column
  const Eigen::VectorXf y = Eigen::VectorXf::LinSpaced(32, -1.0f, 1.0f);
  const auto store = pack<SeparateDraws<1>>(MatrixRef(samples), VectorRef(y), uniform_levels, nearest, 3,
                                            {.outliers = 0.05});
  REQUIRE(store.outliers.count() == 4);
  Rig rig(store);
  GradientDevice& device = rig.device;
  const float x[model_padding] = {0.5f, -1.0f, 0.25f, 2.0f};
  device.begin_batch(0, 32, x, 0.0f, 0);
  while (device.next_pass()) device.add_pass(naive, PlainSquaredLoss{});
  float g[model_padding];
  device.end_batch(g);
  double expected[4] = {};
  for (Index i = 0; i < 32; ++i) {
    float row[4];
    store.decode_row(i, 0, row);
    double r = -static_cast<double>(store.labels()[i]);
    for (int j = 0; j < 4; ++j) r += static_cast<double>(row[j]) * static_cast<double>(x[j]);
    for (int j = 0; j < 4; ++j) expected[j] += r * static_cast<double>(row[j]) / 32.0;
  }
  for (int j = 0; j < 4; ++j) CHECK(static_cast<double>(g[j]) == Approx(expected[j]).margin(1e-4));
}

TEST_CASE("the corrected loss of two draws is unbiased for the loss of the sample") {
  const Problem p;
  using Store = PackedStore<SeparateDraws<2>, AffineDecoder>;
  RowMajorMatrix sample(1, d);
  for (Index j = 0; j < d; ++j) sample(0, j) = static_cast<float>(p.value(j));
  Store store(StoreHeader(MatrixRef(sample), VectorRef(Eigen::VectorXf::Constant(1, static_cast<float>(p.b))),
                          column_statistics(MatrixRef(sample)), false, 1),
              bits);
  store.decoder.offset = Buffer<float>(d);
  store.decoder.step = Buffer<float>(d);
  Buffer<float> x(padded(d));
  for (Index j = 0; j < d; ++j) {
    store.decoder.offset[j] = static_cast<float>(p.offset[Problem::u(j)]);
    store.decoder.step[j] = static_cast<float>(p.step[Problem::u(j)]);
    x[j] = static_cast<float>(p.x[Problem::u(j)]);
  }
  double mean = 0.0;
  for (unsigned outcome = 0; outcome < 64; ++outcome) {
    Buffer<std::uint8_t> base(8 * d), ups(8 * d);
    double probability = 1.0;
    for (Index j = 0; j < d; ++j) {
      const unsigned up = outcome >> (2 * j) & 3u;
      base[j] = static_cast<std::uint8_t>(std::floor(p.a[Problem::u(j)]));
      ups[j] = static_cast<std::uint8_t>(up);
      for (int draw = 0; draw < 2; ++draw)
        probability *= (up >> draw & 1u) != 0 ? p.fraction(j) : 1.0 - p.fraction(j);
    }
    detail::write_row<SeparateDraws<2>>(Isa::scalar, store.mutable_codes().data(), store.layout(), bits, 0,
                                        base.data(), ups.data());
    Rig rig(store);
    GradientDevice& device = rig.device;
    device.begin_batch(0, 1, x.data(), 0.0f, 0);
    REQUIRE(device.next_pass());
    device.margins(loss_draws<DoubleSampling>());
    mean += probability *
            estimated_loss(double_sampling, PlainSquaredLoss{}, device.margins_of(), device.labels());
  }
  CHECK(mean == Approx(0.5 * p.residual() * p.residual()).epsilon(1e-5));
}

TEST_CASE("the integer path is unbiased over batches: every batch rounds model and residuals anew") {
  const Index n = 5;
  const Index cols = 6;
  RowMajorMatrix samples(n, cols);
  Eigen::VectorXf y(n);
  Buffer<float> x(padded(cols));
  const Random random(17);
  for (Index j = 0; j < cols; ++j) {
    x[j] =
        static_cast<float>(uniform24(random.word(Stream::generated, 2, static_cast<std::uint32_t>(j), 0))) -
        0.5f;
    for (Index i = 0; i < n; ++i)
      samples(i, j) = static_cast<float>(uniform24(
          random.word(Stream::generated, 0, static_cast<std::uint32_t>(j), static_cast<std::uint64_t>(i))));
  }
  for (Index i = 0; i < n; ++i) y[i] = static_cast<float>(i) * 0.3f;
  const auto check = [&](const auto& store, const Channels& channels = {.model = {3}}) {
    const auto gradient = [&](GradientDevice& device, std::uint64_t batch, float* g) {
      device.begin_batch(0, n, x.data(), 0.1f, batch);
      while (device.next_pass()) device.add_pass(naive, PlainSquaredLoss{});
      return static_cast<double>(device.end_batch(g));
    };
    Rig exact(store), rounded(store, channels);
    float expected[model_padding];
    expected[cols] = static_cast<float>(gradient(exact.device, 0, expected));
    double sum[cols + 1] = {};
    double squares[cols + 1] = {};
    const int repeats = 20'000;
    for (int k = 0; k < repeats; ++k) {
      float g[model_padding];
      g[cols] = static_cast<float>(gradient(rounded.device, static_cast<std::uint64_t>(k), g));
      for (Index j = 0; j <= cols; ++j) {
        sum[j] += static_cast<double>(g[j]);
        squares[j] += static_cast<double>(g[j]) * static_cast<double>(g[j]);
      }
    }
    double largest_deviation = 0.0;
    for (Index j = 0; j <= cols; ++j) {
      const double mean = sum[j] / repeats;
      const double deviation = std::sqrt(std::max(squares[j] / repeats - mean * mean, 0.0) / repeats);
      largest_deviation = std::max(largest_deviation, deviation);
      // 70 means, six standard errors each: 1.4e-7. (The largest entry of a gradient is on a level.)
      CHECK(std::abs(mean - static_cast<double>(expected[j])) < 6.0 * deviation + 1e-6);
    }
    CHECK(largest_deviation > 1e-5);  // it does vary from batch to batch
  };
  const QuantizeOptions plain{.standardize = false};
  const MatrixRef ref(samples);
  check(pack<SeparateDraws<1>>(ref, VectorRef(y), uniform_levels, nearest, 4, plain));
  check(pack<SeparateDraws<1>>(ref, VectorRef(y), uniform_levels, nearest, 4,
                               {.scaling = Scaling::row_range, .standardize = false}));
  // One table for all columns: shuffled and gathered.
  const auto shuffled = pack<SeparateDraws<1>>(ref, VectorRef(y), shared_optimal_levels, nearest, 2, plain);
  CHECK_FALSE(shuffled.decoder.entries.empty());
  check(shuffled);
  check(pack<SeparateDraws<1>>(ref, VectorRef(y), shared_optimal_levels, nearest, 5, plain));
  // Channels that integers do not serve, gradients, both.
  const auto packed = pack<SeparateDraws<1>>(ref, VectorRef(y), uniform_levels, nearest, 4, plain);
  check(packed, {.model = {3}, .gradient = {2}});
  check(packed, {.model = {.bits = 2, .scaling = ChannelScaling::norm}, .gradient = {1}});
  check(packed, {.gradient = {.bits = 2, .scaling = ChannelScaling::block, .block = 8}});
  const Channel optimal{.bits = 2, .levels = ChannelLevels::optimal};
  check(packed, {.model = optimal, .gradient = optimal});
  check(DenseStore(ref, VectorRef(y), false, 1), {.model = {2}});
  check(DenseStore(ref, VectorRef(y), false, 1), {.model = {2}, .gradient = {4}});
  check(pack<SeparateDraws<1>>(ref, VectorRef(y), optimal_levels, nearest, 2, plain),
        {.model = {8}, .gradient = {8}});
}

TEST_CASE("which estimator suits which loss and store is a concept") {
  STATIC_REQUIRE(Loss<Logistic>);
  STATIC_REQUIRE_FALSE(AffineLoss<Logistic>);
  STATIC_REQUIRE(EstimatorSuitsLoss<Naive, Logistic>);
  STATIC_REQUIRE(EstimatorSuitsLoss<FullPrecision, Logistic>);
  STATIC_REQUIRE_FALSE(EstimatorSuitsLoss<DoubleSampling, Logistic>);
  STATIC_REQUIRE_FALSE(EstimatorSuitsLoss<Symmetrized, Logistic>);
  STATIC_REQUIRE_FALSE(EstimatorSuitsLoss<SumCode, Logistic>);
  STATIC_REQUIRE_FALSE(EstimatorSuitsLoss<VarianceCorrected, Logistic>);
  STATIC_REQUIRE_FALSE(StoreHasBias<VarianceCorrected, PackedStore<SeparateDraws<1>, AffineDecoder>>);
  STATIC_REQUIRE(StoreHasBias<VarianceCorrected, PackedStore<CorrectedDraw, AffineDecoder>>);
  STATIC_REQUIRE(StoreHasBias<Naive, DenseStore>);
  STATIC_REQUIRE_FALSE(StoreHasEnoughDraws<DoubleSampling, PackedStore<SeparateDraws<1>, AffineDecoder>>);
  STATIC_REQUIRE_FALSE(StoreHasEnoughDraws<DoubleSampling, DenseStore>);
  STATIC_REQUIRE(StoreHasEnoughDraws<Naive, PackedStore<SeparateDraws<2>, AffineDecoder>>);
}
