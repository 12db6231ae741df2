#include "experiment_of.hpp"
#include "program_of.hpp"

LossProgram squared_hinge_program() { return loss_program<zipml::SquaredHingeLoss>(); }
