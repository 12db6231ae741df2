// Channels: what arrives of a vector, for every width, scaling and kind of levels.

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include <zipml/training/channels.hpp>
#include <zipml/training/sgd.hpp>

#include "catch.hpp"

namespace {

using namespace zipml;

const KernelTable scalar = kernels_of(Isa::scalar);

/// n numbers in [-1/2, 1/2], one of them 0.
Buffer<float> uniform_vector(Index n, std::uint64_t seed) {
  Buffer<float> v(padded(n));
  const Random random(seed);
  for (Index j = 0; j < n; ++j)
    v[j] =
        static_cast<float>(uniform24(random.word(Stream::generated, 0, static_cast<std::uint32_t>(j), 0))) -
        0.5f;
  v[4] = 0.0f;
  return v;
}

/// n numbers of N(0, 1).
Buffer<float> normal_vector(Index n, std::uint64_t seed) {
  Buffer<float> v(padded(n));
  const Random random(seed);
  for (Index j = 0; j < n; ++j)
    v[j] =
        static_cast<float>(normals(random.words(Stream::generated, 1, static_cast<std::uint32_t>(j), 0))[0]);
  return v;
}

double distance(const Buffer<float>& a, const Buffer<float>& b) {
  double squares = 0.0;
  for (Index j = 0; j < a.size(); ++j)
    squares += (double{a[j]} - double{b[j]}) * (double{a[j]} - double{b[j]});
  return std::sqrt(squares);
}

double length(const Buffer<float>& v) { return distance(v, Buffer<float>(v.size())); }

std::string message_of(const Channel& channel) {
  try {
    ChannelEncoder(channel, 10, Random(1), Stream::model);
  } catch (const Error& error) {
    return error.what();
  }
  return {};
}

}  // namespace

TEST_CASE("a channel brings one of the two levels about a value, that value in the mean") {
  const Index n = 21;
  const Buffer<float> v = uniform_vector(n, 23);
  double norm = 0.0;
  float largest = 0.0f;
  for (const float e : v) {
    norm += double{e} * double{e};
    largest = std::max(largest, std::fabs(e));
  }
  for (const int width : {1, 2, 4, 8})
    for (const ChannelScaling scaling : {ChannelScaling::max, ChannelScaling::norm, ChannelScaling::block}) {
      INFO(width << " bits, scaling " << static_cast<int>(scaling));
      const Channel channel{.bits = width, .scaling = scaling, .block = 8};
      ChannelEncoder sent(channel, n, Random(5), Stream::model);
      std::vector<double> sum(static_cast<std::size_t>(n)), squares(sum.size());
      const int repeats = 4000;
      bool neighbours = true;
      for (int k = 0; k < repeats; ++k) {
        Buffer<float> got = v;
        sent.send(scalar, static_cast<std::uint64_t>(k), got.data());
        for (Index j = 0; j < n; ++j) {
          double reach = scaling == ChannelScaling::norm ? std::sqrt(norm) : double{largest};
          if (scaling == ChannelScaling::block) {
            reach = 0.0;
            for (Index i = j / 8 * 8; i < std::min(j / 8 * 8 + 8, n); ++i)
              reach = std::max(reach, std::fabs(double{v[i]}));
          }
          const double gap = width == 1 ? 2.0 * reach : reach / symmetric_levels(width);
          neighbours = neighbours && std::fabs(double{got[j]} - double{v[j]}) < gap * (1.0 + 1e-6);
          sum[static_cast<std::size_t>(j)] += double{got[j]};
          squares[static_cast<std::size_t>(j)] += double{got[j]} * double{got[j]};
        }
      }
      CHECK(neighbours);
      for (Index j = 0; j < n; ++j) {
        const double mean = sum[static_cast<std::size_t>(j)] / repeats;
        const double variance = squares[static_cast<std::size_t>(j)] / repeats - mean * mean;
        // 252 checks at 5 sigma: one seed in 7,000 would fail one of them.
        CHECK(std::fabs(mean - double{v[j]}) <= 5.0 * std::sqrt(std::max(variance, 0.0) / repeats) + 1e-6);
      }
      CHECK(sent.traffic().payload_bytes == Approx(repeats * 21.0 * width / 8.0));
      CHECK(sent.traffic().scale_bytes == repeats * (scaling == ChannelScaling::block ? 12.0 : 4.0));
    }
  // Zero, and what is nearest.
  Buffer<float> zero(padded(n));
  ChannelEncoder any({.bits = 2}, n, Random(5), Stream::gradient);
  any.send(scalar, 0, zero.data());
  for (const float e : zero) CHECK(e == 0.0f);
  Buffer<float> got = v;
  ChannelEncoder nearest_levels({.bits = 3, .nearest = true}, n, Random(5), Stream::gradient);
  nearest_levels.send(scalar, 0, got.data());
  for (Index j = 0; j < n; ++j) CHECK(std::fabs(got[j] - v[j]) <= largest / 6.0f * 1.00001f);
}

TEST_CASE("error feedback: what has been missed arrives in the end") {
  const Index n = 9;
  Buffer<float> v(padded(n));
  for (Index j = 0; j < n; ++j) v[j] = 0.1f * static_cast<float>(j) - 0.33f;
  for (const int width : {1, 2, 8}) {
    ChannelEncoder sent({.bits = width, .error_feedback = true}, n, Random(5), Stream::gradient);
    std::vector<double> total(static_cast<std::size_t>(n));
    const int repeats = 500;
    for (int k = 0; k < repeats; ++k) {
      Buffer<float> got = v;
      sent.send(scalar, static_cast<std::uint64_t>(k), got.data());
      for (Index j = 0; j < n; ++j) total[static_cast<std::size_t>(j)] += double{got[j]};
    }
    // The sum misses what is still owed: a few gaps, however many vectors there were.
    for (Index j = 0; j < n; ++j)
      CHECK(std::fabs(total[static_cast<std::size_t>(j)] - repeats * double{v[j]}) < 3.0);
  }
}

TEST_CASE(
    "error feedback of a model: what arrives is the model once it rests, and stays near while it moves") {
  const Index n = 100;
  for (const int width : {1, 2, 3, 8}) {
    INFO(width << " bits");
    ChannelEncoder sent({.bits = width, .error_feedback = true}, n, Random(5), Stream::model);
    const Buffer<float> v = normal_vector(n, 3), end = normal_vector(n, 4);
    Buffer<float> got;
    std::uint64_t row = 0;
    for (int k = 0; k < 200; ++k) sent.send(scalar, row++, (got = v).data());
    CHECK(distance(got, v) < 0.001 * length(v));  // 1 bit comes near slowly
    const int steps = 1000;
    Buffer<float> moving = v;
    for (int k = 0; k < steps; ++k) {
      for (Index j = 0; j < n; ++j) moving[j] += (end[j] - v[j]) / static_cast<float>(steps);
      sent.send(scalar, row++, (got = moving).data());
    }
    CHECK(distance(got, moving) < 0.02 * length(v));
    CHECK(sent.traffic().payload_bytes == Approx(1200.0 * 100 * width / 8.0));
    CHECK(sent.traffic().scale_bytes == 4.0 * 1200);
  }
}

TEST_CASE("optimal levels of a channel: unbiased, less variance than uniform ones, counted") {
  const Index n = 512;
  const Buffer<float> v = normal_vector(n, 7);
  for (const ChannelScaling scaling : {ChannelScaling::max, ChannelScaling::norm, ChannelScaling::block})
    for (const int width : {2, 4}) {
      INFO(width << " bits, scaling " << static_cast<int>(scaling));
      const int repeats = 2000;
      double variance[2] = {};
      for (const ChannelLevels levels : {ChannelLevels::uniform, ChannelLevels::optimal}) {
        ChannelEncoder sent({.bits = width, .scaling = scaling, .levels = levels, .refit = 100}, n, Random(9),
                            Stream::gradient);
        std::vector<double> sum(static_cast<std::size_t>(n)), squares(sum.size());
        for (int k = 0; k < repeats; ++k) {
          Buffer<float> got = v;
          sent.send(scalar, static_cast<std::uint64_t>(k), got.data());
          for (Index j = 0; j < n; ++j) {
            sum[static_cast<std::size_t>(j)] += double{got[j]} - double{v[j]};
            squares[static_cast<std::size_t>(j)] += std::pow(double{got[j]} - double{v[j]}, 2.0);
          }
        }
        double bias = 0.0, along = 0.0, along_variance = 0.0;
        double& total = variance[levels == ChannelLevels::optimal ? 1 : 0];
        for (Index j = 0; j < n; ++j) {
          const double mean = sum[static_cast<std::size_t>(j)] / repeats;
          const double spread = squares[static_cast<std::size_t>(j)] / repeats;
          total += spread;
          bias += mean * mean;
          along += mean * double{v[j]};
          along_variance += spread * double{v[j]} * double{v[j]} / repeats;
        }
        // The square of the mean error of 512 entries is their variance over the repeats, within a fifth or
        // so; what is missing along the vector itself is 0 within 6 standard errors (2e-9).
        CHECK(bias < 2.0 * total / repeats);
        CHECK(std::fabs(along) < 6.0 * std::sqrt(along_variance));
        const double scales = repeats * (scaling == ChannelScaling::block ? 2.0 : 1.0) * 4.0;
        const double tables = levels == ChannelLevels::optimal ? repeats / 100 * 4.0 * (1 << width) : 0.0;
        CHECK(sent.traffic().scale_bytes == scales + tables);
      }
      CHECK(variance[1] < 0.75 * variance[0]);
    }
}

TEST_CASE("a table fitted to one vector serves others: all of their values lie between its ends") {
  const Index n = 64;
  ChannelEncoder sent({.bits = 3, .levels = ChannelLevels::optimal, .refit = 10'000}, n, Random(9),
                      Stream::gradient);
  Buffer<float> got(padded(n));
  for (Index j = 0; j < n; ++j) got[j] = 1.0f + 0.001f * static_cast<float>(j);  // no negative value
  sent.send(scalar, 0, got.data());
  const Buffer<float> v = uniform_vector(n, 2);
  float largest = 0.0f;
  for (const float e : v) largest = std::max(largest, std::fabs(e));
  std::vector<double> sum(static_cast<std::size_t>(n)), squares(sum.size());
  const int repeats = 2000;
  bool inside = true;
  for (int k = 1; k <= repeats; ++k) {
    got = v;
    sent.send(scalar, static_cast<std::uint64_t>(k), got.data());
    for (Index j = 0; j < n; ++j) {
      inside = inside && std::fabs(got[j]) <= largest;
      sum[static_cast<std::size_t>(j)] += double{got[j]} - double{v[j]};
      squares[static_cast<std::size_t>(j)] += std::pow(double{got[j]} - double{v[j]}, 2.0);
    }
  }
  CHECK(inside);
  // 64 checks at 6 standard errors: 1.3e-7.
  for (Index j = 0; j < n; ++j)
    CHECK(std::fabs(sum[static_cast<std::size_t>(j)]) <=
          6.0 * std::sqrt(squares[static_cast<std::size_t>(j)]) + 1e-3);
}

TEST_CASE("levels are uniform until a vector has values to fit them to") {
  const Index n = 512;
  const Buffer<float> v = normal_vector(n, 7);
  for (const float entry : {0.0f, 3.0f}) {  // the first vector: nothing, or a single value
    double variance[2] = {};
    for (const ChannelLevels levels : {ChannelLevels::uniform, ChannelLevels::optimal}) {
      ChannelEncoder sent({.bits = 4, .levels = levels, .refit = 64}, n, Random(9), Stream::model);
      Buffer<float> got(padded(n));
      got[17] = entry;
      sent.send(scalar, 0, got.data());
      CHECK(got[17] == entry);
      CHECK(length(got) == double{entry});
      for (std::uint64_t k = 1; k < 64; ++k) {
        got = v;
        sent.send(scalar, k, got.data());
        variance[levels == ChannelLevels::optimal ? 1 : 0] += std::pow(distance(got, v), 2.0);
      }
    }
    CHECK(variance[1] < 0.75 * variance[0]);
  }
}

TEST_CASE("what is not finite arrives as it is") {
  const float infinity = std::numeric_limits<float>::infinity();
  for (const bool feedback : {false, true})
    for (const ChannelLevels levels : {ChannelLevels::uniform, ChannelLevels::optimal}) {
      if (feedback && levels == ChannelLevels::optimal) continue;
      ChannelEncoder sent({.bits = 4, .error_feedback = feedback, .levels = levels}, 64, Random(9),
                          Stream::gradient);
      Buffer<float> got = uniform_vector(64, 3);
      got[5] = infinity;
      sent.send(scalar, 0, got.data());
      CHECK(got[5] == infinity);
    }
}

TEST_CASE("blocks, vectors and directions are rounded with random numbers of their own") {
  // One value throughout, halfway between two levels; a correlation of 6 / sqrt(n) is an accident in 5e8.
  const Index n = 4096;
  const Channel channel{.bits = 2, .scaling = ChannelScaling::block, .block = 1024};
  Buffer<float> v(padded(n));
  for (Index j = 0; j < n; ++j) v[j] = j % 1024 == 0 ? 1.0f : 0.5f;
  const auto draw = [&](Stream stream, std::uint64_t row) {
    ChannelEncoder sent(channel, n, Random(3), stream);
    Buffer<float> got = v;
    sent.send(scalar, row, got.data());
    return got;
  };
  const auto correlation = [](const float* a, const float* b, Index count) {
    double sum = 0.0;
    for (Index j = 1; j < count; ++j)
      if (j % 1024 != 0) sum += (2.0 * double{a[j]} - 1.0) * (2.0 * double{b[j]} - 1.0);
    return std::fabs(sum) / static_cast<double>(count);
  };
  const Buffer<float> a = draw(Stream::gradient, 0);
  CHECK(correlation(a.data(), a.data(), n) > 0.9);
  CHECK(correlation(a.data(), draw(Stream::gradient, 1).data(), n) < 6.0 / 64.0);
  CHECK(correlation(a.data(), draw(Stream::model, 0).data(), n) < 6.0 / 64.0);
  for (Index block = 1; block < 4; ++block)
    CHECK(correlation(a.data(), a.data() + 1024 * block, 1024) < 6.0 / 32.0);
}

TEST_CASE("the variance that steps reckon with is that of normal vectors") {
  for (const int width : {1, 2, 3, 4, 6})
    for (const ChannelScaling scaling : {ChannelScaling::max, ChannelScaling::norm, ChannelScaling::block})
      for (const Index n : {Index{32}, Index{1000}}) {
        INFO(width << " bits, scaling " << static_cast<int>(scaling) << ", " << n);
        const Channel channel{.bits = width, .scaling = scaling, .block = 64};
        double measured = 0.0;
        const int repeats = 50;
        for (int k = 0; k < repeats; ++k) {
          const Buffer<float> v = normal_vector(n, static_cast<std::uint64_t>(k));
          Buffer<float> got = v;
          ChannelEncoder(channel, n, Random(5), Stream::model)
              .send(scalar, static_cast<std::uint64_t>(k), got.data());
          measured += std::pow(distance(got, v) / length(v), 2.0) / repeats;
        }
        CHECK(channel.relative_variance(n) > 0.6 * measured);
        CHECK(channel.relative_variance(n) < 2.0 * measured + 0.05);
      }
  CHECK(Channel{}.relative_variance(100) == 0.0);
  CHECK(Channel{.bits = 2, .nearest = true}.relative_variance(100) == 0.0);
}

TEST_CASE("channels that make no sense are refused with the reason") {
  const auto has = [](const Channel& channel, const char* text) {
    INFO(message_of(channel));
    CHECK(message_of(channel).find(text) != std::string::npos);
  };
  has({.bits = 9}, "no such width");
  has({.bits = 4, .scaling = ChannelScaling::block, .block = 12}, "a multiple of 8");
  has({.bits = 4, .levels = ChannelLevels::optimal, .refit = 0}, "every so many vectors");
  has({.bits = 4, .nearest = true, .levels = ChannelLevels::optimal}, "those of stochastic rounding");
  has({.bits = 4, .error_feedback = true, .levels = ChannelLevels::optimal}, "rounds to nearest");
  has({.bits = 4, .scaling = ChannelScaling::norm, .nearest = true}, "nothing of most vectors");
  has({.bits = 4, .scaling = ChannelScaling::norm, .error_feedback = true}, "nothing of most vectors");
  has({.nearest = true}, "nothing to round");
  has({.error_feedback = true}, "nothing to round");
  CHECK(message_of({.bits = 4}).empty());
}
