#include "experiment_of.hpp"
#include "packed_of.hpp"

LossProgram huber_program() { return loss_program<zipml::HuberLoss>(); }
