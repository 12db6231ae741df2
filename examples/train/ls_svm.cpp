#include "experiment_of.hpp"
#include "program_of.hpp"

LossProgram ls_svm_program() { return loss_program<zipml::LeastSquaresSvm>(); }
