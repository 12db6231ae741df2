// Every kernel policy against the scalar one: each width, arithmetic, tail, alignment and range of groups,
// with guard pages around what kernels read, and extreme values. Integers must be equal, floats within a
// bound on their sums.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <utility>
#include <vector>
#include <zipml/kernels/isa.hpp>
#include <zipml/storage/packed_store.hpp>

#if defined(__unix__)
#include <sys/mman.h>
#include <unistd.h>
#endif

#include "catch.hpp"
#include "words.hpp"

using namespace zipml;

namespace {

/// The bits of one value in one plane, by the definition of the layout.
int plane_bits(const std::uint8_t* codes, const PlaneLayout& layout, const Plane& plane, Index row,
               Index col) {
  const Index in_group = row % group_rows;
  const Index rows_per_byte = 8 / plane.width;
  const std::uint8_t byte =
      codes[layout.offset(plane, row / group_rows) + in_group / rows_per_byte * layout.cols + col];
  return byte >> (in_group % rows_per_byte * plane.width) & ((1 << plane.width) - 1);
}

/// Bytes that end 64 bytes, which kernels may read, and `slack` more before a page that nobody may touch.
class Guarded {
 public:
  Guarded(Index size, Index slack) : size_(size) {
    slack += Buffer<std::uint8_t>::slack;
#if defined(__unix__)
    const Index page = sysconf(_SC_PAGESIZE);
    mapped_ = round_up(size + slack + 1, page) + 2 * page;
    base_ = static_cast<std::uint8_t*>(mmap(nullptr, static_cast<std::size_t>(mapped_),
                                            PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    REQUIRE(base_ != MAP_FAILED);
    mprotect(base_, static_cast<std::size_t>(page), PROT_NONE);
    mprotect(base_ + mapped_ - page, static_cast<std::size_t>(page), PROT_NONE);
    data_ = base_ + mapped_ - page - size - slack;
#else
    buffer_ = Buffer<std::uint8_t>(size + slack);
    data_ = buffer_.data();
#endif
  }
  ~Guarded() {
#if defined(__unix__)
    munmap(base_, static_cast<std::size_t>(mapped_));
#endif
  }
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;
  std::uint8_t* data() { return data_; }
  std::uint8_t* end() { return data_ + size_; }

 private:
  Index size_;
  Index mapped_ = 0;
  std::uint8_t* base_ = nullptr;
  std::uint8_t* data_ = nullptr;
  Buffer<std::uint8_t> buffer_;
};

struct Case {
  int bits;
  bool draw_plane;
  Index rows;
  Index cols;
  Index slack;
  GroupRange groups;
};

enum class Fill { random, largest };

int compared = 0;

/// Runs one policy and the scalar one on the same codes and compares all ten operations.
template <class Kernels>
void compare(const Case& c, Fill fill) {
  ++compared;
  const int stored = c.bits + (c.draw_plane ? 1 : 0);
  const PlaneLayout layout{c.rows, c.cols, stored};
  PlaneList planes = PlaneList::of_code(c.bits);
  if (c.draw_plane) planes.push_draw_plane(c.bits);
  Words words;
  Guarded codes(layout.bytes(), c.slack);
  for (std::uint8_t* p = codes.data(); p != codes.end(); ++p)
    *p = fill == Fill::largest ? 0xff : static_cast<std::uint8_t>(words());
  const PackedView view{codes.data(), layout};
  const Index padded = round_up(c.cols, model_padding);
  const Index rows = c.groups.rows();
  constexpr int models = 2;
  const KernelTable scalar{ScalarKernels{}};
  const KernelTable kernels{Kernels{}};

  INFO(Kernels::name << " bits " << c.bits << " draw plane " << c.draw_plane << " rows " << c.rows << " cols "
                     << c.cols << " slack " << c.slack << " groups " << c.groups.first << "+"
                     << c.groups.count);

  // integers, of codes and of the entries of a table of bytes
  Buffer<std::uint8_t> entries((1 << c.bits) + 1);
  for (std::uint8_t& entry : entries)
    entry = fill == Fill::largest ? 255 : static_cast<std::uint8_t>(words());
  const CodeTable code_table{entries.data(), static_cast<int>(entries.size())};
  for (const bool table : {false, true}) {
    const int reach = table ? table_residual_levels(planes) : residual_levels(planes);
    const int largest = table ? table_model_levels(planes) : max_model_code;
    Buffer<std::int8_t> model(padded * models);
    Buffer<std::int8_t> residuals(rows * models);
    for (int m = 0; m < models; ++m) {
      for (Index j = 0; j < c.cols; ++j)
        model[m * padded + j] = static_cast<std::int8_t>(
            fill == Fill::largest
                ? (m == 0 ? largest : -largest)
                : static_cast<int>(words() % static_cast<unsigned>(2 * largest + 1)) - largest);
      for (Index i = 0; i < rows; ++i)
        residuals[m * rows + i] = static_cast<std::int8_t>(
            fill == Fill::largest ? (m == 0 ? reach : -reach)
                                  : static_cast<int>(words() % static_cast<unsigned>(2 * reach + 1)) - reach);
    }
    const ModelBlock<const std::int8_t> block{model.data(), padded, models};
    Buffer<std::int32_t> expected(rows * models), got(rows * models);
    for (auto& v : got) v = 77;  // margins overwrite
    if (table) {
      scalar.margins(view, planes, code_table, c.groups, block, {expected.data(), rows, models});
      kernels.margins(view, planes, code_table, c.groups, block, {got.data(), rows, models});
    } else {
      scalar.margins(view, planes, c.groups, block, {expected.data(), rows, models});
      kernels.margins(view, planes, c.groups, block, {got.data(), rows, models});
    }
    CHECK(std::equal(expected.begin(), expected.end(), got.begin()));

    Buffer<std::int32_t> g_expected(padded * models), g_got(padded * models);
    for (Index j = 0; j < g_got.size(); ++j)
      g_expected[j] = g_got[j] = static_cast<std::int32_t>(words() % 1000);
    const ModelBlock<const std::int8_t> weights{residuals.data(), rows, models};
    const ModelBlock<std::int32_t> to_expected{g_expected.data(), padded, models};
    const ModelBlock<std::int32_t> to_got{g_got.data(), padded, models};
    if (table) {
      scalar.accumulate(view, planes, code_table, c.groups, weights, to_expected);
      kernels.accumulate(view, planes, code_table, c.groups, weights, to_got);
    } else {
      scalar.accumulate(view, planes, c.groups, weights, to_expected);
      kernels.accumulate(view, planes, c.groups, weights, to_got);
    }
    bool equal = true;
    for (int m = 0; m < models; ++m)
      for (Index j = 0; j < c.cols; ++j) equal = equal && g_expected[m * padded + j] == g_got[m * padded + j];
    CHECK(equal);
  }
  // floats, without and with a table of levels
  const int levels = 1 << c.bits;
  Buffer<float> model(padded * models), residuals(rows * models), tables(c.cols * levels);
  for (int m = 0; m < models; ++m) {
    for (Index j = 0; j < c.cols; ++j) model[m * padded + j] = words.real();
    for (Index i = 0; i < rows; ++i) residuals[m * rows + i] = words.real();
  }
  for (float& level : tables) level = words.real();
  const ModelBlock<const float> block{model.data(), padded, models};
  const ModelBlock<const float> weights{residuals.data(), rows, models};
  for (const bool table : {false, true}) {
    if (table && c.draw_plane) continue;  // random bits would index one level too many
    const TableView view_of_table{tables.data(), levels};
    Buffer<float> expected(rows * models), got(rows * models);
    Buffer<float> g_expected(padded * models), g_got(padded * models);
    if (table) {
      scalar.margins(view, planes, view_of_table, c.groups, block, {expected.data(), rows, models});
      kernels.margins(view, planes, view_of_table, c.groups, block, {got.data(), rows, models});
      scalar.accumulate(view, planes, view_of_table, c.groups, weights, {g_expected.data(), padded, models});
      kernels.accumulate(view, planes, view_of_table, c.groups, weights, {g_got.data(), padded, models});
    } else {
      scalar.margins(view, planes, c.groups, block, {expected.data(), rows, models});
      kernels.margins(view, planes, c.groups, block, {got.data(), rows, models});
      scalar.accumulate(view, planes, c.groups, weights, {g_expected.data(), padded, models});
      kernels.accumulate(view, planes, c.groups, weights, {g_got.data(), padded, models});
    }
    // Summation error: n eps max|term|, terms at most 2^stored (1 for tables).
    const double term = table ? 1.0 : std::ldexp(1.0, stored);
    double worst = 0.0;
    for (Index k = 0; k < rows * models; ++k)
      worst = std::max(worst, std::abs(double{expected[k]} - double{got[k]}));
    CHECK(worst <= 1.2e-7 * term * (static_cast<double>(c.cols) + 4.0));
    worst = 0.0;
    for (int m = 0; m < models; ++m)
      for (Index j = 0; j < c.cols; ++j)
        worst = std::max(worst, std::abs(double{g_expected[m * padded + j]} - double{g_got[m * padded + j]}));
    CHECK(worst <= 1.2e-7 * term * (static_cast<double>(rows) + 4.0) * 2.0);
  }
}

template <class T>
bool same_bits(const Buffer<T>& a, const Buffer<T>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.bytes()) == 0;
}

template <class F>
void for_available(F f) {
  detail::for_each_kernels([&](auto kernels) {
    if (kernels.isa != Isa::scalar && available(kernels.isa)) f(kernels);
  });
}

}  // namespace

TEST_CASE("scalar kernels are the plain sums") {
  const PlaneLayout layout{19, 13, 7};
  const PlaneList planes = PlaneList::of_code(7);
  Words words;
  Buffer<std::uint8_t> codes(layout.bytes());
  for (auto& byte : codes) byte = static_cast<std::uint8_t>(words());
  const PackedView view{codes.data(), layout};
  const GroupRange groups{1, 2};
  Buffer<std::int8_t> model(64);
  Buffer<std::int8_t> residuals(16);
  for (Index j = 0; j < 13; ++j) model[j] = static_cast<std::int8_t>(words() % 255 - 127);
  for (auto& r : residuals) r = static_cast<std::int8_t>(words() % 43 - 21);
  Buffer<std::int32_t> margins(16), gradient(64);
  ScalarKernels::margins(view, planes, groups, model.data(), margins.data());
  ScalarKernels::accumulate(view, planes, groups, residuals.data(), gradient.data());
  const auto code = [&](Index i, Index j) {
    int sum = 0;
    for (int p = 0; p < planes.count; ++p)
      sum += plane_bits(codes.data(), layout, planes[p], i, j) << planes[p].shift;
    return sum;
  };
  for (Index i = 8; i < 19; ++i) {
    int z = 0;
    for (Index j = 0; j < 13; ++j) z += code(i, j) * model[j];
    CHECK(margins[i - 8] == z);
  }
  for (Index j = 0; j < 13; ++j) {
    int g = 0;
    for (Index i = 8; i < 24; ++i) g += code(i, j) * residuals[i - 8];
    CHECK(gradient[j] == g);
  }
}

TEST_CASE("every policy equals the scalar kernels: widths x tails behind a guard page") {
  for_available([](auto kernels) {
    using Kernels = decltype(kernels);
    for (int bits = 1; bits <= 8; ++bits)
      for (Index cols = 1; cols <= 129; cols += cols < 70 ? 1 : 29)
        compare<Kernels>({bits, false, 21, cols, 0, {0, 3}}, Fill::random);
  });
}

TEST_CASE("every policy equals the scalar kernels: alignments, draw planes, ranges of groups") {
  for_available([](auto kernels) {
    using Kernels = decltype(kernels);
    for (int bits = 1; bits <= 8; ++bits) {
      for (Index slack = 0; slack < 64; slack += bits == 3 ? 1 : 13)
        compare<Kernels>({bits, bits % 2 == 0, 24, 40, slack, {0, 3}}, Fill::random);
      for (const Index rows : {1, 8, 63, 64, 65, 130, 200})
        for (const bool draw : {false, true}) {
          const Index groups = (rows + 7) / 8;
          compare<Kernels>({bits, draw, rows, 37, 0, {0, groups}}, Fill::random);
          compare<Kernels>({bits, draw, rows, 37, 0, {groups / 2, groups - groups / 2}}, Fill::random);
        }
    }
    for (const Index slack : {0, 5}) compare<Kernels>({0, true, 70, 33, slack, {0, 9}}, Fill::random);
  });
}

TEST_CASE("every policy equals the scalar kernels: long rows and many rows at the extremes of the budgets") {
  for_available([](auto kernels) {
    using Kernels = decltype(kernels);
    for (int bits = 1; bits <= 8; ++bits)
      for (const Fill fill : {Fill::random, Fill::largest}) {
        compare<Kernels>({bits, false, 8, 5000, 0, {0, 1}}, fill);
        for (const bool draw : {false, true}) compare<Kernels>({bits, draw, 40, 333, 0, {0, 5}}, fill);
        compare<Kernels>({bits, bits == 8, 8, max_int8_columns, 0, {0, 1}}, fill);
        compare<Kernels>({bits, bits == 8, max_int8_rows, 33, 0, {0, max_int8_rows / 8}}, fill);
      }
  });
}

TEST_CASE("float32 rows: every policy equals the scalar kernels behind a guard page") {
  for_available([](auto kernels) {
    using Kernels = decltype(kernels);
    for (Index cols = 1; cols <= 70; ++cols)
      for (const Index count : {1, 7, 8, 9, 20}) {
        Words words;
        Guarded bytes(count * cols * 4, 0);
        auto* values = reinterpret_cast<float*>(bytes.data());
        for (Index k = 0; k < count * cols; ++k) values[k] = words.real();
        const Index padded = round_up(cols, model_padding);
        Buffer<float> model(padded), residuals(count), expected(count), got(count), g_expected(padded),
            g_got(padded);
        for (Index j = 0; j < cols; ++j) model[j] = words.real();
        for (auto& r : residuals) r = words.real();
        const DenseRows rows{values, cols, cols, count};
        ScalarKernels::margins(rows, model.data(), expected.data());
        Kernels::margins(rows, model.data(), got.data());
        ScalarKernels::accumulate(rows, residuals.data(), g_expected.data());
        Kernels::accumulate(rows, residuals.data(), g_got.data());
        double worst = 0.0;
        for (Index i = 0; i < count; ++i)
          worst = std::max(worst, std::abs(double{expected[i]} - double{got[i]}));
        for (Index j = 0; j < cols; ++j)
          worst = std::max(worst, std::abs(double{g_expected[j]} - double{g_got[j]}));
        CHECK(worst < 1.2e-7 * static_cast<double>(cols + count));
      }
  });
}

TEST_CASE("several models at once are what each is alone, over more rows than stay in cache") {
  detail::for_each_kernels([](auto policy) {
    if (!available(policy.isa)) return;
    const KernelTable kernels{policy};
    constexpr int models = 7;  // blocks of four, three, two and one are together: 4 + 3, 4 + 2, 4 + 1
    Words words;
    // Calls run(m, count) for each model alone, for all of them and for some, and compares what they wrote.
    const auto compare_calls = [&](auto zero, Index rows, Index padded_cols, const auto& run) {
      using T = decltype(zero);
      Buffer<T> out_alone(models * (rows + 5)), out(out_alone.size());
      Buffer<T> g_alone(models * padded_cols), g(g_alone.size());
      for (int m = 0; m < models; ++m)
        run(m, 1, out_alone.data() + m * (rows + 5), g_alone.data() + m * padded_cols);
      for (const int count : {models, 6, 5}) {
        std::fill(out.begin(), out.end(), T{});
        std::fill(g.begin(), g.end(), T{});
        run(0, count, out.data(), g.data());
        run(count, models - count, out.data() + count * (rows + 5), g.data() + count * padded_cols);
        CHECK(same_bits(out_alone, out));
        CHECK(same_bits(g_alone, g));
      }
    };
    for (const auto& [bits, draw] : {std::pair{1, false},
                                     {1, true},
                                     {2, false},
                                     {3, false},
                                     {4, false},
                                     {4, true},
                                     {6, false},
                                     {8, false},
                                     {8, true},
                                     {9, false}})
      for (const auto& [cols, rows] :
           {std::pair{Index{37}, Index{9000}}, {Index{1000}, Index{200}}, {Index{70}, Index{9}}}) {
        INFO(kernels.name << " bits " << bits << " draw plane " << draw << " cols " << cols);
        PlaneList planes = PlaneList::of_code(bits);
        if (draw) planes.push_draw_plane(bits);
        const PlaneLayout layout{rows, cols, bits + (draw ? 1 : 0)};
        Buffer<std::uint8_t> codes(layout.bytes());
        for (auto& byte : codes) byte = static_cast<std::uint8_t>(words());
        const PackedView view{codes.data(), layout};
        const GroupRange groups{0, layout.groups()};
        const Index slots = groups.rows(), stride = slots + 5, width = padded(cols);
        Buffer<std::int8_t> x8(models * width), r8(models * stride);
        Buffer<float> x(models * width), r(models * stride);
        for (int m = 0; m < models; ++m)
          for (Index j = 0; j < cols; ++j) {
            x8[m * width + j] = static_cast<std::int8_t>(words() % 127) - 63;
            x[m * width + j] = words.real();
          }
        for (auto& v : r8) v = static_cast<std::int8_t>(words() % 15) - 7;
        for (auto& v : r) v = words.real();
        Buffer<std::uint8_t> entries((1 << bits) + 1);
        for (auto& entry : entries) entry = static_cast<std::uint8_t>(words());
        const CodeTable bytes{entries.data(), static_cast<int>(entries.size())};
        Buffer<float> levels(entries.size() * cols);
        for (auto& level : levels) level = words.real();
        const TableView tables{levels.data(), entries.size()};

        compare_calls(std::int32_t{}, slots, width,
                      [&](int m, int count, std::int32_t* out, std::int32_t* g) {
                        const ModelBlock<const std::int8_t> model{x8.data() + m * width, width, count};
                        const ModelBlock<const std::int8_t> residuals{r8.data() + m * stride, stride, count};
                        kernels.margins(view, planes, groups, model, {out, stride, count});
                        kernels.accumulate(view, planes, groups, residuals, {g, width, count});
                      });
        compare_calls(float{}, slots, width, [&](int m, int count, float* out, float* g) {
          const ModelBlock<const float> model{x.data() + m * width, width, count};
          const ModelBlock<const float> residuals{r.data() + m * stride, stride, count};
          kernels.margins(view, planes, groups, model, {out, stride, count});
          kernels.accumulate(view, planes, groups, residuals, {g, width, count});
        });
        if (bits > 8) continue;
        compare_calls(std::int32_t{}, slots, width,
                      [&](int m, int count, std::int32_t* out, std::int32_t* g) {
                        const ModelBlock<const std::int8_t> model{x8.data() + m * width, width, count};
                        const ModelBlock<const std::int8_t> residuals{r8.data() + m * stride, stride, count};
                        kernels.margins(view, planes, bytes, groups, model, {out, stride, count});
                        kernels.accumulate(view, planes, bytes, groups, residuals, {g, width, count});
                      });
        compare_calls(float{}, slots, width, [&](int m, int count, float* out, float* g) {
          const ModelBlock<const float> model{x.data() + m * width, width, count};
          const ModelBlock<const float> residuals{r.data() + m * stride, stride, count};
          kernels.margins(view, planes, tables, groups, model, {out, stride, count});
          kernels.accumulate(view, planes, tables, groups, residuals, {g, width, count});
        });
      }
    for (const auto& [cols, rows] :
         {std::pair{Index{40}, Index{200}}, {Index{600}, Index{113}}, {Index{600}, Index{1}}}) {
      INFO(kernels.name << " float32 rows, cols " << cols);
      const Index width = padded(cols), stride = rows + 5;
      Buffer<float> values(rows * cols), x(models * width), r(models * stride);
      for (auto& v : values) v = words.real();
      for (auto& v : r) v = words.real();
      for (int m = 0; m < models; ++m)
        for (Index j = 0; j < cols; ++j) x[m * width + j] = words.real();
      const DenseRows all{values.data(), cols, cols, rows};
      compare_calls(float{}, rows, width, [&](int m, int count, float* out, float* g) {
        kernels.margins(all, {x.data() + m * width, width, count}, {out, stride, count});
        kernels.accumulate(all, {r.data() + m * stride, stride, count}, {g, width, count});
      });
    }
  });
}

namespace {

/// Margins and gradient of ones over random codes with a draw's plane, or their throwing, as text.
template <class T, class Sum>
std::string tried(const KernelTable& kernels, int bits, bool draw) {
  const PlaneLayout layout{16, 70, bits + (draw ? 1 : 0)};
  PlaneList planes = PlaneList::of_code(bits);
  if (draw) planes.push_draw_plane(bits);
  Words words;
  Buffer<std::uint8_t> codes(layout.bytes());
  for (auto& byte : codes) byte = static_cast<std::uint8_t>(words());
  Buffer<T> ones(128);
  std::fill(ones.begin(), ones.begin() + 70, T{1});
  Buffer<Sum> out(16), gradient(128);
  try {
    kernels.margins({codes.data(), layout}, planes, {0, 2}, {ones.data()}, {out.data()});
    kernels.accumulate({codes.data(), layout}, planes, {0, 2}, {ones.data()}, {gradient.data()});
  } catch (const Error& error) {
    return error.what();
  }
  std::string text;
  for (const Sum v : out) text += std::to_string(v) + ' ';
  for (Index j = 0; j < 70; ++j) text += std::to_string(gradient[j]) + ' ';
  return text;
}

constexpr const char* refused = "these kernels were not compiled for such codes";

/// Every code: those of the set as kernels of everything have them, others refused.
template <class Codes, unsigned Families>
void check_set() {
  for (const Isa isa : all_isas) {
    if (!available(isa)) continue;
    const KernelTable all = kernels_of(isa), some = kernels_for<Codes, Families>(isa);
    CHECK(std::string(some.name) == all.name);
    for (int bits = 0; bits <= 9; ++bits)
      for (const bool draw : {false, true}) {
        if (bits == 0 && !draw) continue;
        INFO(all.name << " bits " << bits << " draw plane " << draw);
        const bool has = Codes::has_code(bits, draw);
        const bool integers = (Families & kernel_families::packed_integers) != 0;
        const bool floats = (Families & kernel_families::packed_floats) != 0;
        const auto in_integers = tried<std::int8_t, std::int32_t>(some, bits, draw);
        const auto in_floats = tried<float, float>(some, bits, draw);
        if (has || !integers) {
          CHECK(in_integers == (integers ? tried<std::int8_t, std::int32_t>(all, bits, draw) : refused));
        }
        if (has || !floats) {
          CHECK(in_floats == (floats ? tried<float, float>(all, bits, draw) : refused));
        }
      }
    // A width that no plane of the set has.
    for (const int width : {1, 2, 4, 8})
      if (!Codes::has_plane(width) && isa != Isa::scalar)
        CHECK(tried<std::int8_t, std::int32_t>(some, width, false) == refused);
    const std::uint8_t entry = 0;
    const float level = 0.0f;
    const PackedView nothing{&entry, PlaneLayout{8, 1, 1}};
    float out = 0.0f;
    std::int32_t sum = 0;
    const std::int8_t one = 1;
    if ((Families & kernel_families::shared_tables) == 0)
      CHECK_THROWS_AS(
          some.margins(nothing, PlaneList::of_code(1), CodeTable{&entry, 1}, {0, 1}, {&one}, {&sum}), Error);
    if ((Families & (kernel_families::shared_tables | kernel_families::column_tables)) == 0)
      CHECK_THROWS_AS(
          some.accumulate(nothing, PlaneList::of_code(1), TableView{&level, 0}, {0, 1}, {&level}, {&out}),
          Error);
    // Rows and vectors are there whatever the set is.
    CHECK(some.largest(&level, 1) == 0.0f);
  }
}

/// Policies of a user, in plain functions: they replace what the base has in templates, too.
struct PlainScalar : ScalarKernels {
  static constexpr const char* name = "plain scalar";
  using ScalarKernels::accumulate;
  using ScalarKernels::margins;
  static void margins(const PackedView&, const PlaneList&, GroupRange, const float*, float* out) {
    *out = 42.0f;
  }
  static void margins(const PackedView&, const PlaneList&, GroupRange, const std::int8_t*,
                      std::int32_t* out) {
    *out = 43;
  }
};
#if ZIPML_X86
struct PlainAvx2 : Avx2Kernels {
  static constexpr const char* name = "plain avx2";
  using Avx2Kernels::accumulate;
  using Avx2Kernels::margins;
  static void margins(const PackedView&, const PlaneList&, GroupRange, const float*, float* out) {
    *out = 42.0f;
  }
  static void margins(const PackedView&, const PlaneList&, GroupRange, const std::int8_t*,
                      std::int32_t* out) {
    *out = 43;
  }
};
#else
using PlainAvx2 = PlainScalar;
#endif

}  // namespace

TEST_CASE("kernels for a set of codes are those of all codes, and refuse others") {
  using namespace kernel_families;
  check_set<OneCode<4, false>, packed_integers | packed_floats>();
  check_set<OneCode<4, true>, packed_integers | packed_floats>();
  check_set<OneCode<0, true>, packed_integers | packed_floats>();
  check_set<OneCode<1, false>, packed_integers>();
  check_set<OneCode<3, false>, packed_floats>();
  check_set<OneCode<7, true>, packed_integers | packed_floats>();
  check_set<OneCode<8, true>, packed_integers | packed_floats | shared_tables>();
  check_set<OneCode<9, false>, packed_integers | packed_floats>();
  check_set<AnyCode, none>();
  CHECK(OneCode<6, false>::has_plane(4));
  CHECK_FALSE(OneCode<6, false>::has_plane(1));
  CHECK(OneCode<6, true>::has_plane(1));
  CHECK(OneCode<6, true>::has_code(6, false));
  CHECK(OneCode<6, true>::has_code(0, true));
  CHECK_FALSE(OneCode<6, false>::has_code(6, true));
}

TEMPLATE_TEST_CASE("a user's policy of plain functions is taken as it is", "", PlainScalar, PlainAvx2) {
  const std::uint8_t code = 0;
  const PackedView view{&code, PlaneLayout{8, 1, 1}};
  const Buffer<float> model(64);
  float out[8] = {};
  const KernelTable kernels{TestType{}};
  kernels.margins(view, PlaneList::of_code(1), {0, 1}, {model.data()}, {out});
  CHECK(out[0] == 42.0f);
  // Of several models as well, whatever the base has for them.
  const Buffer<std::int8_t> two(128);
  std::int32_t integers[16] = {};
  kernels.margins(view, PlaneList::of_code(1), {0, 1}, ModelBlock<const std::int8_t>{two.data(), 64, 2},
                  ModelBlock<std::int32_t>{integers, 8, 2});
  CHECK((integers[0] == 43 && integers[8] == 43));
  const KernelTable some(TestType{}, KernelSet<OneCode<1, false>, kernel_families::packed_floats>{});
  out[0] = 0.0f;
  some.margins(view, PlaneList::of_code(1), {0, 1}, {model.data()}, {out});
  CHECK(out[0] == 42.0f);
}

TEST_CASE("columns that threads share are accumulated to the same bits as all of them at once") {
  for_available([](auto kernels) {
    const KernelTable table{kernels};
    for (int bits = 1; bits <= 8; ++bits)
      for (const Index cols : {Index{70}, Index{129}, Index{200}}) {
        const PlaneLayout layout{40, cols, bits};
        const PlaneList planes = PlaneList::of_code(bits);
        Words words;
        Buffer<std::uint8_t> codes(layout.bytes());
        for (auto& byte : codes) byte = static_cast<std::uint8_t>(words());
        const GroupRange groups{0, 5};
        Buffer<float> r(40);
        Buffer<std::int8_t> r8(40);
        for (Index i = 0; i < 40; ++i) {
          r[i] = words.real();
          r8[i] = static_cast<std::int8_t>(words() % 15) - 7;
        }
        const Index width = padded(cols);
        const auto compare_shares = [&](auto zero, const auto& residuals) {
          using T = decltype(zero);
          Buffer<T> whole(width), parts(width);
          table.accumulate(PackedView{codes.data(), layout}, planes, groups, {residuals.data()},
                           {whole.data(), width});
          for (const auto& [first, count] : {std::pair{Index{0}, Index{64}}, {Index{64}, cols - 64}}) {
            PackedView share{codes.data(), layout};
            share.codes += first;
            share.width = count;
            table.accumulate(share, planes, groups, {residuals.data()}, {parts.data() + first, width});
            // What a share leaves behind its last column is another's, or ignored.
            std::fill(parts.begin() + first + count, parts.end(), T{});
          }
          std::fill(whole.begin() + cols, whole.end(), T{});
          CHECK(same_bits(whole, parts));
        };
        compare_shares(0.0f, r);
        compare_shares(std::int32_t{0}, r8);
      }
  });
}

TEST_CASE("the work of a batch on vectors is the same bits in every policy") {
  for_available([](auto kernels) {
    using Kernels = decltype(kernels);
    for (const Index d : {Index{64}, Index{128}, Index{192}, Index{1024}}) {
      Words words;
      const auto vector = [&] {
        Buffer<float> v(d);
        for (float& e : v) e = words.real();
        return v;
      };
      const Buffer<float> step = vector(), x = vector(), offset = vector(), outliers = vector(),
                          diagonal = vector(), other = vector(), sums = vector(), row = vector();
      Buffer<std::int8_t> codes(d);
      for (auto& code : codes) code = static_cast<std::int8_t>(words() % 255 - 127);
      Buffer<std::int32_t> integers(d);
      for (auto& n : integers) n = static_cast<std::int32_t>(words() % 2000001) - 1000000;

      Buffer<float> expected(d), got(d);
      CHECK(ScalarKernels::fold(step.data(), x.data(), expected.data(), d) ==
            Kernels::fold(step.data(), x.data(), got.data(), d));
      CHECK(same_bits(expected, got));
      const auto unfold = [&](auto which, float* to) {
        return decltype(which)::unfold(codes.data(), 0.37f, step.data(), offset.data(), to, d);
      };
      CHECK(unfold(ScalarKernels{}, expected.data()) == unfold(kernels, got.data()));
      CHECK(same_bits(expected, got));
      CHECK(unfold(ScalarKernels{}, nullptr) == unfold(kernels, nullptr));
      CHECK(ScalarKernels::dot(step.data(), x.data(), d) == Kernels::dot(step.data(), x.data(), d));

      const auto added = [&](auto which) {
        Buffer<float> gradient = sums;
        Buffer<std::int32_t> counts = integers;
        decltype(which)::add_scaled(counts.data(), 0.013f, gradient.data(), d);
        for (const auto n : counts) REQUIRE(n == 0);
        return gradient;
      };
      CHECK(same_bits(added(ScalarKernels{}), added(kernels)));
      const auto in_double = [&](auto which) {
        Buffer<double> total(d);
        for (int k = 0; k < 3; ++k) decltype(which)::add_to_doubles(x.data(), total.data(), d);
        return total;
      };
      CHECK(same_bits(in_double(ScalarKernels{}), in_double(kernels)));

      for (const bool has_anchor : {false, true})
        for (const float threshold : {-1.0f, 0.0f, 0.3f})
          for (const float divisor : {1.0f, 1.7f}) {
            const Shrinkage by{threshold, divisor, has_anchor ? other.data() : nullptr};
            const auto shrunk = [&](auto which) {
              Buffer<float> model = x;
              model[1] = 0.0f;
              model[2] = -0.0f;
              model[3] = std::numeric_limits<float>::infinity();
              decltype(which)::shrink(by, model.data(), d);
              return model;
            };
            const Buffer<float> plain = shrunk(ScalarKernels{});
            CHECK(same_bits(plain, shrunk(kernels)));
            for (Index j = 4; j < d; ++j) {
              const double anchor = has_anchor ? double{other[j]} : 0.0, v = double{x[j]} + anchor;
              const double soft =
                  threshold < 0.0f ? v
                                   : std::max(std::abs(v) - double{threshold}, 0.0) * (v < 0.0 ? -1.0 : 1.0);
              REQUIRE(std::abs(soft / double{divisor} - anchor - double{plain[j]}) < 1e-6);
            }
          }

      for (const bool integer : {true, false})
        for (const bool steps : {true, false})
          for (const bool has_outliers : {true, false})
            for (const int penalty : {0, 1, 2}) {
              if (integer && !steps) continue;
              const auto descended = [&](auto which) {
                Buffer<float> model = x, floats = sums;
                Buffer<std::int32_t> counts = integers;
                GradientFrame frame{};
                frame.sums = integer ? nullptr : floats.data();
                frame.codes = counts.data();
                frame.code_scale = 0.0021f;
                frame.step = steps ? step.data() : nullptr;
                frame.offset = offset.data();
                frame.outliers = has_outliers ? outliers.data() : nullptr;
                frame.diagonal = penalty > 0 ? diagonal.data() : nullptr;
                frame.model = penalty == 1 ? other.data() : model.data();
                frame.inner = 0.3f;
                frame.outer = -0.7f;
                frame.share = 1.0f / 7.0f;
                const float largest = decltype(which)::descend(frame, 0.11f, model.data(), d);
                if (integer)
                  for (const auto n : counts) REQUIRE(n == 0);
                else
                  for (const auto v : floats) REQUIRE(v == 0.0f);
                // The definition, in double.
                double worst = 0.0, top = 0.0;
                for (Index j = 0; j < d; ++j) {
                  double g = integer ? 0.0021 * integers[j] : double{sums[j]};
                  if (steps) g = (g + 0.3) * double{step[j]} - 0.7 * double{offset[j]};
                  if (has_outliers) g += double{outliers[j]};
                  g /= 7.0;
                  if (penalty > 0) g -= double{diagonal[j]} * double{penalty == 1 ? other[j] : x[j]};
                  top = std::max(top, std::abs(g));
                  worst = std::max(worst, std::abs(double{x[j]} - 0.11 * g - double{model[j]}));
                }
                REQUIRE(worst < 1e-6 * (1.0 + top));
                REQUIRE(std::abs(double{largest} - top) < 1e-6 * (1.0 + top));
                return model;
              };
              CHECK(same_bits(descended(ScalarKernels{}), descended(kernels)));
              if (integer || steps || has_outliers || penalty == 1) continue;
              const RowStep by{row.data(), 0.4f, penalty > 0 ? diagonal.data() : nullptr, 0.11f};
              const auto by_row = [&](auto which) {
                Buffer<float> model = x;
                decltype(which)::descend_row(by, model.data(), d);
                for (Index j = 0; j < d; ++j) {
                  double to = double{x[j]} - double{0.4f} * double{row[j]};
                  if (penalty > 0) to += double{0.11f} * double{diagonal[j]} * double{x[j]};
                  REQUIRE(std::abs(to - double{model[j]}) < 1e-6);
                }
                return model;
              };
              const Buffer<float> after = by_row(ScalarKernels{});
              CHECK(same_bits(after, by_row(kernels)));
              // The same step, and the margin of the next row after it.
              Buffer<float> model = x;
              const float z = decltype(kernels)::descend_to_row(by, model.data(), other.data(), d);
              CHECK(same_bits(after, model));
              double margin = 0.0, size = 0.0;
              for (Index j = 0; j < d; ++j) {
                margin += double{other[j]} * double{after[j]};
                size += std::abs(double{other[j]} * double{after[j]});
              }
              CHECK(std::abs(double{z} - margin) <= 1e-6 * size);
            }
    }
  });
}

TEST_CASE("margins from sums, and the sum of codes, are the same in every policy, for any number of rows") {
  for_available([](auto kernels) {
    using Kernels = decltype(kernels);
    for (Index n = 1; n <= 300; n += n < 140 ? 1 : 37) {
      Words words;
      Buffer<std::int32_t> sums(n);
      for (auto& v : sums) v = static_cast<std::int32_t>(words() % 40000001) - 20000000;
      Buffer<float> expected(n), got(n);
      ScalarKernels::scale_sums(sums.data(), 0.0137f, -3.3f, expected.data(), n);
      Kernels::scale_sums(sums.data(), 0.0137f, -3.3f, got.data(), n);
      CHECK(same_bits(expected, got));
      for (Index i = 0; i < n; ++i) {
        const double exact = double{0.0137f} * sums[i] + double{-3.3f};
        REQUIRE(std::abs(double{got[i]} - exact) <= 2e-7 * (std::abs(exact) + 3.3));
      }
      Guarded bytes(n, 0);
      std::int32_t sum = 0;
      for (std::uint8_t* p = bytes.data(); p != bytes.end(); ++p) {
        const int code = static_cast<int>(words() % 255) - 127;
        *p = static_cast<std::uint8_t>(static_cast<std::int8_t>(code));
        sum += code;
      }
      const auto* codes = reinterpret_cast<const std::int8_t*>(bytes.data());
      CHECK(ScalarKernels::sum_codes(codes, n) == sum);
      CHECK(Kernels::sum_codes(codes, n) == sum);
    }
  });
}

TEST_CASE("vectors are rounded to the same integers in every policy") {
  for_available([](auto kernels) {
    using Kernels = decltype(kernels);
    for (Index n = 1; n <= 300; n += n < 140 ? 1 : 37)
      for (const int levels : {1, 3, 7, 21, 31, 127})
        for (const auto& [two_level, to_nearest] :
             {std::pair{false, false}, {true, false}, {false, true}, {true, true}}) {
          if (two_level && levels != 1) continue;
          Words words;
          Buffer<float> v(n);
          for (float& e : v) e = words.real();
          v[0] = 1.0f;
          v[n / 2] = -1.0f;
          const float scale = 1.0f / static_cast<float>(levels);
          // Some on a level, where no random number may move them.
          for (Index j = 3; j < n; j += 5) v[j] = scale * static_cast<float>(j % (levels + 1));
          const VectorRounding how{
              Random(9), {Stream::residual, 12345, 1, 8 * (n % 9)}, scale, levels, two_level, to_nearest};
          Guarded expected(n, 0), got(n, 0);
          const auto codes = [](Guarded& bytes) { return reinterpret_cast<std::int8_t*>(bytes.data()); };
          ScalarKernels::round_symmetric(v.data(), n, how, codes(expected));
          Kernels::round_symmetric(v.data(), n, how, codes(got));
          bool equal = true;
          for (Index j = 0; j < n; ++j) equal = equal && codes(expected)[j] == codes(got)[j];
          CHECK(equal);
          // The same with random bits that were drawn before, for more entries than these.
          Buffer<std::uint16_t> drawn(n + 9), plain(n + 9);
          Guarded shared(n, 0);
          VectorRounding again = how;
          Kernels::half_words(how.random, how.place, n + 9, drawn.data());
          ScalarKernels::half_words(how.random, how.place, n + 9, plain.data());
          CHECK(same_bits(drawn, plain));
          again.half_words = drawn.data();
          Kernels::round_symmetric(v.data(), n, again, codes(shared));
          for (Index j = 0; j < n; ++j) equal = equal && codes(expected)[j] == codes(shared)[j];
          ScalarKernels::round_symmetric(v.data(), n, again, codes(shared));
          for (Index j = 0; j < n; ++j) equal = equal && codes(expected)[j] == codes(shared)[j];
          CHECK(equal);
          for (Index j = 0; j < n; ++j) {
            const float exact = v[j] / scale;
            const float reach = two_level ? (to_nearest ? 1.0f : 2.01f) : to_nearest ? 0.5f : 1.0f;
            REQUIRE(std::abs(static_cast<float>(codes(expected)[j]) - exact) <= reach);
          }
        }
  });
}

TEST_CASE("vectors of tiny and of huge numbers are rounded to the same integers in every policy") {
  for_available([](auto kernels) {
    using Kernels = decltype(kernels);
    for (const float scale : {0x1p-149f, 0x1p-130f, 0x1p-126f, 1.0f, 2.0f, 1e6f, 1e20f, 0x1p126f, 0x1p127f})
      for (const float unit : {0x1p-149f, 0x1p-133f, 0x1p-126f, 1e-20f, 1.0f, 1e20f, 0x1p120f})
        for (const auto& [two_level, to_nearest] :
             {std::pair{false, false}, {true, false}, {false, true}, {true, true}}) {
          constexpr Index n = 100;
          Buffer<float> v(n);
          for (Index j = 0; j < n; ++j) v[j] = unit * static_cast<float>(j % 11 - 5);
          const VectorRounding how{
              Random(9), {Stream::residual, 1, 0, 0}, scale, two_level ? 1 : 7, two_level, to_nearest};
          std::int8_t expected[n], got[n];
          ScalarKernels::round_symmetric(v.data(), n, how, expected);
          Kernels::round_symmetric(v.data(), n, how, got);
          INFO(scale << ' ' << unit << ' ' << two_level << to_nearest);
          CHECK(std::equal(expected, expected + n, got));
          if (two_level && to_nearest)
            for (Index j = 0; j < n; ++j) REQUIRE(int{expected[j]} == (v[j] < 0.0f ? -1 : 1));
        }
  });
}

TEST_CASE("the largest magnitude is found, and NaN is not lost, in every policy") {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for_available([&](auto kernels) {
    using Kernels = decltype(kernels);
    for (const Index n : {1, 31, 32, 33, 100, 256}) {
      Words words;
      Buffer<float> v(n);
      float expected = 0.0f;
      for (float& e : v) {
        e = words.real();
        expected = std::max(expected, std::abs(e));
      }
      CHECK(Kernels::largest(v.data(), n) == expected);
      v[n / 3] = -expected - 1.0f;
      CHECK(Kernels::largest(v.data(), n) == expected + 1.0f);
      v[n / 2] = nan;
      CHECK(std::isnan(Kernels::largest(v.data(), n)));
    }
    Buffer<float> step(64), x(64), folded(64), sums(64);
    for (Index j = 0; j < 64; ++j) step[j] = x[j] = sums[j] = 1.0f;
    x[3] = nan;
    CHECK(std::isnan(Kernels::fold(step.data(), x.data(), folded.data(), 64)));
    GradientFrame frame{};
    sums[7] = nan;
    frame.sums = sums.data();
    frame.share = 1.0f;
    CHECK(std::isnan(Kernels::descend(frame, 1.0f, folded.data(), 64)));
  });
}

TEST_CASE("rows are decoded to the values of the levels in every policy") {
  for_available([](auto kernels) {
    using Kernels = decltype(kernels);
    for (int bits = 1; bits <= 8; ++bits)
      for (const bool draw : {false, true})
        for (Index cols = 1; cols <= 200; cols += cols < 70 ? 1 : 43) {
          Words words;
          PlaneList planes = PlaneList::of_code(bits);
          if (draw) planes.push_draw_plane(bits);
          const PlaneLayout layout{21, cols, bits + (draw ? 1 : 0)};
          Guarded codes(layout.bytes(), 0);
          for (Index k = 0; k < layout.bytes(); ++k) codes.data()[k] = static_cast<std::uint8_t>(words());
          const Index padded_cols = padded(cols);
          Buffer<float> offset(padded_cols), step(padded_cols);
          for (Index j = 0; j < cols; ++j) {
            offset[j] = words.real();
            step[j] = words.real();
          }
          const Index count = (Index{1} << bits) + 1;
          Buffer<float> entries(count), tables(count * cols);
          for (float& e : entries) e = words.real();
          for (float& e : tables) e = words.real();
          RowLevels affine, by_row, shared, by_column;
          affine.offset = shared.offset = offset.data();
          affine.step = shared.step = step.data();
          shared.entries = entries.data();
          by_row.row_offset = 0.6f;
          by_row.row_step = -0.2f;
          by_column.tables = tables.data();
          by_column.stride = count;
          for (const Index row : {0, 3, 9, 20})
            for (const RowLevels& levels : {affine, by_row, shared, by_column}) {
              const RowCodes place(codes.data(), layout, planes, row);
              Buffer<float> expected(padded_cols), got(padded_cols);
              ScalarKernels::decode_row(place, levels, cols, expected.data(), padded_cols);
              Kernels::decode_row(place, levels, cols, got.data(), padded_cols);
              CHECK(same_bits(expected, got));
              for (Index j = 0; j < cols; ++j) {
                int code = 0;
                for (int p = 0; p < planes.count; ++p)
                  code += plane_bits(codes.data(), layout, planes[p], row, j) << planes[p].shift;
                const float t = levels.entries != nullptr ? entries[code] : static_cast<float>(code);
                const float value = levels.tables != nullptr ? tables[j * count + code]
                                    : levels.step != nullptr
                                        ? CodeLevels::affine_value(offset[j], step[j], t)
                                        : CodeLevels::affine_value(levels.row_offset, levels.row_step, t);
                REQUIRE(expected[j] == value);
              }
              for (Index j = cols; j < padded_cols; ++j) REQUIRE(expected[j] == 0.0f);
            }
        }
  });
}

TEST_CASE("the instruction set: chosen, forced, refused") {
  CHECK(active_isa("scalar") == Isa::scalar);
  CHECK_THROWS_AS(active_isa("sse9"), Error);
  try {
    (void)active_isa("sse9");
  } catch (const Error& error) {
    CHECK(std::string(error.what()).find("scalar") != std::string::npos);
  }
  setenv("ZIPML_ISA", "scalar", 1);
  CHECK(active_isa() == Isa::scalar);
  setenv("ZIPML_ISA", "bogus", 1);
  CHECK_THROWS_AS(active_isa(), Error);
  unsetenv("ZIPML_ISA");
  const std::string best = name_of(active_isa());
#if ZIPML_X86
  const CpuFeatures& cpu = cpu_features();
  CHECK(best == (cpu.avx512 ? "avx512" : cpu.avx_vnni ? "avx-vnni" : cpu.avx2 ? "avx2" : "scalar"));
  if (!available(Isa::avx2)) CHECK_THROWS_AS(active_isa("avx2"), Error);
#else
  CHECK(best == "scalar");
#endif
  // An emulated processor is told what must be chosen on it.
  if (const char* expected = std::getenv("ZIPML_EXPECT_ISA")) CHECK(best == expected);
  WARN("kernels: " << best << "; " << compared << " cases compared with scalar so far");
}
