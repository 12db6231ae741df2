// The parts of examples/deep_learning: gradients, quantizers, training, packed weights, files.

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <zipml/zipml.hpp>

#include "../../examples/deep_learning/study.hpp"
#include "catch.hpp"
#include "folder.hpp"
#include "message.hpp"

using namespace deep;

namespace {

std::vector<float> normal_weights(Index count, std::uint64_t seed) {
  std::vector<float> weights;
  const zipml::Random random(seed);
  for (Index i = 0; static_cast<Index>(weights.size()) < count; ++i)
    for (const double z :
         zipml::normals(random.words(zipml::Stream::generated, 0, 0, static_cast<std::uint64_t>(i))))
      if (static_cast<Index>(weights.size()) < count) weights.push_back(static_cast<float>(0.1 * z));
  return weights;
}

double squared_error(const std::vector<float>& weights, const LevelTable& table) {
  double sum = 0.0;
  for (const float w : weights) {
    const auto error = static_cast<double>(w - table.values[static_cast<std::size_t>(table.nearest(w))]);
    sum += error * error;
  }
  return sum;
}

/// Of stochastic rounding between neighbours; infinite where a weight is beyond the levels.
double variance(const std::vector<float>& weights, const LevelTable& table) {
  double sum = 0.0;
  for (const float w : weights) {
    if (w < table.values.front() || w > table.values.back()) return INFINITY;
    const auto high = std::max<std::ptrdiff_t>(
        1, std::lower_bound(table.values.begin(), table.values.end(), w) - table.values.begin());
    const float low = table.values[static_cast<std::size_t>(high - 1)];
    sum +=
        static_cast<double>(w - low) * static_cast<double>(table.values[static_cast<std::size_t>(high)] - w);
  }
  return sum;
}

/// The largest difference of a net's gradients from differences of its loss, over the largest gradient.
double gradient_error(Net<double> net, Index images) {
  const Shape in = net.input();
  const std::vector<float> pixels = normal_weights(in.size() * images, 3);
  Matrix<double> values(in.channels, in.pixels() * images);
  for (Index i = 0; i < values.size(); ++i)
    values.data()[i] = 10.0 * static_cast<double>(pixels[static_cast<std::size_t>(i)]);
  std::vector<int> labels;
  for (Index i = 0; i < images; ++i) labels.push_back(static_cast<int>(i % 3));
  net.loss_and_gradients(values, labels);
  double worst = 0.0, largest = 0.0;
  for (Parameters<double>* p : net.parameters()) {
    const RowMatrix<double> gradient = p->gradient;
    const Vector<double> bias_gradient = p->bias_gradient;
    const auto slope = [&](double& weight) {
      const double kept = weight, h = 1e-5;
      weight = kept + h;
      const double above = net.loss_and_gradients(values, labels);
      weight = kept - h;
      const double below = net.loss_and_gradients(values, labels);
      weight = kept;
      return (above - below) / (2.0 * h);
    };
    for (Index k = 0; k < gradient.size(); k += std::max<Index>(1, gradient.size() / 40)) {
      worst = std::max(worst, std::fabs(slope(p->used.data()[k]) - gradient.data()[k]));
      largest = std::max(largest, std::fabs(gradient.data()[k]));
    }
    for (Index k = 0; k < bias_gradient.size(); ++k)
      worst = std::max(worst, std::fabs(slope(p->bias(k)) - bias_gradient(k)));
  }
  return worst / largest;
}

ImageSet small_set() { return generated_images(400, 200, 1); }

void write_bytes(const std::string& path, const std::vector<int>& bytes) {
  std::ofstream file(path, std::ios::binary);
  for (const int byte : bytes) file.put(static_cast<char>(byte));
}
std::vector<int> idx_of(std::vector<int> sizes, const std::vector<int>& values) {
  std::vector<int> bytes{0, 0, 8, static_cast<int>(sizes.size())};
  for (const int size : sizes) bytes.insert(bytes.end(), {0, 0, size / 256, size % 256});
  bytes.insert(bytes.end(), values.begin(), values.end());
  return bytes;
}

}  // namespace

TEST_CASE("gradients are those of the loss") {
  CHECK(gradient_error(convolutional_net<double>({2, 9, 8}, 3, 1), 5) < 1e-6);
  CHECK(gradient_error(dense_net<double>({1, 5, 4}, 3, 1), 5) < 1e-6);
  CHECK_THROWS_AS(convolutional_net<float>({1, 3, 8}, 10, 1), zipml::Error);
}

TEST_CASE("levels: as many on either side of zero, and rounded weights are fixed points") {
  for (const Index count : {300, 20'000}) {
    const std::vector<float> weights = normal_weights(count, 7);
    for (const Spacing spacing : spacings())
      for (int levels = 2; levels <= 16; ++levels) {
        if (!has_levels(spacing, levels)) continue;
        INFO(name_of(spacing) << " " << levels << " of " << count);
        const LevelTable table = fit_levels(weights, {spacing, levels});
        CHECK(static_cast<int>(table.values.size()) == levels);
        CHECK(std::is_sorted(table.values.begin(), table.values.end()));
        for (std::size_t k = 0; k < table.values.size(); ++k) {
          CHECK(table.values[k] == Approx(-table.values[table.values.size() - 1 - k]).margin(1e-7));
          CHECK(table.nearest(table.values[k]) == static_cast<int>(k));
          for (const std::uint32_t word : {0u, ~0u})
            CHECK(table.stochastic(table.values[k], word) == static_cast<int>(k));
          CHECK(zipml::CodeLevels::affine_value(table.offset, table.step,
                                                static_cast<float>(table.entries[k])) == table.values[k]);
        }
        if (levels % 2 == 1) CHECK(std::fabs(table.values[static_cast<std::size_t>(levels / 2)]) < 1e-7f);
      }
  }
  // Weights that are all the same, and all zero.
  const std::vector<float> same(40, 0.5f), none(40, 0.0f);
  for (const Spacing spacing : spacings())
    for (const int levels : {2, 3, 8}) {
      if (!has_levels(spacing, levels)) continue;
      INFO(name_of(spacing) << " " << levels);
      const LevelTable table = fit_levels(same, {spacing, levels});
      CHECK(table.values[static_cast<std::size_t>(table.nearest(0.5f))] == Approx(0.5f));
      CHECK(fit_levels(none, {spacing, levels}).values[0] == 0.0f);
    }
  const std::vector<float> bad{1.0f, NAN};
  CHECK(holds(message_of([&] { fit_levels(bad, {Spacing::lloyd_max, 3}); }), "not finite"));
}

TEST_CASE("levels cost what they promise: the least of their kind") {
  const std::vector<float> weights = normal_weights(5'000, 9);
  double sum = 0.0, largest = 0.0;
  for (const float w : weights)
    sum += static_cast<double>(std::fabs(w)), largest = std::max(largest, static_cast<double>(std::fabs(w)));
  CHECK(static_cast<double>(fit_levels(weights, {Spacing::sign, 2}).values[1]) == Approx(sum / 5'000));
  // Bins are a 128th of a power of two wide: what that costs is within 1 %.
  for (int levels = 2; levels <= 16; ++levels) {
    INFO(levels);
    const double even = squared_error(weights, fit_levels(weights, {Spacing::even_best, levels}));
    const LevelTable to_largest = fit_levels(weights, {Spacing::even_largest, levels});
    CHECK(static_cast<double>(to_largest.values.back()) == Approx(largest));
    const double optimal = variance(weights, fit_levels(weights, {Spacing::optimal_stochastic, levels}));
    CHECK(optimal < 1.01 * variance(weights, to_largest));
    for (int k = 1; k < 400; ++k) {
      const LevelTable other = LevelTable::even(levels, largest * k / 400.0);
      CHECK(even <= 1.001 * squared_error(weights, other));
    }
    CHECK(squared_error(weights, fit_levels(weights, {Spacing::lloyd_max, levels})) <= 1.002 * even);
    const Quantizer clipped{Spacing::optimal_stochastic, levels};
    if (levels <= 4) CHECK(best_clipping(weights, clipped) > 0.0);
  }
  // Normal weights: 0.7980 and, of four levels, 0.4528 and 1.5104 standard deviations (Max 1960, table 1).
  const std::vector<float> many = normal_weights(400'000, 11);
  CHECK(static_cast<double>(fit_levels(many, {Spacing::lloyd_max, 2}).values[1]) ==
        Approx(0.0798).epsilon(0.01));
  const LevelTable four = fit_levels(many, {Spacing::lloyd_max, 4});
  CHECK(static_cast<double>(four.values[2]) == Approx(0.04528).epsilon(0.02));
  CHECK(static_cast<double>(four.values[3]) == Approx(0.15104).epsilon(0.02));
}

TEST_CASE("stochastic rounding of weights is right in the mean") {
  Weights value(8, 12), used(8, 12);
  const std::vector<float> weights = normal_weights(value.size(), 13);
  std::copy(weights.begin(), weights.end(), value.data());
  WeightLevels levels({Spacing::optimal_stochastic, 5}, 5, 2);
  levels.fit(value, false);  // nothing is clipped
  const LevelTable& table = levels.tables().front();
  constexpr int draws = 4'000;
  Eigen::MatrixXd sum = Eigen::MatrixXd::Zero(8, 12);
  Weights first = value;
  for (int k = 0; k < draws; ++k) {
    levels.round(value, static_cast<std::uint64_t>(k), used);
    sum += used.cast<double>();
    if (k == 0) first = used;
  }
  CHECK(first != used);
  // 96 weights, 4.5 deviations: wrong with probability 7e-4.
  for (Index i = 0; i < value.size(); ++i) {
    const auto w = static_cast<double>(value.data()[i]);
    const double deviation = std::sqrt(variance({value.data()[i]}, table) / draws);
    CHECK(std::fabs(sum(i / 12, i % 12) / draws - w) <= 4.5 * deviation + 1e-6);
  }
  levels.round(value, 0, used);
  CHECK(first == used);
}

TEST_CASE("levels of output channels are their own") {
  Weights value(4, 200), used(4, 200);
  const std::vector<float> weights = normal_weights(value.size(), 17);
  for (Index i = 0; i < value.size(); ++i)
    value.data()[i] = weights[static_cast<std::size_t>(i)] * static_cast<float>(1 + i / 200);
  WeightLevels levels({Spacing::lloyd_max, 4, true}, 1, 0);
  levels.fit(value, true);
  levels.round(value, 0, used);
  REQUIRE(levels.tables().size() == 4);
  for (Index k = 0; k < 4; ++k) {
    const LevelTable alone = fit_levels({value.data() + 200 * k, 200}, {Spacing::lloyd_max, 4});
    CHECK(levels.tables()[static_cast<std::size_t>(k)].values == alone.values);
    for (Index j = 0; j < 200; ++j)
      CHECK(used(k, j) == alone.values[static_cast<std::size_t>(alone.nearest(value(k, j)))]);
  }
}

TEST_CASE("training is the same bits for a seed and any number of threads, and learns") {
  const ImageSet set = small_set();
  const TrainingOptions options{.epochs = 3, .step = 0.02, .refit = 3};
  const std::vector<Quantizer> quantizers{
      {}, {Spacing::optimal_stochastic, 5}, {Spacing::lloyd_max, 5, true}};
  int told = 0;
  const auto tell = [&](const Run&) { ++told; };
  const std::vector<Run> one = run_all(set, quantizers, 2, 1, options, tell);
  const std::vector<Run> two = run_all(set, quantizers, 2, 2, options, tell);
  REQUIRE(one.size() == 6);
  CHECK(told == 12);
  for (std::size_t k = 0; k < one.size(); ++k) {
    CHECK(one[k].losses == two[k].losses);
    CHECK(one[k].seed == 1 + k % 2);
    const auto ours = one[k].trained->net.parameters(), theirs = two[k].trained->net.parameters();
    for (std::size_t p = 0; p < ours.size(); ++p) CHECK(ours[p]->value == theirs[p]->value);
    CHECK(one[k].losses.back() < one[k].losses.front());
  }
  CHECK(one[0].losses != one[1].losses);
  const std::vector<Row> rows = rows_of(one, set.classes);
  REQUIRE(rows.size() == 3);
  CHECK(rows[0].test_accuracy == Approx(0.5 * (one[0].test_accuracy + one[1].test_accuracy)));
  // Weights in use are levels, and no more than there are.
  for (const Parameters<float>* p : one[2].trained->net.parameters()) {
    std::vector<float> distinct(p->used.data(), p->used.data() + p->used.size());
    std::sort(distinct.begin(), distinct.end());
    distinct.erase(std::unique(distinct.begin(), distinct.end()), distinct.end());
    CHECK(static_cast<Index>(distinct.size()) <= std::min<Index>(p->used.size(), 5 * p->used.rows()));
  }
  // A step far too long.
  const Run diverged = train_net(set, {}, {.epochs = 3, .step = 1e6});
  CHECK(diverged.diverged);
  CHECK(rows_of({diverged}, 10).front().test_accuracy == Approx(0.1));
  // Gradients through a channel of few bits.
  const Run through = train_net(set, {}, {.epochs = 3, .step = 0.02, .gradient_bits = 4});
  CHECK(through.losses != one[0].losses);
  CHECK(through.losses.back() < through.losses.front());
}

TEST_CASE("contests are between the best evenly spaced and the best optimal") {
  std::vector<Row> rows(4);
  rows[0] = {.quantizer = {Spacing::even_largest, 3}, .test_accuracy = 0.5};
  rows[1] = {.quantizer = {Spacing::even_best, 3}, .test_accuracy = 0.8};
  rows[2] = {.quantizer = {Spacing::lloyd_max, 3}, .test_accuracy = 0.9};
  rows[3] = {.quantizer = {Spacing::lloyd_max, 3, true}, .test_accuracy = 0.95};
  const std::vector<Contest> contests = contests_of(rows);
  REQUIRE(contests.size() == 1);
  CHECK(contests[0].even == &rows[1]);
  CHECK(contests[0].optimal == &rows[2]);
  CHECK(contests[0].even_largest == &rows[0]);
}

TEST_CASE("packed weights give the scores of rounded inputs, whatever the levels and kernels") {
  const zipml::Isa isa = zipml::active_isa();
  const zipml::KernelTable kernels = zipml::kernels_of(isa);
  for (const Index inputs : {5, 100, 257})
    for (const Index outputs : {3, 64})
      for (const Quantizer quantizer :
           {Quantizer{Spacing::sign, 2}, Quantizer{Spacing::even_best, 3}, Quantizer{Spacing::lloyd_max, 4},
            Quantizer{Spacing::lloyd_max, 5}, Quantizer{Spacing::optimal_nearest, 16}}) {
        INFO(quantizer.name() << " " << quantizer.levels << ", " << outputs << " x " << inputs);
        Parameters<float> p;
        p.start(outputs, inputs, 3, 1);
        p.bias.setLinSpaced(outputs, -1.0f, 1.0f);
        WeightLevels levels(quantizer, 1, 0);
        levels.fit(p.value, true);
        levels.round(p.value, 0, p.used);
        PackedDense packed(p, levels, kernels, isa);
        CHECK(packed.bits() == static_cast<int>(std::ceil(std::log2(quantizer.levels))));
        const std::vector<float> in = normal_weights(inputs, 21);
        std::vector<float> out(static_cast<std::size_t>(outputs));
        packed.forward(in.data(), out.data());
        // The same in double, with inputs rounded to 127 or 63 steps of the largest.
        float largest = 0.0f;
        for (const float x : in) largest = std::max(largest, std::fabs(x));
        double nearest = INFINITY;
        for (const float steps : {127.0f, 63.0f}) {
          double worst = 0.0;
          for (Index k = 0; k < outputs; ++k) {
            double score = static_cast<double>(p.bias(k));
            for (Index j = 0; j < inputs; ++j) {
              const float code = std::floor(in[static_cast<std::size_t>(j)] / (largest / steps) + 0.5f);
              score += static_cast<double>(p.used(k, j)) * static_cast<double>(code) *
                       static_cast<double>(largest / steps);
            }
            worst = std::max(worst, std::fabs(score - static_cast<double>(out[static_cast<std::size_t>(k)])));
          }
          nearest = std::min(nearest, worst);
        }
        CHECK(nearest < 1e-5);
      }
  const ImageSet set = small_set();
  const Run run = train_net(set, {Spacing::even_best, 5}, {.epochs = 4, .step = 0.02});
  const PackedReport report = run_packed(*run.trained, set.test);
  CHECK(report.ran);
  CHECK(report.bits == 3);
  CHECK(report.float_accuracy == Approx(run.test_accuracy).margin(0.011));  // another order of float sums
  CHECK(report.same_answers > 0.95);
  CHECK(report.bytes < report.float_bytes / 10.0);
  const Run by_channel = train_net(set, {Spacing::even_best, 5, true}, {.epochs = 1});
  CHECK_FALSE(run_packed(*by_channel.trained, set.test).ran);
}

TEST_CASE("generated images are a function of the seed, of ten classes, standardised") {
  const ImageSet set = generated_images(500, 300, 1), again = generated_images(500, 300, 1);
  CHECK(set.train.values == again.train.values);
  CHECK(set.test.labels == again.test.labels);
  CHECK(set.train.values != generated_images(500, 300, 2).train.values);
  std::vector<int> counts(10);
  for (const int label : set.train.labels) ++counts[static_cast<std::size_t>(label)];
  CHECK(*std::min_element(counts.begin(), counts.end()) > 20);
  CHECK(std::fabs(set.train.values.mean()) < 1e-4f);
  CHECK(set.train.values.array().square().mean() == Approx(1.0f).epsilon(0.001));
}

TEST_CASE("files of MNIST and CIFAR-10 are told by their names, and bad ones are clear errors") {
  const Folder folder;
  const auto refuses = [](const std::string& path) { return message_of([&] { load_images(path, 0, 0); }); };
  CHECK(holds(refuses(folder / "nothing"), "is no folder"));
  CHECK(holds(refuses(folder.path().string()), "neither"));
  const std::vector<int> pictures{0, 255, 10, 20, 255, 0, 30, 40};  // two of 2 x 2
  write_bytes(folder / "my-train-images-idx3-ubyte", idx_of({2, 2, 2}, pictures));
  CHECK(holds(refuses(folder.path().string()), "train-labels-idx1-ubyte"));
  write_bytes(folder / "my-train-labels-idx1-ubyte", idx_of({2}, {7, 1}));
  write_bytes(folder / "t10k-images-idx3-ubyte", idx_of({1, 2, 2}, {1, 2, 3, 4}));
  write_bytes(folder / "t10k-labels-idx1-ubyte", idx_of({1}, {9}));
  const ImageSet set = load_images(folder.path().string(), 0, 0);
  CHECK(set.name == "MNIST");
  CHECK(set.train.labels == std::vector<int>{7, 1});
  CHECK(set.train.shape == Shape{1, 2, 2});
  CHECK(set.train.values(0, 0) == set.train.values(1, 1));
  CHECK(set.train.values(1, 0) == set.train.values.maxCoeff());
  CHECK(load_images(folder.path().string(), 1, 0).train.count() == 1);
  write_bytes(folder / "my-train-labels-idx1-ubyte", idx_of({2}, {7, 10}));
  CHECK(holds(refuses(folder.path().string()), "0 to 9"));
  write_bytes(folder / "my-train-labels-idx1-ubyte", idx_of({3}, {7, 1, 2}));
  CHECK(holds(refuses(folder.path().string()), "do not go together"));
  write_bytes(folder / "my-train-labels-idx1-ubyte", idx_of({2}, {7}));
  CHECK(holds(refuses(folder.path().string()), "is no IDX file"));
  write_bytes(folder / "my-train-labels-idx1-ubyte", {1, 2});
  CHECK(holds(refuses(folder.path().string()), "is no IDX file"));
  write_bytes(folder / "my-train-labels-idx1-ubyte",
              {0, 0, 8, 3, 255, 255, 255, 255, 255, 255, 255, 255, 1, 1, 1, 1});
  CHECK(holds(refuses(folder.path().string()), "is no IDX file"));

  const Folder other;
  std::vector<int> record(3073, 0);
  record[0] = 3;
  record[1] = 255;             // red of the first pixel
  record[1 + 2048 + 5] = 255;  // blue of the sixth
  write_bytes(other / "data_batch_1.bin", record);
  CHECK(holds(refuses(other.path().string()), "test_batch.bin"));
  write_bytes(other / "test_batch.bin", record);
  const ImageSet cifar = load_images(other.path().string(), 0, 0);
  CHECK(cifar.name == "CIFAR-10");
  CHECK(cifar.train.shape == Shape{3, 32, 32});
  CHECK(cifar.train.labels == std::vector<int>{3});
  const float most = cifar.train.values.maxCoeff();
  CHECK(cifar.train.values(0, 0) == most);
  CHECK(cifar.train.values(5 * 3 + 2, 0) == most);
  CHECK((cifar.train.values.array() == most).count() == 2);
  record[0] = 11;
  write_bytes(other / "test_batch.bin", record);
  CHECK(holds(refuses(other.path().string()), "0 to 9"));
  record.pop_back();
  write_bytes(other / "test_batch.bin", record);
  CHECK(holds(refuses(other.path().string()), "records of 3073 bytes"));
}
