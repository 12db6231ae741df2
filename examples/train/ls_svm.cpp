#include "experiment_of.hpp"
#include "packed_of.hpp"

LossProgram ls_svm_program() { return loss_program<zipml::LeastSquaresSvm>(); }
