#pragma once
/// \file
/// Room io: a classifier of several classes in a text file, its models as io/model_file.hpp writes them, one behind the
/// other:
///
///     zipml-classes 1
///     models 10
///     zipml-model 2
///     ...

#include <string>

#include <zipml/base/error.hpp>
#include <zipml/io/model_file.hpp>
#include <zipml/model/class_model.hpp>

namespace zipml::inline ZIPML_ABI {

/// Saves a classifier, as save_model() does for one model. Throws Error when it cannot be written, and for weights that
/// are not finite.
void save_model(const std::string& path, const ClassModel& model);

/// Loads what save_model() wrote of a classifier of several classes. Throws Error with file and line for anything else.
ClassModel load_class_model(const std::string& path);

/// Whether a file begins as such a classifier does; false when it cannot be read.
bool is_class_model_file(const std::string& path);

#if ZIPML_DEFINES

ZIPML_FUNCTION void save_model(const std::string& path, const ClassModel& model) {
  std::string text = "zipml-classes 1\nmodels " + std::to_string(model.classes()) + "\n";
  for (const LinearModel& one : model.models) {
    detail::require_finite(path, one);
    text += detail::model_file_2(one);
  }
  write_file(path, text);
}

ZIPML_FUNCTION ClassModel load_class_model(const std::string& path) {
  detail::ModelFileReader file(path);
  file.line("zipml-classes ", "the line 'zipml-classes 1'");
  if (file.count("version 1") != 1) file.fail("version 1");
  file.end_of_line("version 1");
  file.line("models ", "'models COUNT'");
  const Index count = file.count("a number of models", 2);
  file.end_of_line("one count");
  ClassModel result;
  for (Index k = 0; k < count; ++k) {
    file.begin_part();
    file.line("zipml-model ", "the line 'zipml-model 2'");
    if (file.count("version 2") != 2) file.fail("version 2");
    file.end_of_line("version 2");
    result.models.push_back(detail::read_model_2(file, k + 1 == count));
    const LinearModel &first = result[0], &last = result[k];
    if (!last.classifies) file.fail("a classifier");
    if (last.loss != first.loss) file.fail("the loss of the first model");
    if (last.cols() != first.cols() || last.schema->names != first.schema->names ||
        last.schema->classes != first.schema->classes)
      file.fail("the features of the first model");
    if (result.class_of(last.high_label) != k) file.fail("another class than those before it");
  }
  return result;
}

ZIPML_FUNCTION bool is_class_model_file(const std::string& path) {
  if (path == "-") return false;
  try {
    LineReader reader(path);
    std::string_view text;
    return reader.next(text) && text.substr(0, 14) == "zipml-classes ";
  } catch (const Error&) {
    return false;
  }
}

#endif

}  // namespace zipml::inline ZIPML_ABI
