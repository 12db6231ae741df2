#include "experiment_of.hpp"
#include "program_of.hpp"

LossProgram least_squares_program() { return loss_program<zipml::SquaredLoss>(); }
