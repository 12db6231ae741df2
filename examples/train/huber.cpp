#include "experiment_of.hpp"
#include "program_of.hpp"

LossProgram huber_program() { return loss_program<zipml::HuberLoss>(); }
