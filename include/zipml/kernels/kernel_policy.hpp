#pragma once
/// \file
/// Room kernels: the contract of the kernels: what they read, what they return, and why their integers cannot
/// overflow.
///
/// A kernel policy is a type with static functions, chosen once per `fit`. It multiplies *codes*: offsets and
/// steps of affine levels never reach a kernel, because <offset + step k, x> = <offset, x> + <k, step x>:
/// they are folded into the model once per batch, and into the gradient once per batch
/// (training/gradient_device.hpp).
///
///     margins     z_i  = sum_j code_ij x_j            for the rows of a range of groups
///     accumulate  g_j += sum_i code_ij r_i
///
/// for one model, in int8 with exact int32 sums or in float32; with a byte for each code in its place,
/// table[code_ij], in int8; for tables of float levels and for float32 rows in float32. KernelTable runs
/// several models over the codes while they are in cache. For codes in int8 a policy may have margins and
/// accumulate with ModelBlocks in the place of the pointers: KernelTable then calls these for several models,
/// and codes are loaded and put together once for some of them. A plain function for one model that stands
/// beside a template for blocks, its base's most likely, takes the place of both. kernels/scalar.hpp is the
/// specification. The Gram matrix of codes, which a policy may leave to the scalar kernel, has its contract in
/// gram.hpp.
/// Beside them stand the O(d) work of a batch (batch_math.hpp), that of single rows (row_math.hpp) and the
/// rounding of model and residuals (quantization/quantized_vector.hpp), the same bits everywhere. Another
/// policy derives from the scalar one and replaces what it does faster:
///
///     struct MyKernels : ScalarKernels {
///       static constexpr const char* name = "mine";
///       using ScalarKernels::margins;
///       static void margins(const PackedView&, const PlaneList&, GroupRange, const float* x, float* out);
///     };
///
/// A policy whose functions choose a kernel by the width of the codes may have function templates instead,
/// `template <class Codes> static void margins(...)`, which instantiate the kernels of a set of codes alone
/// (code_set.hpp). Of both, KernelTable takes the plain function.
///
/// Promises of the caller, which kernels may rely on:
///   padded model    a model has round_up(d, model_padding) entries, those behind column d are 0
///   padded gradient a gradient has as many entries; what a kernel leaves behind column d is ignored
///   whole groups    8 rows at a time; residuals of rows outside the batch are 0, their margins are ignored
///   code 0          rows of the last group behind the last row of the store have code 0
///   known codes     a list of planes is that of a code in the set that the kernels were compiled for
///   some work       at least one group of rows, and one plane in a list
///   whole tables    a CodeTable has an entry for each code of its planes, 2^bits or more
///   aligned models  models and gradients, and the strides between them, are multiples of 64 bytes
///   readable tail   the 64 bytes behind codes and float32 rows may be read; as floats they are finite
/// Not promised: alignment of panels.
///
/// Budget of the integers, with |x| <= 127:
///   int16 pair sum of maddubs: 2 * 127 * (2^w - 1) for a plane of width w: 254, 762, 3,810 for w = 1, 2, 4,
///     so that 129, 43, 8 of them fit int16; w = 8 (64,770) saturates and is widened first.
///   int32 margin: a code is 512 at most, 9 bits all set and a draw's bit: 127 * 512 * d < 2^31 for
///     d <= 33,026; beyond max_int8_columns the device uses the float model.
///   int32 gradient: 127 * 512 * 8,192 rows < 2^31: batches are cut there.

#include <concepts>
#include <cstdint>

#include <zipml/base/error.hpp>
#include <zipml/base/index.hpp>
#include <zipml/base/isa.hpp>
#include <zipml/kernels/batch_math.hpp>
#include <zipml/kernels/code_set.hpp>
#include <zipml/kernels/gram.hpp>
#include <zipml/kernels/packed_view.hpp>
#include <zipml/kernels/row_math.hpp>
#include <zipml/quantization/quantized_vector.hpp>
#include <zipml/storage/plane_layout.hpp>

namespace zipml::inline ZIPML_ABI {

/// Magnitude of an int8 model entry: the symmetric range, since -128 has no counterpart.
inline constexpr int max_model_code = 127;

/// Longest row whose int8 margin is certain to fit int32, and most rows of one integer accumulation.
inline constexpr Index max_int8_columns = 32768;
inline constexpr Index max_int8_rows = 8192;
static_assert(Index{max_model_code} * 512 * max_int8_columns < (Index{1} << 31));
static_assert(Index{127} * 512 * max_int8_rows < (Index{1} << 31));

/// R: integer residuals lie in -R .. R. Part of the contract, equal on every instruction set, so that sums
/// are equal bit for bit. The byte tables of the AVX2 kernels bound it: a nibble holds 4 rows of a 1-bit
/// plane (4 R <= 127) or 2 rows of a 2-bit plane (2 * 3 R <= 127); 4-bit planes multiply in int16 (2 * 15 R,
/// 35 of which fit int16 at R = 31).
constexpr int residual_levels(const PlaneList& planes) {
  int levels = 127;
  for (int p = 0; p < planes.count; ++p) {
    const int width = planes[p].width;
    const int bound = width == 8 ? 127 : width == 2 ? 21 : 31;
    levels = bound < levels ? bound : levels;
  }
  return levels;
}

/// m vectors, one for each model: the models, their margins, residuals or gradients, one behind the other at
/// a distance of `stride`. Blocks of one call have the same count.
template <class T>
struct ModelBlock {
  T* data;
  Index stride = 0;  ///< in entries; of models and gradients, padded d or more
  int count = 1;
  T* operator[](int m) const { return data + m * stride; }
};

/// Levels by table: entry [column * stride + code]; a stride of 0 is one table for all columns.
struct TableView {
  const float* tables = nullptr;
  Index stride = 0;
};

/// Tables of 2 to 4 bits are looked up by register shuffles, in bytes. (Those of 1 bit are affine: a store
/// does without them.)
constexpr bool is_shuffled(const PlaneList& planes) {
  return !planes.has_draw_plane && planes.code_bits >= 2 && planes.code_bits <= 4;
}
/// R and the largest model entry for a CodeTable, part of the contract as residual_levels is. Entries of a
/// byte make large products: a pair of maddubs is 2 * 255 * 63 = 32,130 in the margins, and 2 * 255 * 7 =
/// 3,570 in the accumulation, 9 of which fit int16.
constexpr int table_residual_levels(const PlaneList& planes) { return is_shuffled(planes) ? 7 : 127; }
constexpr int table_model_levels(const PlaneList& planes) {
  return is_shuffled(planes) ? 63 : max_model_code;
}
static_assert(2 * 255 * 63 <= 32767 && 9 * 2 * 255 * 7 <= 32767);
static_assert(Index{max_model_code} * 255 * max_int8_columns < (Index{1} << 31));
static_assert(Index{127} * 255 * max_int8_rows < (Index{1} << 31));

/// Rows [first, first + count) of a float32 matrix.
struct DenseRows {
  const float* values;  ///< of row `first`
  Index stride;
  Index cols;
  Index count;
  Ahead* ahead = nullptr;
};

namespace detail {

// An operation of a policy, plain or for a set of codes.

template <class K, class... Args>
concept HasMargins = requires(Args... args) {
  K::margins(args...);
}
|| requires(Args... args) { K::template margins<AnyCode>(args...); };
template <class K, class... Args>
concept HasAccumulate = requires(Args... args) {
  K::accumulate(args...);
}
|| requires(Args... args) { K::template accumulate<AnyCode>(args...); };

/// An operation on packed codes, with a table or without.
template <class K, class X, class T, class... Table>
concept HasPacked = HasMargins<K, const PackedView&, const PlaneList&, Table..., GroupRange, const X*, T*> &&
    HasAccumulate<K, const PackedView&, const PlaneList&, Table..., GroupRange, const X*, T*>;

template <class K, class Codes, class... Args>
constexpr auto margins_of() -> void (*)(Args...) {
  if constexpr (requires(Args... args) { K::margins(args...); })
    return K::margins;
  else
    return K::template margins<Codes>;
}
template <class K, class Codes, class... Args>
constexpr auto accumulate_of() -> void (*)(Args...) {
  if constexpr (requires(Args... args) { K::accumulate(args...); })
    return K::accumulate;
  else
    return K::template accumulate<Codes>;
}

/// An operation on packed codes for one model, and for a block of them.
using OneModelKernel = void (*)(const PackedView&, const PlaneList&, GroupRange, const std::int8_t*,
                                std::int32_t*);
using BlockKernel = void (*)(const PackedView&, const PlaneList&, GroupRange, ModelBlock<const std::int8_t>,
                             ModelBlock<std::int32_t>);

/// The kernel of a policy for a block of models, or null: where there is none, or where it is the base's beside a plain
/// function for one model, which replaces both.
template <class K, class Codes>
constexpr BlockKernel block_margins_of() {
  if constexpr (requires(BlockKernel to) { to = K::margins; })
    return K::margins;
  else if constexpr (
      !requires(OneModelKernel to) { to = K::margins; } &&
      requires(BlockKernel to) { to = K::template margins<Codes>; })
    return K::template margins<Codes>;
  else
    return nullptr;
}
template <class K, class Codes>
constexpr BlockKernel block_accumulate_of() {
  if constexpr (requires(BlockKernel to) { to = K::accumulate; })
    return K::accumulate;
  else if constexpr (
      !requires(OneModelKernel to) { to = K::accumulate; } &&
      requires(BlockKernel to) { to = K::template accumulate<Codes>; })
    return K::template accumulate<Codes>;
  else
    return nullptr;
}

/// The optional operation of gram.hpp, else the scalar one.
template <class K>
constexpr auto gram_of() -> void (*)(const PackedView&, const PlaneList&, CodeTable, GroupRange, GramSums) {
  if constexpr (requires(const PackedView& view, const PlaneList& planes, CodeTable table, GroupRange groups,
                         GramSums out) { K::gram(view, planes, table, groups, out); })
    return K::gram;
  else
    return gram_plainly;
}

[[noreturn]] ZIPML_NOINLINE inline void refuse_codes() {
  throw Error("these kernels were not compiled for such codes");
}
/// Stands where an operation was not asked for.
template <class... Args>
void not_compiled(Args...) {
  refuse_codes();
}

}  // namespace detail

/// The operations of a policy. Margins are written to out[i], residuals are read from the same places.
template <class K>
concept KernelPolicy = detail::HasPacked<K, std::int8_t, std::int32_t> &&
    detail::HasPacked<K, std::int8_t, std::int32_t, CodeTable> && detail::HasPacked<K, float, float> &&
    detail::HasPacked<K, float, float, TableView> &&
    requires(const std::int8_t* model8, std::int32_t* out32, const float* model, float* out,
             const DenseRows& rows, const VectorRounding& rounding, std::int8_t* codes8, double* doubles,
             const GradientFrame& frame, const RowCodes& row, const RowLevels& levels, const RowStep& by,
             const std::int32_t* sums32, const Shrinkage& shrinkage, std::uint16_t* words16) {
  { K::name } -> std::convertible_to<const char*>;
  K::margins(rows, model, out);
  K::accumulate(rows, model, out);
  K::round_symmetric(model, Index{}, rounding, codes8);
  K::half_words(rounding.random, rounding.place, Index{}, words16);
  { K::largest(model, Index{}) } -> std::same_as<float>;
  { K::fold(model, model, out, Index{}) } -> std::same_as<float>;
  { K::unfold(model8, float{}, model, model, out, Index{}) } -> std::same_as<double>;
  { K::dot(model, model, Index{}) } -> std::same_as<double>;
  K::add_scaled(out32, float{}, out, Index{});
  K::add_to_doubles(model, doubles, Index{});
  K::scale_sums(sums32, float{}, float{}, out, Index{});
  { K::sum_codes(model8, Index{}) } -> std::same_as<std::int32_t>;
  K::shrink(shrinkage, out, Index{});
  { K::descend(frame, float{}, out, Index{}) } -> std::same_as<float>;
  K::decode_row(row, levels, Index{}, out, Index{});
  K::descend_row(by, out, Index{});
  { K::descend_to_row(by, out, model, Index{}) } -> std::same_as<float>;
};

namespace detail {

/// Bytes of codes, or of float32 rows, that one model after the other works on. Margins find them in the
/// first-level cache. Accumulation, which brings and takes away a gradient for each piece and model, finds
/// them in the second-level cache: 8 models of 4,096 columns and 2 bits in AVX-512 have 136, 173, 198, 215
/// values/ns with pieces of 16, 32, 64, 128 KB, and 195 to 200 alone.
inline constexpr Index margins_piece = 16 * 1024;
inline constexpr Index accumulate_piece = 128 * 1024;

/// Groups of a piece for several models. An even number: kernels take two of them at once.
inline Index groups_of_piece(Index bytes, Index bytes_of_a_group) {
  const Index fitting = bytes / (bytes_of_a_group > 0 ? bytes_of_a_group : 1) / 2 * 2;
  return fitting < 2 ? 2 : fitting;
}

/// work(view, groups, first of their rows), piece after piece.
template <class Work>
void for_each_piece(const PackedView& view, const PlaneList& planes, GroupRange groups, Index piece_bytes,
                    const Work& work) {
  Index bits = 0;
  for (int p = 0; p < planes.count; ++p) bits += planes[p].width;
  const Index most = groups_of_piece(piece_bytes, bits * view.width);
  for (Index done = 0; done < groups.count; done += most)
    work(view, {groups.first + done, groups.count - done < most ? groups.count - done : most},
         done * group_rows);
}

/// work(view, groups, m, first of their rows) for every model m, piece after piece. The first model of a
/// piece looks ahead for all of them.
template <class Work>
void for_each_model(const PackedView& view, const PlaneList& planes, GroupRange groups, int models,
                    Index piece_bytes, const Work& work) {
  if (models == 1) return work(view, groups, 0, Index{0});
  PackedView again = view;
  again.ahead = nullptr;
  for_each_piece(view, planes, groups, piece_bytes, [&](const PackedView& of, GroupRange piece, Index first) {
    for (int m = 0; m < models; ++m) work(m == 0 ? of : again, piece, m, first);
  });
}

/// The same for float32 rows: work(rows, m, first of them).
template <class Work>
void for_each_model(const DenseRows& rows, int models, Index piece_bytes, const Work& work) {
  if (models == 1) return work(rows, 0, Index{0});
  const Index most = group_rows * groups_of_piece(piece_bytes, group_rows * rows.cols * Index{sizeof(float)});
  DenseRows piece = rows;
  for (Index done = 0; done < rows.count; done += piece.count) {
    piece.values = rows.values + done * rows.stride;
    piece.count = rows.count - done < most ? rows.count - done : most;
    // A single row goes with those before it: alone, its sum would be formed in another order.
    if (rows.count - done - piece.count == 1) ++piece.count;
    for (int m = 0; m < models; ++m) {
      piece.ahead = m == 0 ? rows.ahead : nullptr;
      work(piece, m, done);
    }
  }
}

}  // namespace detail

/// The operations of a policy behind pointers. A call covers a batch, so that it costs nothing to call
/// through one, and what stands above the kernels is compiled once and not once per instruction set.
class KernelTable {
 public:
  /// Everything that the policy has.
  template <KernelPolicy K>
  explicit constexpr KernelTable(K policy) : KernelTable(policy, KernelSet<AnyCode>{}) {}

  /// A set of its kernels; other operations on packed codes throw Error.
  template <KernelPolicy K, class Codes, unsigned Families>
  constexpr KernelTable(K, KernelSet<Codes, Families>)
      : name(K::name),
        dense_margins_(K::margins),
        dense_accumulate_(K::accumulate),
        round_symmetric(K::round_symmetric),
        half_words(K::half_words),
        largest(K::largest),
        fold(K::fold),
        unfold(K::unfold),
        dot(K::dot),
        add_scaled(K::add_scaled),
        add_to_doubles(K::add_to_doubles),
        scale_sums(K::scale_sums),
        sum_codes(K::sum_codes),
        shrink(K::shrink),
        descend(K::descend),
        decode_row(K::decode_row),
        descend_row(K::descend_row),
        descend_to_row(K::descend_to_row) {
    constexpr auto has = [](unsigned families) { return (Families & families) != 0; };
    constexpr bool integers = has(kernel_families::packed_integers);
    constexpr bool floats = has(kernel_families::packed_floats);
    constexpr bool shared = has(kernel_families::shared_tables);
    constexpr bool tables = shared || has(kernel_families::column_tables);
    choose<K, Codes, integers>(margins8_, accumulate8_);
    if constexpr (integers) {
      block_margins8_ = detail::block_margins_of<K, Codes>();
      block_accumulate8_ = detail::block_accumulate_of<K, Codes>();
    }
    choose<K, Codes, shared>(code_margins_, code_accumulate_);
    choose<K, Codes, floats>(margins32_, accumulate32_);
    choose<K, Codes, tables>(table_margins_, table_accumulate_);
    if constexpr (has(kernel_families::gram))
      gram_ = detail::gram_of<K>();
    else
      gram_ = detail::not_compiled<const PackedView&, const PlaneList&, CodeTable, GroupRange, GramSums>;
  }

  const char* name;

  // Models, margins, residuals and gradients of a call are as many. The margins of model m are at out[m][i],
  // and are those of a call for it alone, bit for bit.

  void margins(const PackedView& view, const PlaneList& planes, GroupRange groups,
               ModelBlock<const std::int8_t> models, ModelBlock<std::int32_t> out) const {
    if (block_margins8_ != nullptr && models.count > 1)
      return detail::for_each_piece(view, planes, groups, detail::margins_piece,
                                    [&](const PackedView& of, GroupRange piece, Index first) {
                                      block_margins8_(of, planes, piece, models, at(out, first));
                                    });
    run_margins(margins8_, view, planes, groups, models, out);
  }
  void accumulate(const PackedView& view, const PlaneList& planes, GroupRange groups,
                  ModelBlock<const std::int8_t> residuals, ModelBlock<std::int32_t> gradients) const {
    if (block_accumulate8_ != nullptr && gradients.count > 1)
      return detail::for_each_piece(view, planes, groups, detail::accumulate_piece,
                                    [&](const PackedView& of, GroupRange piece, Index first) {
                                      block_accumulate8_(of, planes, piece, at(residuals, first), gradients);
                                    });
    run_accumulate(accumulate8_, view, planes, groups, residuals, gradients);
  }
  void margins(const PackedView& view, const PlaneList& planes, CodeTable table, GroupRange groups,
               ModelBlock<const std::int8_t> models, ModelBlock<std::int32_t> out) const {
    run_margins(code_margins_, view, planes, groups, models, out, table);
  }
  void accumulate(const PackedView& view, const PlaneList& planes, CodeTable table, GroupRange groups,
                  ModelBlock<const std::int8_t> residuals, ModelBlock<std::int32_t> gradients) const {
    run_accumulate(code_accumulate_, view, planes, groups, residuals, gradients, table);
  }
  void margins(const PackedView& view, const PlaneList& planes, GroupRange groups,
               ModelBlock<const float> models, ModelBlock<float> out) const {
    run_margins(margins32_, view, planes, groups, models, out);
  }
  void accumulate(const PackedView& view, const PlaneList& planes, GroupRange groups,
                  ModelBlock<const float> residuals, ModelBlock<float> gradients) const {
    run_accumulate(accumulate32_, view, planes, groups, residuals, gradients);
  }
  void margins(const PackedView& view, const PlaneList& planes, TableView table, GroupRange groups,
               ModelBlock<const float> models, ModelBlock<float> out) const {
    run_margins(table_margins_, view, planes, groups, models, out, table);
  }
  void accumulate(const PackedView& view, const PlaneList& planes, TableView table, GroupRange groups,
                  ModelBlock<const float> residuals, ModelBlock<float> gradients) const {
    run_accumulate(table_accumulate_, view, planes, groups, residuals, gradients, table);
  }
  void margins(const DenseRows& rows, ModelBlock<const float> models, ModelBlock<float> out) const {
    detail::for_each_model(rows, models.count, detail::margins_piece,
                           [&](const DenseRows& piece, int m, Index first) {
                             dense_margins_(piece, models[m], out[m] + first);
                           });
  }
  void accumulate(const DenseRows& rows, ModelBlock<const float> residuals,
                  ModelBlock<float> gradients) const {
    detail::for_each_model(rows, gradients.count, detail::accumulate_piece,
                           [&](const DenseRows& piece, int m, Index first) {
                             dense_accumulate_(piece, residuals[m] + first, gradients[m]);
                           });
  }
  /// Adds the products and sums of the columns, of codes or, where `table` has entries, of those: gram.hpp.
  void gram(const PackedView& view, const PlaneList& planes, CodeTable table, GroupRange groups,
            GramSums out) const {
    gram_(view, planes, table, groups, out);
  }

 private:
  /// An operation on packed codes, with a table or without.
  template <class X, class T, class... Table>
  using Packed = void (*)(const PackedView&, const PlaneList&, Table..., GroupRange, const X*, T*);

  /// The block from row `first` on.
  template <class T>
  static ModelBlock<T> at(ModelBlock<T> block, Index first) {
    return {block.data + first, block.stride, block.count};
  }

  template <class K, class Codes, bool Compiled, class... Args>
  static constexpr void choose(void (*&margins)(Args...), void (*&accumulate)(Args...)) {
    if constexpr (Compiled) {
      margins = detail::margins_of<K, Codes, Args...>();
      accumulate = detail::accumulate_of<K, Codes, Args...>();
    } else {
      margins = accumulate = detail::not_compiled<Args...>;
    }
  }

  template <class Kernel, class X, class T, class... Table>
  static void run_margins(Kernel kernel, const PackedView& view, const PlaneList& planes, GroupRange groups,
                          ModelBlock<const X> models, ModelBlock<T> out, Table... table) {
    detail::for_each_model(view, planes, groups, models.count, detail::margins_piece,
                           [&](const PackedView& of, GroupRange piece, int m, Index first) {
                             kernel(of, planes, table..., piece, models[m], out[m] + first);
                           });
  }
  template <class Kernel, class X, class T, class... Table>
  static void run_accumulate(Kernel kernel, const PackedView& view, const PlaneList& planes,
                             GroupRange groups, ModelBlock<const X> residuals, ModelBlock<T> gradients,
                             Table... table) {
    detail::for_each_model(view, planes, groups, gradients.count, detail::accumulate_piece,
                           [&](const PackedView& of, GroupRange piece, int m, Index first) {
                             kernel(of, planes, table..., piece, residuals[m] + first, gradients[m]);
                           });
  }

  Packed<std::int8_t, std::int32_t> margins8_ = nullptr;
  Packed<std::int8_t, std::int32_t> accumulate8_ = nullptr;
  detail::BlockKernel block_margins8_ = nullptr;  // where the policy has one
  detail::BlockKernel block_accumulate8_ = nullptr;
  Packed<std::int8_t, std::int32_t, CodeTable> code_margins_ = nullptr;
  Packed<std::int8_t, std::int32_t, CodeTable> code_accumulate_ = nullptr;
  Packed<float, float> margins32_ = nullptr;
  Packed<float, float> accumulate32_ = nullptr;
  Packed<float, float, TableView> table_margins_ = nullptr;
  Packed<float, float, TableView> table_accumulate_ = nullptr;
  void (*gram_)(const PackedView&, const PlaneList&, CodeTable, GroupRange, GramSums) = nullptr;
  void (*dense_margins_)(const DenseRows&, const float*, float*);
  void (*dense_accumulate_)(const DenseRows&, const float*, float*);

 public:
  void (*round_symmetric)(const float*, Index, const VectorRounding&, std::int8_t*);
  void (*half_words)(const Random&, const RandomPlace&, Index, std::uint16_t*);
  float (*largest)(const float*, Index);
  float (*fold)(const float*, const float*, float*, Index);
  double (*unfold)(const std::int8_t*, float, const float*, const float*, float*, Index);
  double (*dot)(const float*, const float*, Index);
  void (*add_scaled)(std::int32_t*, float, float*, Index);
  void (*add_to_doubles)(const float*, double*, Index);
  void (*scale_sums)(const std::int32_t*, float, float, float*, Index);
  std::int32_t (*sum_codes)(const std::int8_t*, Index);
  void (*shrink)(const Shrinkage&, float*, Index);
  float (*descend)(const GradientFrame&, float, float*, Index);
  void (*decode_row)(const RowCodes&, const RowLevels&, Index, float*, Index);
  void (*descend_row)(const RowStep&, float*, Index);
  float (*descend_to_row)(const RowStep&, float*, const float*, Index);
};

/// Where a store has its kernels from: kernels_of, or kernels_for a set of them (isa.hpp).
using KernelSource = KernelTable (*)(Isa);

}  // namespace zipml::inline ZIPML_ABI
