#include "experiment_of.hpp"
#include "packed_of.hpp"

LossProgram hinge_program() { return loss_program<zipml::HingeLoss>(); }
