#pragma once
/// \file
/// Everything but the exact solver (exact_solver.hpp, which needs more of Eigen than its Core).

#include <zipml/config.hpp>
#include <zipml/data/generated.hpp>
#include <zipml/data/load.hpp>
#include <zipml/data/model_file.hpp>
#include <zipml/estimators/quantize.hpp>
#include <zipml/quantization/adaquant.hpp>
#include <zipml/training/objective.hpp>
#include <zipml/training/observer.hpp>
#include <zipml/training/sgd.hpp>
#include <zipml/visit_bits.hpp>
