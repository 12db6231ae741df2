#include "experiment_of.hpp"
#include "packed_of.hpp"

LossProgram least_squares_program() { return loss_program<zipml::SquaredLoss>(); }
