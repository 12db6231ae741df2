#pragma once
// Inference of a trained net's dense layers on packed weights: an output's weights are a sample of a packed store, inputs are a
// model of 8 bits, scores are margins of the library's integer kernels.

#include <cstdint>
#include <string>
#include <vector>
#include <zipml/base/buffer.hpp>
#include <zipml/kernels/kernel_policy.hpp>

#include "training.hpp"

namespace deep {

/// A dense layer in the fewest whole bits that its levels need: offset + step * entry of each code (level tables of a layer, not
/// of each channel).
class PackedDense {
 public:
  PackedDense(const Parameters<float>& parameters, const WeightLevels& levels,
              const zipml::KernelTable& kernels, zipml::Isa isa);

  Index outputs() const { return layout_.rows; }
  Index inputs() const { return layout_.cols; }
  int bits() const { return layout_.stored_bits; }
  double bytes() const { return static_cast<double>(layout_.bytes()); }
  /// out_k = bias_k + sum_j w_kj x_j, x rounded to the nearest of its int8 codes (7 bits with tables, as the kernels want) of one
  /// scale.
  void forward(const float* in, float* out);

 private:
  const zipml::KernelTable& kernels_;
  zipml::PlaneLayout layout_;
  zipml::PlaneList planes_;
  zipml::Buffer<std::uint8_t> codes_, entries_;
  bool has_table_;
  int largest_code_;
  float offset_, step_;
  std::vector<float> bias_;
  zipml::Buffer<float> in_;
  zipml::Buffer<std::int8_t> model_;
  zipml::Buffer<std::int32_t> sums_;
};

/// What packed weights cost and keep, of a net's dense layers.
struct PackedReport {
  bool ran = false;
  std::string isa;
  int bits = 0;
  double bytes = 0.0, float_bytes = 0.0;  // of the layers' weights
  double same_answers = 0.0;              // share of the test images
  double accuracy = 0.0, float_accuracy = 0.0;
  double us_packed = 0.0, us_eigen_one = 0.0,
         us_eigen = 0.0;  // an image: packed, Eigen one by one and 256 together
};

/// Runs the test images through a trained net, its dense layers packed and in Eigen.
PackedReport run_packed(QuantizedNet& trained, const Images& test);

}  // namespace deep
