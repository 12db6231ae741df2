#include "training.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <memory>
#include <zipml/zipml.hpp>

namespace deep {

namespace {

using Clock = std::chrono::steady_clock;
double since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

/// Gradients of the weights through the library's channel, each layer's for itself.
class Channels {
 public:
  Channels(Net<float>& net, const TrainingOptions& options)
      : kernels_(zipml::kernels_of(zipml::active_isa())) {
    if (options.gradient_bits == 32) return;
    for (const Parameters<float>* p : net.parameters()) {
      const Index size = p->gradient.size();
      encoders_.push_back(std::make_unique<zipml::ChannelEncoder>(
          zipml::Channel{.bits = options.gradient_bits, .error_feedback = true}, size,
          zipml::Random(options.seed + encoders_.size()), zipml::Stream::gradient));
      buffers_.emplace_back(zipml::round_up(size, zipml::model_padding));
    }
  }
  void send(std::size_t layer, std::uint64_t step, Weights& gradient) {
    if (encoders_.empty()) return;
    zipml::Buffer<float>& buffer = buffers_[layer];
    std::copy(gradient.data(), gradient.data() + gradient.size(), buffer.begin());
    encoders_[layer]->send(kernels_, step, buffer.data());
    std::copy(buffer.begin(), buffer.begin() + gradient.size(), gradient.data());
  }

 private:
  zipml::KernelTable kernels_;
  std::vector<std::unique_ptr<zipml::ChannelEncoder>> encoders_;
  std::vector<zipml::Buffer<float>> buffers_;
};

}  // namespace

void take_images(const Images& images, const std::vector<Index>& which, Matrix<float>& values,
                 std::vector<int>& labels) {
  const auto count = static_cast<Index>(which.size());
  values.resize(images.shape.channels, images.shape.pixels() * count);
  labels.resize(which.size());
  for (Index i = 0; i < count; ++i) {
    const Index from = which[static_cast<std::size_t>(i)];
    std::copy_n(images.values.col(from).data(), images.shape.size(), values.data() + i * images.shape.size());
    labels[static_cast<std::size_t>(i)] = images.labels[static_cast<std::size_t>(from)];
  }
}

Quality quality_of(Net<float>& net, const Images& images) {
  constexpr Index together = 256;
  Quality quality;
  Matrix<float> values;
  std::vector<int> labels;
  std::vector<Index> which;
  for (Index first = 0; first < images.count(); first += together) {
    which.clear();
    for (Index i = first; i < std::min(first + together, images.count()); ++i) which.push_back(i);
    take_images(images, which, values, labels);
    const Matrix<float>& scores = net.scores(values);
    for (Index i = 0; i < scores.cols(); ++i) {
      Index best = 0;
      const float largest = scores.col(i).maxCoeff(&best);
      const int label = labels[static_cast<std::size_t>(i)];
      quality.accuracy += best == label ? 1.0 : 0.0;
      quality.loss += std::log(static_cast<double>((scores.col(i).array() - largest).exp().sum())) +
                      static_cast<double>(largest - scores(label, i));
    }
  }
  quality.loss /= static_cast<double>(images.count());
  quality.accuracy /= static_cast<double>(images.count());
  return quality;
}

Run train_net(const ImageSet& set, const Quantizer& quantizer, const TrainingOptions& options) {
  Run run;
  run.quantizer = quantizer;
  run.seed = options.seed;
  run.trained = std::make_shared<QuantizedNet>();
  Net<float>& net = run.trained->net;
  net = options.dense ? dense_net<float>(set.train.shape, set.classes, options.seed)
                      : convolutional_net<float>(set.train.shape, set.classes, options.seed);
  const std::vector<Parameters<float>*> parameters = net.parameters();
  std::vector<WeightLevels>& levels = run.trained->levels;
  if (quantizer.spacing != Spacing::none)
    for (std::size_t k = 0; k < parameters.size(); ++k)
      levels.emplace_back(quantizer, options.seed, static_cast<std::uint32_t>(k));
  Channels channels(net, options);

  const auto fit = [&](bool anew) {
    const auto start = Clock::now();
    for (std::size_t k = 0; k < levels.size(); ++k) levels[k].fit(parameters[k]->value, anew);
    run.seconds_fitting += since(start);
  };
  const auto round = [&](std::uint64_t step) {
    const auto start = Clock::now();
    for (std::size_t k = 0; k < parameters.size(); ++k)
      if (levels.empty())
        parameters[k]->used = parameters[k]->value;
      else
        levels[k].round(parameters[k]->value, step, parameters[k]->used);
    run.seconds_rounding += levels.empty() ? 0.0 : since(start);
  };

  const Index count = set.train.count();
  Matrix<float> values;
  std::vector<int> labels;
  std::vector<Index> which;
  std::uint64_t step = 0;
  for (int epoch = 0; epoch < options.epochs && !run.diverged; ++epoch) {
    const auto start = Clock::now();
    const zipml::Permutation order(options.seed, count, zipml::Stream::batch_order,
                                   static_cast<std::uint32_t>(epoch));
    const double progress = static_cast<double>(epoch) / options.epochs;
    const double decay = progress < 0.6    ? 1.0
                         : progress < 0.85 ? options.decay
                                           : options.decay * options.decay;
    const auto length = static_cast<float>(options.step * decay);
    const auto momentum = static_cast<float>(options.momentum);
    double loss = 0.0;
    for (Index first = 0; first < count && !run.diverged; first += options.batch, ++step) {
      which.clear();
      for (Index i = first; i < std::min(first + options.batch, count); ++i) which.push_back(order(i));
      take_images(set.train, which, values, labels);
      // Levels are those of the end of the epoch before; what is clipped is not looked at before a net is judged, for it has
      // to learn to live with that.
      if (first == 0 && (epoch == 0 || quantizer.clips()))
        fit(true);
      else if (step % static_cast<std::uint64_t>(options.refit) == 0)
        fit(false);
      round(step);
      const double of_batch = net.loss_and_gradients(values, labels);
      loss += of_batch * static_cast<double>(which.size());
      for (std::size_t k = 0; k < parameters.size(); ++k) {
        Parameters<float>& p = *parameters[k];
        channels.send(k, step, p.gradient);
        p.velocity = momentum * p.velocity - length * p.gradient;
        p.bias_velocity = momentum * p.bias_velocity - length * p.bias_gradient;
        p.value += p.velocity;
        p.bias += p.bias_velocity;
        run.diverged = run.diverged || !p.value.allFinite();
      }
      run.diverged = run.diverged || !std::isfinite(of_batch);
    }
    run.losses.push_back(loss / static_cast<double>(count));
    if (!run.diverged) {
      fit(false);
      round(step);
    }
    run.seconds += since(start);
    run.accuracies.push_back(run.diverged ? 0.0 : quality_of(net, set.test).accuracy);
  }
  if (!run.diverged) {
    run.training_loss = quality_of(net, set.train).loss;
    run.test_accuracy = run.accuracies.back();
  }
  net.release();
  return run;
}

}  // namespace deep
