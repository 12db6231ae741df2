#pragma once
// Sets of small images of several classes: a generated one, MNIST, CIFAR-10.

#include <Eigen/Core>
#include <cstdint>
#include <string>
#include <vector>
#include <zipml/base/index.hpp>

#include "net.hpp"

namespace deep {

/// Images as columns of height * width * channels values, pixel after pixel, of mean 0 and variance 1 over the training images.
struct Images {
  Shape shape;
  Matrix<float> values;  // size x count
  std::vector<int> labels;
  Index count() const { return values.cols(); }
};

struct ImageSet {
  std::string name;
  int classes = 10;
  Images train, test;
};

/// Ten classes of 16 x 16 pixels: two strokes each, turned, moved, stretched, of changing width, under a stroke of no class and
/// noise. A function of the seed.
ImageSet generated_images(Index train, Index test, std::uint64_t seed);

/// The set whose files a folder has: MNIST's four IDX files (train-images-idx3-ubyte and so on, also with something in front), or
/// CIFAR-10's batches (data_batch_1.bin to _5, test_batch.bin). At most `train` and `test` images of them (0: all), the first
/// ones. Throws zipml::Error for a folder that has neither, and for files that are not what their name says.
ImageSet load_images(const std::string& folder, Index train, Index test);

}  // namespace deep
