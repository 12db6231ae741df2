#pragma once
/// \file
/// Room training: the channels between model store and gradient device (ZipML 2017, section 2): how the model
/// travels to the device and the gradient back, each once per batch. Both are unbiased with stochastic
/// rounding, E Q(v) = v, which is all that model and gradient need: only samples appear twice in a gradient.

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <string>

#include <zipml/base/buffer.hpp>
#include <zipml/base/error.hpp>
#include <zipml/base/rounded.hpp>
#include <zipml/base/vector_math.hpp>
#include <zipml/kernels/kernel_policy.hpp>
#include <zipml/packing/fitted_levels.hpp>
#include <zipml/quantization/quantized_vector.hpp>

namespace zipml::inline ZIPML_ABI {

/// The scale of a channel: its levels reach from -scale to scale.
enum class ChannelScaling {
  max,    ///< the largest magnitude of the vector
  norm,   ///< its 2-norm, with as many levels: E |Q(v) - v|^2 <= min(n / (4 s^2), sqrt(n) / s) |v|^2 for s
          ///< levels on a side
  block,  ///< the largest magnitude of each block of entries
};

/// Where the levels of a channel lie between -scale and scale.
enum class ChannelLevels {
  uniform,  ///< 2^bits - 1 of them, symmetric, one of them 0; 2 at 1 bit
  optimal,  ///< 2^bits of them, where stochastic rounding has the least variance on the vectors that travel
            ///< (find_levels_of), fitted anew every `refit` vectors and sent along; equally spaced where a
            ///< vector has fewer than 8 entries for a level
};

/// How a vector travels: a code for each entry, a float32 scale for all of them or for each block, and now
/// and then a table of levels.
///
///     zipml::FitOptions{.model = {8}, .gradient = {.bits = 4, .scaling = zipml::ChannelScaling::block}}
struct Channel {
  int bits = 32;  ///< 1 to 8; 32: as it is
  ChannelScaling scaling = ChannelScaling::max;
  bool nearest = false;  ///< instead of stochastic rounding: deterministic, biased
  Index block = 256;     ///< entries of a block, a multiple of 8
  /// The next message makes up for what rounding has lost: the loss of a gradient is added to the next
  /// gradient (Seide et al. 2014); of a model, its distance from what the device has is sent (Richtarik et
  /// al. 2021), which gets small as the model comes to rest. Rounds to the nearest level, for then less is
  /// lost than sent; what stochastic rounding loses at few bits grows from vector to vector (2 bits: training
  /// diverges).
  bool error_feedback = false;
  ChannelLevels levels = ChannelLevels::uniform;
  int refit = 64;  ///< vectors between two fits of optimal levels

  bool rounds() const { return bits != 32; }
  bool is_stochastic() const { return rounds() && !nearest && !error_feedback; }
  /// Entries that share a scale, of d.
  Index scaled_together(Index d) const { return scaling == ChannelScaling::block ? (std::min)(block, d) : d; }

  /// Throws Error when a member is out of range, or members do not go together.
  void check(const char* name) const;

  /// E |Q(v) - v|^2 / |v|^2, about, of stochastic rounding for v ~ N(0, I_d): Delta^2 / 6 for levels Delta
  /// standard deviations apart, E |v| Delta - 1 where they are further apart than values go. Optimal levels
  /// have less.
  double relative_variance(Index d) const;
};

/// The channels of a fit, independent of each other and of how samples are stored.
struct Channels {
  /// Where samples have uniform or shared levels, the device multiplies integers. Those are the codes of the
  /// channel itself with max scaling, uniform levels and stochastic rounding; what arrives through any other
  /// channel is rounded to 8 bits there, unbiased and independently. Elsewhere it is multiplied in float32.
  Channel model = {};
  Channel gradient = {};
};

/// Bytes that have moved through a channel.
struct Traffic {
  double payload_bytes = 0.0;
  double scale_bytes = 0.0;

  double bytes() const { return payload_bytes + scale_bytes; }
};

/// A vector on its way, as it would travel between machines: a code for each entry, a scale for all of them
/// or for each block, and the table of levels where they are fitted. Empty codes: the values themselves.
struct Message {
  Buffer<std::int8_t> codes;  ///< d, padded; of fitted levels the index in the table
  Buffer<float> scales;
  Buffer<float> table;   ///< 2^bits levels in [-1, 1], or empty: uniform
  Buffer<float> values;  ///< d, padded, where nothing was rounded

  bool rounded() const { return values.empty(); }
};

/// The receiving end of a channel: makes of each message, in their order, the bits that ChannelEncoder::send
/// has left.
class ChannelDecoder {
 public:
  /// For vectors of d entries; `stream` says what travels, the model or gradients.
  ChannelDecoder(const Channel& channel, Index d, Stream stream) : channel_(channel), d_(d) {
    if (channel.error_feedback && stream == Stream::model) kept_ = Buffer<float>(padded(d));
  }

  /// Writes what arrives (d entries). O(d).
  void receive(const Message& message, float* out);

  /// Writes the values of the codes of a message, blocks of `size` entries with a scale each.
  static void write(const Message& message, Index size, Index d, float* out);

 private:
  Channel channel_;
  Index d_;
  Buffer<float> kept_;  // the model, to which differences are added
};

/// The sending end of a channel.
class ChannelEncoder {
 public:
  /// For vectors of d entries, padded to model_padding, with random numbers of `stream`, which also says what
  /// travels: the model, or gradients. Throws Error for a channel out of range.
  ChannelEncoder(const Channel& channel, Index d, Random random, Stream stream);

  bool rounds() const { return channel_.rounds(); }
  int bits() const { return channel_.bits; }
  bool has_uniform_levels() const { return table_.empty(); }
  /// Entries that share a scale, of d.
  Index scaled_together(Index d) const { return channel_.scaled_together(d); }
  /// The other end of the channel.
  ChannelDecoder decoder() const { return {channel_, d_, stream_}; }
  const Traffic& traffic() const { return traffic_; }

  /// Counts vectors that travel in codes made elsewhere, or as they are.
  void count(Index vectors = 1);

  /// Replaces v by what arrives of it and returns the message that brings it there, valid until the next one.
  /// `row` counts the vectors that have been sent: the row of the random numbers. Of a channel of 32 bits the
  /// message is empty: v itself travels. O(d), and a search for optimal levels where they are fitted.
  const Message& send(const KernelTable& kernels, std::uint64_t row, float* v) {
    (void)begin(kernels, v);
    return finish(kernels, row, v);
  }

  /// The two halves of send(), for workers whose codes are added up as integers: between them the scales, which the first one
  /// returns, may be replaced by larger ones, those of all workers. Infinite where v is not finite: v then travels as it is. For
  /// channels that round, of uniform levels; with others the scales are those of this worker alone.
  std::span<float> begin(const KernelTable& kernels, float* v);
  const Message& finish(const KernelTable& kernels, std::uint64_t row, float* v);

 private:
  void round(const KernelTable& kernels, std::uint64_t row, float* v);

  float reach_of(const KernelTable& kernels, const float* v, Index count) const;

  /// Returns the scale of the codes.
  float round_uniform(const KernelTable& kernels, std::uint64_t row, Index first, Index count, float reach,
                      const float* v);

  /// Fits the table to the entries over their scales. Its ends are -1 and 1, so that it serves the vectors to
  /// come: rounding is unbiased with any table that reaches as far as the values do. With fewer than 8
  /// entries for a level it would fit this vector and no other: levels are uniform then. They are uniform as
  /// well while vectors have fewer values than levels, as the first model has, which is 0.
  void fit(const float* v);

  /// The same random numbers as round_symmetric's: half a word for each entry.
  void round_to_table(std::uint64_t row, Index first, Index count, float reach, const float* v);

  Channel channel_;
  Index d_;
  Random random_;
  Stream stream_;
  Message message_;
  Buffer<float> table_;       // optimal levels
  Buffer<float> normalised_;  // what they are fitted to
  Buffer<float> kept_;        // error feedback
  bool fitted_ = false;       // the table, to a vector
  Index sent_ = 0;
  Traffic traffic_;
};

#if ZIPML_DEFINES

ZIPML_FUNCTION void Channel::check(const char* name) const {
  const std::string channel = std::string(name) + " channel";
  if (bits != 32 && (bits < 1 || bits > 8))
    throw Error("the " + channel + " has no such width", "1 to 8 bits, or 32", std::to_string(bits));
  if (scaling == ChannelScaling::block && (block < 8 || block % 8 != 0))
    throw Error("the blocks of the " + channel + " have no such size", "a multiple of 8",
                std::to_string(block));
  if (refit < 1)
    throw Error("the " + channel + " fits its levels every so many vectors", "at least 1",
                std::to_string(refit));
  if (!rounds() && (nearest || error_feedback || levels != ChannelLevels::uniform))
    throw Error("the " + channel + " has 32 bits and nothing to round", "1 to 8 bits",
                error_feedback ? "error feedback"
                : nearest      ? "nearest rounding"
                               : "optimal levels");
  if (scaling == ChannelScaling::norm && !is_stochastic() && rounds())
    throw Error("with a scale by the norm, nearest rounding makes nothing of most vectors",
                "a " + channel + " with max or block scaling, or stochastic",
                error_feedback ? "error feedback, which rounds to nearest" : "nearest rounding");
  if (levels == ChannelLevels::optimal && !is_stochastic())
    throw Error("optimal levels are those of stochastic rounding",
                "a " + channel + " with uniform levels, or stochastic",
                error_feedback ? "error feedback, which rounds to nearest" : "nearest rounding");
}

ZIPML_FUNCTION double Channel::relative_variance(Index d) const {
  if (!is_stochastic()) return 0.0;
  // The largest of n normal entries is near sqrt(2 ln n).
  const auto digits = std::bit_width(static_cast<std::uint64_t>(scaled_together(d)));
  const double reach = scaling == ChannelScaling::norm ? std::sqrt(static_cast<double>(d))
                                                       : std::sqrt(1.386 * static_cast<double>(digits));
  if (bits == 1) return (std::max)(0.0, reach * reach - 1.0);
  const double apart = reach / symmetric_levels(bits);
  return apart < 3.0 ? apart * apart / 6.0 : 0.8 * apart - 1.0;
}

ZIPML_FUNCTION void ChannelDecoder::receive(const Message& message, float* out) {
  if (message.rounded())
    write(message, channel_.scaled_together(d_), d_, out);
  else
    std::copy_n(message.values.data(), d_, out);
  if (!kept_.empty())
    for (Index j = 0; j < d_; ++j) out[j] = kept_[j] += out[j];
}

ZIPML_FUNCTION void ChannelDecoder::write(const Message& message, Index size, Index d, float* out) {
  for (Index k = 0; k < message.scales.size(); ++k) {
    const Index end = (std::min)(k * size + size, d);
    const float scale = message.scales[k];
    if (message.table.empty())
      for (Index j = k * size; j < end; ++j) out[j] = scale * static_cast<float>(message.codes[j]);
    else
      for (Index j = k * size; j < end; ++j)
        out[j] = scale * message.table[static_cast<std::uint8_t>(message.codes[j])];
  }
}

ZIPML_FUNCTION ChannelEncoder::ChannelEncoder(const Channel& channel, Index d, Random random, Stream stream)
    : channel_(channel), d_(d), random_(random), stream_(stream) {
  channel.check(stream == Stream::model ? "model" : "gradient");
  if (!channel.rounds()) return;
  const Index together = std::max<Index>(1, channel.scaled_together(d));
  message_.scales = Buffer<float>((d + together - 1) / together);
  if (channel.levels == ChannelLevels::optimal) {
    table_ = Buffer<float>(Index{1} << channel.bits);
    normalised_ = Buffer<float>(d);
  }
  message_.codes = Buffer<std::int8_t>(padded(d));
  if (channel.error_feedback) kept_ = Buffer<float>(padded(d));
}

ZIPML_FUNCTION void ChannelEncoder::count(Index vectors) {
  const auto times = static_cast<double>(vectors);
  traffic_.payload_bytes += times * static_cast<double>(d_) * channel_.bits / 8.0;
  traffic_.scale_bytes += times * 4.0 * static_cast<double>(message_.scales.size());
  sent_ += vectors;
}

ZIPML_FUNCTION std::span<float> ChannelEncoder::begin(const KernelTable& kernels, float* v) {
  if (!rounds()) return {};
  // Fed back: the distance from the model that the device has, or the part of the gradients that has not arrived.
  if (channel_.error_feedback && stream_ == Stream::model)
    for (Index j = 0; j < d_; ++j) v[j] -= kept_[j];
  else if (channel_.error_feedback)
    for (Index j = 0; j < d_; ++j) kept_[j] = v[j] += kept_[j];
  Buffer<float>& scales = message_.scales;
  const Index size = channel_.scaled_together(d_);
  const bool finite = kernels.largest(v, d_) <= (std::numeric_limits<float>::max)();
  for (Index k = 0; k < scales.size(); ++k)
    scales[k] = finite ? reach_of(kernels, v + k * size, (std::min)(size, d_ - k * size))
                       : std::numeric_limits<float>::infinity();
  return scales.span();
}

ZIPML_FUNCTION const Message& ChannelEncoder::finish(const KernelTable& kernels, std::uint64_t row,
                                                     float* v) {
  if (rounds()) round(kernels, row, v);
  if (channel_.error_feedback && stream_ == Stream::model)
    for (Index j = 0; j < d_; ++j) v[j] = kept_[j] += v[j];
  else if (channel_.error_feedback)
    for (Index j = 0; j < d_; ++j) kept_[j] -= v[j];
  count();
  return message_;
}

ZIPML_FUNCTION void ChannelEncoder::round(const KernelTable& kernels, std::uint64_t row, float* v) {
  Buffer<float>& scales = message_.scales;
  // Non-finite vectors are sent unrounded; the receiver detects divergence.
  if (!detail::all_finite(scales.data(), scales.size())) {
    message_.values = Buffer<float>(padded(d_));
    std::copy_n(v, d_, message_.values.data());
    return;
  }
  if (!message_.rounded()) message_.values = Buffer<float>();
  const Index size = channel_.scaled_together(d_);
  if (!table_.empty() && (sent_ % channel_.refit == 0 || !fitted_)) fit(v);
  for (Index k = 0; k < scales.size(); ++k) {
    const Index first = k * size, count = (std::min)(size, d_ - first);
    if (!fitted_)
      scales[k] = round_uniform(kernels, row, first, count, scales[k], v + first);
    else
      round_to_table(row, first, count, scales[k], v + first);
  }
  ChannelDecoder::write(message_, size, d_, v);
}

ZIPML_FUNCTION float ChannelEncoder::reach_of(const KernelTable& kernels, const float* v, Index count) const {
  const float largest = kernels.largest(v, count);
  if (channel_.bits == 1 && !channel_.is_stochastic()) {  // nearest to v is sign(v) times its mean magnitude
    double sum = 0.0;
    for (Index j = 0; j < count; ++j) sum += static_cast<double>(std::fabs(v[j]));
    return static_cast<float>(sum / static_cast<double>(count));
  }
  if (channel_.scaling != ChannelScaling::norm && !channel_.error_feedback) return largest;
  double squares = 0.0;
  if (channel_.error_feedback && count == d_) {  // overflow does no harm: the largest magnitude is less
    squares = kernels.dot(v, v, padded(d_));
  } else {
    for (Index j = 0; j < count; ++j)
      squares += pinned(static_cast<double>(v[j]) * static_cast<double>(v[j]));
  }
  if (channel_.scaling == ChannelScaling::norm)
    return (std::max)(largest, static_cast<float>(std::sqrt(squares)));
  // What lies beyond the levels is fed back as well: they reach as far as loses least in the mean of a
  // normal vector, in standard deviations (Max 1960, table II, continued).
  constexpr double reach[] = {1.224, 1.953, 2.474, 2.899, 3.27, 3.607, 3.922};
  const double deviation = std::sqrt(squares / static_cast<double>(count));
  return (std::min)(largest, static_cast<float>(reach[channel_.bits - 2] * deviation));
}

ZIPML_FUNCTION float ChannelEncoder::round_uniform(const KernelTable& kernels, std::uint64_t row, Index first,
                                                   Index count, float reach, const float* v) {
  const int levels = symmetric_levels(channel_.bits);
  const float scale = reach / static_cast<float>(levels);
  std::int8_t* codes = message_.codes.data() + first;
  if (!(scale > 0.0f)) {  // nothing, or too small for a scale
    std::fill_n(codes, count, std::int8_t{0});
    return 0.0f;
  }
  const VectorRounding how{.random = random_,
                           .place = {stream_, row, 0, first},
                           .scale = scale,
                           .levels = levels,
                           .two_level = channel_.bits == 1,
                           .nearest = !channel_.is_stochastic()};
  kernels.round_symmetric(v, count, how, codes);
  return scale;
}

ZIPML_FUNCTION void ChannelEncoder::fit(const float* v) {
  const Index size = channel_.scaled_together(d_);
  fitted_ = false;
  message_.table = Buffer<float>();
  if (d_ < 8 * table_.size()) return;
  for (Index j = 0; j < d_; ++j)
    normalised_[j] = message_.scales[j / size] > 0.0f ? v[j] / message_.scales[j / size] : 0.0f;
  const FoundLevels found = find_levels_of(std::as_const(normalised_).span(), table_.size());
  fitted_ = static_cast<Index>(found.levels.size()) == table_.size();
  if (!fitted_) return;
  detail::fill_table(found, table_.span());
  table_[0] = -1.0f;
  table_[table_.size() - 1] = 1.0f;
  message_.table = table_;
  traffic_.scale_bytes += static_cast<double>(table_.bytes());
}

ZIPML_FUNCTION void ChannelEncoder::round_to_table(std::uint64_t row, Index first, Index count, float reach,
                                                   const float* v) {
  std::int8_t* codes = message_.codes.data() + first;
  if (!(reach > 0.0f)) {
    std::fill_n(codes, count, std::int8_t{0});
    return;
  }
  PhiloxWords words{};
  for (Index j = 0; j < count; ++j) {
    if (j % 8 == 0) words = random_.words(stream_, 0, static_cast<std::uint32_t>((first + j) / 8), row);
    const std::uint32_t random = words[static_cast<std::size_t>(j % 8 / 2)] >> (16 * (j % 2)) & 0xffffu;
    const float t = std::clamp(v[j] / reach, -1.0f, 1.0f);
    const float* const above = std::upper_bound(table_.begin() + 1, table_.end() - 1, t);
    const float low = above[-1], high = *above;
    const float fraction = high > low ? (t - low) / (high - low) : 0.0f;
    const bool up = static_cast<float>(random) < std::floor(fraction * 65536.0f + 0.5f);
    codes[j] = static_cast<std::int8_t>(above - table_.begin() - (up ? 0 : 1));
  }
}

#endif

}  // namespace zipml::inline ZIPML_ABI
