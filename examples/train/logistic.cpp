#include "experiment_of.hpp"
#include "program_of.hpp"

LossProgram logistic_program() { return loss_program<zipml::LogisticLoss>(); }
