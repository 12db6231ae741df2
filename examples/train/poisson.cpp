#include "experiment_of.hpp"
#include "program_of.hpp"

LossProgram poisson_program() { return loss_program<zipml::PoissonLoss>(); }
