#pragma once
/// \file
/// Room model: a classifier of several classes, a linear model for each.

#include <string>

#include <zipml/base/buffer.hpp>
#include <zipml/base/error.hpp>
#include <zipml/model/linear_model.hpp>
#include <zipml/model/softmax.hpp>

namespace zipml::inline ZIPML_ABI {

/// A model for each class, trained to tell it from all others, alone or together with theirs: its `high_label` is the class, its `low_label` -1 and of
/// no meaning unless there are two classes. The class of the largest margin is predicted. To predict whole matrices and
/// tables: analysis/predict_classes.hpp.
struct ClassModel {
  List<LinearModel> models;

  Index classes() const { return static_cast<Index>(models.size()); }
  Index cols() const { return models.empty() ? 0 : models.front().cols(); }
  const LinearModel& operator[](Index k) const { return models[static_cast<std::size_t>(k)]; }
  /// The label of class k, in the user's units.
  double label(Index k) const { return (*this)[k].high_label; }
  /// As the user's table writes it.
  std::string label_text(Index k) const { return (*this)[k].label_text(label(k)); }
  /// Which class a label is, or -1. O(classes).
  Index class_of(double label_value) const {
    for (Index k = 0; k < classes(); ++k)
      if (label(k) == label_value) return k;
    return -1;
  }
  /// Whether the models were trained together, so that e^margin over their sum is the probability of a class.
  bool is_joint() const { return !models.empty() && models.front().loss == SoftmaxLoss::name; }
  /// Whether margins stand for probabilities: as logarithms of them, or as log-odds of one class against the rest.
  bool has_probabilities() const {
    return is_joint() || (!models.empty() && models.front().has_probabilities());
  }
};

}  // namespace zipml::inline ZIPML_ABI
