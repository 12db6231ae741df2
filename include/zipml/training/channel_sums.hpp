#pragma once
/// \file
/// Room training: vectors of several workers, added up through a channel of few bits.

#include <algorithm>
#include <cstdint>
#include <span>

#include <zipml/base/buffer.hpp>
#include <zipml/base/random.hpp>
#include <zipml/base/vector_math.hpp>
#include <zipml/kernels/kernel_policy.hpp>
#include <zipml/training/channels.hpp>
#include <zipml/training/reducer.hpp>

namespace zipml::inline ZIPML_ABI {

/// Random numbers of the channels of a worker: errors of rounding that all of them had alike would not average out. Of worker 0
/// those of the seed itself.
Random worker_random(std::uint64_t seed, const Reducer* reducer);

/// Adds up over the workers what a channel that rounds brings of each worker's vector: codes of one agreed scale as integers, or messages
/// of which each has its own. v is replaced by the sum; `row` as in ChannelEncoder::send.
void sum_through_channel(Reducer& reducer, const KernelTable& kernels, ChannelEncoder& channel,
                         std::uint64_t row, Index d, float* v);

#if ZIPML_DEFINES

ZIPML_FUNCTION Random worker_random(std::uint64_t seed, const Reducer* reducer) {
  const Random random(seed);
  if (reducer == nullptr || reducer->rank() == 0) return random;
  const auto rank = static_cast<std::uint64_t>(reducer->rank());
  const PhiloxWords words = random.words(Stream::gradient, 0xFFFFFFu, 0, rank);  // no model has this index
  return Random(std::uint64_t{words[0]} << 32 | words[1]);
}

ZIPML_FUNCTION void sum_through_channel(Reducer& reducer, const KernelTable& kernels, ChannelEncoder& channel,
                                        std::uint64_t row, Index d, float* v) {
  const std::span<float> scales = channel.begin(kernels, v);
  if (channel.has_uniform_levels()) reducer.largest(scales);
  const bool one_scale =
      channel.has_uniform_levels() && detail::all_finite(scales.data(), static_cast<Index>(scales.size()));
  const Message& message = channel.finish(kernels, row, v);
  if (one_scale) {
    Buffer<std::int32_t> sums(d);
    const auto count = static_cast<std::size_t>(d);
    reducer.sum_codes({message.codes.data(), count}, channel.bits(), {sums.data(), count});
    const Index size = channel.scaled_together(d);
    for (Index k = 0; k < message.scales.size(); ++k)
      for (Index j = k * size; j < (std::min)(k * size + size, d); ++j)
        v[j] = message.scales[k] * static_cast<float>(sums[j]);
    return;
  }
  Buffer<float> received(padded(d));
  std::fill_n(v, d, 0.0f);
  ChannelDecoder decoder = channel.decoder();  // gradients leave nothing behind in it
  for (const Message& of : reducer.gather(message)) {
    decoder.receive(of, received.data());
    for (Index j = 0; j < d; ++j) v[j] += received[j];
  }
}

#endif

}  // namespace zipml::inline ZIPML_ABI
