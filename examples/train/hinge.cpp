#include "experiment_of.hpp"
#include "program_of.hpp"

LossProgram hinge_program() { return loss_program<zipml::HingeLoss>(); }
