#pragma once
// Training of a net whose weights are rounded while it learns: full-precision weights are kept, forward and backward use the
// rounded ones (Courbariaux, Bengio, David 2015), and levels are fitted anew as weights move.

#include <cstdint>
#include <memory>
#include <vector>

#include "images.hpp"
#include "net.hpp"
#include "weight_levels.hpp"

namespace deep {

struct TrainingOptions {
  bool dense = false;  // else convolutional
  int epochs = 10;
  Index batch = 64;
  double step = 0.02;
  double momentum = 0.9;
  double decay = 0.1;      // the step's, after 60 % and 85 % of the epochs
  int refit = 100;         // steps from one fit of the levels to the next
  int gradient_bits = 32;  // through the library's channel, with error feedback
  std::uint64_t seed = 1;
};

/// A net with the levels of its weights.
struct QuantizedNet {
  Net<float> net;
  std::vector<WeightLevels> levels;  // of each layer with weights; none in full precision
};

/// What came of a training.
struct Run {
  Quantizer quantizer;
  std::uint64_t seed = 1;
  std::vector<double> losses;      // mean training loss of each epoch
  std::vector<double> accuracies;  // on the test images, after each epoch
  double training_loss = 0.0;      // of the rounded net at the end
  double test_accuracy = 0.0;
  double seconds = 0.0;           // of training, without measuring
  double seconds_fitting = 0.0;   // of them, levels
  double seconds_rounding = 0.0;  // of them, weights
  bool diverged = false;
  std::shared_ptr<QuantizedNet> trained;

  double seconds_per_epoch() const {
    return losses.empty() ? 0.0 : seconds / static_cast<double>(losses.size());
  }
  double fitting_share() const { return seconds > 0.0 ? seconds_fitting / seconds : 0.0; }
};

/// Trains; the same bits for the same options and seed on one machine. A loss that is not finite ends it, `diverged`.
Run train_net(const ImageSet& set, const Quantizer& quantizer, const TrainingOptions& options);

/// Mean loss, and share of right answers, of a net's present weights.
struct Quality {
  double loss = 0.0, accuracy = 0.0;
};
Quality quality_of(Net<float>& net, const Images& images);

/// Several images as a net takes them.
void take_images(const Images& images, const std::vector<Index>& which, Matrix<float>& values,
                 std::vector<int>& labels);

}  // namespace deep
