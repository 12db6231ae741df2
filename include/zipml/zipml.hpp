#pragma once
/// \file
/// Everything but the exact solver (exact_solver.hpp, which needs more of Eigen than its Core).

#include <zipml/analysis/curves.hpp>
#include <zipml/analysis/objective.hpp>
#include <zipml/analysis/predict.hpp>
#include <zipml/analysis/predict_classes.hpp>
#include <zipml/analysis/softmax_objective.hpp>
#include <zipml/base/config.hpp>
#include <zipml/base/visit_bits.hpp>
#include <zipml/estimators/quantize.hpp>
#include <zipml/io/class_model_file.hpp>
#include <zipml/io/generated.hpp>
#include <zipml/io/hold_out.hpp>
#include <zipml/io/load.hpp>
#include <zipml/io/model_file.hpp>
#include <zipml/quantization/adaquant.hpp>
#include <zipml/storage/in_place.hpp>
#include <zipml/training/classes.hpp>
#include <zipml/training/cross_validation.hpp>
#include <zipml/training/observer.hpp>
#include <zipml/training/penalty_path.hpp>
#include <zipml/training/sgd.hpp>
