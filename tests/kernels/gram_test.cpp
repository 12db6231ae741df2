// The Gram matrix of packed codes: every policy against the scalar one, bit for bit, and that one against codes
// read one by one.

#include <algorithm>
#include <string>
#include <zipml/kernels/all_kernels.hpp>
#include <zipml/storage/row_codes.hpp>

#include "catch.hpp"
#include "words.hpp"

using namespace zipml;

namespace {

struct Case {
  int bits;
  bool draw_plane;
  Index rows;
  Index cols;
  GroupRange groups;
  Index width;
};

enum class Fill { random, largest };

/// Products and sums, which begin with something in them.
struct Sums {
  Buffer<std::int64_t> products;
  Buffer<std::int64_t> sums;
  explicit Sums(Index d) : products(d * (d + 1) / 2), sums(d) {
    for (Index k = 0; k < products.size(); ++k) products[k] = 3 * k - 1000;
    for (Index k = 0; k < d; ++k) sums[k] = 100 - k;
  }
  GramSums out() { return {products.data(), sums.data()}; }
  bool operator==(const Sums& other) const {
    return std::equal(products.begin(), products.end(), other.products.begin()) &&
           std::equal(sums.begin(), sums.end(), other.sums.begin());
  }
};

/// By the definition.
void add_naively(const PackedView& view, const PlaneList& planes, CodeTable table, GroupRange groups,
                 Sums& to) {
  const Index end = std::min(view.layout.rows, groups.first * group_rows + groups.rows());
  Buffer<std::int64_t> values(view.width);
  for (Index i = groups.first * group_rows; i < end; ++i) {
    const RowCodes codes(view.codes, view.layout, planes, i);
    for (Index j = 0; j < view.width; ++j)
      values[j] = table.entries != nullptr ? table.entries[codes[j]] : codes[j];
    for (Index j = 0; j < view.width; ++j) {
      to.sums[j] += values[j];
      for (Index k = 0; k <= j; ++k) to.products[j * (j + 1) / 2 + k] += values[j] * values[k];
    }
  }
}

/// Codes of random bits, also in the rows behind the last one, which must not count.
Buffer<std::uint8_t> random_codes(const PlaneLayout& layout, Fill fill) {
  Words words;
  Buffer<std::uint8_t> codes(layout.bytes());
  for (std::uint8_t& byte : codes) byte = fill == Fill::largest ? 0xff : static_cast<std::uint8_t>(words());
  return codes;
}

constexpr KernelSet<AnyCode, kernel_families::gram> gram_alone;

int compared = 0;

/// Every policy of this machine on the same codes, without a table and with tables of bytes.
void compare(const Case& c, Fill fill) {
  INFO("bits " << c.bits << " draw plane " << c.draw_plane << " rows " << c.rows << " cols " << c.cols
               << " groups " << c.groups.first << "+" << c.groups.count << " width " << c.width);
  const PlaneLayout layout{c.rows, c.cols, c.bits + (c.draw_plane ? 1 : 0)};
  PlaneList planes = PlaneList::of_code(c.bits);
  if (c.draw_plane) planes.push_draw_plane(c.bits);
  const Buffer<std::uint8_t> codes = random_codes(layout, fill);
  const PackedView view{codes.data(), layout, c.width};
  Words words;
  Buffer<std::uint8_t> entries((1 << c.bits) + 1);
  // None; with entries of a byte; with small ones.
  for (const int reach : {0, 256, 9}) {
    if (reach > 0 && c.bits > 8) continue;
    for (std::uint8_t& entry : entries)
      entry = static_cast<std::uint8_t>(
          fill == Fill::largest ? reach - 1 : static_cast<int>(words() % static_cast<unsigned>(reach + 1)));
    const CodeTable table{reach > 0 ? entries.data() : nullptr,
                          reach > 0 ? static_cast<int>(entries.size()) : 0};
    Sums naive(c.width), expected(c.width);
    add_naively(view, planes, table, c.groups, naive);
    ScalarKernels::gram(view, planes, table, c.groups, expected.out());
    CHECK(naive == expected);
    detail::for_each_kernels([&](auto kernels) {
      if (!available(kernels.isa)) return;
      ++compared;
      Sums got(c.width);
      KernelTable(kernels, gram_alone).gram(view, planes, table, c.groups, got.out());
      INFO(kernels.name << " entries below " << reach);
      CHECK(got == expected);
    });
  }
}

/// Has no Gram kernel that anybody may call.
struct Plain : ScalarKernels {
  static constexpr const char* name = "plain";

 private:
  using ScalarKernels::gram;
};

}  // namespace

TEST_CASE("products and sums of columns are those of the codes, on every instruction set") {
  for (int bits = 0; bits <= 9; ++bits)
    for (const bool draw : {false, true}) {
      if (bits == 0 && !draw) continue;
      for (const Index d : {1, 3, 15, 16, 17, 63, 64, 65, 100, 300}) {
        if (draw && d > 65) continue;
        const Index rows = d == 300 ? 301 : 173;
        const Index groups = (rows + 7) / 8;
        compare({bits, draw, rows, d, {0, groups}, d}, Fill::random);
        compare({bits, draw, rows, d, {5, groups - 5}, d}, Fill::random);
        if (d < 100) compare({bits, draw, rows, d, {3, 9}, std::max<Index>(d / 2, 1)}, Fill::random);
      }
    }
  INFO(compared);
  CHECK(compared > 500);
}

TEST_CASE("ranges of more rows than a panel has") {
  for (const int bits : {1, 2, 4, 5, 6, 7, 8})
    for (const Index rows : {512, 513, 1101}) {
      compare({bits, false, rows, 37, {0, (rows + 7) / 8}, 37}, Fill::random);
      compare({bits, false, rows, 37, {2, (rows + 7) / 8 - 2}, 37}, Fill::largest);
    }
}

TEST_CASE("the largest codes, in more rows than int32 has room for") {
  for (int bits = 1; bits <= 8; ++bits) {
    const Index rows = 70'001;  // 255^2 * 33,026 > 2^31
    compare({bits, false, rows, 18, {0, (rows + 7) / 8}, 18}, Fill::largest);
  }
}

TEST_CASE("a policy without a Gram kernel has the scalar one") {
  STATIC_REQUIRE(KernelPolicy<Plain>);
  const PlaneLayout layout{9, 2, 4};
  const Buffer<std::uint8_t> codes = random_codes(layout, Fill::random);
  Sums expected(2), got(2);
  add_naively({codes.data(), layout}, PlaneList::of_code(4), {nullptr, 0}, {0, 2}, expected);
  KernelTable(Plain{}, gram_alone)
      .gram({codes.data(), layout}, PlaneList::of_code(4), {nullptr, 0}, {0, 2}, got.out());
  CHECK(got == expected);
}

TEST_CASE("a set of kernels without the Gram matrix refuses it") {
  const KernelTable some(ScalarKernels{}, KernelSet<OneCode<4, false>, kernel_families::packed_integers>{});
  const std::uint8_t nothing[64] = {};
  Sums sums(1);
  CHECK_THROWS_AS(
      some.gram({nothing, PlaneLayout{8, 1, 4}}, PlaneList::of_code(4), {nullptr, 0}, {0, 1}, sums.out()),
      Error);
}
