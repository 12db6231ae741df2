#pragma once
// What every snippet starts from.

#include <zipml/zipml.hpp>

inline const zipml::RowMajorMatrix A(8, 3);
inline const Eigen::VectorXf y(8);
