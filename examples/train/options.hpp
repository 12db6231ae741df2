#pragma once
// What the user asked `train` to do, checked as a whole.

#include <cstdint>
#include <optional>
#include <string>
#include <zipml/base/buffer.hpp>

struct Options {
  std::string file;  // empty: the generated set
  std::string format = "auto";
  std::string label;
  std::string test_file;
  double memory_gib = 8.0;
  zipml::Index rows = 200'000;

  std::string loss = "least-squares";
  int bits = 4;
  bool choose = false;  // --bits auto
  double excess = 0.01;
  std::string levels = "uniform";
  std::string rounding = "stochastic";
  double outliers = 0.003;
  std::string estimator = "variance-corrected";
  std::string safety = "warn";
  bool fresh = false;
  int model_bits = 0;  // 0: integers where they can be had and batches are large enough
  int gradient_bits = 32;
  bool error_feedback = false;
  std::string channel_scaling = "max";
  std::string channel_levels = "uniform";
  int threads = 1;
  float l2 = 0.0f;
  float l1 = 0.0f;
  int epochs = 20;
  zipml::Index batch = 64;
  std::optional<float> step;
  std::uint64_t seed = 1;
  std::string isa;

  bool sweep = false;
  bool json = false;
  std::string save_model;

  // For programs that run many experiments.
  bool quiet = false;           // no epoch is shown
  bool needs_optimum = true;    // else there is no excess
  bool records_losses = false;  // Result::losses
};

/// Parses the command line. Prints help or version and exits 0, or a usage error and exits 2.
Options parse_options(int argc, char** argv);
