#include "experiment_of.hpp"
#include "packed_of.hpp"

LossProgram squared_hinge_program() { return loss_program<zipml::SquaredHingeLoss>(); }
