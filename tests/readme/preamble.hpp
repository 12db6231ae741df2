#pragma once
// The names that code in the READMEs may use without declaring them. Nothing of this is ever run.

#include <cmath>
#include <cstdio>
#include <span>
#include <vector>
#include <zipml/estimators/any_store.hpp>
#include <zipml/io/npy.hpp>
#include <zipml/zipml.hpp>

extern const zipml::Dataset train;                                                   // rows to train on
extern const zipml::Dataset test;                                                    // rows to test on
extern const zipml::RowMajorMatrix A;                                                // samples in memory
extern const Eigen::VectorXf y;                                                      // their labels
extern const std::vector<float> column;                                              // values of one column
extern const std::vector<float> weights;                                             // one for each value
extern const decltype(zipml::quantize<4>(train, zipml::variance_corrected)) packed;  // a packed store
extern const zipml::Fit fit;                                                         // a fit on it
