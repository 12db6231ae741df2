#pragma once
// The data sets that the claims are tried on: generated ones, and those whose files the user has.

#include <optional>
#include <string>
#include <vector>
#include <zipml/io/dataset.hpp>

/// A data set by the name that the claims know it by.
struct Set {
  std::string name;
  std::string loss = "least-squares";
  float l2 = 0.0f;
  zipml::Dataset data;
};

/// A kind of set: what it is called, how files of it are called, and how it is trained on.
struct SetKind {
  const char* name;
  std::vector<std::string> files;  // usual names, the first also with .libsvm, .txt or .csv behind it
  const char* loss;
  float l2;
  const char* format = "auto";  // of zipml::load
};

/// Those that come from files. MNIST 4-vs-9 is read from the pictures of MNIST (IDX, labels beside them).
const std::vector<SetKind>& file_sets();

/// The file of a set in a folder, where it has one.
std::optional<std::string> find_file(const SetKind& kind, const std::string& folder);

/// Throws zipml::Error when the file is not what the set needs.
Set load_set(const SetKind& kind, const std::string& file);

/// synthetic-10, -100, -1000, skewed; `quick` has fewer rows.
std::vector<std::string> generated_sets();
Set generate_set(const std::string& name, bool quick);

/// A generated set of two classes, for the losses whose derivative is not affine.
Set generate_two_classes(bool quick);
