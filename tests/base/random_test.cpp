// Counter-based random numbers: known answers, independence of streams, permutations.

#include <algorithm>
#include <set>
#include <vector>
#include <zipml/base/random.hpp>

#include "catch.hpp"

using namespace zipml;

TEST_CASE("philox4x32-10 gives the published answers") {
  // Known-answer vectors of the Random123 distribution (kat_vectors, philox4x32 10).
  CHECK(philox4x32({0, 0, 0, 0}, {0, 0}) == PhiloxWords{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  constexpr std::uint32_t ones = 0xffffffff;
  CHECK(philox4x32({ones, ones, ones, ones}, {ones, ones}) ==
        PhiloxWords{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  CHECK(philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}) ==
        PhiloxWords{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

TEST_CASE("counters are laid out as documented") {
  const Random random(0x299f31d0a4093822ull);
  const std::uint64_t row = 0x1234567890ull;
  const PhiloxWords expected = philox4x32({2, 0x34567890, 0x12, 3u << 24 | 5u}, {0xa4093822, 0x299f31d0});
  CHECK(random.words(Stream::residual, 5, 2, row) == expected);
  for (std::uint32_t column = 8; column < 12; ++column)
    CHECK(random.word(Stream::residual, 5, column, row) == expected[column - 8]);
}

TEST_CASE("every coordinate of a counter matters") {
  std::set<std::uint32_t> words;
  const Random random(7);
  for (std::uint32_t stream = 0; stream < 8; ++stream)
    for (std::uint32_t draw = 0; draw < 4; ++draw)
      for (std::uint32_t column = 0; column < 8; ++column)
        for (std::uint64_t row : {0ull, 1ull, 1ull << 32})
          words.insert(random.word(static_cast<Stream>(stream), draw, column, row));
  // 768 words of 32 bits: the chance of one coincidence is 768^2 / 2^33 = 7e-5; the seed is fixed.
  CHECK(words.size() == 8u * 4u * 8u * 3u);
  CHECK(random.word(Stream::samples, 0, 0, 0) != Random(8).word(Stream::samples, 0, 0, 0));
  CHECK(random.word(Stream::samples, 0, 0, 0) != Random(7 + (1ull << 32)).word(Stream::samples, 0, 0, 0));
}

TEST_CASE("rounds_up counts 24-bit words below the fraction") {
  const auto word = [](std::uint32_t top24) { return top24 << 8 | 0xffu; };
  CHECK_FALSE(rounds_up(0.0f, word(0)));
  CHECK(rounds_up(1.0f, word(0xffffff)));
  CHECK(rounds_up(0.25f, word(0x3fffff)));
  CHECK_FALSE(rounds_up(0.25f, word(0x400000)));
  CHECK(rounds_up(1.0f / 16777216.0f, word(0)));
  CHECK_FALSE(rounds_up(1.0f / 16777216.0f, word(1)));
}

TEST_CASE("a permutation is one, for every size, and moves with the seed") {
  for (const Index n : {1, 2, 3, 7, 8, 9, 63, 64, 65, 100, 1000, 4099}) {
    const Permutation order(3, n, Stream::row_order);
    std::vector<Index> seen;
    for (Index i = 0; i < n; ++i) seen.push_back(order(i));
    std::sort(seen.begin(), seen.end());
    bool identity = true;
    for (Index i = 0; i < n; ++i) identity = identity && seen[static_cast<std::size_t>(i)] == i;
    CHECK(identity);
  }
  const Permutation a(3, 1000, Stream::row_order);
  const Permutation b(4, 1000, Stream::row_order);
  int same = 0;
  for (Index i = 0; i < 1000; ++i) same += a(i) == b(i) ? 1 : 0;
  CHECK(same < 12);  // expected 1; P(Poisson(1) >= 12) = 8e-10
}

TEST_CASE("a permutation breaks up blocks: neighbours end up far apart") {
  const Index n = 10'000;
  const Permutation order(1, n, Stream::row_order);
  double distance = 0.0;
  for (Index i = 0; i + 1 < n; ++i) distance += std::abs(static_cast<double>(order(i + 1) - order(i)));
  // Mean distance of two random places is n/3 with deviation n/sqrt(18); the mean of 10,000 is within 5 sigma
  // of it.
  CHECK(std::abs(distance / (n - 1) - n / 3.0) < 5.0 * n / std::sqrt(18.0) / 100.0);
}

TEST_CASE("normals have mean 0, variance 1, kurtosis 3") {
  const Random random(11);
  double sum = 0.0, squares = 0.0, fourth = 0.0;
  const int n = 100'000;
  for (int i = 0; i < n / 4; ++i)
    for (const double z : normals(random.words(Stream::generated, 0, 0, static_cast<std::uint64_t>(i)))) {
      sum += z;
      squares += z * z;
      fourth += z * z * z * z;
    }
  // Five standard errors each: family-wise error 2e-6.
  CHECK(std::abs(sum / n) < 5.0 / std::sqrt(n));
  CHECK(std::abs(squares / n - 1.0) < 5.0 * std::sqrt(2.0 / n));
  CHECK(std::abs(fourth / n - 3.0) < 5.0 * std::sqrt(96.0 / n));
}
