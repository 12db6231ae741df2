#include "sets.hpp"

#include <filesystem>
#include <zipml/base/error.hpp>
#include <zipml/io/generated.hpp>
#include <zipml/io/load.hpp>

#include "../idx.hpp"

namespace {

/// The digits 4 and 9 among pictures of MNIST.
zipml::Dataset four_against_nine(const std::string& images) {
  std::string labels = images;
  const std::size_t at = labels.rfind("images-idx3");
  if (at == std::string::npos)
    throw zipml::Error(zipml::Place{images}, "the labels of these pictures are not to be found",
                       "a name with images-idx3 in it, and labels-idx1 beside it", "another name");
  labels.replace(at, 11, "labels-idx1");
  const Idx pictures(images), digits(labels);
  if (pictures.sizes.size() != 3 || digits.sizes.size() != 1 || digits.sizes[0] != pictures.sizes[0])
    throw zipml::Error(zipml::Place{images}, "pictures and labels do not go together",
                       "as many of one as of the other",
                       std::to_string(pictures.sizes[0]) + " and " + std::to_string(digits.sizes[0]));
  const std::size_t pixels = pictures.sizes[1] * pictures.sizes[2];
  std::vector<std::size_t> chosen;
  for (std::size_t i = 0; i < digits.sizes[0]; ++i)
    if (const unsigned char digit = digits[i]; digit == 4 || digit == 9) chosen.push_back(i);
  if (chosen.empty())
    throw zipml::Error(zipml::Place{labels}, "there is no 4 and no 9 among the labels", "MNIST", "none");
  zipml::Dataset data;
  data.rows = static_cast<zipml::Index>(chosen.size());
  data.cols = static_cast<zipml::Index>(pixels);
  data.values = zipml::Buffer<float>(zipml::checked_product(data.rows, data.cols, "the pictures"));
  data.labels = zipml::Buffer<float>(data.rows);
  data.source = images;
  float* value = data.values.data();
  for (zipml::Index i = 0; i < data.rows; ++i) {
    const std::size_t which = chosen[static_cast<std::size_t>(i)];
    const char* pixel = pictures.bytes.data() + pictures.begin + which * pixels;
    for (std::size_t j = 0; j < pixels; ++j)
      *value++ = static_cast<float>(static_cast<unsigned char>(pixel[j]));
    data.labels[i] = digits.bytes[digits.begin + which] == 9 ? 1.0f : -1.0f;
  }
  return data;
}

}  // namespace

const std::vector<SetKind>& file_sets() {
  static const std::vector<SetKind> kinds{
      {"cadata", {"cadata"}, "least-squares", 0.0f},
      {"cpusmall", {"cpusmall"}, "least-squares", 0.0f},
      {"cod-rna", {"cod-rna"}, "ls-svm", 0.0f},
      {"mnist-4-vs-9",
       {"mnist-4-vs-9", "mnist-train-images-idx3-ubyte", "train-images-idx3-ubyte"},
       "ls-svm",
       1e-4f},
      // (As CSV it has its labels in front.)
      {"year", {"YearPredictionMSD"}, "least-squares", 0.0f, "libsvm"},
      {"gisette", {"gisette_scale", "gisette"}, "ls-svm", 1e-4f},
  };
  return kinds;
}

std::optional<std::string> find_file(const SetKind& kind, const std::string& folder) {
  for (const std::string& name : kind.files)
    for (const char* end : {"", ".libsvm", ".txt", ".csv"}) {
      const std::filesystem::path path = std::filesystem::path(folder) / (name + end);
      if (std::filesystem::is_regular_file(path)) return path.string();
    }
  return std::nullopt;
}

Set load_set(const SetKind& kind, const std::string& file) {
  return {kind.name, kind.loss, kind.l2,
          is_idx(file) ? four_against_nine(file) : zipml::load(file, {.format = kind.format, .threads = 0})};
}

std::vector<std::string> generated_sets() {
  return {"synthetic-10", "synthetic-100", "synthetic-1000", "skewed"};
}

Set generate_set(const std::string& name, bool quick) {
  Set set;
  set.name = name;
  if (name == "skewed") {
    set.data = zipml::skewed({.rows = quick ? 40'000 : 463'715, .test_rows = 0}).train;
  } else {
    const zipml::Index columns = std::stol(name.substr(name.find('-') + 1));
    set.data =
        zipml::synthetic(columns, {.rows = quick && columns > 100 ? 4'000 : 10'000, .test_rows = 0}).train;
  }
  return set;
}

Set generate_two_classes(bool quick) {
  return {"two-class", "logistic", 1e-4f, zipml::two_class({.rows = quick ? 4'000 : 50'000}).train};
}
