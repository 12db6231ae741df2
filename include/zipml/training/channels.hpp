#pragma once
/// \file
/// Layer 6: the channels between model store and gradient device (ZipML 2017, section 2): how the model
/// travels to the device and the gradient back, each once per batch. Both are unbiased with stochastic
/// rounding, E Q(v) = v, which is all that model and gradient need: only samples appear twice in a gradient.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>

#include <zipml/error.hpp>
#include <zipml/kernels/kernel_policy.hpp>
#include <zipml/storage/quantized_vector.hpp>
#include <zipml/vector_math.hpp>

namespace zipml::inline ZIPML_ABI {

/// What a channel's scale is: the levels reach from -scale to scale.
enum class ChannelScaling {
  max,    ///< the largest magnitude of the vector
  norm,   ///< its 2-norm, with as many levels: E |Q(v) - v|^2 <= min(n / (4 s^2), sqrt(n) / s) |v|^2 for s
          ///< levels on a side
  block,  ///< the largest magnitude of each block of entries
};

/// How a vector travels: in 2^bits - 1 levels, symmetric about 0, one of them (2 levels at 1 bit), and a
/// float32 scale for all of them or for each block.
///
///     zipml::FitOptions{.model = {8}, .gradient = {.bits = 4, .scaling = zipml::ChannelScaling::block}}
struct Channel {
  int bits = 32;  ///< 1 to 8; 32: as it is
  ChannelScaling scaling = ChannelScaling::max;
  bool nearest = false;  ///< instead of stochastic rounding: deterministic, biased
  Index block = 256;     ///< entries of a block, a multiple of 8
  /// What rounding has lost is added to the next vector: what a gradient misses, the next one brings. Rounds
  /// to the nearest level, for then less is lost than sent; what stochastic rounding loses at few bits grows
  /// from vector to vector (2 bits: training diverges).
  bool error_feedback = false;

  bool rounds() const { return bits != 32; }
  /// Throws Error when a member is out of range.
  void check(const char* name) const {
    if (bits != 32 && (bits < 1 || bits > 8))
      throw Error(std::string("the ") + name + " channel has no such width", "1 to 8 bits, or 32",
                  std::to_string(bits));
    if (scaling == ChannelScaling::block && (block < 8 || block % 8 != 0))
      throw Error(std::string("the blocks of the ") + name + " channel have no such size", "a multiple of 8",
                  std::to_string(block));
  }
};

/// The channels of a fit, independent of each other and of how samples are stored.
struct Channels {
  /// Max scaling and stochastic rounding are what the integer kernels multiply, where samples have uniform or
  /// shared levels; everything else is rounded to float32 values and multiplied in float32.
  Channel model = {};
  Channel gradient = {};
};

/// What has moved through a channel.
struct Traffic {
  double payload_bytes = 0.0;
  double scale_bytes = 0.0;

  double bytes() const { return payload_bytes + scale_bytes; }
};

/// One end of a channel and the other: what is sent and what arrives.
class VectorChannel {
 public:
  /// For vectors of d entries, padded to model_padding, with random numbers of `stream`. Throws Error for a
  /// channel out of range.
  VectorChannel(const Channel& channel, const char* name, Index d, Random random, Stream stream)
      : channel_(channel), d_(d), random_(random), stream_(stream) {
    channel.check(name);
    if (!channel.rounds()) return;
    codes_ = Buffer<std::int8_t>(padded(d));
    if (channel.error_feedback) missing_ = Buffer<float>(padded(d));
  }

  bool rounds() const { return channel_.rounds(); }
  const Traffic& traffic() const { return traffic_; }

  /// Counts a vector that travels.
  void count() {
    traffic_.payload_bytes += static_cast<double>(d_) * channel_.bits / 8.0;
    if (rounds()) traffic_.scale_bytes += 4.0 * static_cast<double>(blocks());
  }

  /// Replaces v by what arrives of it. `row` counts the vectors that have been sent: the row of the random
  /// numbers. O(d).
  void send(const KernelTable& kernels, std::uint64_t row, float* v) {
    count();
    if (!rounds()) return;
    if (!missing_.empty())
      for (Index j = 0; j < d_; ++j) v[j] += missing_[j];
    if (!missing_.empty()) std::copy_n(v, d_, missing_.data());
    const Index size = channel_.scaling == ChannelScaling::block ? channel_.block : d_;
    for (Index first = 0; first < d_; first += size)
      round(kernels, row, first, std::min(size, d_ - first), v + first);
    if (!missing_.empty())
      for (Index j = 0; j < d_; ++j) missing_[j] -= v[j];
  }

 private:
  Index blocks() const {
    return channel_.scaling == ChannelScaling::block ? (d_ + channel_.block - 1) / channel_.block : 1;
  }

  void round(const KernelTable& kernels, std::uint64_t row, Index first, Index count, float* v) {
    const int levels = symmetric_levels(channel_.bits);
    float reach = detail::max_abs(v, count);
    if (channel_.scaling == ChannelScaling::norm) {
      double squares = 0.0;
      for (Index j = 0; j < count; ++j)
        squares += pinned(static_cast<double>(v[j]) * static_cast<double>(v[j]));
      reach = std::max(reach, static_cast<float>(std::sqrt(squares)));
    }
    const float scale = reach / static_cast<float>(levels);
    if (!(scale > 0.0f)) {  // nothing, or too small for a scale
      std::fill_n(v, count, 0.0f);
      return;
    }
    std::int8_t* codes = codes_.data();
    if (!channel_.nearest && !channel_.error_feedback) {
      kernels.round_symmetric(v, count,
                              {random_, {stream_, row, 0, first}, scale, levels, channel_.bits == 1}, codes);
    } else {
      for (Index j = 0; j < count; ++j)
        codes[j] = static_cast<std::int8_t>(channel_.bits == 1 ? (v[j] < 0.0f ? -1.0f : 1.0f)
                                                               : std::round(v[j] / scale));
    }
    for (Index j = 0; j < count; ++j) v[j] = scale * static_cast<float>(codes[j]);
  }

  Channel channel_;
  Index d_;
  Random random_;
  Stream stream_;
  Buffer<std::int8_t> codes_;
  Buffer<float> missing_;  // error feedback
  Traffic traffic_;
};

}  // namespace zipml::inline ZIPML_ABI
