#include "experiment_of.hpp"
#include "packed_of.hpp"

LossProgram logistic_program() { return loss_program<zipml::LogisticLoss>(); }
