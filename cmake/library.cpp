// The library zipml::kernels: everything that is no template and no kernel, compiled once for a program.
#define ZIPML_IS_LIBRARY
#include <zipml/analysis/code_gram.hpp>
#include <zipml/analysis/realised_system.hpp>
#include <zipml/analysis/ridge_path.hpp>
#include <zipml/training/recommend.hpp>
#include <zipml/training/refine_models.hpp>
#include <zipml/training/refinement.hpp>
#include <zipml/zipml.hpp>
