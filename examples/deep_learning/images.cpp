#include "images.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <zipml/base/error.hpp>
#include <zipml/base/random.hpp>

#include "../idx.hpp"

namespace deep {

namespace {

constexpr double pi = 3.14159265358979323846;

/// Uniform and normal numbers in a row, of one image or class.
class Draws {
 public:
  Draws(std::uint64_t seed, std::uint32_t what, std::uint64_t which)
      : random_(seed), what_(what), which_(which) {}
  double uniform(double low, double high) {
    if (at_ % 4 == 0) words_ = random_.words(zipml::Stream::generated, what_, at_ / 4, which_);
    return low + (high - low) * zipml::uniform24(words_[at_++ % 4]);
  }
  double normal() {
    const double radius = std::sqrt(-2.0 * std::log(uniform(0.0, 1.0)));
    return radius * std::cos(2.0 * pi * uniform(0.0, 1.0));
  }

 private:
  zipml::Random random_;
  std::uint32_t what_;
  std::uint64_t which_;
  std::uint32_t at_ = 0;
  zipml::PhiloxWords words_{};
};

struct Point {
  double x, y;
};

/// A quadratic Bezier curve in [-1, 1]^2, as points along it.
using Stroke = std::array<Point, 17>;
Stroke draw_stroke(Draws& draws) {
  std::array<Point, 3> control{};
  do {
    for (Point& p : control) p = {draws.uniform(-0.8, 0.8), draws.uniform(-0.8, 0.8)};
  } while (std::hypot(control[0].x - control[2].x, control[0].y - control[2].y) < 0.7);
  Stroke stroke;
  for (std::size_t k = 0; k < stroke.size(); ++k) {
    const double t = static_cast<double>(k) / static_cast<double>(stroke.size() - 1), s = 1.0 - t;
    stroke[k] = {s * s * control[0].x + 2.0 * s * t * control[1].x + t * t * control[2].x,
                 s * s * control[0].y + 2.0 * s * t * control[1].y + t * t * control[2].y};
  }
  return stroke;
}

enum What : std::uint32_t { of_class = 1'000, of_image = 1'001 };

void draw_image(const std::vector<std::array<Stroke, 2>>& classes, std::uint64_t seed, std::uint64_t which,
                Index side, float* out, int& label) {
  Draws draws(seed, of_image, which);
  label = std::min(static_cast<int>(draws.uniform(0.0, 1.0) * static_cast<double>(classes.size())),
                   static_cast<int>(classes.size()) - 1);
  const double turn = draws.uniform(-0.35, 0.35), wide = draws.uniform(0.75, 1.15),
               high = draws.uniform(0.75, 1.15);
  const double right = draws.uniform(-0.25, 0.25), down = draws.uniform(-0.25, 0.25);
  const double width = draws.uniform(0.09, 0.17), ink = draws.uniform(0.7, 1.2);
  const auto place = [&](const Point& p) -> Point {
    const double x = wide * p.x, y = high * p.y;
    return {std::cos(turn) * x - std::sin(turn) * y + right, std::sin(turn) * x + std::cos(turn) * y + down};
  };
  std::vector<Stroke> strokes(classes[static_cast<std::size_t>(label)].begin(),
                              classes[static_cast<std::size_t>(label)].end());
  for (Stroke& stroke : strokes)
    for (Point& p : stroke) p = place({p.x + 0.04 * draws.normal(), p.y + 0.04 * draws.normal()});
  strokes.push_back(draw_stroke(draws));
  for (Index v = 0; v < side; ++v)
    for (Index u = 0; u < side; ++u) {
      const double x = (2.0 * static_cast<double>(u) + 1.0) / static_cast<double>(side) - 1.0;
      const double y = (2.0 * static_cast<double>(v) + 1.0) / static_cast<double>(side) - 1.0;
      double value = 0.0;
      for (std::size_t k = 0; k < strokes.size(); ++k) {
        double nearest = 1e9;
        for (const Point& p : strokes[k])
          nearest = std::min(nearest, (x - p.x) * (x - p.x) + (y - p.y) * (y - p.y));
        const double strength = k + 1 == strokes.size() ? 0.6 : 1.0;
        value = std::max(value, strength * std::exp(-nearest / (2.0 * width * width)));
      }
      out[v * side + u] = static_cast<float>(ink * value + 0.25 * draws.normal());
    }
}

/// Mean 0 and variance 1 over the training images.
void standardise(ImageSet& set) {
  const double mean = set.train.values.cast<double>().mean();
  const double variance = (set.train.values.cast<double>().array() - mean).square().mean();
  const auto scale = static_cast<float>(variance > 0.0 ? 1.0 / std::sqrt(variance) : 1.0);
  for (Images* images : {&set.train, &set.test})
    images->values = ((images->values.array() - static_cast<float>(mean)) * scale).matrix();
}

Index at_most(Index wanted, std::size_t all) {
  const auto count = static_cast<Index>(all);
  return wanted > 0 ? std::min(wanted, count) : count;
}

void check_label(int label, int classes, const std::string& path) {
  if (label < 0 || label >= classes)
    throw zipml::Error(zipml::Place{path}, "a label is out of range", "0 to " + std::to_string(classes - 1),
                       std::to_string(label));
}

Images load_idx(const std::string& pictures_path, const std::string& labels_path, Index wanted) {
  const Idx pictures(pictures_path), digits(labels_path);
  if (pictures.sizes.size() != 3 || digits.sizes.size() != 1 || digits.sizes[0] != pictures.sizes[0] ||
      pictures.sizes[0] == 0 || pictures.sizes[1] == 0 || pictures.sizes[2] == 0)
    throw zipml::Error(zipml::Place{pictures_path}, "pictures and labels do not go together",
                       "pictures of three dimensions and a label for each",
                       std::to_string(pictures.sizes[0]) + " and " + std::to_string(digits.sizes[0]));
  Images images;
  images.shape = {1, static_cast<Index>(pictures.sizes[1]), static_cast<Index>(pictures.sizes[2])};
  const Index count = at_most(wanted, pictures.sizes[0]), size = images.shape.size();
  images.values.resize(size, count);
  for (Index i = 0; i < count * size; ++i)
    images.values.data()[i] = static_cast<float>(pictures[static_cast<std::size_t>(i)]) / 255.0f;
  for (Index i = 0; i < count; ++i) {
    images.labels.push_back(digits[static_cast<std::size_t>(i)]);
    check_label(images.labels.back(), 10, labels_path);
  }
  return images;
}

/// Records of a label and 3 x 1,024 pixels, colour after colour.
void add_cifar(const std::string& path, Index wanted, std::vector<unsigned char>& records) {
  constexpr std::size_t record = 3073;
  std::ifstream file(path, std::ios::binary);
  if (!file) throw zipml::Error(zipml::Place{path}, "cannot open", "a batch of CIFAR-10", "none");
  const std::vector<unsigned char> bytes{std::istreambuf_iterator<char>(file), {}};
  if (bytes.empty() || bytes.size() % record != 0)
    throw zipml::Error(zipml::Place{path}, "is no batch of CIFAR-10", "records of 3073 bytes",
                       std::to_string(bytes.size()) + " bytes");
  for (std::size_t k = 0; k < bytes.size(); k += record) check_label(bytes[k], 10, path);
  records.insert(records.end(), bytes.begin(), bytes.end());
  if (wanted > 0 && records.size() > static_cast<std::size_t>(wanted) * record)
    records.resize(static_cast<std::size_t>(wanted) * record);
}

Images from_cifar(const std::vector<unsigned char>& records) {
  Images images;
  images.shape = {3, 32, 32};
  const auto count = static_cast<Index>(records.size() / 3073);
  images.values.resize(images.shape.size(), count);
  for (Index i = 0; i < count; ++i) {
    const unsigned char* record = records.data() + i * 3073;
    images.labels.push_back(record[0]);
    for (Index pixel = 0; pixel < 1024; ++pixel)
      for (Index c = 0; c < 3; ++c)
        images.values(pixel * 3 + c, i) = static_cast<float>(record[1 + c * 1024 + pixel]) / 255.0f;
  }
  return images;
}

/// The file of a folder whose name ends so.
std::optional<std::string> find_ending(const std::string& folder, const std::string& end) {
  std::optional<std::string> found;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    if (entry.is_regular_file() && entry.path().filename().string().ends_with(end))
      if (!found || entry.path().string() < *found) found = entry.path().string();
  return found;
}

}  // namespace

ImageSet generated_images(Index train, Index test, std::uint64_t seed) {
  constexpr Index side = 16;
  ImageSet set;
  set.name = "generated";
  std::vector<std::array<Stroke, 2>> classes;
  for (int k = 0; k < set.classes; ++k) {
    Draws draws(seed, of_class, static_cast<std::uint64_t>(k));
    const Stroke first = draw_stroke(draws), second = draw_stroke(draws);
    classes.push_back({first, second});
  }
  std::uint64_t which = 0;
  for (Images* images : {&set.train, &set.test}) {
    const Index count = images == &set.train ? train : test;
    images->shape = {1, side, side};
    images->values.resize(side * side, count);
    images->labels.resize(static_cast<std::size_t>(count));
    for (Index i = 0; i < count; ++i)
      draw_image(classes, seed, which++, side, images->values.col(i).data(),
                 images->labels[static_cast<std::size_t>(i)]);
  }
  standardise(set);
  return set;
}

ImageSet load_images(const std::string& folder, Index train, Index test) {
  if (!std::filesystem::is_directory(folder))
    throw zipml::Error(zipml::Place{folder}, "is no folder", "a folder of MNIST or CIFAR-10", "none");
  ImageSet set;
  const auto pictures = find_ending(folder, "train-images-idx3-ubyte");
  const auto batch = find_ending(folder, "data_batch_1.bin");
  if (pictures) {
    const auto file = [&](const char* end) {
      const auto found = find_ending(folder, end);
      if (!found) throw zipml::Error(zipml::Place{folder}, "lacks a file of MNIST", end, "none");
      return *found;
    };
    set.name = "MNIST";
    set.train = load_idx(*pictures, file("train-labels-idx1-ubyte"), train);
    set.test = load_idx(file("t10k-images-idx3-ubyte"), file("t10k-labels-idx1-ubyte"), test);
    if (!(set.train.shape == set.test.shape))
      throw zipml::Error(zipml::Place{folder}, "training and test pictures are of different sizes",
                         "the same", "not");
  } else if (batch) {
    set.name = "CIFAR-10";
    std::vector<unsigned char> of_train, of_test;
    for (int k = 1; k <= 5; ++k)
      if (const auto path = find_ending(folder, "data_batch_" + std::to_string(k) + ".bin"))
        add_cifar(*path, train, of_train);
    const auto path = find_ending(folder, "test_batch.bin");
    if (!path) throw zipml::Error(zipml::Place{folder}, "lacks a file of CIFAR-10", "test_batch.bin", "none");
    add_cifar(*path, test, of_test);
    set.train = from_cifar(of_train);
    set.test = from_cifar(of_test);
  } else {
    throw zipml::Error(zipml::Place{folder}, "has no images that are known",
                       "train-images-idx3-ubyte (MNIST) or data_batch_1.bin (CIFAR-10)", "neither");
  }
  standardise(set);
  return set;
}

}  // namespace deep
